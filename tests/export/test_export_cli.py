"""`python -m export` as a user runs it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from edgebnn import checkpoint, records, runtime
from edgebnn.cli import main as predict
from edgebnn.export.cli import main
from edgebnn.export.fold import fold
from edgebnn.export.verify import images
from edgebnn.graph import ModelInfo
from edgebnn.nn import ReActNetConfig
from tests.needs import needs_lce
from tests.networks import noise, random_network
from tests.published import forward, make_state


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    info = ModelInfo("small", 32, (0.1,) * 3, (0.3,) * 3, ("cat", "dog", "owl"))
    checkpoint.save_checkpoint(path, random_network(2, ReActNetConfig(width=0.125, head=(3,))), info)
    return path


def fails(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 2) -> str:
    """Runs a command that must fail with that code, and gives its one line."""
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    assert stopped.value.code == code
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize(("command", "suffix"), [("onnx", ".onnx"), pytest.param("lce", ".tflite", marks=needs_lce)])
def test_export_and_verify_leave_records(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, suffix: str
) -> None:
    out = tmp_path / "out" / f"model{suffix}"
    main([command, str(trained), str(out), "--record", str(tmp_path / "run")])
    lenient = ["--bits-differing", "100", "--top1-agreement", "0"]
    main(["verify", str(trained), str(out), "--images", "4", "--record", str(tmp_path / "run"), *lenient])
    assert "26 of 26" in capsys.readouterr().out
    found = {record.kind: record for record in records.read_records(tmp_path)}
    assert {record.model for record in found.values()} == {"small"}
    assert found["size"].values == {"bytes": out.stat().st_size}
    assert found["parity"].values["units_exact"] == 26
    assert found["parity"].values["ok"] == 1
    # 3x3 stem of 4 channels at 16x16, and 128 features to 3 classes; binary ones at stride 2 of 32.
    assert found["ops"].values["flops"] == 4 * 27 * 256 + 128 * 3


def test_a_failed_verification_ends_with_code_1(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["onnx", str(trained), str(tmp_path / "model.onnx")])
    other = tmp_path / "other.safetensors"
    info = checkpoint.load_checkpoint(trained).info
    checkpoint.save_checkpoint(other, random_network(3, ReActNetConfig(width=0.125, head=(3,))), info)
    with pytest.raises(SystemExit) as stopped:
        main(["verify", str(other), str(tmp_path / "model.onnx"), "--images", "2", "--record", str(tmp_path)])
    assert stopped.value.code == 1
    assert "FAILED: the stem differs" in capsys.readouterr().out
    assert records.read_records(tmp_path)[-1].values["ok"] == 0


@needs_lce
def test_the_limits_at_the_call_decide(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # LCE's floats differ, so on noise some bits of a random network do: above 0, below 100 percent.
    trained = tmp_path / "wider.safetensors"
    checkpoint.save_checkpoint(
        trained, random_network(2, ReActNetConfig(width=0.5, head=(3,))), ModelInfo(resolution=64)
    )
    out = tmp_path / "model.tflite"
    main(["lce", str(trained), str(out)])
    command = ["verify", str(trained), str(out), "--images", "16"]
    main([*command, "--bits-differing", "100", "--top1-agreement", "0"])
    with pytest.raises(SystemExit) as stopped:
        main([*command, "--bits-differing", "0", "--top1-agreement", "0"])
    assert stopped.value.code == 1
    assert "of the bits differ, limit 0%" in capsys.readouterr().out
    for text in ("nan", "101", "-1"):
        with pytest.raises(SystemExit) as stopped:
            main([*command, "--bits-differing", text])
        assert stopped.value.code == 2


def test_labels_and_name_reach_the_file(trained: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("Katze\n\nHund \nEule\n", encoding="utf-8")
    out = str(tmp_path / "model.onnx")
    main(["onnx", str(trained), out, "--labels", str(labels), "--name", "Tiere", "--resolution", "64"])
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    said = ModelInfo.from_json(session.get_modelmeta().custom_metadata_map["edgebnn"])
    assert said == ModelInfo("Tiere", 64, (0.1,) * 3, (0.3,) * 3, ("Katze", "Hund", "Eule"))


def test_pictures_are_normalised_and_taken_from_all_over(tmp_path: Path) -> None:
    for number in range(10):
        folder = tmp_path / f"class{number}"
        folder.mkdir()
        Image.new("RGB", (40, 40), (25 * number, 0, 0)).save(folder / "a.png")
    info = ModelInfo("m", 32, (0.1, 0.2, 0.3), (0.5, 0.25, 0.125))
    found = images.load_images(str(tmp_path), info, 4)
    # Pictures 0, 3, 6 and 9 of ten, each of one colour.
    red = np.array([0, 75, 150, 225]) / 255
    np.testing.assert_allclose(found[:, 0, 16, 16], (red - 0.1) / 0.5, rtol=1e-5)
    np.testing.assert_allclose(found[:, 2], (0 - 0.3) / 0.125, rtol=1e-5)


@pytest.mark.parametrize("name", ["mnist5k", "digits"])
def test_bundled_sets_are_what_training_evaluates_on(name: str) -> None:
    info = ModelInfo("m", 32, (0.25,) * 3, (0.5,) * 3)
    found = images.load_images(name, info, 60)
    assert found.shape == (60, 3, 32, 32)
    # Black is 0, and white close to 1, before they are normalised.
    assert found.min() == -0.5
    assert 1.3 < found.max() <= 1.5


@needs_lce
def test_images_can_be_read_after_an_lce_export(trained: Path, tmp_path: Path) -> None:
    """TensorFlow is loaded first, then what torchvision brings: in a process that has loaded neither."""
    out = tmp_path / "model.tflite"
    program = f"""
