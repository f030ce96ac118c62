"""Packed files that fit, and files that do not: what is refused, when, and in which words."""

import os
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgebnn import runtime
from edgebnn.errors import UserError
from edgebnn.runtime import kernels, library_path
from edgebnn.runtime.formats import onnx_file
from tests.runtime import packed_models
from tests.runtime.models import INFO, write_onnx

UNITS = packed_models.random_units(np.random.default_rng(0))
STEM = packed_models.random_stem(np.random.default_rng(1))
Change = Callable[[onnx.ModelProto], None]


def load(tmp_path: Path, change: Change, **arguments: object) -> runtime.Model:
    model = packed_models.make(UNITS, **arguments)  # type: ignore[arg-type]
    change(model)
    return runtime.load_model(packed_models.write(tmp_path / "packed.onnx", model))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("batch", ["batch", 2])
def test_a_packed_file_gives_the_references_logits(tmp_path: Path, threads: int, batch: object) -> None:
    path = packed_models.write(tmp_path / "packed.onnx", packed_models.make(UNITS, batch=batch))
    model = runtime.load_model(path, threads=threads)
    assert model.isa == kernels.isa()
    images = np.random.default_rng(1).standard_normal((4, 3, packed_models.SIDE, packed_models.SIDE), np.float32)
    np.testing.assert_allclose(model.run(images), packed_models.logits(UNITS, images), rtol=1e-5, atol=1e-5)


def constant(name: str, value: np.ndarray) -> Change:
    """Puts another array in a constant's place."""

    def change(model: onnx.ModelProto) -> None:
        tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
        tensor.CopyFrom(numpy_helper.from_array(value, name))

    return change


def attribute(name: str, value: object, *, node: int = 2) -> Change:
    """Gives unit_01, or another node, another attribute; None takes it away."""

    def change(model: onnx.ModelProto) -> None:
        attributes = model.graph.node[node].attribute
        attributes.remove(next(each for each in attributes if each.name == name))
        if value is not None:
            attributes.append(helper.make_attribute(name, value))

    return change


def given(place: int, name: str, *, node: int = 2) -> Change:
    """Gives unit_01, or another node, another input."""
    return lambda model: model.graph.node[node].input.__setitem__(place, name)


def no_initializer(model: onnx.ModelProto) -> None:
    """A constant that the caller may replace."""
    scale = next(tensor for tensor in model.graph.initializer if tensor.name == "unit_01.scale")
    model.graph.input.append(helper.make_tensor_value_info(scale.name, TensorProto.FLOAT, scale.dims))


def no_bits(model: onnx.ModelProto) -> None:
    """The stem does not give the bits for which it has a threshold."""
    model.graph.node[0].output.pop()
    model.graph.node[1].input[6] = ""


