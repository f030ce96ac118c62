"""The inference graph as a packed ONNX file: each unit one operator of ours, its weights one bit each.

The operator is `BinaryUnit` of the domain `ai.edgebnn`, version 1 (edgebnn/kernels); stem and head are standard
operators. ONNX Runtime runs the file with the library of `edgebnn.runtime.library_path()` registered. A unit
also writes the bits that the next one reads, so that only the first compares its input with a threshold.
"""

from edgebnn.errors import check
from edgebnn.graph import InferenceGraph, bits
from edgebnn.runtime.ort import DOMAIN, DOMAIN_VERSION
from export.builder import Builder, assemble, unit_output_name

OPERATOR = "BinaryUnit"


def convert(graph: InferenceGraph, *, int8_head: bool = False) -> bytes:
    """A serialised ONNX model: `image` float32 (batch, channels, height, width) -> `logits` (batch, outputs).

    Args:
        graph: the network.
        int8_head: whether the linear layers' weights are kept as int8, a scale an output.

    Raises:
        UserError: a unit is not binary, or its shortcut is a convolution.
    """
    for number, unit in enumerate(graph.units):
        check(
            unit.binary,
            f"unit {number} has float {unit.floats}, and a packed file holds bits alone; "
            "export the portable file (without --packed), or train step 2 first",
        )
        check(
            unit.downsample is None,
            f"unit {number} has a 1x1 convolution around it, which the packed operator has not; "
            "export the portable file (without --packed), or a ReActNet-A",
        )
    return assemble(graph, _units, channels_last=True, int8_head=int8_head, domains=[(DOMAIN, DOMAIN_VERSION)])


def bits_output_name(number: int) -> str:
    """Name of the packed bits that unit `number` gives to the next one."""
    return f"{unit_output_name(number)}.bits"


def _units(builder: Builder, graph: InferenceGraph, x: str) -> str:
    packed = ""
    for number, unit in enumerate(graph.units):
        name = unit_output_name(number)
        inputs = [x, builder.constant(f"{name}.weight", bits.pack_weight(unit.weight))]
        for constant in ("threshold", "scale", "bias", "slope"):
            inputs.append(builder.constant(f"{name}.{constant}", getattr(unit, constant)))
        outputs = [name]
        if number + 1 < len(graph.units):
            following = f"{unit_output_name(number + 1)}.threshold"
            inputs += [packed, builder.constant(following, graph.units[number + 1].threshold)]
            outputs.append(bits_output_name(number))
        elif packed:
            inputs.append(packed)
        x = builder.add(
            OPERATOR,
            inputs,
            *outputs,
            domain=DOMAIN,
            stride=unit.stride,
            padding=unit.padding,
            shortcut=unit.shortcut,
        )
        packed = outputs[-1]
    return x
