"""Reads the operators and tensors of a TFLite file without TensorFlow. Every offset and size is checked.

The field numbers and operator numbers are those of TensorFlow's `schema.fbs`. An operator whose number is missing here
is called "operator 123".
"""

from typing import Any

import numpy as np

from edgebnn.doctor.file_graph import FileGraph, Node, Tensor
from edgebnn.doctor.readers.flexbuffer import read_map
from edgebnn.errors import UserError
from edgebnn.runtime.formats.flatbuffer import DamagedError, contents, field, forward, integer, integers, tables, text
from edgebnn.runtime.formats.tflite import BUFFER_DATA, MAGIC, MODEL_BUFFERS

MODEL_OPERATOR_CODES, MODEL_SUBGRAPHS = 1, 2
CODE_DEPRECATED, CODE_CUSTOM, CODE_BUILTIN = 0, 1, 3
GRAPH_TENSORS, GRAPH_INPUTS, GRAPH_OPERATORS = 0, 1, 3
TENSOR_SHAPE, TENSOR_TYPE, TENSOR_BUFFER, TENSOR_NAME = 0, 1, 2, 3
OPERATOR_CODE, OPERATOR_INPUTS, OPERATOR_OUTPUTS, OPERATOR_OPTIONS, OPERATOR_CUSTOM = 0, 1, 2, 4, 5

TYPES: dict[int, Any] = {
    0: np.float32,
    1: np.float16,
    2: np.int32,
    3: np.uint8,
    4: np.int64,
    6: np.bool_,
    7: np.int16,
    9: np.int8,
    10: np.float64,
    15: np.uint32,
}
CUSTOM = 32
KINDS = {
    0: "ADD",
    1: "AVERAGE_POOL_2D",
    2: "CONCATENATION",
    3: "CONV_2D",
    4: "DEPTHWISE_CONV_2D",
    6: "DEQUANTIZE",
    9: "FULLY_CONNECTED",
    14: "LOGISTIC",
    17: "MAX_POOL_2D",
    18: "MUL",
    19: "RELU",
    20: "RELU_N1_TO_1",
    21: "RELU6",
    22: "RESHAPE",
    25: "SOFTMAX",
    28: "TANH",
    34: "PAD",
    36: "GATHER",
    39: "TRANSPOSE",
    40: "MEAN",
    41: "SUB",
    42: "DIV",
    43: "SQUEEZE",
    45: "STRIDED_SLICE",
    49: "SPLIT",
    53: "CAST",
    54: "PRELU",
    55: "MAXIMUM",
    57: "MINIMUM",
    58: "LESS",
    59: "NEG",
    60: "PADV2",
    61: "GREATER",
    62: "GREATER_EQUAL",
    63: "LESS_EQUAL",
    64: "SELECT",
    65: "SLICE",
    67: "TRANSPOSE_CONV",
    69: "TILE",
    70: "EXPAND_DIMS",
    71: "EQUAL",
    72: "NOT_EQUAL",
    74: "SUM",
    76: "RSQRT",
    82: "REDUCE_MAX",
    83: "PACK",
    92: "SQUARE",
    98: "LEAKY_RELU",
    100: "MIRROR_PAD",
    101: "ABS",
    105: "REVERSE_V2",
    114: "QUANTIZE",
    117: "HARD_SWISH",
    123: "SELECT_V2",
    126: "BATCH_MATMUL",
    130: "BROADCAST_TO",
    150: "GELU",
    158: "SIGN",
}
STRIDED = {"CONV_2D", "DEPTHWISE_CONV_2D", "AVERAGE_POOL_2D", "MAX_POOL_2D"}
ACTIVATION = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 4}
"""The field of an operator's options that holds its fused activation (0 for none). Field 0 is the padding, and fields 1
and 2 are the strides."""


def parse_tflite(data: bytes, what: str) -> FileGraph:
    """Returns the first subgraph of a TFLite file.

    Args:
        data: the whole file.
        what: the name of the file in messages.

    Raises:
        UserError: the data is no TFLite file, or it is damaged.
    """
    if data[4:8] != MAGIC:
        raise UserError(f"{what} is no TFLite file; export it again")
    try:
        return _parse(data)
    except (DamagedError, IndexError, OverflowError, ValueError):
        raise UserError(f"{what} is cut off or damaged; export or copy it again") from None


