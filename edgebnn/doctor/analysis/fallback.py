"""Finds the reason why a convolution that could be binary is not."""

from dataclasses import dataclass

import numpy as np

from edgebnn.doctor.analysis.levels import PADS, VALUE_PRESERVING, Levels, pad_value
from edgebnn.doctor.analysis.padding import first_integer
from edgebnn.doctor.file_graph import LONGEST_CHAIN, FileGraph, Node

MOVES = VALUE_PRESERVING - {"CAST", "Cast", "QUANTIZE", "DEQUANTIZE", "QuantizeLinear", "DequantizeLinear", "Identity"}
"""Operators that select or move values. A converter looks for the quantiser directly before the convolution."""

FEWEST_WEIGHTS = 8
"""With fewer weights than these per output channel, their magnitudes may be equal by chance."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A convolution that is not binary, as far as its fallback reason needs it.

    Attributes:
        node: the convolution.
        weight_key: key of its weights.
        weight: the values of the weights, output channels first; None if they are not constant.
        integer: whether it is computed with whole numbers.
    """

    node: Node
    weight_key: str
    weight: np.ndarray | None
    integer: bool

    @property
    def input(self) -> str:
        """Key of the convolution's input."""
        return self.node.inputs[0]

    @property
    def grouped(self) -> bool:
        """Whether an output channel sees only a part of the input channels."""
        return self.node.kind == "DEPTHWISE_CONV_2D" or first_integer(self.node.attributes.get("group"), 1) > 1


def fallback_reason(graph: FileGraph, candidate: Candidate, levels: Levels) -> str:
    """Returns a key of `findings.FELL_BACK`, or "" if the convolution is not expected to be binary.

    Args:
        graph: the file.
        candidate: the convolution.
        levels: the values of each tensor that can take only a few.
    """
    reads_bits, weight = holds_bits(candidate.input, levels), candidate.weight
    if weight is None:
        return "weights not constant" if reads_bits or candidate.weight_key in levels else ""
    if not reads_bits:
        return ""
    if candidate.grouped:
        return "channels"
    if not is_binary(weight):
        return "weights not binary"
    if candidate.integer:
        return "int8"
    if graph.channels_last:
        return _tflite_reason(graph, candidate.node, weight, levels)
    return "kernel" if weight.ndim == 4 and weight.shape[2] != weight.shape[3] else "floats"


def operators_between(graph: FileGraph, node: Node) -> list[str]:
    """Returns the kinds of the operators between the quantiser and a convolution, in the order in which they run.

    A pad directly before the convolution is left out.
    """
    pad = _pad_before(graph, node)
    key = (node if pad is None else pad).inputs[0]
    kinds: list[str] = []
    while len(kinds) < LONGEST_CHAIN:
        maker = graph.makers.get(key)
        if maker is None or maker.kind not in MOVES or not maker.inputs:
            break
        kinds.append(maker.kind)
        key = maker.inputs[0]
    return kinds[::-1]


def holds_bits(key: str, levels: Levels) -> bool:
    """Returns whether a tensor holds bits, and perhaps the zeros of padding."""
    return bool(levels.get(key, frozenset()) - {0.0})


def is_binary(weight: np.ndarray) -> bool:
    """Returns whether all weights of an output channel (first axis) have the same magnitude, and none is 0."""
    magnitudes = np.abs(weight.reshape(len(weight), -1)) if weight.size else weight
    if weight.size == 0 or magnitudes.shape[1] < FEWEST_WEIGHTS:
        return False
    return bool(magnitudes.min() > 0 and np.allclose(magnitudes, magnitudes[:, :1], rtol=1e-5, atol=0))


def _tflite_reason(graph: FileGraph, node: Node, weight: np.ndarray, levels: Levels) -> str:
    """Returns the reason for a float convolution of bits and binary weights in a TFLite file."""
    pad = _pad_before(graph, node)
    if _is_sign(graph, node, pad, levels):
        return "tf.sign"
    bits = graph.tensors.get(node.inputs[0])
    if bits is not None and bits.shape and bits.shape[-1] != weight.shape[-1]:
        return "channels"
    if graph.format != "lce":
        return "floats"
    if operators_between(graph, node):
        return "between"
    if pad is not None:
        return "explicit zero pad" if pad_value(graph, pad) == 0 else "explicit pad"
    if node.attributes.get("same") and weight.ndim == 4 and max(weight.shape[1:3]) > 1:
        return "activation" if node.attributes.get("activation") else "explicit zero pad"
    return "pattern"


def _pad_before(graph: FileGraph, node: Node) -> Node | None:
    """Returns the pad operator that produces a convolution's input, or None."""
    maker = graph.makers.get(node.inputs[0])
    return maker if maker is not None and maker.kind in PADS else None


def _is_sign(graph: FileGraph, node: Node, pad: Node | None, levels: Levels) -> bool:
    """Returns whether a SIGN that can return 0 produces the bits, before the pad if there is one."""
    key = node.inputs[0] if pad is None or not pad.inputs else pad.inputs[0]
    maker = graph.makers.get(key)
    return maker is not None and maker.kind == "SIGN" and 0.0 in levels.get(maker.outputs[0], ())