def ones(*shape: int, dtype: type = np.float32) -> np.ndarray:
    return np.ones(shape, dtype)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            constant("unit_00.weight", ones(6, 1, 1, 2, dtype=np.uint8)),
            r"weight has shape \(6, 1, 1, 2\), wanted .*, 1\)",
        ),
        (constant("unit_00.weight", ones(6, 1, dtype=np.uint8)), r"weight has shape \(6, 1\)"),
        (constant("unit_00.weight", ones(6, 5, 5, 1, dtype=np.uint8)), "kernel 1 or 3"),
        (constant("unit_00.weight", ones(0, 1, 1, 1, dtype=np.uint8)), r"weight has shape \(0, 1, 1, 1\)"),
        (constant("unit_00.weight", ones(5, 1, 1, 1, dtype=np.uint8)), "twice as many outputs .* 3 inputs, 5 outputs"),
        (constant("unit_00.weight", np.full((6, 1, 1, 1), 9, np.uint8)), "bits beyond the last of 3 inputs"),
        (constant("unit_00.weight", ones(6, 1, 1, 1)), "damaged"),
        (constant("unit_00.threshold", ones()), r"threshold has shape \(\)"),
        (constant("unit_00.threshold", ones(0)), r"threshold has shape \(0\)"),
        (constant("unit_00.threshold", ones(16385)), "wanted .inputs., 1 to 16384"),
        (constant("unit_00.threshold", ones(3, 1)), r"threshold has shape \(3, 1\)"),
        (constant("unit_00.threshold", ones(3, dtype=np.float64)), "damaged"),
        (constant("unit_01.threshold", ones(5)), r"next_threshold has shape \(5\), wanted \(6\)"),
        (constant("unit_00.scale", ones(3)), r"unit_00': scale has shape \(3\), wanted \(6\)"),
        (constant("unit_02.bias", ones(1, 6)), r"unit_02': bias has shape \(1, 6\), wanted \(6\)"),
        (constant("unit_02.slope", ones(7)), r"slope has shape \(7\), wanted \(6\)"),
        (attribute("stride", None), "attribute stride is missing"),
        (attribute("stride", 3), "stride is 3, wanted 1 or 2"),
        (attribute("stride", 1 << 32 | 1), "stride is 4294967297"),
        (attribute("stride", 2), "identity shortcut needs stride 1"),
        (attribute("stride", "1"), "attribute stride is missing, or no integer"),
        (attribute("padding", None), "padding must be zero or one"),
        (attribute("padding", "reflect"), "padding must be zero or one"),
        (attribute("padding", 1), "padding must be zero or one"),
        (attribute("padding", "one" + "\0" * 3), "padding must be zero or one"),
        (attribute("shortcut", "x" * 1000), "shortcut must be identity or pool or repeat"),
        (attribute("shortcut", "pool"), "a shortcut that is pooled needs stride 2"),
        (attribute("shortcut", "repeat"), "repeat shortcut needs twice as many outputs"),
        (no_initializer, "unit_01': scale must be an initializer"),
        (given(2, "image"), "threshold must be an initializer"),
        (given(7, "unit_00"), "next_threshold must be an initializer"),
        (given(7, ""), "next_threshold and next_bits go together"),
        (lambda model: model.graph.node[3].input.append("unit_01.bias"), "next_threshold and next_bits go together"),
        (given(6, "unit_00"), "damaged"),
        (given(3, ""), "damaged"),
        (lambda model: model.graph.node[2].input.append("unit_00"), "damaged"),
        # What only a run shows: bits of a unit of other channels, and x.
        (given(6, "unit_02.weight"), r"unit_01': bits has shape \(6, 3, 3, 1\), wanted \(1, 6, 6, 1\)"),
        (given(0, "unit"), r"unit_01': x has shape \(1, 6, 6, 3\), wanted \(N, H, W, 6\)"),
        (given(0, "unit_00.bias"), r"x has shape \(6\)"),
    ],
)
def test_what_does_not_fit_is_refused_at_load(tmp_path: Path, change: Change, words: str) -> None:
    with pytest.raises(UserError, match=words) as refusal:
        load(tmp_path, change)
    assert f"model {tmp_path / 'packed.onnx'} " in str(refusal.value)


def test_an_odd_side_is_refused_where_it_would_be_halved(tmp_path: Path) -> None:
    info = INFO.to_json().replace("8", "7")
    with pytest.raises(UserError, match=r"unit_02': height and width must be even .* \(1, 7, 7, 6\)"):
        load(tmp_path, lambda model: helper.set_model_props(model, {"edgebnn": info}), side=7)


def no_outputs(model: onnx.ModelProto) -> None:
    model.graph.node[2].output.pop()
    model.graph.node[3].input[0] = "unit_00"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (no_outputs, "unit_01': y is missing, and so is pooled"),
        (given(6, "", node=3), "unit_02': bits are missing, which the pooled shortcut needs"),
        (attribute("stride", 1, node=3), "a shortcut that is pooled needs stride 2"),
        (attribute("shortcut", "pool", node=3), r"unit_02': height and width must be even .* \(1, 3, 3, 6\)"),
        (attribute("shortcut", "pooled"), "a shortcut that is pooled needs stride 2"),
        # What only a run shows.
        (given(0, "unit_00", node=3), r"unit_02': bits has shape \(1, 6, 6, 1\), wanted \(1, 12, 12, 1\)"),
    ],
)
def test_averages_that_do_not_fit_are_refused_at_load(tmp_path: Path, change: Change, words: str) -> None:
    with pytest.raises(UserError, match=words):
        load(tmp_path, change, stem=STEM)


def test_an_average_of_odd_sides_is_refused(tmp_path: Path) -> None:
    info = INFO.to_json().replace("8", "7")
    with pytest.raises(UserError, match=r"unit_01': the output's height and width must be even .* \(1, 7, 7, 6\)"):
        load(tmp_path, lambda model: helper.set_model_props(model, {"edgebnn": info}), side=7, stem=STEM)


