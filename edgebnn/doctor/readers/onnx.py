"""An ONNX file's nodes and constants, read without the onnx package. Field numbers are those of onnx.proto."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from edgebnn.doctor.network import OPERATORS, Network, Node, Tensor
from edgebnn.doctor.readers import onnx_shapes, onnx_tensors
from edgebnn.doctor.readers.onnx_shapes import Shapes
from edgebnn.errors import UserError
from edgebnn.runtime.formats.onnx_file import fields, spans

MODEL_GRAPH = 7
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_INPUT = 1, 5, 11
NODE_INPUT, NODE_OUTPUT, NODE_NAME, NODE_KIND, NODE_ATTRIBUTE = 1, 2, 3, 4, 5
ATTRIBUTE_NAME, ATTRIBUTE_FLOAT, ATTRIBUTE_INTEGER, ATTRIBUTE_TEXT, ATTRIBUTE_TENSOR = 1, 2, 3, 4, 5
ATTRIBUTE_FLOATS, ATTRIBUTE_INTEGERS = 7, 8
VALUE_NAME = 1

CONSTANTS: dict[str, Any] = {
    "value": None,
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
}
"""The attributes that may hold what a Constant gives, and the type of numbers in them."""


def read(path: Path) -> Network:
    """The file's main graph, with what ONNX Runtime finds of shapes.

    Raises:
        UserError: it is damaged, or ONNX Runtime cannot run it.
    """
    shapes = onnx_shapes.find(path)
    return parse(path.read_bytes(), shapes, f"model {path}", path.parent)


def parse(data: bytes, shapes: Shapes, what: str, folder: Path | None = None) -> Network:
    """A file's nodes and constants.

    Args:
        data: the whole file.
        shapes: of what each node gives first, by the node's name or, if it has none, by its number.
        what: what the file is, for messages.
        folder: where files that hold its constants lie; None to leave them alone.

    Raises:
        UserError: it is damaged.
    """
    try:
        return _network(data, shapes, folder)
    except (ValueError, OverflowError, OSError):
        raise UserError(f"{what} is damaged, or a file beside it is; export or copy it again") from None


def _network(data: bytes, shapes: Shapes, folder: Path | None) -> Network:
    file = BytesIO(data)
    graphs = [place for number, place in spans(file) if number == MODEL_GRAPH and isinstance(place, range)]
    tensors: dict[str, Tensor] = {}
    nodes: list[Node] = []
    inputs: list[str] = []
    for number, content in (field for graph in graphs for field in fields(file, graph)):
        if not isinstance(content, bytes):
            continue
        if number == GRAPH_INITIALIZER:
            tensor = onnx_tensors.read(content, folder)
            tensors[tensor.name] = tensor
        elif number == GRAPH_INPUT:
            inputs += [name.decode(errors="replace") for name in _parts(content, VALUE_NAME)]
        elif number == GRAPH_NODE:
            node = _node(content, folder)
            # ONNX Runtime numbers nodes as they stand, less the Constants.
            made = _constant(node) if node.kind == "Constant" else Tensor("", shapes.get(node.name or len(nodes)))
            if node.output:
                tensors[node.output] = replace(made, name=node.output)
            if node.kind != "Constant":
                nodes.append(replace(node, name=node.name or node.output or node.kind))
    for key in (key for node in nodes for key in (*node.inputs, *node.outputs) if key):
        tensors.setdefault(key, Tensor(key, None))
    packed = any(node.kind in OPERATORS for node in nodes)
    given = tuple(key for key in inputs if tensors.get(key, Tensor(key, None)).data is None)
    beside = {tensor.buffer: tensor.stored for tensor in tensors.values() if isinstance(tensor.buffer, tuple)}
    size = len(data) + sum(beside.values())
    return Network("onnx-packed" if packed else "onnx", size, tuple(nodes), tensors, given)


def _node(content: bytes, folder: Path | None) -> Node:
    found: dict[int, list[bytes]] = {}
    for number, part in fields(BytesIO(content)):
        if isinstance(part, bytes):
            found.setdefault(number, []).append(part)
    names = {place: tuple(part.decode(errors="replace") for part in found.get(place, [])) for place in range(1, 5)}
    attributes = dict(_attribute(part, folder) for part in found.get(NODE_ATTRIBUTE, []))
    name, kind = ("".join(names[place][-1:]) for place in (NODE_NAME, NODE_KIND))
    return Node(kind, name, names[NODE_INPUT], names[NODE_OUTPUT], attributes)


def _constant(node: Node) -> Tensor:
    """What a Constant gives, without its name."""
    for name, dtype in CONSTANTS.items():
        value = node.attributes.get(name)
        if isinstance(value, Tensor):
            return value
        if isinstance(value, int | float | list):
            array = np.array(value, dtype)
            return Tensor("", array.shape, array, array.nbytes, object())
    return Tensor("", None)


def _attribute(content: bytes, folder: Path | None) -> tuple[str, Any]:
    name = ""
    numbers: list[float] = []
    value: Any = None
    for number, part in fields(BytesIO(content)):
        if number == ATTRIBUTE_INTEGER and isinstance(part, int):
            value = part
        elif number == ATTRIBUTE_INTEGERS:
            numbers += onnx_tensors.whole_numbers(part)
        elif isinstance(part, int):
            continue
        elif number == ATTRIBUTE_NAME:
            name = part.decode(errors="replace")
        elif number == ATTRIBUTE_FLOAT:
            value = float(np.frombuffer(part, "<f4", 1)[0])
        elif number == ATTRIBUTE_FLOATS and part:
            numbers += np.frombuffer(part, "<f4").tolist()
        elif number == ATTRIBUTE_TEXT:
            value = part.decode(errors="replace")
        elif number == ATTRIBUTE_TENSOR:
            value = onnx_tensors.read(part, folder)
    return name, numbers or value


def _parts(content: bytes, place: int) -> list[bytes]:
    """The contents of one field."""
    return [part for number, part in fields(BytesIO(content)) if number == place and isinstance(part, bytes)]
