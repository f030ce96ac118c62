"""Infers the few values that a tensor can take from the operators that produce it.

In this way the doctor recognises bits in a file that stores them as floats.
"""

import operator
from collections.abc import Callable

import numpy as np

from edgebnn.doctor.file_graph import BIPOLAR, FileGraph, Node

COMPARISONS = {
    *("GREATER_EQUAL", "GREATER", "LESS", "LESS_EQUAL", "EQUAL", "NOT_EQUAL"),
    *("GreaterOrEqual", "Greater", "Less", "LessOrEqual", "Equal", "Not"),
}
VALUE_PRESERVING = {
    *("RESHAPE", "TRANSPOSE", "STRIDED_SLICE", "SLICE", "SQUEEZE", "EXPAND_DIMS", "MAX_POOL_2D"),
    *("Reshape", "Transpose", "Slice", "Squeeze", "Unsqueeze", "Flatten", "MaxPool", "Identity"),
    *("CAST", "Cast", "REVERSE_V2", "QUANTIZE", "DEQUANTIZE", "QuantizeLinear", "DequantizeLinear"),
}
"""Operators whose output takes no more values than their first input: they select, move or convert its values."""

SIGNS, CHOICES, PADS = {"SIGN", "Sign"}, {"SELECT", "SELECT_V2", "Where"}, {"PAD", "PADV2", "Pad"}
JOINS = {"CONCATENATION", "Concat", "PACK"}
UNPACKS_BITS = "LceDequantize"
ARITHMETIC = {"ADD": "+", "Add": "+", "SUB": "-", "Sub": "-", "MUL": "*", "Mul": "*", "DIV": "/", "Div": "/"}
OPERATIONS: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}
MOST_VALUES = 3
"""The values of bits with zero padding: -1, +1 and 0."""

Known = frozenset[float] | None
"""The values that a tensor can take; None if there are more than `MOST_VALUES`, or if they are not known."""

Levels = dict[str, frozenset[float]]
"""The values of each tensor whose values are known, by the tensor's key."""


def infer_levels(graph: FileGraph) -> Levels:
    """Returns the values of each tensor that can take at most `MOST_VALUES`.

    One pass is enough, because a file holds its nodes in the order in which they run. Constants are examined only when
    an operator needs them.
    """
    known: dict[str, Known] = {}

    def values_of(key: str) -> Known:
        if key not in known:
            tensor = graph.tensors.get(key)
            known[key] = constant_values(tensor.data) if tensor is not None and tensor.data is not None else None
        return known[key]

    for node in graph.nodes:
        if node.output:
            known[node.output] = _output_values(graph, node, values_of)
    return {key: found for key, found in known.items() if found is not None}


def constant_values(data: np.ndarray) -> Known:
    """Returns the values of a constant."""
    if data.dtype.kind not in "fiub" or not data.size:
        return None
    # The first few values usually decide, so the whole constant need not be sorted.
    few = np.unique(data.reshape(-1)[: 16 * MOST_VALUES])
    if len(few) <= MOST_VALUES and not np.isin(data, few).all():
        few = np.unique(data)
    return frozenset(map(float, few)) if len(few) <= MOST_VALUES else None


def pad_value(graph: FileGraph, node: Node) -> float:
    """Returns the value that a pad operator writes."""
    value = graph.constant(node, 2)
    return float(value.reshape(-1)[0]) if value is not None and value.size == 1 else 0.0


def _output_values(graph: FileGraph, node: Node, values_of: Callable[[str], Known]) -> Known:
    """Returns the values that a node's first output can take.

    Args:
        graph: the file.
        node: the node.
        values_of: returns the values of an input by its key.
    """
    if node.kind == UNPACKS_BITS:
        return frozenset((-1.0, 1.0))
    if node.kind in COMPARISONS:
        return frozenset((0.0, 1.0))
    if not node.inputs:
        return None
    if node.kind == BIPOLAR:
        scale = graph.constant(node, 1)
        size = abs(float(scale.reshape(-1)[0])) if scale is not None and scale.size == 1 else 1.0
        return frozenset((-size, size))
    first = node.inputs[0]
    if node.kind in SIGNS:
        return _signs(values_of(first))
    if node.kind in VALUE_PRESERVING:
        return values_of(first)
    if node.kind in ARITHMETIC and len(node.inputs) == 2:
        unchanged = _straight_through(graph, node)
        if unchanged is not None:
            return values_of(unchanged)
        return _computed(ARITHMETIC[node.kind], *map(values_of, node.inputs))
    return _union(_joined_values(graph, node, values_of))


def _joined_values(graph: FileGraph, node: Node, values_of: Callable[[str], Known]) -> list[Known]:
    """Returns the sets of values from which a choice, a pad or a concatenation takes its output."""
    if node.kind in CHOICES and len(node.inputs) == 3:
        return [values_of(key) for key in node.inputs[1:]]
    if node.kind in PADS:
        return [values_of(node.inputs[0]), frozenset((pad_value(graph, node),))]
    if node.kind in JOINS:
        return [values_of(key) for key in node.inputs]
    return [None]


def _signs(values: Known) -> Known:
    return frozenset((-1.0, 0.0, 1.0)) if values is None else frozenset(float(np.sign(value)) for value in values)


def _straight_through(graph: FileGraph, node: Node) -> str | None:
    """Returns the key of x if the node computes x - y + y, in any order.

    Training writes a sign in this form, so that its gradient is the gradient of y.
    """
    terms = _terms(node)
    for key, sign in terms.items():
        maker = graph.makers.get(key)
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
    """Returns the sign of each input in a sum or difference of two inputs; empty for other operators."""
    signs = {"+": (1, 1), "-": (1, -1)}.get(ARITHMETIC.get(node.kind, ""), ())
    return {} if len(set(node.inputs)) != 2 else dict(zip(node.inputs, signs))


def _union(sets: list[Known]) -> Known:
    values: frozenset[float] = frozenset()
    for each in sets:
        if each is None:
            return None
        values |= each
    return values if len(values) <= MOST_VALUES else None


def _computed(sign: str, left: Known, right: Known) -> Known:
    if left is None or right is None or (sign == "/" and 0 in right):
        return None
    values = {OPERATIONS[sign](a, b) for a in left for b in right}
    return frozenset(values) if len(values) <= MOST_VALUES else None
