"""The inference graph as a packed ONNX file: each unit one operator of ours, its weights one bit each.

The operators are `BinaryUnit` and `ImageConv` of the domain `ai.edgebnn`, version 2 (edgebnn/kernels). `ImageConv` is
a stem of kernel 3 without a pool; other stems and the head are standard operators. ONNX Runtime runs the file with the
library of `edgebnn.runtime.library_path()` registered. Stem and units also write the bits that the next unit reads, so
that a threshold is compared where its input still lies in registers. Where a shortcut is a convolution (18-layer
networks: 3 units of 16), the operator has none, and standard ones add it.
"""

from dataclasses import dataclass, replace

import numpy as np

from edgebnn.errors import check
from edgebnn.graph import InferenceGraph, Stem, Unit, bits
from edgebnn.runtime.ort import DOMAIN, DOMAIN_VERSION

from .builder import INPUT, Builder, add_stem, assemble, stem_output_name, unit_output_name
from .portable import prelu, shortcut

OPERATOR = "BinaryUnit"
IMAGE_OPERATOR = "ImageConv"


def convert_to_packed_onnx(graph: InferenceGraph, *, int8_head: bool = False) -> bytes:
    """A serialised ONNX model: `image` float32 (batch, channels, height, width) -> `logits` (batch, outputs).

    Args:
        graph: the network.
        int8_head: whether the linear layers' weights are kept as int8, a scale an output.

    Raises:
        UserError: a unit is not binary.
    """
    for number, unit in enumerate(graph.units):
        check(
            unit.binary,
            f"unit {number} has float {unit.floats}, and a packed file holds bits alone; "
            "export the portable file (without --packed), or train step 2 first",
        )
    return assemble(graph, _body, channels_last=True, int8_head=int8_head, domains=[(DOMAIN, DOMAIN_VERSION)])


def has_own_operator(part: Stem) -> bool:
    """Whether a packed file computes that stem by `ImageConv`."""
    return part.weight.shape[2] == 3 and not part.pool


def bits_output_name(output: str) -> str:
    """Name of the packed bits that go with an output of the stem or a unit."""
    return f"{output}.bits"


def average_output_name(number: int) -> str:
    """Name of the 2x2 average of unit `number`'s output, which it gives in that one's place to a unit that pools."""
    return f"{unit_output_name(number)}.average"


@dataclass(frozen=True)
class _Given:
    """Names of what a unit reads: x, or its 2x2 average, and the bits of x or ""."""

    x: str
    bits: str = ""
    pooled: bool = False


def _body(builder: Builder, graph: InferenceGraph) -> str:
    side = graph.info.resolution // graph.stem.reduction
    given = _stem(builder, graph)
    builder.shape(given.x, side, side, len(graph.stem.bias))
    for number, unit in enumerate(graph.units):
        following = graph.units[number + 1] if number + 1 < len(graph.units) else None
        if unit.downsample is None:
            given = _unit(builder, unit, number, given, following)
        else:
            given = _Given(_around_a_convolution(builder, unit, unit_output_name(number), given, side))
        side //= unit.stride
        # Where shapes are known and equal, ONNX Runtime lets a unit write over its input.
        known = side // 2 if given.pooled else side
        builder.shape(given.x, known, known, len(unit.scale))
    return given.x


def _stem(builder: Builder, graph: InferenceGraph) -> _Given:
    if not has_own_operator(graph.stem):
        return _Given(add_stem(builder, graph.stem, channels_last=True))
    name = stem_output_name()
    constants = {"weight": graph.stem.weight, "bias": graph.stem.bias}
    inputs = [INPUT, *(builder.constant(f"{name}.{each}", value) for each, value in constants.items())]
    given = _Given(name)
    if graph.units:
        inputs.append(builder.constant(f"{unit_output_name(0)}.threshold", graph.units[0].threshold))
        given = _Given(name, bits_output_name(name))
    outputs = [name, given.bits] if given.bits else [name]
    builder.add(IMAGE_OPERATOR, inputs, *outputs, domain=DOMAIN, stride=graph.stem.stride)
    return given


def _unit(builder: Builder, unit: Unit, number: int, given: _Given, following: Unit | None) -> _Given:
    """A unit as one operator, which writes what the following one reads."""
    name, average = unit_output_name(number), average_output_name(number)
    packed = bits_output_name(name)
    if following is None:
        _operator(builder, unit, name, given, [name])
        return _Given(name)
    threshold = builder.constant(f"{unit_output_name(number + 1)}.threshold", following.threshold)
    # A map that is only read pooled is a quarter as large to write, and to read again.
    pools = following.shortcut == "pool"
    _operator(builder, unit, name, given, ["", packed, average] if pools else [name, packed], threshold)
    return _Given(average if pools else name, packed, pools)


def _operator(
    builder: Builder, unit: Unit, name: str, given: _Given, outputs: list[str], threshold: str = "", node: str = ""
) -> None:
    """Adds the node of a unit.

    Args:
        name: begins its constants' names, and is the node's unless `node` is given.
        outputs: names, "" for what it does not give.
        threshold: name of the following unit's, whose bits are then written.
        node: begins the name of its slope, too.
    """
    node = node or name
    inputs = [given.x, builder.constant(f"{name}.weight", bits.pack_weight(unit.weight))]
    for constant in ("threshold", "scale", "bias"):
        inputs.append(builder.constant(f"{name}.{constant}", getattr(unit, constant)))
    inputs.append(builder.constant(f"{node}.slope", unit.slope))
    if given.bits or threshold:
        inputs.append(given.bits)
    if threshold:
        inputs.append(threshold)
    shortcut = "pooled" if given.pooled else unit.shortcut
    attributes = {"stride": unit.stride, "padding": unit.padding, "shortcut": shortcut}
    builder.add(OPERATOR, inputs, *outputs, name=node, domain=DOMAIN, **attributes)


def _around_a_convolution(builder: Builder, unit: Unit, name: str, given: _Given, side: int) -> str:
    """A unit whose shortcut is a convolution of floats, which standard operators run; the next compares its output."""
    alone = replace(unit, slope=np.ones_like(unit.slope), shortcut="none", downsample=None)
    conv = f"{name}.conv"
    _operator(builder, alone, name, given, [conv], node=conv)
    linear = bool((unit.slope == 1).all())
    z = builder.add("Add", [conv, shortcut(builder, unit, name, given.x, side)], name if linear else f"{name}.z")
    return z if linear else prelu(builder, unit, name, z)
