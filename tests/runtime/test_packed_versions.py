"""The wheel, as a device has it: NumPy, ONNX Runtime of the oldest and the newest version, and nothing else."""

import json
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.runtime import packed_models

# The oldest that pyproject.toml allows, which was built against NumPy 1; on newer Pythons the first that they can have.
OLDEST: tuple[str, ...] = ("onnxruntime==1.17.1", "numpy<2")
if sys.version_info >= (3, 13):
    OLDEST = ("onnxruntime==1.20.0",) if sys.version_info < (3, 14) else ("onnxruntime==1.24.1",)
NEWEST = ("onnxruntime",)
UNITS = packed_models.random_units(np.random.default_rng(0))
STEM = packed_models.random_stem(np.random.default_rng(1))


def pip(*arguments: object) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_wheel_holds_the_library_and_no_sources(wheel: Path) -> None:
    assert wheel.name.startswith("edgebnn-")
    assert "-py3-none-" in wheel.name
    assert "-any" not in wheel.name
    names = zipfile.ZipFile(wheel).namelist()
    library = [name for name in names if name.startswith("edgebnn/kernels/")]
    assert [Path(name).stem for name in library] == ["libedgebnn"]
    others = [name for name in names if not name.endswith((".py", ".yaml")) and ".dist-info/" not in name]
    # The dashboard brings its configuration, published figures and the records of a demo.
    app = [name for name in others if name.startswith("edgebnn/app/")]
    assert {Path(name).suffix for name in app} == {".toml", ".json", ".csv", ""}
    assert {Path(name).name for name in app if not Path(name).suffix} == {"finished"}
    assert sorted(set(others) - set(app)) == sorted([*library, "edgebnn/py.typed"])


@pytest.mark.parametrize("versions", [pytest.param(OLDEST, marks=pytest.mark.long), NEWEST], ids=["oldest", "newest"])
def test_a_device_runs_a_packed_file(wheel: Path, tmp_path: Path, versions: tuple[str, ...]) -> None:
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    pip("--python", python, "install", "--no-compile", wheel, *versions)
    absent = "import importlib.util as i; assert not [m for m in ('torch', 'PIL', 'onnx') if i.find_spec(m)]"
    subprocess.run([python, "-c", absent], check=True, cwd=tmp_path)

    def edgebnn(*arguments: object) -> str:
        command = [python.with_name("edgebnn"), *map(str, arguments)]
        # Away from the clone, whose edgebnn would be imported instead.
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    # Of version 1 of the operators, and of version 2.
    edgebnn("bench", packed_models.write(tmp_path / "first.onnx", packed_models.make(UNITS)), "--runs", 3)
    model = packed_models.write(tmp_path / "packed.onnx", packed_models.make(UNITS, STEM))
    for threads in (1, 2):
        answer = json.loads(edgebnn("bench", model, "--runs", 3, "--threads", threads, "--json"))
        assert answer["results"][0]["isa"] in ("scalar", "avx2", "avx512", "neon")
    if versions is OLDEST:
        assert f"onnxruntime=={answer['machine']['onnxruntime']}" == OLDEST[0]
    pixels = np.random.default_rng(0).integers(0, 256, (packed_models.SIDE, packed_models.SIDE, 3), np.uint8)
    np.save(tmp_path / "image.npy", pixels)
    (image,) = json.loads(edgebnn("predict", model, tmp_path / "image.npy", "--top", 6, "--json"))
    info = packed_models.INFO
    normalised = (pixels / np.float32(255) - np.float32(info.mean)) / np.float32(info.std)
    logits = packed_models.logits(UNITS, normalised.transpose(2, 0, 1)[None].astype(np.float32), STEM)[0].astype(float)
    shares = np.exp(logits) / np.exp(logits).sum()
    found = {each["class"]: each["probability"] for each in image["classes"]}
    np.testing.assert_allclose([found[number] for number in range(6)], shares, rtol=1e-3)

    broken = packed_models.make(UNITS, STEM)
    broken.graph.node[1].attribute.pop()
    packed_models.write(model, broken)
    done = subprocess.run([python.with_name("edgebnn"), "bench", model], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert "BinaryUnit 'unit_00': attribute stride is missing" in done.stderr
