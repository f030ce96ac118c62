"""`python -m export` on published files: what it asks, assumes and reports."""

import itertools
import re
from pathlib import Path

import pytest
import torch

from edgebnn import checkpoint, records, runtime
from edgebnn.export.cli import main
from edgebnn.graph import ModelInfo
from edgebnn.nn import ReActNetConfig
from tests.export.test_export_cli import fails
from tests.networks import random_network
from tests.published import make_state

MEAN, STD = (0.5, 0.4, 0.3), (0.1, 0.2, 0.3)
NORMALISATION = ["--mean", *map(str, MEAN), "--std", *map(str, STD)]


@pytest.fixture
def published(tmp_path: Path) -> Path:
    path = tmp_path / "file.pth"
    torch.save(make_state("s2-bnn-linear", classes=2), path)
    return path


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "labels.txt"
    path.write_bytes("\ufeffKatze\r\nHund\r\n".encode())
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[list[str], list[str]]:
    """Lines on stdout and on stderr."""
    capsys.readouterr()
    main([str(argument) for argument in arguments])
    found = capsys.readouterr()
    return found.out.splitlines(), found.err.splitlines()


def assumed(lines: list[str], path: Path) -> list[str]:
    start = f"assumed for {path}: "
    return [line.removeprefix(start) for line in lines if line.startswith(start)]


def test_export_and_verify_say_what_neither_file_nor_user_says(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.onnx"
    _, err = run(capsys, "onnx", published, out, "--resolution", 32)
    found = "stage 2, stem stride 2, ImageNet's normalisation (to change: --stage, --stem-stride, --mean/--std)"
    assert assumed(err, published) == [found]
    assert err[0] == f"read {published} as a file in s2-bnn layout, 126 keys unused (--keys lists them)"
    printed, err = run(capsys, "verify", published, out, "--images", 2, "--stage", 2, "--record", tmp_path / "run")
    assert assumed(err, published) == ["stem stride 2 (to change: --stem-stride)"]
    assert printed[-1] == "verified: equals the network as read (assumed: stem stride 2)"
    assert records.read_records(tmp_path)[0].context["assumed"] == ["stem stride 2"]
    said = ["--stage", 2, "--stem-stride", 2]
    printed, err = run(capsys, "verify", published, out, "--images", 2, *said)
    assert (assumed(err, published), printed[-1]) == ([], "verified")
    _, err = run(capsys, "onnx", published, out, "--resolution", 32, *said, *NORMALISATION)
    assert assumed(err, published) == []


def test_verify_takes_what_the_checkpoint_lacks_from_the_artifact(
    published: Path, labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.onnx"
    given = ["--resolution", 64, "--labels", labels, "--name", "pets", *NORMALISATION]
    run(capsys, "onnx", published, out, *given)
    # A byte order mark is no part of the first name.
    assert runtime.load_model(out).info == ModelInfo("pets", 64, MEAN, STD, ("Katze", "Hund"))
    printed, _ = run(capsys, "verify", published, out, "--images", 2, "--record", tmp_path / "run")
    assert printed[-1].startswith("verified: ")
    assert records.read_records(tmp_path)[0].model == "pets"
    run(capsys, "verify", published, out, "--images", 2, *given)
    other = tmp_path / "other.txt"
    other.write_text("cat\ndog\n")
    for wrong, message in (
        (["--resolution", 32], "out.onnx says resolution 64, --resolution 32; leave --resolution out, or export the"),
        (["--labels", other], "out.onnx says labels ('Katze', 'Hund'), --labels ('cat', 'dog'); leave --labels out"),
        (["--mean", 0, 0, 0, "--std", 1, 1, 1], f"out.onnx says mean {MEAN}, --mean (0.0, 0.0, 0.0); leave --mean out"),
    ):
        assert message in fails(capsys, "verify", published, out, "--images", 2, *wrong)


def test_verify_holds_ours_to_what_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str], labels: Path) -> None:
    ours, out = tmp_path / "ours.safetensors", tmp_path / "out.onnx"
    checkpoint.save_checkpoint(
        ours, random_network(1, ReActNetConfig(width=0.125, head=(2,))), ModelInfo(resolution=32)
    )
    run(capsys, "onnx", ours, out, "--labels", labels)
    # It says no class names, and an exported file may.
    printed, err = run(capsys, "verify", ours, out, "--images", 2)
    assert (printed[-1], err) == ("verified", [])
    run(capsys, "onnx", ours, out, "--resolution", 64)
    assert "says resolution 64, the checkpoint 32" in fails(capsys, "verify", ours, out, "--images", 2)
    named = tmp_path / "named.safetensors"
    checkpoint.save_checkpoint(
        named, checkpoint.load_checkpoint(ours).model, ModelInfo(resolution=64, labels=("a", "b"))
    )
    assert "says labels (), the checkpoint ('a', 'b')" in fails(capsys, "verify", named, out)
    assert "states its stage; leave the stage out" in fails(capsys, "onnx", ours, out, "--stage", 1)
    three = tmp_path / "three.safetensors"
    checkpoint.save_checkpoint(
        three, random_network(1, ReActNetConfig(width=0.125, head=(3,))), ModelInfo(resolution=32)
    )
    run(capsys, "onnx", ours, out, "--labels", labels)
    assert "was made from another network" in fails(capsys, "verify", three, out)