def test_a_newer_operator_needs_a_newer_edgebnn(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"version 3 of the operators ai\.edgebnn.* needs a newer edgebnn"):
        load(tmp_path, lambda model: None, version=3)
    with pytest.raises(UserError, match="damaged"):
        load(tmp_path, lambda model: None, version=0)


def test_units_are_the_same_in_versions_1_and_2(tmp_path: Path) -> None:
    images = np.random.default_rng(1).standard_normal((2, 3, packed_models.SIDE, packed_models.SIDE), np.float32)
    answers = [load(tmp_path, lambda model: None, version=version).run(images) for version in (1, 2)]
    np.testing.assert_array_equal(answers[0], answers[1])
    with pytest.raises(UserError, match="damaged"):  # version 1 has no such operator
        load(tmp_path, lambda model: None, stem=STEM, version=1)


@pytest.mark.parametrize("threads", [1, 3])
def test_an_image_convolution_gives_the_references_logits(tmp_path: Path, threads: int) -> None:
    path = packed_models.write(tmp_path / "packed.onnx", packed_models.make(UNITS, STEM))
    images = np.random.default_rng(1).standard_normal((4, 3, packed_models.SIDE, packed_models.SIDE), np.float32)
    answer = runtime.load_model(path, threads=threads).run(images)
    np.testing.assert_allclose(answer, packed_models.logits(UNITS, images, STEM), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            constant("stem.weight", ones(3, 3, 3)),
            r"stem': weight has shape \(3, 3, 3\), wanted \(outputs, channels, 3, 3",
        ),
        (constant("stem.weight", ones(3, 3, 5, 5)), r"weight has shape \(3, 3, 5, 5\)"),
        (constant("stem.weight", ones(3, 3, 3, 1)), r"weight has shape \(3, 3, 3, 1\)"),
        (constant("stem.weight", ones(0, 3, 3, 3)), r"weight has shape \(0, 3, 3, 3\), wanted .* 1 to 16384"),
        (constant("stem.weight", ones(3, 0, 3, 3)), r"weight has shape \(3, 0, 3, 3\)"),
        (constant("stem.weight", ones(16385, 1, 3, 3)), "1 to 16384"),
        (constant("stem.weight", ones(3, 3, 3, 3, dtype=np.float64)), "damaged"),
        (constant("stem.bias", ones(4)), r"stem': bias has shape \(4\), wanted \(3\)"),
        (constant("stem.bias", ones(3, 1)), r"bias has shape \(3, 1\)"),
        (constant("unit_00.threshold", ones(1)), r"stem': next_threshold has shape \(1\), wanted \(3\)"),
        (attribute("stride", None, node=0), "stem': attribute stride is missing"),
        (attribute("stride", 0, node=0), "stride is 0, wanted 1 or 2"),
        (attribute("stride", 1 << 33, node=0), "stride is 8589934592"),
        (attribute("stride", "2", node=0), "attribute stride is missing, or no integer"),
        (given(1, "image", node=0), "weight must be an initializer"),
        (given(2, "image", node=0), "bias must be an initializer"),
        (given(3, "image", node=0), "next_threshold must be an initializer"),
        (given(3, "", node=0), "next_threshold and next_bits go together"),
        (given(1, "", node=0), "damaged"),
        (no_bits, "stem': next_threshold and next_bits go together"),
        (lambda model: model.graph.node[0].input.append("stem.bias"), "damaged"),
        # What only a run shows.
        (constant("stem.weight", ones(3, 4, 3, 3)), r"stem': image has shape \(1, 3, 6, 6\), wanted \(N, 4, H, W\)"),
        (given(0, "unit_00.threshold", node=0), r"stem': image has shape \(3\)"),
    ],
)
def test_an_image_convolution_that_does_not_fit_is_refused_at_load(tmp_path: Path, change: Change, words: str) -> None:
    with pytest.raises(UserError, match=words):
        load(tmp_path, change, stem=STEM)


def test_an_image_of_odd_side_is_refused_where_it_would_be_halved(tmp_path: Path) -> None:
    info = INFO.to_json().replace("8", "7")

    def change(model: onnx.ModelProto) -> None:
        model.graph.node[0].attribute[0].i = 2
        helper.set_model_props(model, {"edgebnn": info})

    with pytest.raises(UserError, match=r"ImageConv 'stem': height and width must be even .* \(1, 3, 7, 7\)"):
        load(tmp_path, change, stem=STEM, side=7)


