"""Measures how many bytes each part of a file takes, and finds constants that the file stores twice."""

import hashlib
from collections.abc import Sequence

from edgebnn.doctor.analysis.convolutions import BINARY as BINARY_KINDS
from edgebnn.doctor.analysis.convolutions import CONVOLUTIONS, PRODUCTS, Convolution
from edgebnn.doctor.file_graph import FileGraph, Tensor
from edgebnn.doctor.report import Finding, Part, Uncounted

SMALLEST_DUPLICATE = 1024
"""Bytes. Shorter constants are often equal by chance, such as the slopes of an untrained graph."""

WASTED_SHARE = 0.01
LARGE_HEAD_BYTES, LARGE_HEAD_SHARE = 1_000_000, 0.5

BINARY, INT8_BITS, FLOAT_BITS = "binary weights", "binary weights as int8", "binary weights as floats"
REAL, INT8, HEAD, INT8_HEAD = "float convolutions", "int8 layers", "linear layers", "linear layers as int8"
OTHER_CONSTANTS, STRUCTURE = "other constants", "structure and metadata"
PARTS = (BINARY, INT8_BITS, FLOAT_BITS, REAL, INT8, HEAD, INT8_HEAD, OTHER_CONSTANTS)


def measure_parts(graph: FileGraph, convolutions: Sequence[Convolution]) -> tuple[Part, ...]:
    """Returns the bytes of each part. Their sum is the size of the file and of its external files."""
    names: dict[object, str] = {}
    for each in convolutions:
        tensor = graph.tensors.get(each.weight)
        if tensor is not None and tensor.stored:
            names[tensor.buffer] = _part_name(each, tensor)
    totals = dict.fromkeys(PARTS, 0)
    for tensor in _stored(graph):
        totals[names.get(tensor.buffer, OTHER_CONSTANTS)] += tensor.stored
    totals[STRUCTURE] = max(graph.size - sum(totals.values()), 0)
    return tuple(Part(name, size) for name, size in totals.items() if size)


def _part_name(convolution: Convolution, weight: Tensor) -> str:
    """Returns the part to which the weights of a convolution belong."""
    int8 = weight.data is not None and weight.data.dtype.itemsize == 1
    if convolution.kind == "binary":
        return BINARY
    if convolution.fell_back not in ("", "weights not binary"):
        return INT8_BITS if int8 else FLOAT_BITS
    if convolution.kind == "linear":
        return INT8_HEAD if int8 else HEAD
    return INT8 if int8 else REAL


def find_size_problems(graph: FileGraph, parts: Sequence[Part]) -> list[Finding]:
    """Returns the findings about a file's size: constants stored twice, and a large linear layer."""
    return [finding for finding in (_find_duplicates(graph), _find_large_head(graph, parts)) if finding is not None]


def _find_duplicates(graph: FileGraph) -> Finding | None:
    first: dict[tuple[str, bytes], str] = {}
    twice, wasted = [], 0
    for tensor in _stored(graph):
        if tensor.data is None or tensor.stored < SMALLEST_DUPLICATE:
            continue
        key = (str(tensor.data.dtype), hashlib.sha256(tensor.data.tobytes()).digest())
        if key in first:
            twice.append(f"{tensor.name} = {first[key]}")
            wasted += tensor.stored
        else:
            first[key] = tensor.name
    if not twice:
        return None
    what = f"{len(twice)} constants are stored twice in the file, {wasted:,} bytes of {graph.size:,}"
    remedy = "share the tensor: use an exporter that stores equal constants once, or tie the weights before exporting"
    serious = wasted > WASTED_SHARE * graph.size
    return Finding("duplicates", "problem" if serious else "note", what, remedy, tuple(twice))


def _find_large_head(graph: FileGraph, parts: Sequence[Part]) -> Finding | None:
    head = sum(part.bytes for part in parts if part.name == HEAD)
    # edgebnn writes int8 heads into ONNX files only, so there is no remedy for other files.
    if not graph.channels_last and head > LARGE_HEAD_BYTES and head > LARGE_HEAD_SHARE * graph.size:
        what = f"linear layers take {head / 1e6:.2f} MB of {graph.size / 1e6:.2f}"
        remedy = (
            "store them as int8: `python -m export onnx --int8-head`, or onnxruntime.quantization for a file that "
            "edgebnn did not write"
        )
        return Finding("large head", "note", what, remedy)
    return None


def count_other_operators(graph: FileGraph) -> tuple[Uncounted, ...]:
    """Returns the operators that run for each image and that OPs do not count, by kind, most values first."""
    counted = BINARY_KINDS | CONVOLUTIONS | PRODUCTS
    totals: dict[str, list[int]] = {}
    for node in graph.nodes:
        keys = {key for key in (*node.inputs, *node.outputs) if key in graph.tensors}
        values = sum(graph.tensors[key].size for key in keys - graph.fixed)
        if node.kind not in counted and values and not graph.fixed.issuperset(node.outputs):
            total = totals.setdefault(node.kind, [0, 0])
            total[0] += 1
            total[1] += values
    rows = (Uncounted(kind, count, values) for kind, (count, values) in totals.items())
    return tuple(sorted(rows, key=lambda row: -row.values))


def _stored(graph: FileGraph) -> list[Tensor]:
    """Returns the constants. Of constants that share their bytes in the file, only one is returned."""
    return list({tensor.buffer: tensor for tensor in graph.tensors.values() if tensor.stored}.values())
