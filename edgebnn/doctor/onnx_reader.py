"""An ONNX file's nodes and constants, read without the onnx package; ONNX Runtime tells the shapes.

Field numbers are those of onnx.proto. A file does not hold the shapes between its nodes, so one image of zeros is sent
through it, with every optimisation off, and ONNX Runtime's profile names each node's.
"""

import json
import tempfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from edgebnn.doctor.network import Network, Node, Tensor
from edgebnn.errors import UserError, check
from edgebnn.runtime.onnx_file import fields
from edgebnn.runtime.ort import FATAL, reason, register_kernels

MODEL_GRAPH = 7
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_INPUT = 1, 5, 11
NODE_INPUT, NODE_OUTPUT, NODE_NAME, NODE_KIND, NODE_ATTRIBUTE, NODE_DOMAIN = 1, 2, 3, 4, 5, 7
ATTRIBUTE_NAME, ATTRIBUTE_INTEGER, ATTRIBUTE_TEXT, ATTRIBUTE_TENSOR, ATTRIBUTE_INTEGERS = 1, 3, 4, 5, 8
TENSOR_DIMS, TENSOR_TYPE, TENSOR_FLOATS, TENSOR_INT32, TENSOR_INT64, TENSOR_NAME, TENSOR_RAW = 1, 2, 4, 5, 7, 8, 9
VALUE_NAME = 1

TYPES: dict[int, Any] = {
    1: np.float32,
    2: np.uint8,
    3: np.int8,
    5: np.int16,
    6: np.int32,
    7: np.int64,
    9: np.bool_,
    10: np.float16,
    11: np.float64,
}


def read(path: Path) -> Network:
    """The file's main graph, with what ONNX Runtime finds of shapes.

    Raises:
        UserError: it is damaged, or ONNX Runtime cannot run it.
    """
    shapes = _shapes(path)
    return parse(path.read_bytes(), shapes, f"model {path}")


def parse(data: bytes, shapes: dict[str | int, tuple[int, ...]], what: str) -> Network:
    """A file's nodes and constants.

    Args:
        data: the whole file.
        shapes: of what each node gives first, by the node's name or, if it has none, by its number.
        what: what the file is, for messages.

    Raises:
        UserError: it is damaged.
    """
    try:
        return _network(data, shapes)
    except (ValueError, OverflowError):
        raise UserError(f"{what} is damaged; export or copy it again") from None


def _network(data: bytes, shapes: dict[str | int, tuple[int, ...]]) -> Network:
    graph = b"".join(content for content in _parts(data, MODEL_GRAPH))
    tensors: dict[str, Tensor] = {}
    nodes: list[Node] = []
    inputs: list[str] = []
    for number, content in fields(BytesIO(graph)):
        if not isinstance(content, bytes):
            continue
        if number == GRAPH_INITIALIZER:
            tensor = _tensor(content)
            tensors[tensor.name] = tensor
        elif number == GRAPH_INPUT:
            inputs += [name.decode(errors="replace") for name in _parts(content, VALUE_NAME)]
        elif number == GRAPH_NODE:
            node, value = _node(content)
            if value is not None:
                tensors[node.outputs[0]] = Tensor(node.outputs[0], value.shape, value.data, value.stored, value.buffer)
                continue
            if node.outputs:
                # ONNX Runtime numbers nodes as they stand, less the Constants.
                shape = shapes.get(node.name or len(nodes))
                tensors[node.outputs[0]] = Tensor(node.outputs[0], shape)
            nodes.append(replace(node, name=node.name or next(iter(node.outputs), node.kind)))
    for key in (key for node in nodes for key in (*node.inputs, *node.outputs) if key):
        tensors.setdefault(key, Tensor(key, None))
    packed = any(node.kind == "BinaryUnit" for node in nodes)
    given = tuple(key for key in inputs if tensors.get(key, Tensor(key, None)).data is None)
    return Network("onnx-packed" if packed else "onnx", len(data), tuple(nodes), tensors, given)


def _node(content: bytes) -> tuple[Node, Tensor | None]:
    """A node; and of a Constant its value."""
    found: dict[int, list[bytes]] = {}
    for number, part in fields(BytesIO(content)):
        if isinstance(part, bytes):
            found.setdefault(number, []).append(part)
    names = {place: tuple(part.decode(errors="replace") for part in found.get(place, [])) for place in range(1, 8)}
    attributes: dict[str, Any] = {}
    value = None
    for part in found.get(NODE_ATTRIBUTE, []):
        name, attribute, tensor = _attribute(part)
        attributes[name] = attribute
        value = tensor if name == "value" else value
    kind = names[NODE_KIND][-1] if names[NODE_KIND] else ""
    outputs = names[NODE_OUTPUT]
    name = names[NODE_NAME][-1] if names[NODE_NAME] else ""
    node = Node(kind, name, names[NODE_INPUT], outputs, attributes)
    return node, value if kind == "Constant" and outputs else None