def _parse(data: bytes) -> FileGraph:
    model = forward(data, 0)
    kinds = [_kind(data, code) for code in tables(data, model, MODEL_OPERATOR_CODES)]
    buffers = [contents(data, field(data, table, BUFFER_DATA)) for table in tables(data, model, MODEL_BUFFERS)]
    # In a sound file no two buffers overlap. A malicious file could have thousands that do, and take minutes to read.
    if sum(map(len, buffers)) > len(data):
        raise DamagedError
    graph = tables(data, model, MODEL_SUBGRAPHS)[0]
    arrays: dict[tuple[int, int, tuple[int, ...]], np.ndarray | None] = {}
    tensors = {
        str(number): _tensor(data, table, buffers, arrays)
        for number, table in enumerate(tables(data, graph, GRAPH_TENSORS))
    }
    nodes = tuple(_node(data, table, kinds, tensors) for table in tables(data, graph, GRAPH_OPERATORS))
    inputs = tuple(map(str, integers(data, graph, GRAPH_INPUTS)))
    binary = any(node.kind.startswith("Lce") for node in nodes)
    return FileGraph("lce" if binary else "tflite", len(data), nodes, tensors, inputs)


def _kind(data: bytes, code: int) -> str:
    # Files older than schema 3a store the number in the field that is now called deprecated.
    number = max(integer(data, code, CODE_BUILTIN, "<i"), integer(data, code, CODE_DEPRECATED, "<b"))
    if number == CUSTOM:
        return text(data, contents(data, field(data, code, CODE_CUSTOM))).decode(errors="replace")
    return KINDS.get(number, f"operator {number}")


def _tensor(
    data: bytes, table: int, buffers: list[range], arrays: dict[tuple[int, int, tuple[int, ...]], np.ndarray | None]
) -> Tensor:
    shape = tuple(integers(data, table, TENSOR_SHAPE))
    if any(size < 0 for size in shape):
        raise DamagedError
    kind, buffer = integer(data, table, TENSOR_TYPE, "<b"), integer(data, table, TENSOR_BUFFER, "<I")
    held = buffers[buffer] if buffer else range(0)
    key = (buffer, kind, shape)
    if held and key not in arrays:
        arrays[key] = _array(data, held, kind, shape)
    name = text(data, contents(data, field(data, table, TENSOR_NAME))).decode(errors="replace")
    return Tensor(name, shape, arrays[key] if held else None, len(held), buffer if held else None)


def _array(data: bytes, held: range, kind: int, shape: tuple[int, ...]) -> np.ndarray | None:
    """Returns a constant, or None for one that is stored in another form (four bits, text, sparse)."""
    dtype = np.dtype(TYPES.get(kind, np.void))
    count = int(np.prod(shape, dtype=object))
    if kind not in TYPES or count * dtype.itemsize != len(held):
        return None
    return np.frombuffer(data, dtype, count, held.start).reshape(shape)


def _node(data: bytes, table: int, kinds: list[str], tensors: dict[str, Tensor]) -> Node:
    kind = kinds[integer(data, table, OPERATOR_CODE, "<I")]
    # -1 stands for an optional input that is left out.
    inputs, outputs = (
        tuple("" if number == -1 else str(number) for number in integers(data, table, place))
        for place in (OPERATOR_INPUTS, OPERATOR_OUTPUTS)
    )
    if any(key not in tensors for key in (*inputs, *outputs) if key):
        raise DamagedError
    attributes = _attributes(data, table, kind)
    # The converter joins the names of the operators that it merged into one. The first name is enough.
    name = tensors[outputs[0]].name.split(";")[0] if outputs and outputs[0] else kind
    return Node(kind, name, inputs, outputs, attributes)


def _attributes(data: bytes, table: int, kind: str) -> dict[str, Any]:
    """Returns the settings of a convolution or a pool; empty for other operators."""
    if kind in STRIDED and (options_field := field(data, table, OPERATOR_OPTIONS)) is not None:
        options = forward(data, options_field)
        return {
            "same": integer(data, options, 0, "<b") == 0,
            "stride": integer(data, options, 2, "<i"),
            "activation": integer(data, options, ACTIVATION[kind], "<b") if kind in ACTIVATION else 0,
        }
    if kind == "LceBconv2d":
        found = read_map(text(data, contents(data, field(data, table, OPERATOR_CUSTOM))))
        return {
            "same": found.get("padding") == 0,
            "stride": found.get("stride_height", 1),
            "ones": found.get("pad_values") == 1,
            "channels": found.get("channels_in", 0),
        }
    return {}
