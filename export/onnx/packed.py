"""Writes the inference graph as a packed ONNX file: each unit is one operator of edgebnn, with one bit per weight.

The operators are `BinaryUnit` and `ImageConv` of the domain `ai.edgebnn`, version 2 (docs/reference/operators.md). ONNX
Runtime runs the file if the library of `edgebnn.runtime.library_path()` is registered.

- `ImageConv` is a stem with a 3x3 kernel and no pool. Other stems and the head are standard operators.
- Stem and units also write the bits that the next unit reads. They compare with the next unit's thresholds while the
  values are still in registers.
- A shortcut with a convolution (3 of the 16 units in 18-layer networks) is written in standard operators.
"""

from dataclasses import dataclass, replace

import numpy as np

from edgebnn.errors import check
from edgebnn.graph import InferenceGraph, Stem, Unit, bits
from edgebnn.runtime.ort import DOMAIN, DOMAIN_VERSION

from .builder import INPUT, Builder, add_stem, assemble, stem_output_name, unit_output_name
from .portable import add_prelu, add_shortcut

OPERATOR = "BinaryUnit"
IMAGE_OPERATOR = "ImageConv"


def convert_to_packed_onnx(graph: InferenceGraph, *, int8_head: bool = False) -> bytes:
    """Returns a serialised ONNX model: `image` float32 (batch, channels, height, width) -> `logits` (batch, outputs).

    Args:
        graph: the network.
        int8_head: whether the weights of the linear layers are stored as int8, with one scale per output.

    Raises:
        UserError: a unit is not binary.
    """
    for number, unit in enumerate(graph.units):
        check(
            unit.binary,
            f"unit {number} has float {unit.floats}, but a packed file holds only bits; "
            "export the portable file (without --packed), or train stage 2 first",
        )
    return assemble(graph, _body, channels_last=True, int8_head=int8_head, domains=[(DOMAIN, DOMAIN_VERSION)])


def has_own_operator(part: Stem) -> bool:
    """Returns whether a packed file uses `ImageConv` for a stem."""
    return part.weight.shape[2] == 3 and not part.pool


def bits_output_name(output: str) -> str:
    """Returns the name of the packed bits that belong to an output of the stem or of a unit."""
    return f"{output}.bits"


def average_output_name(number: int) -> str:
    """Returns the name of the 2x2 average of a unit's output.

    The unit writes it, not its output, if the next unit pools.
    """
    return f"{unit_output_name(number)}.average"


@dataclass(frozen=True)
class _UnitInput:
    """The names of the tensors that a unit reads.

    Attributes:
        x: the input, or its 2x2 average.
        bits: the packed bits of the input, "" if they are not written.
        pooled: whether `x` is the average.
    """

    x: str
    bits: str = ""
    pooled: bool = False


def _body(builder: Builder, graph: InferenceGraph) -> str:
    side = graph.info.resolution // graph.stem.reduction
    unit_input = _stem(builder, graph)
    builder.shape(unit_input.x, side, side, len(graph.stem.bias))
    for number, unit in enumerate(graph.units):
        following = graph.units[number + 1] if number + 1 < len(graph.units) else None
        if unit.downsample is None:
            unit_input = _unit(builder, unit, number, unit_input, following)
        else:
            unit_input = _UnitInput(
                _unit_with_convolution_shortcut(builder, unit, unit_output_name(number), unit_input, side)
            )
        side //= unit.stride
        # If shapes are known and equal, ONNX Runtime lets a unit overwrite its input.
        known = side // 2 if unit_input.pooled else side
        builder.shape(unit_input.x, known, known, len(unit.scale))
    return unit_input.x


def _stem(builder: Builder, graph: InferenceGraph) -> _UnitInput:
    """Adds the stem, and returns the input of the first unit."""
    if not has_own_operator(graph.stem):
        return _UnitInput(add_stem(builder, graph.stem, channels_last=True))
    name = stem_output_name()
    constants = {"weight": graph.stem.weight, "bias": graph.stem.bias}
    inputs = [INPUT, *(builder.constant(f"{name}.{each}", value) for each, value in constants.items())]
    unit_input = _UnitInput(name)
    if graph.units:
        inputs.append(builder.constant(f"{unit_output_name(0)}.threshold", graph.units[0].threshold))
        unit_input = _UnitInput(name, bits_output_name(name))
    outputs = [name, unit_input.bits] if unit_input.bits else [name]
    builder.add(IMAGE_OPERATOR, inputs, *outputs, domain=DOMAIN, stride=graph.stem.stride)
    return unit_input


def _unit(builder: Builder, unit: Unit, number: int, unit_input: _UnitInput, following: Unit | None) -> _UnitInput:
    """Adds a unit as one operator, and returns the input of the next unit."""
    name, average = unit_output_name(number), average_output_name(number)
    packed = bits_output_name(name)
    if following is None:
        _operator(builder, unit, name, unit_input, outputs=[name])
        return _UnitInput(name)
    threshold = builder.constant(f"{unit_output_name(number + 1)}.threshold", following.threshold)
    # If the next unit pools, only the average is written. It is a quarter as large to write and to read.
    pools = following.shortcut == "pool"
    outputs = ["", packed, average] if pools else [name, packed]
    _operator(builder, unit, name, unit_input, outputs=outputs, threshold=threshold)
    return _UnitInput(average if pools else name, packed, pools)


def _operator(
    builder: Builder,
    unit: Unit,
    name: str,
    unit_input: _UnitInput,
    *,
    outputs: list[str],
    threshold: str = "",
    node: str = "",
) -> None:
    """Adds the `BinaryUnit` node of a unit.

    Args:
        builder: the builder.
        unit: the unit.
        name: prefix of the names of its constants.
        unit_input: the tensors that it reads.
        outputs: names of its outputs, "" for an output that it does not write.
        threshold: name of the next unit's threshold. With it the node also writes the next unit's bits.
        node: name of the node and prefix of its slope's name; "" for `name`.
    """
    node = node or name
    inputs = [unit_input.x, builder.constant(f"{name}.weight", bits.pack_weight(unit.weight))]
    for constant in ("threshold", "scale", "bias"):
        inputs.append(builder.constant(f"{name}.{constant}", getattr(unit, constant)))
    inputs.append(builder.constant(f"{node}.slope", unit.slope))
    if unit_input.bits or threshold:
        inputs.append(unit_input.bits)
    if threshold:
        inputs.append(threshold)
    shortcut = "pooled" if unit_input.pooled else unit.shortcut
    attributes = {"stride": unit.stride, "padding": unit.padding, "shortcut": shortcut}
    builder.add(OPERATOR, inputs, *outputs, name=node, domain=DOMAIN, **attributes)


def _unit_with_convolution_shortcut(builder: Builder, unit: Unit, name: str, unit_input: _UnitInput, side: int) -> str:
    """Adds a unit whose shortcut is a float convolution, and returns its output. The shortcut has standard operators.

    The next unit compares this output with its thresholds itself.
    """
    alone = replace(unit, slope=np.ones_like(unit.slope), shortcut="none", downsample=None)
    conv = f"{name}.conv"
    _operator(builder, alone, name, unit_input, outputs=[conv], node=conv)
    linear = bool((unit.slope == 1).all())
    z = builder.add(
        "Add", [conv, add_shortcut(builder, unit, name, unit_input.x, side)], name if linear else f"{name}.z"
    )
    return z if linear else add_prelu(builder, unit, name, z)
