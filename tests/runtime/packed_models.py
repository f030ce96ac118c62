"""Small packed files written by hand: perhaps a stem, three units that hand on their bits, the mean over the pixels."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgebnn.graph import ModelInfo, Stem, Unit, bits, reference
from edgebnn.graph.shapes import Shortcut

SIDE = 6
CHANNELS = 3
SHORTCUTS: tuple[tuple[Shortcut, int], ...] = (("repeat", 1), ("identity", 3), ("pool", 3))
INFO = ModelInfo(name="packed", resolution=SIDE, mean=(0.5,) * 3, std=(0.2,) * 3)


def random_units(rng: np.random.Generator, channels: int = CHANNELS) -> list[Unit]:
    """Units of all shortcuts and paddings, from `channels` to twice as many."""
    units = []
    for number, (shortcut, kernel) in enumerate(SHORTCUTS):
        outputs = channels * (2 if shortcut == "repeat" else 1)
        threshold, scale, bias, slope = (
            rng.normal(0, 0.5, size).astype(np.float32) for size in (channels, *[outputs] * 3)
        )
        weight = rng.choice((-1, 1), (outputs, channels, kernel, kernel)).astype(np.int8)
        stride = 2 if shortcut == "pool" else 1
        units.append(Unit(threshold, weight, scale, bias, slope, stride, ("zero", "one")[number % 2], shortcut))
        channels = outputs
    return units


def random_stem(rng: np.random.Generator, channels: int = CHANNELS) -> Stem:
    """A stem that keeps the image's size and channels."""
    weight = rng.normal(0, 0.3, (channels, channels, 3, 3)).astype(np.float32)
    return Stem(weight, rng.normal(0, 0.5, channels).astype(np.float32), stride=1)


def logits(units: list[Unit], images: np.ndarray, stem: Stem | None = None) -> np.ndarray:
    """What the model gives for images (N, channels, H, W)."""
    if stem is not None:
        images = reference.stem(stem, images)
    for unit in units:
        images = reference.unit(unit, images)
    return images.mean(axis=(2, 3))


def make(
    units: list[Unit],
    stem: Stem | None = None,
    *,
    side: object = SIDE,
    batch: object = "batch",
    version: int | None = None,
) -> onnx.ModelProto:
    """A model of the units, as the exporter would write it but for the head.

    Without a stem it is one of version 1 of the operators, or of `version`.
    """
    constants: dict[str, np.ndarray] = {}
    if stem is None:
        nodes = [helper.make_node("Transpose", ["image"], ["unit"], perm=[0, 2, 3, 1])]
    else:
        constants |= {"stem.weight": stem.weight, "stem.bias": stem.bias}
        inputs, outputs = ["image", *constants, "unit_00.threshold"], ["unit", "unit.bits"]
        nodes = [helper.make_node("ImageConv", inputs, outputs, "stem", domain="ai.edgebnn", stride=stem.stride)]
    if version is None:
        version = 1 if stem is None else 2
    x, seen = "unit", "" if stem is None else "unit.bits"
    for number, unit in enumerate(units):
        name, last = f"unit_{number:02d}", number == len(units) - 1
        arrays = {"weight": bits.pack_weight(unit.weight)}
        arrays |= {each: getattr(unit, each) for each in ("threshold", "scale", "bias", "slope")}
        constants |= {f"{name}.{each}": array for each, array in arrays.items()}
        inputs = [x, *(f"{name}.{each}" for each in arrays), seen]
        inputs += [] if last else [f"unit_{number + 1:02d}.threshold"]
        outputs = [name] if last else [name, f"{name}.bits"]
        if version > 1 and not last and units[number + 1].shortcut == "pool":
            outputs = ["", f"{name}.bits", f"{name}.average"]
        given_pooled = x.endswith(".average")
        attributes = {"stride": unit.stride, "padding": unit.padding}
        attributes["shortcut"] = "pooled" if given_pooled else unit.shortcut
        nodes.append(helper.make_node("BinaryUnit", inputs, outputs, name, domain="ai.edgebnn", **attributes))
        x, seen = outputs[-1] if len(outputs) == 3 else name, f"{name}.bits"
    nodes.append(helper.make_node("ReduceMean", [x], ["logits"], axes=[1, 2], keepdims=0))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, units[0].shape.in_channels, side, side])
    answer = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, units[-1].shape.out_channels])
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "packed", [image], [answer], initializers),
        opset_imports=[
            helper.make_opsetid("", 17),
            helper.make_opsetid("ai.edgebnn", version),
        ],
        ir_version=8,
    )
    helper.set_model_props(model, {"edgebnn": INFO.to_json()})
    return model


def write(path: Path, model: onnx.ModelProto) -> Path:
    path.write_bytes(model.SerializeToString())
    return path
