"""A TFLite file's operators and tensors, read without TensorFlow, trusting none of its bytes.

Field numbers and operator numbers are those of TensorFlow's `schema.fbs`. Operators with numbers that stand not here
are called "operator 123".
"""

from typing import Any

import numpy as np

from edgebnn.doctor.network import Network, Node, Tensor
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
STRIDED = {"CONV_2D": 1, "DEPTHWISE_CONV_2D": 1, "AVERAGE_POOL_2D": 1, "MAX_POOL_2D": 1}
ACTIVATION = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 4}
"""Where an operator's options hold its fused activation, 0 for none; its padding is field 0, its strides 1 and 2."""


def read(data: bytes, what: str) -> Network:
    """The first subgraph of a TFLite file.

    Raises:
        UserError: it is no TFLite file, or is damaged.
    """
    if data[4:8] != MAGIC:
        raise UserError(f"{what} is no TFLite file; export it again")
    try:
        return _network(data)
    except (DamagedError, IndexError, OverflowError, ValueError):
        raise UserError(f"{what} is cut off or damaged; export or copy it again") from None


def _network(data: bytes) -> Network:
    model = forward(data, 0)
    kinds = [_kind(data, code) for code in tables(data, model, MODEL_OPERATOR_CODES)]
    buffers = [contents(data, field(data, table, BUFFER_DATA)) for table in tables(data, model, MODEL_BUFFERS)]
    # No two overlap in a sound file; in one made to tire its reader thousands might.
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
    return Network("lce" if binary else "tflite", len(data), nodes, tensors, inputs)


def _kind(data: bytes, code: int) -> str:
    # Files before schema 3a keep the number in the field that is now called deprecated.
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
    """The constant; None for what is packed in some other way (four bits, text, sparse)."""
    dtype = np.dtype(TYPES.get(kind, np.void))
    count = int(np.prod(shape, dtype=object))
    if kind not in TYPES or count * dtype.itemsize != len(held):
        return None
    return np.frombuffer(data, dtype, count, held.start).reshape(shape)


def _node(data: bytes, table: int, kinds: list[str], tensors: dict[str, Tensor]) -> Node:
    kind = kinds[integer(data, table, OPERATOR_CODE, "<I")]
    # -1 is an input left out.
    inputs, outputs = (
        tuple("" if number == -1 else str(number) for number in integers(data, table, place))
        for place in (OPERATOR_INPUTS, OPERATOR_OUTPUTS)
    )
    if any(key not in tensors for key in (*inputs, *outputs) if key):
        raise DamagedError
    attributes: dict[str, Any] = {}
    if kind in STRIDED and (place := field(data, table, OPERATOR_OPTIONS)) is not None:
        options = forward(data, place)
        attributes = {
            "same": integer(data, options, 0, "<b") == 0,
            "stride": integer(data, options, 2, "<i"),
            "activation": integer(data, options, ACTIVATION[kind], "<b") if kind in ACTIVATION else 0,
        }
    elif kind == "LceBconv2d":
        options_bytes = text(data, contents(data, field(data, table, OPERATOR_CUSTOM)))
        found = read_map(options_bytes)
        attributes = {
            "same": found.get("padding") == 0,
            "stride": found.get("stride_height", 1),
            "ones": found.get("pad_values") == 1,
            "channels": found.get("channels_in", 0),
        }
    # The converter joins the names of what it merged.
    name = tensors[outputs[0]].name.split(";")[0] if outputs and outputs[0] else kind
    return Node(kind, name, inputs, outputs, attributes)
