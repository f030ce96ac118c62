"""The command on this machine: its paths, its order of doing things, baselines."""

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

from edgebnn import checkpoint, records
from edgebnn.export.cli import main
from edgebnn.export.device import baselines as device_baselines
from edgebnn.export.device import measure as device
from edgebnn.graph import ModelInfo
from edgebnn.hints import Hints
from edgebnn.nn import ReActNetConfig
from tests.export.stand_ins import PRINTED, fails, prints, write_program
from tests.networks import random_network
from tests.published import make_state
from tests.runtime.models import tflite_bytes, write_onnx

# What `edgebnn bench --json` prints of a model.
BENCH: dict[str, Any] = {
    "machine": {"architecture": "x", "bits": 64, "features": [], "python": "3", "numpy": "1", "onnxruntime": "1"},
    "peak_memory_bytes": 1000,
    "results": [
        {
            "runtime": "onnxruntime",
            "runtime_version": "1",
            "batch": 1,
            "init_ms": 5.0,
            "first_ms": 2.0,
            "milliseconds": [0.5, 0.25, 0.75],
        }
    ],
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the user stands: a folder with files and programs."""
    (tmp_path / "m.tflite").write_bytes(tflite_bytes({}))
    write_onnx(tmp_path / "m.onnx", info=ModelInfo("mine", 32).to_json(), side=32)
    (tmp_path / "bin").mkdir()
    write_program(tmp_path / "bin" / "some_benchmark", prints(PRINTED))
    write_program(tmp_path / "bin" / "python", prints(json.dumps(BENCH, indent=1) + "\n"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def local(*more: str) -> list[str]:
    return ["device", *more, "--target", "local", "--rounds", "1"]


def test_paths_of_programs_may_begin_here(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(local("m.tflite", "m.onnx", "--runner", "bin/some_benchmark", "--python", "./bin/python"))
    _, tflite, onnx, *_ = capsys.readouterr().out.splitlines()
    assert tflite.split()[:3] == ["m.tflite", "benchmark_model", "32.000"]
    assert onnx.split()[:3] == ["m.onnx", "onnxruntime", "0.500"]
    assert not list(here.glob("edgebnn*"))


def test_what_was_measured_is_printed_though_it_cannot_be_kept(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(local("m.onnx", "--python", "bin/python", "--record", "m.tflite"))
    out, err = capsys.readouterr()
    assert " 0.500 " in out
    assert "cannot write" in err


def test_a_runner_for_no_file_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "a runner is for .tflite files" in fails(capsys, local("m.onnx", "--runner", "bin/some_benchmark"))


def test_the_twin_is_read_as_the_user_says(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "give --checkpoint too" in fails(capsys, local("m.onnx", "--with-baselines", "--stem-stride", "1"))
    torch.save(make_state("reactnet"), here / "file.pth")
    for stride in (1, 2):
        loaded = checkpoint.load_checkpoint(here / "file.pth", hints=Hints(stem_stride=stride))  # type: ignore[arg-type]
        twin = next(
            device_baselines.write_baselines([device.read_subject(Path("m.onnx"))], loaded, here, lambda _: None)
        )
        stem = next(node for node in onnx.load(twin.path).graph.node if node.op_type == "Conv")
        strides = next(each.ints for each in stem.attribute if each.name == "strides")
        assert list(strides) == [stride, stride]


def test_what_the_device_lacks_is_told_before_baselines_are_written(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = local("m.onnx", "--with-baselines", "--checkpoint", "absent.safetensors")
    assert "there is no Python" in fails(capsys, [*given, "--python", "/nowhere/python3"])
    assert "absent.safetensors does not exist" in fails(capsys, [*given, "--python", "bin/python"])


def test_baselines_are_exported_and_measured_beside(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They are really exported; only the program that would measure them is a stand-in, which notes their names."""
    model = random_network(3, ReActNetConfig(width=0.0625, head=(5,)))
    checkpoint.save_checkpoint(here / "mine.safetensors", model, ModelInfo(name="mine", resolution=32))
    write_program(here / "bin" / "python", f'wc -c "$4" >>{here}/seen\n' + prints(json.dumps(BENCH, indent=1) + "\n"))
    given = ["--with-baselines", "--checkpoint", "mine.safetensors", "--record", "run", "--json"]
    main(local("m.onnx", "--python", "bin/python", *given))
    printed = json.loads(capsys.readouterr().out)
    networks = ["resnet18", "mobilenet_v2", "mobilenet_v3_small"]
    assert [(each["model"], each["baseline"]) for each in printed["results"]] == [
        ("mine", False),
        ("mine-real-valued", True),
        *((name, True) for name in networks),
    ]
    sizes = {each.model: each.values["bytes"] for each in records.read_records("run") if each.kind == "size"}
    # Weights of 11.7, 3.5 and 2.5 million parameters in float32 (torchvision's documentation).
    assert [round(sizes[name] / 4e6, 1) for name in networks] == [11.7, 3.5, 2.5]
    assert 4 * sizes["mine"] < sizes["mine-real-valued"] < 1e6
    # The files themselves were there, each in the one trial and the one round.
    seen = [line.split() for line in (here / "seen").read_text().splitlines() if "edgebnn" in line]
    assert sorted(int(size) for size, _ in seen) == sorted([*sizes.values()] * 2)
    assert not list(here.glob("edgebnn*"))
