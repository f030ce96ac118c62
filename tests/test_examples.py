"""The scripts in examples/ run from beginning to end, on a few steps and one image."""

import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgebnn import checkpoint, runtime
from edgebnn.graph import ModelInfo
from edgebnn.nn import ReActNetConfig
from edgebnn.runtime import preprocess
from tests.networks import random_network

EXAMPLES = Path(__file__).parents[1] / "examples"
HEADERS = Path("/usr/include/onnxruntime/onnxruntime_cxx_api.h")


def run(name: str, *arguments: object) -> object:
    """Runs an example as a program. Returns None if it succeeds, else its exit code or message."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [name, *map(str, arguments)])
        try:
            runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        except SystemExit as end:
            return end.code
    return None


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `pretrain_and_export.py` wrote, with one optimizer step in each stage."""
    folder = tmp_path_factory.mktemp("pretrained")
    config = ReActNetConfig(width=0.25, head=(256, 128), binary_activations=False, binary_weights=False)
    checkpoint.save_checkpoint(folder / "teacher.safetensors", random_network(0, config), ModelInfo(resolution=32))
    # The script ends with a message unless the file is verified.
    assert run("pretrain_and_export.py", folder / "teacher.safetensors", folder, "--steps", 1) is None
    return folder


def test_pretraining_leaves_a_checkpoint_and_a_verified_file(pretrained: Path) -> None:
    assert (pretrained / "model.safetensors").is_file()
    # A quarter of the width has 1.77 million binary weights: 0.22 MB as bits, 1.77 MB as bytes.
    assert (pretrained / "packed.onnx").stat().st_size < 1_000_000


def test_a_packed_file_runs_and_is_timed(pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "image.npy", np.full((32, 32, 3), 128, np.uint8))
    assert run("run_packed.py", pretrained / "packed.onnx", tmp_path / "image.npy") is None
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.endswith("of 128 classes")
    assert "ms median" in second
    assert third.startswith("onnxruntime")
    assert "kernels for" in third


def test_a_missing_file_ends_an_example_in_one_line(
    pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("run_packed.py", pretrained / "packed.onnx", tmp_path / "missing.npy") == 2
    assert capsys.readouterr().err == f"error: image {tmp_path / 'missing.npy'} does not exist; check the path\n"


@pytest.mark.skipif(
    not HEADERS.exists() or not shutil.which("cmake"),
    reason="needs ONNX Runtime's headers and CMake (Debian 13: libonnxruntime-dev cmake); tests/debian13.sh has them",
)
def test_the_c_plus_plus_example_gives_the_answer_of_the_python_runtime(pretrained: Path, tmp_path: Path) -> None:
    subprocess.run(["cmake", "-S", EXAMPLES / "cpp", "-B", tmp_path / "build"], check=True)
    subprocess.run(["cmake", "--build", tmp_path / "build"], check=True)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    (tmp_path / "image.ppm").write_bytes(b"P6\n32 32\n255\n" + pixels.tobytes())
    model = runtime.load_model(pretrained / "packed.onnx")
    np.save(tmp_path / "image.npy", pixels)
    logits = model.run(preprocess.load_image(tmp_path / "image.npy", model.info))[0]

    program = [tmp_path / "build/run_packed", runtime.library_path(), pretrained / "packed.onnx"]
    done = subprocess.run([*program, tmp_path / "image.ppm"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    best = int(np.argmax(logits))
    found = re.fullmatch(r"class (\d+), logit (-?[\d.]+) of 128 classes\n", done.stdout)
    assert found, done.stdout
    assert int(found[1]) == best
    # Two versions of ONNX Runtime may add the head's products in another order.
    assert float(found[2]) == pytest.approx(float(logits[best]), rel=1e-4)

    wrong = subprocess.run([*program, tmp_path / "image.npy"], capture_output=True, text=True)
    assert wrong.returncode == 1
    # Debian's ONNX Runtime prints warnings of its own before.
    assert wrong.stderr.endswith(f"error: {tmp_path / 'image.npy'} is not a binary PPM of 32 by 32 pixels\n")
