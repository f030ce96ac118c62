import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto

from edgebnn import runtime
from edgebnn.errors import UserError
from edgebnn.runtime import ort, preprocess
from tests.runtime import packed_models
from tests.runtime.models import CLASSES, INFO, SIDE, assert_threads_agree, logits, write_onnx

IMAGES = np.random.default_rng(0).standard_normal((5, 3, SIDE, SIDE), np.float32)


@pytest.mark.parametrize("batch", ["batch", 1, 5])
def test_onnx_gives_the_formulas_logits(tmp_path: Path, batch: object) -> None:
    model = runtime.load_model(write_onnx(tmp_path / "m.onnx", info=INFO.to_json(), batch=batch))
    assert model.info == INFO
    assert (model.format, model.runtime, model.described, model.threads) == ("onnx", "onnxruntime", True, 1)
    np.testing.assert_allclose(model.run(IMAGES), logits(IMAGES), rtol=1e-5, atol=1e-6)


def test_a_model_of_strangers_gets_its_name_and_resolution_from_the_file(tmp_path: Path) -> None:
    model = runtime.load_model(write_onnx(tmp_path / "resnet.v1.onnx"), threads=2)
    assert (model.info.name, model.info.resolution, model.described, model.threads) == ("resnet.v1", SIDE, False, 2)
    assert runtime.load_model(write_onnx(tmp_path / "free.onnx", side="side")).info.resolution == 224


def test_images_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    model = runtime.load_model(write_onnx(tmp_path / "m.onnx", batch=2))
    for wrong in (IMAGES[:2, :1], IMAGES[:2, :, :4], IMAGES[0], IMAGES[:0]):
        with pytest.raises(UserError, match=r"takes N images of shape \(3, 8, 8\)"):
            model.run(wrong)
    with pytest.raises(UserError, match="takes 2 images at a time, not 5"):
        model.run(IMAGES)
    assert model.run(IMAGES[:4]).shape == (4, CLASSES)


def test_pixels_that_nobody_normalised_are_refused_with_the_remedy(tmp_path: Path) -> None:
    model = runtime.load_model(write_onnx(tmp_path / "m.onnx", info=INFO.to_json()))
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    image = pixels.transpose(2, 0, 1)[None]
    for kind in (np.uint8, np.int8, np.uint16, np.int64, bool):
        with pytest.raises(UserError, match=rf"not {np.dtype(kind)} pixels; .*normalise\(pixels, model.info\)"):
            model.run(image.astype(kind))
    expected = (pixels / 255 - INFO.mean) / INFO.std
    found = preprocess.normalise(pixels, INFO)
    np.testing.assert_allclose(found, expected.transpose(2, 0, 1)[None], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.run(found), logits(found), rtol=1e-5, atol=1e-6)
    # All kinds of floats are normalised images.
    np.testing.assert_allclose(model.run(found.astype(np.float64)), logits(found), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.run(found.astype(np.float16)), logits(found), rtol=1e-2, atol=1e-2)
    for wrong in (pixels.astype(np.float32), pixels[:4], pixels[..., :1]):
        with pytest.raises(UserError, match=r"the model takes uint8 \(8, 8, 3\); resize and crop"):
            preprocess.normalise(wrong, INFO)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("batch", ["batch", 1])
def test_values_that_are_not_finite_are_refused(tmp_path: Path, value: float, batch: object) -> None:
    model = runtime.load_model(write_onnx(tmp_path / "m.onnx", batch=batch))
    for place in ((0, 0, 0, 0), (-1, -1, -1, -1)):
        images = IMAGES.copy()
        images[place] = value
        images[0, 0, 1, 1] = -value
        with pytest.raises(UserError, match="NaN or infinite values; prepare them again"):
            model.run(images)
    # The sum of these images is infinite, the images are not.
    large = np.full((1, 3, SIDE, SIDE), 3e36, np.float32)
    assert np.isfinite(model.run(large)).all()