from export.cli import main
main(["lce", {str(trained)!r}, {str(out)!r}])
main(["verify", {str(trained)!r}, {str(out)!r}, "--data", "digits", "--images", "2", "--bits-differing", "100"])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.endswith("verified\n")


def test_a_published_file_exports_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = make_state("s2-bnn-linear")
    file = tmp_path / "model_best.pth.tar"
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, file)
    main(["onnx", str(file), str(tmp_path / "model.onnx"), "--resolution", "64", "--name", "published"])
    assert "in s2-bnn layout, 126 keys unused" in capsys.readouterr().err
    images = noise(0, 2, 64)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    logits = session.run(None, {"image": images})[0]
    expected = forward(state, torch.from_numpy(images)).numpy()
    # Bits at a threshold may flip between runtimes; one flip moves a logit by far less than this.
    np.testing.assert_allclose(logits, expected, atol=0.05 * np.abs(expected).max())


def test_bad_input_gets_one_line_and_leaves_nothing(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("cat\ndog\n")
    empty = tmp_path / "empty"
    empty.mkdir()
    picture = tmp_path / "pictures" / "a.png"
    picture.parent.mkdir()
    picture.write_bytes(b"no picture")
    blocker = tmp_path / "file"
    blocker.write_text("")
    step1 = tmp_path / "step1.safetensors"
    config = ReActNetConfig(width=0.125, head=(3,), binary_weights=False)
    checkpoint.save_checkpoint(step1, random_network(2, config), ModelInfo(resolution=32))
    good = tmp_path / "good.onnx"
    main(["onnx", str(trained), str(good)])
    before = set(tmp_path.rglob("*"))
    out = tmp_path / "out.onnx"
    cases = [
        (("onnx", tmp_path / "absent.pth", out), "absent.pth does not exist"),
        (("onnx", trained, tmp_path / "out.bin"), r"out.bin does not end in .onnx"),
        (("onnx", trained, blocker / "out.onnx"), "cannot write"),
        (("onnx", trained, out, "--resolution", 40), "resolution 40 does not divide"),
        (("onnx", trained, out, "--labels", labels), "2 labels for 3 outputs"),
        (("lce", step1, tmp_path / "out.tflite"), "float weights.* train stage 2"),
        (("verify", trained, good, "--data", empty), "holds no image"),
        (("verify", trained, good, "--data", tmp_path / "nowhere"), "nowhere does not exist"),
        (("verify", trained, good, "--data", picture.parent), "a.png"),
        (("verify", trained, good, "--images", 0), "0 images asked for"),
        (("verify", trained, tmp_path / "absent.onnx"), "absent.onnx does not exist"),
        (("verify", trained, good, "--resolution", 64), "says resolution 32, the checkpoint 64"),
        (("verify", trained, tmp_path), "cannot be read"),
        (("onnx", trained, out, "--resolution", 16384), "resolution 16384 is more than 8192"),
        (("onnx", trained, out, "--resolution", 0), "resolution 0 does not divide"),
        (("onnx", trained, out, "--labels", blocker), "is empty"),
        (("onnx", trained, out, "--labels", good), "is not UTF-8 text"),
    ]
    for arguments, message in cases:
        capsys.readouterr()
        line = fails(capsys, *arguments)
        assert line.startswith("error: ")
        assert re.search(message, line), line
    assert set(tmp_path.rglob("*")) == before


def test_the_command_itself(trained: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "export", "onnx", str(trained), str(tmp_path / "model.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"wrote {tmp_path / 'model.onnx'}: 26 units, ")
    done = subprocess.run([*command[:-2], "absent", "x.onnx"], capture_output=True, text=True, cwd=Path.cwd())
    assert done.returncode == 2
    assert done.stderr == "error: checkpoint absent does not exist; check the path\n"


@pytest.fixture
def pretrained(tmp_path: Path) -> Path:
    """A pretraining's file as older versions wrote it: the data's class names beside a projection."""
    path = tmp_path / "projection.safetensors"
    info = ModelInfo("pre", 32, (0.1,) * 3, (0.3,) * 3, ("cat", "dog", "owl"))
    checkpoint.save_checkpoint(path, random_network(3, ReActNetConfig(width=0.125, head=(16, 8))), info)
    return path


@pytest.mark.parametrize("command", [("onnx", "--packed"), ("onnx",), pytest.param(("lce",), marks=needs_lce)])
@pytest.mark.parametrize("features", [(), ("--features",)])
def test_a_pretrained_network_exports_its_projection_or_its_features(
    pretrained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    command: tuple[str, ...],
    features: tuple[str, ...],
) -> None:
    out = str(tmp_path / ("model.tflite" if command[0] == "lce" else "model.onnx"))
    main([command[0], str(pretrained), out, *command[1:], *features])
    assert (
        "128 outputs are the pooled features" if features else "8 outputs are a projection"
    ) in capsys.readouterr().out
    model = runtime.load_model(out)
    assert model.info.labels == ()
    network = checkpoint.load_checkpoint(pretrained).model
    pictures = torch.from_numpy(noise(0, 4, 32))
    with torch.no_grad():
        wanted = network.features(pictures) if features else network(pictures)
    found = model.run(pictures.numpy())
    assert found.shape == wanted.shape
    lenient = ["--bits-differing", "100", "--top1-agreement", "0", "--images", "4"]
    main(["verify", str(pretrained), out, *features, *lenient])
    assert "verified" in capsys.readouterr().out
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    predict(["predict", out, str(tmp_path / "a.png")])
    said = capsys.readouterr()
    assert "names no classes" in said.err
    assert not {"cat", "dog", "owl"} & set(said.out.split())


def test_features_have_no_labels(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("a\nb\nc\n")
    said = fails(capsys, "onnx", trained, tmp_path / "m.onnx", "--features", "--labels", labels)
    assert "leave --labels out" in said
    main(["onnx", str(trained), str(tmp_path / "m.onnx"), "--features"])
    assert runtime.load_model(tmp_path / "m.onnx").info.labels == ()


def test_weights_of_zero_are_counted_and_become_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = random_network(5, ReActNetConfig(width=0.125, head=(3,)))
    path, out = tmp_path / "zeros.safetensors", tmp_path / "m.onnx"
    total = sum(unit.conv.weight.numel() for unit in network.units)  # type: ignore[union-attr, operator, misc]
    with torch.no_grad():
        network.units[0].conv.weight[0, 0, 0, 0] = 0.0  # type: ignore[union-attr, index]
        network.units[3].conv.weight[1, :2, 0, 0] = -0.0  # type: ignore[union-attr, index]
    checkpoint.save_checkpoint(path, network, ModelInfo("zeros", 32, (0.1,) * 3, (0.3,) * 3))
    main(["onnx", str(path), str(out), "--packed"])
    assert f"3 of {total:,} binary weights are exactly 0 and become +1" in capsys.readouterr().out
    lenient = ["--bits-differing", "100", "--top1-agreement", "0", "--images", "4"]
    main(["verify", str(path), str(out), "--record", str(tmp_path / "run"), *lenient])
    assert f"binary weights exactly 0       3 of {total:,}, +1" in capsys.readouterr().out
    (record,) = records.read_records(tmp_path / "run")
    assert record.context["zero_weights"] == 3
    assert fold(network, ModelInfo(resolution=32)).units[3].weight[1, :2, 0, 0].tolist() == [1, 1]
    # The packed file answers as PyTorch does, where sign(0) is +1 too.
    with torch.no_grad():
        wanted = network.eval()(torch.from_numpy(noise(0, 4, 32))).numpy()
    np.testing.assert_allclose(runtime.load_model(out).run(noise(0, 4, 32)), wanted, rtol=1e-3, atol=1e-3)
