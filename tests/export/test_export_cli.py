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

from edgebnn import checkpoint, records
from edgebnn.graph import ModelInfo
from edgebnn.nn import ReActNetConfig
from export.__main__ import main
from tests.networks import noise, random_network
from tests.published import forward, make_state


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    info = ModelInfo("small", 32, (0.1,) * 3, (0.3,) * 3, ("cat", "dog", "owl"))
    checkpoint.save(path, random_network(2, ReActNetConfig(width=0.125, head=(3,))), info)
    return path


def fails(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 2) -> str:
    """Runs a command that must fail with that code, and gives its one line."""
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    assert stopped.value.code == code
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize(("command", "suffix"), [("onnx", ".onnx"), ("lce", ".tflite")])
def test_export_and_verify_leave_records(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, suffix: str
) -> None:
    out = tmp_path / "out" / f"model{suffix}"
    main([command, str(trained), str(out), "--record", str(tmp_path / "run")])
    lenient = ["--bits-differing", "100", "--top1-agreement", "0"]
    main(["verify", str(trained), str(out), "--images", "4", "--record", str(tmp_path / "run"), *lenient])
    assert "26 of 26" in capsys.readouterr().out
    found = {record.kind: record for record in records.read_all(tmp_path)}
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
    checkpoint.save(other, random_network(3, ReActNetConfig(width=0.125, head=(3,))), ModelInfo(resolution=32))
    with pytest.raises(SystemExit) as stopped:
        main(["verify", str(other), str(tmp_path / "model.onnx"), "--images", "2", "--record", str(tmp_path)])
    assert stopped.value.code == 1
    assert "FAILED: 26 of 26 units differ" in capsys.readouterr().out
    assert records.read_all(tmp_path)[-1].values["ok"] == 0


def test_a_published_file_exports_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = make_state("s2-bnn-linear")
    file = tmp_path / "model_best.pth.tar"
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, file)
    main(["onnx", str(file), str(tmp_path / "model.onnx"), "--resolution", "64", "--name", "published"])
    assert "in s2-bnn layout, 126 keys of it unused" in capsys.readouterr().err
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
    checkpoint.save(step1, random_network(2, config), ModelInfo(resolution=32))
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
        (("lce", step1, tmp_path / "out.tflite"), "float weights.* train step 2"),
        (("verify", trained, good, "--data", empty), "holds no image"),
        (("verify", trained, good, "--data", tmp_path / "nowhere"), "nowhere does not exist"),
        (("verify", trained, good, "--data", picture.parent), "a.png"),
        (("verify", trained, good, "--images", 0), "0 images asked for"),
        (("verify", trained, tmp_path / "absent.onnx"), "absent.onnx does not exist"),
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