def test_threads_that_share_a_model_get_their_own_answers(tmp_path: Path) -> None:
    packed = packed_models.make(packed_models.random_units(np.random.default_rng(0)))
    for path in (write_onnx(tmp_path / "m.onnx"), packed_models.write(tmp_path / "packed.onnx", packed)):
        assert_threads_agree(runtime.load_model(path))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"resolution": 16}, "its metadata says 16 pixels, its input 8"),
        ({"std": [1, 0, 1]}, "makes no sense"),
        ({"mean": [1, 2]}, "makes no sense"),
        ({"name": ""}, "makes no sense"),
        ({"resolution": float("inf")}, "damaged"),
        ({"labels": 5}, "damaged"),
    ],
)
def test_metadata_that_cannot_be_is_refused(tmp_path: Path, change: dict[str, object], words: str) -> None:
    text = json.dumps(json.loads(INFO.to_json()) | change)
    with pytest.raises(UserError, match=words):
        runtime.load_model(write_onnx(tmp_path / "m.onnx", info=text))


def test_damaged_and_foreign_files_are_refused_by_name(tmp_path: Path) -> None:
    whole = write_onnx(tmp_path / "m.onnx", info=INFO.to_json()).read_bytes()
    path = tmp_path / "cut.onnx"
    for data in (whole[: len(whole) // 2], whole[:20], b"\xff" * 300, b"garbage"):
        path.write_bytes(data)
        with pytest.raises(UserError, match=r"model .*cut\.onnx is damaged"):
            runtime.load_model(path)
    with pytest.raises(UserError, match=r"absent\.onnx does not exist"):
        runtime.load_model(tmp_path / "absent.onnx")
    torn = tmp_path / "torn.tflite"
    torn.write_bytes(b"no TFLite file")
    with pytest.raises(UserError, match=r"torn\.tflite is no TFLite file"):
        runtime.load_model(torn)
    with pytest.raises(UserError, match=r"is neither \.onnx nor \.tflite"):
        runtime.load_model(Path(__file__))
    with pytest.raises(UserError, match="0 threads"):
        runtime.load_model(tmp_path / "m.onnx", threads=0)


def test_models_that_take_no_float_image_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="damaged|only a model that takes one float32 image"):
        runtime.load_model(write_onnx(tmp_path / "double.onnx", kind=TensorProto.DOUBLE))


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ([1, 10], "no image"),
        ([1, 3, 8, 16], "only square images"),
        ([1, 224, 3, 3], "channels must come first"),
        ([0, 3, 8, 8], "export it again"),
    ],
)
def test_inputs_that_are_no_image_are_refused(shape: list[int | None], words: str) -> None:
    with pytest.raises(UserError, match=words):
        runtime.model.parse_image_shape(shape, Path("m.onnx"))


def written_by_onnx_runtime(path: Path, out: Path) -> Path:
    """What it makes of a file in a process that has registered the operators: it names their domain, used or not."""
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(str(runtime.library_path()))
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(out)
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    assert ort.DOMAIN in {each.domain for each in onnx.load(out).opset_import}
    return out


def test_a_packed_file_that_onnx_runtime_wrote_is_packed(tmp_path: Path) -> None:
    units = packed_models.random_units(np.random.default_rng(0))
    packed = packed_models.write(tmp_path / "packed.onnx", packed_models.make(units))
    side = packed_models.SIDE
    images = np.random.default_rng(0).standard_normal((1, 3, side, side), dtype=np.float32)
    found = runtime.load_model(written_by_onnx_runtime(packed, tmp_path / "written.onnx"))
    assert found.format == "onnx-packed"
    np.testing.assert_array_equal(found.run(images), runtime.load_model(packed).run(images))


def test_a_plain_file_that_onnx_runtime_wrote_is_plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written_by_onnx_runtime(write_onnx(tmp_path / "m.onnx"), tmp_path / "written.onnx")
    monkeypatch.setenv("EDGEBNN_LIBRARY", str(tmp_path / "absent.so"))
    model = runtime.load_model(path)
    assert (model.format, model.isa) == ("onnx", None)
    np.testing.assert_allclose(model.run(IMAGES), logits(IMAGES), rtol=1e-5, atol=1e-6)
