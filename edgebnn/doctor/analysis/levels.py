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
    *("CAST", "Cast", "REVERSE_V2", "QUANTIZE", "DEQUANTIZE", "QuantizeLinear", "DequantizeLinear"),
}
"""Operators that give values of their inputs, all or some, or as many others."""

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

Known = frozenset[float] | None
"""The values a tensor takes; None where they are too many or not known."""

Levels = dict[str, frozenset[float]]
"""By key of the tensor, of those that are known."""


def of_network(network: Network) -> Levels:
    """The values, at most `MOST`, of each tensor that is known to take no more.

    One pass: files hold their nodes in the order they run. Constants are looked at where it matters.
    """
    known: dict[str, Known] = {}

    def look(key: str) -> Known:
        if key not in known:
            tensor = network.tensors.get(key)
            known[key] = of_array(tensor.data) if tensor is not None and tensor.data is not None else None
        return known[key]

    for node in network.nodes:
        if node.output:
            known[node.output] = _made(network, node, look)
    return {key: found for key, found in known.items() if found is not None}


def of_array(data: np.ndarray) -> Known:
    """The values of a constant."""
    if data.dtype.kind not in "fiub" or not data.size:
        return None
    # A look at a few spares sorting all of them.
    few = np.unique(data.reshape(-1)[: 16 * MOST])
    if len(few) <= MOST and not np.isin(data, few).all():
        few = np.unique(data)
    return frozenset(map(float, few)) if len(few) <= MOST else None


def _made(network: Network, node: Node, look: Callable[[str], Known]) -> Known:
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
        found: Known = frozenset()
        for key in inputs:
            found = _joined(found, look(key))
        return found
    if kind in HANDED_ON:
        return look(inputs[0])
    if kind in ARITHMETIC and len(inputs) == 2:
        through = _straight_through(network, node)
        if through is not None:
            return look(through)
        return _computed(ARITHMETIC[kind], look(inputs[0]), look(inputs[1]))
    return None


def fill(network: Network, node: Node) -> float:
    """What a pad operator puts at the border."""
    value = network.constant(node, 2)
    return float(value.reshape(-1)[0]) if value is not None and value.size == 1 else 0.0


def _straight_through(network: Network, node: Node) -> str | None:
    """The x of x - y + y, in any order: what training writes for a sign whose gradient is that of y."""
    terms = _terms(node)
    for key, sign in terms.items():
        maker = network.makers.get(key)
        inner = _terms(maker) if maker is not None else {}
        if inner:
            sums = terms | {key: 0}
            for each, inner_sign in inner.items():
                sums[each] = sums.get(each, 0) + sign * inner_sign
            left = [each for each, count in sums.items() if count]
            if len(left) == 1 and sums[left[0]] == 1:
                return left[0]
    return None


def _terms(node: Node) -> dict[str, int]:
    """How often a sum or difference of two adds each of its inputs; nothing of other operators."""
    signs = {"+": (1, 1), "-": (1, -1)}.get(ARITHMETIC.get(node.kind, ""), ())
    return {} if len(set(node.inputs)) != 2 else dict(zip(node.inputs, signs))


def _joined(one: Known, other: Known) -> Known:
    if one is None or other is None or len(one | other) > MOST:
        return None
    return one | other


def _computed(sign: str, left: Known, right: Known) -> Known:
    if left is None or right is None or (sign == "/" and 0 in right):
        return None
    values = {OPERATIONS[sign](a, b) for a in left for b in right}
    return frozenset(values) if len(values) <= MOST else None