def test_names_that_are_no_text_are_damage(tmp_path: Path) -> None:
    path = packed_models.write(tmp_path / "packed.onnx", packed_models.make(UNITS))
    path.write_bytes(path.read_bytes().replace(b"\x05batch", b"\x05\xd8atch"))
    with pytest.raises(UserError, match=r"packed\.onnx is damaged"):
        runtime.load_model(path)


def test_only_packed_files_need_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernels._library.cache_clear()
    monkeypatch.setenv("EDGEBNN_LIBRARY", str(tmp_path / "absent.so"))
    try:
        assert runtime.load_model(write_onnx(tmp_path / "plain.onnx")).isa is None
        with pytest.raises(UserError, match=r"EDGEBNN_LIBRARY is .*absent\.so"):
            load(tmp_path, lambda model: None)
        (tmp_path / "absent.so").write_text("no library")
        with pytest.raises(UserError, match="cannot be loaded"):
            load(tmp_path, lambda model: None)
    finally:
        kernels._library.cache_clear()


@pytest.mark.parametrize("isa", ["mmx", "neon avx2", "AVX2"])
def test_an_unknown_path_is_refused(tmp_path: Path, isa: str) -> None:
    """In a process of its own, as the choice is made once."""
    path = packed_models.write(tmp_path / "packed.onnx", packed_models.make(UNITS))
    program = f"from edgebnn import cli; cli.main(['bench', {str(path)!r}])"
    done = run(program, {"EDGEBNN_ISA": isa})
    assert done.returncode == 2
    assert f"error: EDGEBNN_ISA is '{isa}'; on this machine it may be" in done.stderr
    assert "scalar" in done.stderr


@pytest.mark.parametrize("isa", kernels.isas())
def test_a_forced_path_runs_and_is_told(tmp_path: Path, isa: str) -> None:
    path = packed_models.write(tmp_path / "packed.onnx", packed_models.make(UNITS))
    done = run(f"from edgebnn import cli; cli.main(['bench', {str(path)!r}, '--runs', '2'])", {"EDGEBNN_ISA": isa})
    assert done.returncode == 0, done.stderr
    assert f"onnxruntime {onnxruntime.__version__}, {isa}" in done.stdout


def test_a_plain_onnxruntime_user_needs_the_library_alone(tmp_path: Path) -> None:
    """Sessions made and dropped one after the other, with threads, in a process that knows nothing of edgebnn."""
    path = packed_models.write(tmp_path / "packed.onnx", packed_models.make(UNITS))
    program = f"""
import sys, numpy, onnxruntime
images = numpy.ones((1, 3, {packed_models.SIDE}, {packed_models.SIDE}), "float32")
answers = []
for threads in (1, 2, 2, 1):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.register_custom_ops_library({str(library_path())!r})
    session = onnxruntime.InferenceSession({str(path)!r}, options)
    answers.append(session.run(None, dict(image=images))[0].tobytes())
    del session, options
assert len(set(answers)) == 1
assert "edgebnn" not in sys.modules
"""
    done = run(program)
    assert done.returncode == 0, done.stderr


def run(program: str, environment: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=os.environ | (environment or {})
    )


def test_operator_sets_are_read_from_any_file(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    whole = packed_models.make(UNITS, version=-3).SerializeToString()
    path.write_bytes(whole)
    assert onnx_file.operator_sets(path) == {"": 17, "ai.edgebnn": -3}
    for end in range(0, len(whole), 7):
        path.write_bytes(whole[:end])
        assert set(onnx_file.operator_sets(path)) <= {"", "ai.edgebnn"}
    for data in (b"", b"\xff" * 40, b"\x42\xff\xff\xff\xff\x07ab", b"\x42\x03\x0a\x05a", b"\x45"):
        path.write_bytes(data)
        assert "ai.edgebnn" not in onnx_file.operator_sets(path)
    # Sizes below 0 (-11 in ten bytes) would step back for ever, and cannot be read.
    for key in (b"\x0a", b"\x42"):
        path.write_bytes(key + b"\xf5" + b"\xff" * 8 + b"\x01")
        assert onnx_file.operator_sets(path) == {}
    # No field has the number 0: a file of zeros ends at once.
    assert list(onnx_file.spans(BytesIO(bytes(100)))) == []
