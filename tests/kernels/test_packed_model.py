"""A whole packed network through ONNX Runtime and the kernels, on this processor or an emulated one."""

import os
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from edgebnn import runtime
from edgebnn.runtime import kernels
from tests.kernels import packed_model
from tests.kernels.cases import assert_same


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """EDGEBNN_MODEL, made elsewhere; or made here."""
    made = os.environ.get("EDGEBNN_MODEL")
    return Path(made) if made else packed_model.make(tmp_path_factory.mktemp("model"))


def test_stem_and_units_of_reactnet_a_equal_the_reference_bit_for_bit(folder: Path) -> None:
    wanted = dict(np.load(folder / packed_model.ARRAYS))
    images, logits = wanted.pop("image"), wanted.pop("logits")
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(str(runtime.library_path()))
    session = onnxruntime.InferenceSession(folder / packed_model.MODEL, options, ["CPUExecutionProvider"])
    names = sorted(wanted)
    assert len(names) == 1 + 26
    found = session.run(["logits", *names], {"image": images})
    for name, output in zip(names, found[1:]):
        assert_same(output, wanted[name], name)
    # The head's sums are of floats, in an order that is each runtime's own.
    np.testing.assert_allclose(found[0], logits, rtol=1e-4, atol=1e-5)


def test_it_loads_as_any_model_and_tells_its_path(folder: Path) -> None:
    wanted = np.load(folder / packed_model.ARRAYS)
    model = runtime.load_model(folder / packed_model.MODEL)
    assert model.isa == kernels.isa()
    np.testing.assert_allclose(model.run(wanted["image"]), wanted["logits"], rtol=1e-4, atol=1e-5)
