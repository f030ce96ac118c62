"""LCE files from this project's own exporter, run without TensorFlow in a process that knows none of it."""

import importlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgebnn import runtime
from edgebnn.errors import UserError
from edgebnn.graph import Head, InferenceGraph, Linear, ModelInfo, Stem, Unit, reference
from edgebnn.runtime import lce
from tests.needs import needs_lce
from tests.runtime.models import assert_threads_agree

pytestmark = needs_lce

INFO = ModelInfo(name="one-unit", resolution=8, labels=("a", "b", "c", "d"))


@pytest.fixture(scope="module")
def graph() -> InferenceGraph:
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, np.float32)

    weight = rng.choice((-1, 1), (32, 32, 3, 3)).astype(np.int8)
    unit = Unit(normal(32), weight, normal(32) / 17, normal(32), normal(32) / 4, 1, "zero", "identity")
    head = Head(np.zeros(32, np.float32), (Linear(normal(4, 32), normal(4)),))
    return InferenceGraph(Stem(normal(32, 3, 3, 3), normal(32), 2), (unit,), head, INFO)


@pytest.fixture(scope="module")
def path(graph: InferenceGraph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from edgebnn.export.tflite.lce import convert_to_lce

    path = tmp_path_factory.mktemp("lce") / "one.tflite"
    path.write_bytes(convert_to_lce(graph))
    return path


def test_it_gives_the_references_logits(graph: InferenceGraph, path: Path) -> None:
    model = runtime.load_model(path)
    assert (model.info, model.format, model.runtime, model.described) == (INFO, "lce", "lce", True)
    images = np.random.default_rng(1).standard_normal((6, 3, 8, 8), np.float32)
    # A value at a threshold could flip a bit; these images have none there, so only rounding differs.
    np.testing.assert_allclose(model.run(images), reference.run(graph, images), rtol=1e-4, atol=1e-4)


def test_threads_that_share_a_model_get_their_own_answers(graph: InferenceGraph, tmp_path: Path) -> None:
    from edgebnn.export.tflite.lce import convert_to_lce

    # An image so large that a run takes longer than the change from one thread to another.
    path = tmp_path / "large.tflite"
    path.write_bytes(convert_to_lce(replace(graph, info=replace(INFO, resolution=96))))
    assert_threads_agree(runtime.load_model(path))


def test_the_interpreter_runs_without_tensorflow(path: Path) -> None:
    program = (
        "import sys, edgebnn.runtime as r, numpy as np\n"
        f"r.load_model({str(path)!r}).run(np.zeros((1, 3, 8, 8), np.float32))\n"
        "assert not {'tensorflow', 'torch', 'larq_compute_engine'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_package_imported_too_shares_the_extension(path: Path) -> None:
    runtime.load_model(path)
    # A second copy of it under another name could not be loaded into one process.
    assert importlib.import_module(lce.EXTENSION) is sys.modules[lce.EXTENSION]
    from larq_compute_engine.tflite.python.interpreter import Interpreter

    assert Interpreter(path.read_bytes()).output_shapes == [(1, 4)]


def test_files_that_crash_the_interpreter_are_refused(path: Path, tmp_path: Path) -> None:
    whole = path.read_bytes()
    assert len(whole) > 1000
    broken = tmp_path / "broken.tflite"
    # Sound by its magic and empty of all else: this ends the interpreter's process with SIGSEGV.
    for data in (whole[: len(whole) // 2], b"\x10\0\0\0TFL3" + bytes(400), b"\x08\0\0\0TFL3\x04\0\0\0\x04\0\x04\0"):
        broken.write_bytes(data)
        with pytest.raises(UserError, match=r"broken\.tflite is (cut off or )?damaged"):
            runtime.load_model(broken)


def test_without_the_engine_or_with_numpy_2_the_remedy_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, lce.EXTENSION, raising=False)
    with monkeypatch.context() as patch:
        patch.setattr(np, "__version__", "2.1.0")
        with pytest.raises(UserError, match=r"pip install 'numpy<2'"):
            runtime.load_model(path)
    monkeypatch.setattr(lce.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install larq-compute-engine"):
        runtime.load_model(path)