def _attribute(content: bytes) -> tuple[str, Any, Tensor | None]:
    name, integers = "", []
    value: Any = None
    tensor = None
    for number, part in fields(BytesIO(content)):
        if number == ATTRIBUTE_NAME and isinstance(part, bytes):
            name = part.decode(errors="replace")
        elif number == ATTRIBUTE_INTEGER and isinstance(part, int):
            value = part
        elif number == ATTRIBUTE_TEXT and isinstance(part, bytes):
            value = part.decode(errors="replace")
        elif number == ATTRIBUTE_TENSOR and isinstance(part, bytes):
            tensor = _tensor(part)
        elif number == ATTRIBUTE_INTEGERS:
            integers += _integers(part)
    return name, integers or value, tensor


def _tensor(content: bytes) -> Tensor:
    shape: list[int] = []
    kind, name = 0, ""
    held: list[tuple[int, bytes]] = []
    for number, part in fields(BytesIO(content)):
        if number == TENSOR_DIMS:
            shape += _integers(part)
        elif number == TENSOR_TYPE and isinstance(part, int):
            kind = part
        elif number == TENSOR_NAME and isinstance(part, bytes):
            name = part.decode(errors="replace")
        elif number in (TENSOR_FLOATS, TENSOR_INT32, TENSOR_INT64, TENSOR_RAW) and isinstance(part, bytes):
            held.append((number, part))
    check(all(size >= 0 for size in shape), "a size is negative")
    count = int(np.prod(shape, dtype=object))
    array = None
    if kind in TYPES and len(held) == 1:
        array = _array(*held[0], np.dtype(TYPES[kind]), count)
    stored = sum(len(part) for _, part in held)
    return Tensor(name, tuple(shape), None if array is None else array.reshape(shape), stored, object())


def _array(place: int, part: bytes, dtype: np.dtype, count: int) -> np.ndarray | None:
    """A constant's values; None for a form that is read nowhere here (half floats as integers)."""
    if place == TENSOR_RAW or (place == TENSOR_FLOATS and dtype == np.float32):
        return np.frombuffer(part, dtype) if count * dtype.itemsize == len(part) else None
    if dtype.kind in "iub":
        values = _integers(part)
        return np.array(values).astype(dtype) if len(values) == count else None
    return None


def _integers(part: int | bytes) -> list[int]:
    """Whole numbers, given one by one or packed, each in groups of 7 bits."""
    if isinstance(part, int):
        return [part]
    values, value, shift = [], 0, 0
    for byte in part:
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            values.append(value - (1 << 64) if value >> 63 else value)
            value = shift = 0
        elif shift > 63:
            raise ValueError("a number of more than 64 bits")
    return values


def _parts(content: bytes, place: int) -> list[bytes]:
    """The contents of one field."""
    return [part for number, part in fields(BytesIO(content)) if number == place and isinstance(part, bytes)]


def _shapes(path: Path) -> dict[str | int, tuple[int, ...]]:
    """The shape of what each node gives first, by the node's name and by its number, for one image."""
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = FATAL
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder, "profile"))
        register_kernels(path, options)
        try:
            session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"], enable_fallback=0)
            given = {each.name: _zeros(each.shape, each.type) for each in session.get_inputs()}
            session.run(None, given)
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        except UserError:
            raise
        except Exception as error:  # ONNX Runtime's exceptions share no base of their own
            raise UserError(
                f"onnxruntime {onnxruntime.__version__} cannot run model {path} ({reason(error)}); export it again"
            ) from None
    found: dict[str | int, tuple[int, ...]] = {}
    for event in events:
        told = event.get("args", {})
        if told.get("output_type_shape") and event["name"].endswith("_kernel_time"):
            shape = tuple(next(iter(told["output_type_shape"][0].values())))
            found[event["name"].removesuffix("_kernel_time")] = found[int(told["node_index"])] = shape
    return found


def _zeros(shape: list[Any], kind: str) -> np.ndarray:
    names = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8, "tensor(int8)": np.int8, "tensor(int64)": np.int64}
    # One image of 3 x 224 x 224, where sizes are free.
    free = (1, 3, 224, 224) if len(shape) == 4 else (1,) * len(shape)
    sizes = [size if isinstance(size, int) and size > 0 else usual for size, usual in zip(shape, free)]
    return np.zeros(sizes, names.get(kind, np.float32))
