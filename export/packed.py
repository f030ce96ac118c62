"""The inference graph as a packed ONNX file: each unit one operator of ours, its weights one bit each.

The operators are `BinaryUnit` and `ImageConv` of the domain `ai.edgebnn`, version 2 (edgebnn/kernels). `ImageConv` is
a stem of kernel 3 without a pool; other stems and the head are standard operators. ONNX Runtime runs the file with the
library of `edgebnn.runtime.library_path()` registered. Stem and units also write the bits that the next unit reads, so
that a threshold is compared where its input still lies in registers. Where a shortcut is a convolution (18-layer
networks: 3 units of 16), the operator has none, and standard ones add it.
"""

from dataclasses import replace

import numpy as np

from edgebnn.errors import check
from edgebnn.graph import InferenceGraph, Stem, Unit, bits
from edgebnn.runtime.ort import DOMAIN, DOMAIN_VERSION
from export.builder import INPUT, Builder, add_stem, assemble, stem_output_name, unit_output_name
from export.onnx import prelu, shortcut

OPERATOR = "BinaryUnit"
IMAGE_OPERATOR = "ImageConv"


def convert(graph: InferenceGraph, *, int8_head: bool = False) -> bytes:
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


def _body(builder: Builder, graph: InferenceGraph) -> str:
    side = graph.info.resolution // graph.stem.reduction
    x, packed = _stem(builder, graph)
    builder.shape(x, side, side, len(graph.stem.bias))
    for number, unit in enumerate(graph.units):
        name = unit_output_name(number)
        following = graph.units[number + 1].threshold if number + 1 < len(graph.units) else None
        if unit.downsample is not None:
            x, packed = _around_a_convolution(builder, unit, name, x, packed, side), ""
        elif following is None:
            x = _binary_unit(builder, unit, name, name, [x, packed])
        else:
            threshold = builder.constant(f"{unit_output_name(number + 1)}.threshold", following)
            x = _binary_unit(builder, unit, name, name, [x, packed, threshold])
            packed = bits_output_name(name)
        side //= unit.stride
        # Where shapes are known and equal, ONNX Runtime lets a unit write over its input.
        builder.shape(x, side, side, len(unit.scale))
    return x


def _stem(builder: Builder, graph: InferenceGraph) -> tuple[str, str]:
    """The names of the stem's output and of its bits, or "" where the first unit has to compare."""
    if not has_own_operator(graph.stem):
        return add_stem(builder, graph.stem, channels_last=True), ""
    name = stem_output_name()
    constants = {"weight": graph.stem.weight, "bias": graph.stem.bias}
    inputs = [INPUT, *(builder.constant(f"{name}.{each}", value) for each, value in constants.items())]
    outputs = [name]
    if graph.units:
        inputs.append(builder.constant(f"{unit_output_name(0)}.threshold", graph.units[0].threshold))
        outputs.append(bits_output_name(name))
    builder.add(IMAGE_OPERATOR, inputs, *outputs, domain=DOMAIN, stride=graph.stem.stride)
    return name, "".join(outputs[1:])


def _binary_unit(builder: Builder, unit: Unit, name: str, output: str, given: list[str]) -> str:
    """One operator. `given` are x, its bits or "", and perhaps the next unit's threshold: then it writes bits too."""
    x, packed, *following = given
    inputs = [x, builder.constant(f"{name}.weight", bits.pack_weight(unit.weight))]
    for constant in ("threshold", "scale", "bias"):
        inputs.append(builder.constant(f"{name}.{constant}", getattr(unit, constant)))
    inputs.append(builder.constant(f"{output}.slope", unit.slope))
    if packed or following:
        inputs += [packed, *following]
    outputs = [output, bits_output_name(output)] if following else [output]
    attributes = {"stride": unit.stride, "padding": unit.padding, "shortcut": unit.shortcut}
    return builder.add(OPERATOR, inputs, *outputs, domain=DOMAIN, **attributes)


def _around_a_convolution(builder: Builder, unit: Unit, name: str, x: str, packed: str, side: int) -> str:
    """A unit whose shortcut is a convolution of floats, which standard operators run; the next compares its output."""
    alone = replace(unit, slope=np.ones_like(unit.slope), shortcut="none", downsample=None)
    conv = _binary_unit(builder, alone, name, f"{name}.conv", [x, packed])
    linear = bool((unit.slope == 1).all())
    z = builder.add("Add", [conv, shortcut(builder, unit, name, x, side)], name if linear else f"{name}.z")
    return z if linear else prelu(builder, unit, name, z)
