"""Where a file's bytes are, and which stand in it twice."""

import hashlib
from collections.abc import Sequence

from edgebnn.doctor.analysis.convolutions import BINARY as BINARY_KINDS
from edgebnn.doctor.analysis.convolutions import CONVOLUTIONS, PRODUCTS, Convolution
from edgebnn.doctor.network import Network, Tensor
from edgebnn.doctor.report import Finding, Part, Uncounted

SMALLEST_DUPLICATE = 1024
"""Bytes. Short vectors are often equal by chance: a network's first slopes, say."""

WASTED_SHARE = 0.01
LARGE_HEAD_BYTES, LARGE_HEAD_SHARE = 1_000_000, 0.5

BINARY, INT8_BITS, FLOAT_BITS = "binary weights", "binary weights as int8", "binary weights as floats"
REAL, INT8, HEAD, INT8_HEAD = "float convolutions", "int8 layers", "linear layers", "linear layers as int8"
REST, FRAME = "other constants", "structure and metadata"
PARTS = (BINARY, INT8_BITS, FLOAT_BITS, REAL, INT8, HEAD, INT8_HEAD, REST)


def parts(network: Network, convolutions: Sequence[Convolution]) -> tuple[Part, ...]:
    """Bytes by part; all together they are the file, with what lies beside it."""
    names: dict[object, str] = {}
    for each in convolutions:
        tensor = network.tensors.get(each.weight)
        if tensor is not None and tensor.stored:
            names[tensor.buffer] = _part(each, tensor)
    totals = dict.fromkeys(PARTS, 0)
    for tensor in _stored(network):
        totals[names.get(tensor.buffer, REST)] += tensor.stored
    totals[FRAME] = max(network.size - sum(totals.values()), 0)
    return tuple(Part(name, size) for name, size in totals.items() if size)


def _part(convolution: Convolution, weight: Tensor) -> str:
    int8 = weight.data is not None and weight.data.dtype.itemsize == 1
    if convolution.kind == "binary":
        return BINARY
    if convolution.fell_back not in ("", "weights not binary"):
        return INT8_BITS if int8 else FLOAT_BITS
    if convolution.kind == "linear":
        return INT8_HEAD if int8 else HEAD
    return INT8 if int8 else REAL


def findings(network: Network, found: Sequence[Part]) -> list[Finding]:
    """Duplicates, and a linear layer that is most of the file."""
    first: dict[tuple[str, bytes], str] = {}
    twice, wasted = [], 0
    for tensor in _stored(network):
        if tensor.data is None or tensor.stored < SMALLEST_DUPLICATE:
            continue
        key = (str(tensor.data.dtype), hashlib.sha256(tensor.data.tobytes()).digest())
        if key in first:
            twice.append(f"{tensor.name} = {first[key]}")
            wasted += tensor.stored
        else:
            first[key] = tensor.name
    results = []
    if twice:
        what = f"{len(twice)} constants stand in the file twice, {wasted:,} bytes of {network.size:,}"
        remedy = (
            "share the tensor: export with one that keeps equal constants once, or tie the weights before exporting"
        )
        serious = wasted > WASTED_SHARE * network.size
        results.append(Finding("duplicates", "problem" if serious else "note", what, remedy, tuple(twice)))
    head = sum(part.bytes for part in found if part.name == HEAD)
    # LCE and TFLite files have no such form of ours: there is nothing to advise.
    if not network.channels_last and head > LARGE_HEAD_BYTES and head > LARGE_HEAD_SHARE * network.size:
        what = f"linear layers are {head / 1e6:.2f} MB of {network.size / 1e6:.2f}"
        remedy = "keep them as int8: `python -m export onnx --int8-head`, or onnxruntime.quantization if it is not ours"
        results.append(Finding("large head", "note", what, remedy))
    return results


def uncounted(network: Network) -> tuple[Uncounted, ...]:
    """Operators that are no convolution and no linear layer and run for each image, by kind, most values first."""
    counted = BINARY_KINDS | CONVOLUTIONS | PRODUCTS
    totals: dict[str, list[int]] = {}
    for node in network.nodes:
        keys = {key for key in (*node.inputs, *node.outputs) if key in network.tensors}
        values = sum(network.tensors[key].size for key in keys - network.fixed)
        if node.kind not in counted and values and not network.fixed.issuperset(node.outputs):
            total = totals.setdefault(node.kind, [0, 0])
            total[0] += 1
            total[1] += values
    rows = (Uncounted(kind, count, values) for kind, (count, values) in totals.items())
    return tuple(sorted(rows, key=lambda row: -row.values))


def _stored(network: Network) -> list[Tensor]:
    """The constants, each piece of the file once."""
    return list({tensor.buffer: tensor for tensor in network.tensors.values() if tensor.stored}.values())