def test_a_file_of_the_other_stage_is_not_verified(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.onnx"
    printed, _ = run(capsys, "onnx", published, out, "--resolution", 32, "--stage", 1)
    # Weights that are real-valued have no form in bits to point to.
    assert printed[1] == "any ONNX Runtime runs it"
    printed, _ = run(capsys, "verify", published, out, "--images", 2, "--stage", 1)
    assert printed[-1].startswith("verified: ")
    with pytest.raises(SystemExit) as stopped:
        main(["verify", str(published), str(out), "--images", "2"])
    assert stopped.value.code == 1
    assert capsys.readouterr().out.endswith("not verified (assumed: stage 2, stem stride 2)\n")


@pytest.mark.parametrize("form", [[], ["--packed"]])
def test_a_file_of_the_other_stem_stride_is_refused_in_one_line(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], form: list[str]
) -> None:
    out = tmp_path / "out.onnx"
    for made, read, stems in ((1, 2, "4x32x32, the checkpoint's 4x16x16"), (2, 1, "4x16x16, the checkpoint's 4x32x32")):
        run(capsys, "onnx", published, out, "--resolution", 32, "--stem-stride", made, *form)
        with pytest.raises(SystemExit) as stopped:
            main(["verify", str(published), str(out), "--images", "2", "--stem-stride", str(read)])
        said = f"error: {out} was made from another network (its stem gives {stems}); export it again\n"
        assert stopped.value.code == 2
        assert capsys.readouterr().err.endswith(said)


def test_keys_lists_every_key_that_is_not_used(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, err = run(capsys, "onnx", published, tmp_path / "out.onnx", "--resolution", 32, "--keys")
    assert err[0].endswith("126 keys unused")
    reason = "a pointwise convolution or its BatchNorm that this block never runs"
    assert err[1] == f"unused, {reason} (126):"
    # As a shell expands them: what stands in braces is every second part.
    parts = [re.split("[{}]", line.strip()) for line in err[2:-1]]
    shown = ["".join(each) for some in parts for each in itertools.product(*(part.split(",") for part in some))]
    assert sorted(shown) == sorted(checkpoint.load_checkpoint(published).ignored)
    column = tmp_path / "column.pth"
    torch.save(make_state("reactnet"), column)
    _, err = run(capsys, "onnx", column, tmp_path / "out.onnx", "--resolution", 32, "--keys")
    assert err[1] == f"every key of {column} is used"


@pytest.mark.parametrize(
    ("form", "runs", "other"),
    [
        ([], "any ONNX Runtime runs it", "--packed writes a smaller and faster file"),
        (["--packed"], "with edgebnn's operator", "without --packed the file is larger and slower, and any"),
    ],
)
def test_the_exporter_says_what_the_file_needs_and_what_the_other_form_is_for(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], form: list[str], runs: str, other: str
) -> None:
    printed, _ = run(capsys, "onnx", published, tmp_path / "out.onnx", "--resolution", 32, *form)
    assert printed[0].startswith("wrote ")
    needs, _, purpose = printed[1].partition("; ")
    assert runs in needs
    assert other in purpose


def test_an_empty_name_is_refused_in_one_line(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = tmp_path / "ours.safetensors"
    checkpoint.save_checkpoint(
        ours, random_network(1, ReActNetConfig(width=0.125, head=(2,))), ModelInfo(resolution=32)
    )
    for name in ("", " "):
        assert "--name is empty" in fails(capsys, "onnx", published, tmp_path / "out.onnx", "--name", name)
    assert "--mean and --std belong together" in fails(capsys, "onnx", ours, tmp_path / "o.onnx", "--std", 1, 1, 1)
