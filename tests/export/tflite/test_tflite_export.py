"""Plain TFLite files: every unit given its own input, against the reference; and the command, proved by `verify`."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgebnn import checkpoint, runtime
from edgebnn.export.cli import main
from edgebnn.export.fold import fold
from edgebnn.export.tflite import file as tflite_file
from edgebnn.export.tflite import plain
from edgebnn.export.tflite.interpreter import open_interpreter
from edgebnn.export.verify import rounding
from edgebnn.graph import InferenceGraph, ModelInfo, reference
from edgebnn.graph.shapes import Padding, UnitShape
from edgebnn.nn import ReActNetConfig
from tests.export.random_graph import graph_of
from tests.needs import needs_lce, needs_tensorflow
from tests.networks import noise, random_network

SHAPES = (
    UnitShape(8, 8, 3, 1, "identity"),
    UnitShape(8, 8, 1, 2, "pool"),
    UnitShape(8, 16, 1, 1, "repeat"),
    UnitShape(16, 16, 3, 2, "pool"),
    UnitShape(16, 16, 3, 1, "identity"),
    UnitShape(16, 12, 3, 1, "none"),
)


def small(padding: Padding) -> InferenceGraph:
    """Down to maps of 1x1, where LCE itself needs another form."""
    return graph_of(np.random.default_rng(1), SHAPES, channels=8, resolution=8, stem_stride=2, padding=padding)


@needs_lce
@pytest.mark.parametrize("padding", ["zero", "one"])
@pytest.mark.parametrize("twin", [False, True])
def test_every_unit_is_the_references_to_rounding(padding: Padding, twin: bool) -> None:
    graph = plain.real_valued(small(padding)) if twin else small(padding)
    images = noise(0, 4, 8)
    data = plain.convert_to_tflite(graph)
    taps, logits = open_interpreter(data).run(images)
    assert np.allclose(taps[0], reference.stem(graph.stem, images), rtol=0, atol=1e-5)
    for unit, x, y in zip(graph.units, taps, taps[1:]):
        expected = reference.unit(unit, x)
        assert rounding.share_of_bound(y, expected, rounding.unit_bound(unit, x)) <= 1, unit.shape
        assert expected.std() > 0.1
    assert np.allclose(logits, reference.head(graph.head, taps[-1]), rtol=0, atol=1e-5)
    counts = tflite_file.count_operators(data)
    assert not any(kind.startswith("Lce") for kind in counts)
    assert (counts["CONV_2D"], counts["PRELU"], counts["SIGN"]) == (7, 6, 0 if twin else 12)


@needs_lce
def test_bits_at_the_threshold_are_plus_one() -> None:
    """TFLite's SIGN gives 0 there. The stem gives 0 everywhere, and so are the thresholds."""
    graph = small("one")
    stem = replace(graph.stem, weight=np.zeros_like(graph.stem.weight), bias=np.zeros_like(graph.stem.bias))
    first = replace(graph.units[0], threshold=np.zeros(8, np.float32))
    graph = replace(graph, stem=stem, units=(first, *graph.units[1:]))
    taps, _ = open_interpreter(plain.convert_to_tflite(graph)).run(noise(0, 1, 8))
    assert not taps[0].any()
    assert np.allclose(taps[1], reference.unit(first, taps[0]), rtol=0, atol=1e-5)


@needs_tensorflow
def test_tensorflows_own_interpreter_runs_the_file() -> None:
    """It is the one that stands at hand where LCE has no package."""
    import tensorflow as tf

    graph, images = small("zero"), noise(0, 1, 8)
    interpreter = tf.lite.Interpreter(model_content=plain.convert_to_tflite(graph))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], images.transpose(0, 2, 3, 1))
    interpreter.invoke()
    logits = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    wanted = reference.run(graph, images)
    # A bit that flips moves a logit by a hundred times as much.
    np.testing.assert_allclose(logits, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())


@needs_lce
def test_the_command_and_its_proof(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = random_network(3, ReActNetConfig(width=0.0625, head=(5,)))
    trained, written, twin = tmp_path / "model.safetensors", tmp_path / "plain.tflite", tmp_path / "twin.tflite"
    checkpoint.save_checkpoint(trained, model, ModelInfo(name="m", resolution=32))
    main(["tflite", str(trained), str(written), "--record", str(tmp_path / "run")])
    main(["verify", str(trained), str(written), "--images", "8"])
    said = capsys.readouterr().out
    assert "26 of 26" in said
    assert said.rstrip().endswith("verified")
    assert "not verified" not in said
    assert runtime.load_model(written).format == "tflite"
    (size,) = (tmp_path / "run" / "records").glob("size-*.json")
    assert '"format": "tflite"' in size.read_text()

    main(["tflite", str(trained), str(twin), "--real-valued"])
    loaded = runtime.load_model(twin)
    graph = plain.real_valued(fold(model, ModelInfo(name="m", resolution=32)))
    images = noise(1, 2, 32)
    assert loaded.info.name == "m-real-valued"
    wanted: Any = reference.run(graph, images)
    assert np.allclose(loaded.run(images), wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())
