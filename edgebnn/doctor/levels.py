"""Which few values a tensor can take, as far as the operators that made it tell: so bits are known in a float file."""

import operator
from collections.abc import Callable

import numpy as np

from edgebnn.doctor.network import Network, Node

COMPARISONS = {
    *("GREATER_EQUAL", "GREATER", "LESS", "LESS_EQUAL", "EQUAL", "NOT_EQUAL"),
    *("GreaterOrEqual", "Greater", "Less", "LessOrEqual", "Equal", "Not"),
}
HANDED_ON = {
    *("RESHAPE", "TRANSPOSE", "STRIDED_SLICE", "SLICE", "SQUEEZE", "EXPAND_DIMS", "MAX_POOL_2D"),
    *("Reshape", "Transpose", "Slice", "Squeeze", "Unsqueeze", "Flatten", "MaxPool", "Identity"),
    *("CAST", "Cast", "REVERSE_V2", "QUANTIZE", "DEQUANTIZE"),
}
"""Operators that give values of their inputs, all or some."""

SIGNS, CHOICES, PADS = {"SIGN", "Sign"}, {"SELECT", "SELECT_V2", "Where"}, {"PAD", "PADV2", "Pad"}
JOINED = {"CONCATENATION", "Concat", "PACK"}
ARITHMETIC = {"ADD": "+", "Add": "+", "SUB": "-", "Sub": "-", "MUL": "*", "Mul": "*", "DIV": "/", "Div": "/"}
OPERATIONS: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}
MOST = 3
"""-1, +1 and the 0 of a border."""

Levels = frozenset[float] | None


def of_network(network: Network) -> dict[str, frozenset[float]]:
    """The values, at most `MOST`, of each tensor that is known to take no more.

    One pass: files hold their nodes in the order they run. Constants are looked at where it matters.
    """
    known: dict[str, Levels] = {}

    def look(key: str) -> Levels:
        if key not in known:
            tensor = network.tensors.get(key)
            known[key] = of_array(tensor.data) if tensor is not None and tensor.data is not None else None
        return known[key]

    for node in network.nodes:
        if node.outputs and node.outputs[0]:
            known[node.outputs[0]] = _made(network, node, look)
    return {key: found for key, found in known.items() if found is not None}


def of_array(data: np.ndarray) -> Levels:
    """The values of a constant."""
    if data.dtype.kind not in "fiub" or not data.size:
        return None
    # A look at a few spares sorting all of them.
    few = np.unique(data.reshape(-1)[: 16 * MOST])
    if len(few) <= MOST and not np.isin(data, few).all():
        few = np.unique(data)
    return frozenset(map(float, few)) if len(few) <= MOST else None


def _made(network: Network, node: Node, look: Callable[[str], Levels]) -> Levels:
    kind, inputs = node.kind, node.inputs
    if kind == "LceDequantize":
        return frozenset((-1.0, 1.0))
    if kind in COMPARISONS:
        return frozenset((0.0, 1.0))
    if not inputs:
        return None
    if kind in SIGNS:
        seen = look(inputs[0])
        return frozenset((-1.0, 0.0, 1.0)) if seen is None else frozenset(float(np.sign(value)) for value in seen)
    if kind in CHOICES and len(inputs) == 3:
        return _joined(look(inputs[1]), look(inputs[2]))
    if kind in PADS:
        return _joined(look(inputs[0]), frozenset((fill(network, node),)))
    if kind in JOINED:
        found: Levels = frozenset()
        for key in inputs:
            found = _joined(found, look(key))
        return found
    if kind in HANDED_ON:
        return look(inputs[0])
    if kind in ARITHMETIC and len(inputs) == 2:
        return _computed(ARITHMETIC[kind], look(inputs[0]), look(inputs[1]))
    return None


def fill(network: Network, node: Node) -> float:
    """What a pad operator puts at the border."""
    value = network.constant(node, 2)
    return float(value.reshape(-1)[0]) if value is not None and value.size == 1 else 0.0


def _joined(one: Levels, other: Levels) -> Levels:
    if one is None or other is None or len(one | other) > MOST:
        return None
    return one | other


def _computed(sign: str, left: Levels, right: Levels) -> Levels:
    if left is None or right is None or (sign == "/" and 0 in right):
        return None
    values = {OPERATIONS[sign](a, b) for a in left for b in right}
    return frozenset(values) if len(values) <= MOST else None
