"""`train fit` and `train recipe` through the command's own main."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch
import yaml
from PIL import Image

from edgebnn import checkpoint, records
from edgebnn.errors import exit_on_user_error
from edgebnn.graph import ModelInfo
from edgebnn.nn import ReActNet, ReActNetConfig
from edgebnn.train.__main__ import main
from edgebnn.train.data.sources import Digits

WIDTH = 1 / 16
TRAINER = {"max_epochs": 2, "limit_train_batches": 2, "accelerator": "cpu", "enable_progress_bar": False}
DATA = {"class_path": "Digits", "init_args": {"batch_size": 32}}
REAL = {"width": WIDTH, "binary_activations": False, "binary_weights": False}


def config(path: Path, method: str, **arguments: object) -> Path:
    model = {"class_path": method, "init_args": arguments}
    path.write_text(
        yaml.safe_dump({"run": str(path.with_suffix("")), "model": model, "data": DATA, "trainer": TRAINER})
    )
    return path


@pytest.fixture
def moco(tmp_path: Path) -> Path:
    return config(tmp_path / "moco.yaml", "MoCoV2", student=REAL, dim=16, queue_size=64, key_groups=2)


@pytest.fixture
def recipe(tmp_path: Path, moco: Path) -> Path:
    config(tmp_path / "linear.yaml", "LinearEvaluation")
    teacher = {"model.init_args.checkpoint": "${run}/teacher/model.safetensors", "name": "tiny"}
    stages = {"teacher": {"config": "moco.yaml"}, "linear": {"config": "linear.yaml", "set": teacher}}
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
    return path


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr with which the command is refused with code 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_, exit_on_user_error():
        main(arguments)
    assert exit_.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_resuming_equals_a_run_that_never_stopped(moco: Path, tmp_path: Path) -> None:
    main(["fit", "--config", str(moco), "--run", str(tmp_path / "whole")])
    # The schedule of the whole run, cut after its first epoch.
    broken = str(tmp_path / "broken")
    main(["fit", "--config", str(moco), "--run", broken, "--trainer.max_steps", "2"])
    halfway = safetensors.torch.load_file(f"{broken}/model.safetensors")
    main(["fit", "--config", str(moco), "--run", broken, "--ckpt_path", f"{broken}/last.ckpt"])
    whole, resumed = (torch.load(tmp_path / name / "last.ckpt", weights_only=True) for name in ("whole", "broken"))
    assert whole["state_dict"].keys() == resumed["state_dict"].keys()
    for name, tensor in whole["state_dict"].items():
        torch.testing.assert_close(resumed["state_dict"][name], tensor, rtol=0, atol=0, msg=name)
    assert (whole["epoch"], whole["global_step"]) == (resumed["epoch"], resumed["global_step"]) == (1, 4)
    final = safetensors.torch.load_file(f"{broken}/model.safetensors")
    assert not torch.equal(halfway["stem.weight"], final["stem.weight"])
    assert torch.equal(whole["state_dict"]["network.stem.weight"], final["stem.weight"])


def test_a_run_leaves_model_configuration_and_logs(moco: Path, tmp_path: Path) -> None:
    options = ["--name", "tiny", "--trainer.max_epochs", "1", "--trainer.log_every_n_steps", "1"]
    main(["fit", "--config", str(moco), *options])
    run = tmp_path / "moco"
    found = checkpoint.load_checkpoint(run / "model.safetensors")
    assert found.info.name == "tiny"
    # The outputs of a pretraining are a projection, so the file names no classes.
    assert (found.info.resolution, found.info.labels) == (32, ())
    assert found.info.mean == pytest.approx((0.3053,) * 3)
    assert found.model.config.head == (64, 16)
    saved = (run / "config.yaml").read_text()
    assert torch.load(run / "last.ckpt", weights_only=True)["config"] == saved
    # Defaults are written out, too.
    assert yaml.safe_load(saved)["model"]["init_args"]["momentum"] == 0.999
    logged = (run / "logs/csv/version_0/metrics.csv").read_text().splitlines()[0].split(",")
    told = {"loss", "spread", "images_per_s", "skipped_images"}
    assert {f"train/{name}" for name in told} < set(logged)
    assert any(name.startswith("lr-") for name in logged)
    assert list(run.glob("logs/tensorboard/version_0/events.*"))
    assert not list(run.rglob("*.part"))
    # Shapes stay the same, so cuDNN may look for the fastest convolutions.
    assert torch.backends.cudnn.benchmark


def test_recipe_runs_skips_resumes_and_refuses(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["recipe", str(recipe), "--runs", str(tmp_path / "runs")]
    main(command)
    told = capsys.readouterr()
    assert "running" in told.out
    assert f"milestones [60, 80] lie beyond trainer.max_epochs {TRAINER['max_epochs']}" in told.err
    run = tmp_path / "runs/tiny"
    (accuracy,) = records.read_records(run)
    assert (accuracy.model, accuracy.context["data"], accuracy.context["images"]) == ("tiny", "Digits", 359)
    linear = checkpoint.load_checkpoint(run / "linear/model.safetensors")
    assert (linear.model.config.head, linear.info.labels) == ((10,), tuple("0123456789"))
    times = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}

    # The same again, from another folder name: everything is finished.
    (tmp_path / "runs").rename(tmp_path / "moved")
    command[-1] = str(tmp_path / "moved")
    main(command)
    out = capsys.readouterr().out
    assert out.count("skipped, already finished") == 2
    assert f"{accuracy.values['top1']:.1f} %" in out
    (tmp_path / "moved").rename(tmp_path / "runs")
    command[-1] = str(tmp_path / "runs")
    assert times == {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}

    # Interrupted: without the mark of its end a stage goes on from its last checkpoint, here to do nothing.
    (run / "linear/finished").unlink()
    before = (run / "linear/last.ckpt").read_bytes()
    main(command)
    assert "running" in capsys.readouterr().out
    assert (run / "linear/last.ckpt").read_bytes() == before
    assert (run / "linear/finished").exists()

    # Other input files, another configuration.
    inputs = run / "linear/inputs.json"
    was = inputs.read_text()
    facts = json.loads(was)["teacher/model.safetensors"]
    # Touched, not changed.
    inputs.write_text(json.dumps({"teacher/model.safetensors": {**facts, "modified": 0}}))
    main(command)
    inputs.write_text(json.dumps({"teacher/model.safetensors": {**facts, "modified": 0, "sha256": "0"}}))
    other = "stage linear was trained from another teacher/model.safetensors; delete"
    assert other in refused(command, capsys)
    # An unfinished stage would go on from what the other teacher taught it.
    (run / "linear/finished").unlink()
    assert other in refused(command, capsys)
    inputs.write_text("{")
    assert "stage linear: its files are damaged" in refused(command, capsys)
    inputs.write_text(was)
    changed = yaml.safe_load(recipe.read_text())
    changed["stages"]["teacher"]["set"] = {"model.init_args.temperature": 0.3, "trainer.max_epochs": 1}
    recipe.write_text(yaml.safe_dump(changed, sort_keys=False))
    # A later stage's mistake shows before the first one trains.
    changed["stages"]["linear"]["set"]["model.init_args.checkpoint"] = "${run}/later/model.safetensors"
    later = recipe.with_name("later.yaml")
    later.write_text(yaml.safe_dump(changed, sort_keys=False))
    assert "stage linear uses later" in refused(["recipe", str(later), *command[2:]], capsys)
    assert not (tmp_path / "runs/later").exists()
    line = refused(command, capsys)
    assert "stage teacher ran with another configuration" in line
    assert "model.init_args.temperature (was 0.2, is 0.3), trainer.max_epochs (was 2, is 1)" in line
    assert "delete" in line


def test_a_killed_recipe_goes_on_and_ends_as_one_never_stopped(recipe: Path, tmp_path: Path) -> None:
    stages = yaml.safe_load(recipe.read_text())
    stages["stages"]["teacher"]["set"] = {"trainer.max_epochs": 6, "trainer.limit_train_batches": 8}
    recipe.write_text(yaml.safe_dump(stages, sort_keys=False))
    command = ["recipe", str(recipe), "--runs"]
    process = subprocess.Popen([sys.executable, "-m", "train", *command, str(tmp_path / "killed")])
    run = tmp_path / "killed/tiny"
    deadline = time.monotonic() + 120
    while not (run / "teacher/last.ckpt").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    epoch = torch.load(run / "teacher/last.ckpt", weights_only=True)["epoch"]
    assert epoch < 5, "it was not killed in the middle"
    assert not (run / "teacher/finished").exists()

    main([*command, str(tmp_path / "killed")])
    main([*command, str(tmp_path / "whole")])
    for stage in ("teacher", "linear"):
        resumed, whole = (
            safetensors.torch.load_file(tmp_path / name / "tiny" / stage / "model.safetensors")
            for name in ("killed", "whole")
        )
        for name, tensor in whole.items():
            torch.testing.assert_close(resumed[name], tensor, rtol=0, atol=0, msg=f"{stage} {name}")


def test_wrong_fits_are_refused_and_leave_nothing(
    moco: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    distill = str(config(tmp_path / "distill.yaml", "Distill", student={"width": WIDTH}, teacher="gone.safetensors"))
    linear = str(config(tmp_path / "linear.yaml", "LinearEvaluation"))
    swav = str(config(tmp_path / "swav.yaml", "SwAV", student={"width": WIDTH}))
    cut = tmp_path / "cut.ckpt"
    cut.write_bytes(b"PK\x03\x04half")
    classifier = tmp_path / "classifier.safetensors"
    digits = Digits()
    network = ReActNet(ReActNetConfig(width=WIDTH, head=(10,)))
    checkpoint.save_checkpoint(classifier, network, ModelInfo("m", 32, digits.mean, digits.std))
    wrong = {name: tmp_path / f"{name}.yaml" for name in ("name", "set", "run", "empty", "time")}
    wrong["name"].write_text("stages: {../out: {config: moco.yaml}}")
    wrong["set"].write_text("stages: {a: {config: moco.yaml, set: [1]}}")
    wrong["run"].write_text("stages: {a: {config: moco.yaml, set: {run: elsewhere}}}")
    wrong["empty"].write_text("stages: {}")
    wrong["time"].write_text("stages: {a: {config: moco.yaml, set: {trainer.max_time: '00:00:01:00'}}}")
    unknown = tmp_path / "unknown.yaml"
    unknown.write_text(moco.read_text() + "colour: red\n")
    before = files(tmp_path)
    moco_ = str(moco)
    cases = {
        ("fit", "--config", distill): "teacher gone.safetensors does not exist",
        ("fit", "--config", distill, "--model.teacher", str(cut)): "cut off",
        ("fit", "--config", distill, "--model.teacher", str(classifier)): "no projection head",
        ("fit", "--config", moco_, "--run", str(cut / "below")): "cannot write",
        ("fit", "--config", moco_, "--trainer.max_epochs", "0"): "max_epochs, 1 or more",
        ("fit", "--config", moco_, "--trainer.max_epochs", "null", "--trainer.max_steps", "3"): "max_epochs, 1 or",
        ("fit", "--config", moco_, "--trainer.num_nodes", "2"): "start with torchrun or srun",
        ("fit", "--config", moco_, "--trainer.strategy", "fsdp"): "is not supported",
        ("fit", "--config", moco_, "--trainer.accumulate_grad_batches", "3"): "does not divide evenly",
        ("fit", "--config", moco_, "--model.key_groups", "17"): "17 key groups do not divide 32 images",
        ("fit", "--config", moco_, "--model.optimizer.lr", "-1"): "lr -1",
        ("fit", "--config", moco_, "--data.batch_size", "0"): "batch_size 0",
        ("fit", "--config", moco_, "--seed_everything", "-1"): "seed_everything",
        ("fit", "--config", moco_, "--seed_everything", "true"): "seed_everything",
        ("fit", "--config", swav): "asks for 6 small views; give data.small_resolution",
        ("recipe", str(wrong["name"])): "is not a valid stage name",
        ("recipe", str(wrong["set"])): "stage a's `set`",
        ("recipe", str(wrong["run"])): "stage a's `set`",
        ("recipe", str(wrong["empty"])): "`stages`",
        ("recipe", str(wrong["time"])): "stage a: trainer.max_time 00:00:01:00 may end it half trained",
        ("fit", "--config", str(tmp_path / "none.yaml")): "none.yaml",
        ("fit", "--config", str(unknown)): "colour",
        ("fit", "--config", moco_, "--model.tempo", "3"): "tempo",
        ("fit", "--config", moco_, "--model.student.width", "0.3"): "multiple of 1/32",
        ("fit", "--config", moco_, "--data.resolution", "40"): "resolution 40",
        ("fit", "--config", moco_, "--data.batch_size", "5000"): "batch of 5000",
        ("fit", "--config", moco_, "--ckpt_path", str(cut)): "is damaged",
        ("fit", "--config", linear): "a checkpoint or an untrained student",
        ("fit", "--config", moco_, "--data", "Cifar10", "--data.root", str(tmp_path / "cifar")): "--data.download",
        ("fit", "--config", moco_, "--data", "ImageFolder", "--data.root", str(tmp_path)): "no images in class",
        ("recipe", str(tmp_path / "none.yaml")): "recipe",
        ("recipe", moco_): "`stages`",
        ("train",): "unknown command",
    }
    for arguments, part in cases.items():
        assert part in refused(list(arguments), capsys), arguments
    assert files(tmp_path) == before


def test_a_loss_that_is_not_finite_ends_the_run_and_leaves_the_last_good_model(
    moco: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["fit", "--config", str(moco), "--trainer.max_epochs", "1"])
    run = tmp_path / "moco"
    before = {name: (run / name).read_bytes() for name in ("model.safetensors", "last.ckpt")}
    line = refused(["fit", "--config", str(moco)], capsys)
    assert (
        line == f"error: {run} holds a run already; give --ckpt_path {run}/last.ckpt to resume it, "
        "or another folder as --run"
    )
    on = ["fit", "--config", str(moco), "--ckpt_path", str(run / "last.ckpt")]
    line = refused([*on, "--model.optimizer.lr", "0.5", "--trainer.max_epochs", "3"], capsys)
    assert re.search(
        r"another model.init_args.optimizer.lr \(was .*, is 0.5\), trainer.max_epochs \(was 1, is 3\)", line
    )
    # The same run by what it says, but its weights have grown beyond all bounds.
    found = torch.load(run / "last.ckpt", weights_only=True)
    found["config"] = found["config"].replace("max_epochs: 1", "max_epochs: 3")
    found["state_dict"]["network.stem.weight"].fill_(float("inf"))
    torch.save(found, tmp_path / "grown.ckpt")
    grown = ["--ckpt_path", str(tmp_path / "grown.ckpt"), "--trainer.max_epochs", "3"]
    line = refused(["fit", "--config", str(moco), *grown], capsys)
    assert line == (
        "error: the loss is nan in epoch 1; lower model.optimizer.lr, and resume from the last good checkpoint with "
        "--resume_with_changes true"
    )
    assert before == {name: (run / name).read_bytes() for name in before}


def test_an_evaluation_that_trains_nothing_needs_no_whole_batch(tmp_path: Path) -> None:
    digits = Digits()
    network = ReActNet(ReActNetConfig(width=WIDTH, head=(10,)))
    checkpoint.save_checkpoint(tmp_path / "c.safetensors", network, ModelInfo("m", 32, digits.mean, digits.std))
    path = config(tmp_path / "knn.yaml", "KNN", checkpoint=str(tmp_path / "c.safetensors"), k=3)
    main(["fit", "--config", str(path), "--data.subset.per_class", "2"])
    (found,) = records.read_records(tmp_path / "knn")
    assert (found.context["bank"], found.context["images"]) == (20, 359)


def test_image_folder_names_what_is_wrong(moco: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "images"
    for part, name in (("train", "a"), ("train", "b"), ("val", "a")):
        (root / part / name).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (40, 36), (number * 90, 10, 60)).save(root / part / name / f"{number}.png")
    command = [
        "fit",
        "--config",
        str(moco),
        "--data",
        "ImageFolder",
        "--data.root",
        str(root),
        "--data.resolution",
        "32",
    ]
    command += ["--data.batch_size", "4", "--data.workers", "1"]
    assert "train/ has 2 classes, val/ has 1 (b is in one of them only)" in refused(command, capsys)
    (root / "val/b").mkdir()
    Image.new("RGB", (40, 36)).save(root / "val/b/0.png")
    whole = {path: path.read_bytes() for path in (root / "train").rglob("*.png")}
    for path in whole:
        path.write_text("no image")
    line = refused(command, capsys)
    assert f"cannot read the image {root / 'train'}" in line
    assert "nor the 3 before it" in line
    for path, content in whole.items():
        path.write_bytes(content)
    # One that is broken is replaced.
    (root / "train/b/0.png").write_text("no image")
    Image.new("L", (40, 36)).save(root / "train/b/1.png")
    main([*command, "--trainer.max_epochs", "1"])
    # Its outputs are a projection, so the file names no classes.
    assert checkpoint.load_checkpoint(tmp_path / "moco/model.safetensors").info.labels == ()
