"""Reads the nodes and constants of an ONNX file without the onnx package.

The field numbers are those of onnx.proto.
"""

from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from edgebnn.doctor.file_graph import BIPOLAR, OPERATORS, FileGraph, Node, Tensor
from edgebnn.doctor.readers import onnx_functions, onnx_shapes, onnx_tensors
from edgebnn.doctor.readers.onnx_functions import Functions
from edgebnn.doctor.readers.onnx_shapes import Shapes
from edgebnn.doctor.readers.protobuf import Message
from edgebnn.errors import UserError
from edgebnn.runtime.formats.onnx_file import fields, spans

MODEL_GRAPH, MODEL_FUNCTION = 7, 25
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_INPUT = 1, 5, 11
NODE_INPUT, NODE_OUTPUT, NODE_NAME, NODE_KIND, NODE_ATTRIBUTE, NODE_DOMAIN = 1, 2, 3, 4, 5, 7
ATTRIBUTE_NAME, ATTRIBUTE_FLOAT, ATTRIBUTE_INTEGER, ATTRIBUTE_TEXT, ATTRIBUTE_TENSOR = 1, 2, 3, 4, 5
ATTRIBUTE_FLOATS, ATTRIBUTE_INTEGERS = 7, 8
VALUE_NAME = 1

CONSTANT = "Constant"
CONSTANT_TYPES: dict[str, Any] = {
    "value": None,
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
}
"""The attributes that can hold the value of a Constant node, with the type of its numbers."""


@dataclass
class _GraphMessage:
    """A GraphProto: its nodes with their Constant nodes, its initializers, the names of its inputs, and the functions
    that its nodes may call."""

    nodes: list[Node] = field(default_factory=list)
    initializers: list[Tensor] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    functions: Functions = field(default_factory=dict)


def read_onnx(path: Path) -> FileGraph:
    """Reads the main graph of an ONNX file, with the shapes that ONNX Runtime computes.

    Raises:
        UserError: the file is damaged, or ONNX Runtime cannot run it.
    """
    try:
        shapes = onnx_shapes.measure_shapes(path)
    except UserError:
        graph = parse_onnx(path.read_bytes(), {}, f"model {path}", folder=path.parent)
        # ONNX Runtime has no such operators. The rest of the file can be examined without shapes.
        if not any(node.kind == BIPOLAR for node in graph.nodes):
            raise
        return graph
    return parse_onnx(path.read_bytes(), shapes, f"model {path}", folder=path.parent)


def parse_onnx(data: bytes, shapes: Shapes, what: str, *, folder: Path | None = None) -> FileGraph:
    """Returns the nodes and constants of an ONNX file.

    Args:
        data: the whole file.
        shapes: the shape of each node's first output, by the node's name, or by its number if it has no name.
        what: the name of the file in messages.
        folder: the folder of external files with constants; None to leave them unread.

    Raises:
        UserError: the file is damaged.
    """
    try:
        return _build(_decode_graph(data, folder), shapes, size=len(data))
    except (ValueError, OverflowError, OSError):
        raise UserError(f"{what} is damaged, or a file beside it is; export or copy it again") from None


def _decode_graph(data: bytes, folder: Path | None) -> _GraphMessage:
    file, found = BytesIO(data), _GraphMessage()
    places = [(number, place) for number, place in spans(file) if isinstance(place, range)]
    graphs = [place for number, place in places if number == MODEL_GRAPH]
    functions = onnx_functions.read_functions(
        (data[place.start : place.stop] for number, place in places if number == MODEL_FUNCTION),
        lambda content: _decode_node(content, folder),
    )
    for number, content in (each for graph in graphs for each in fields(file, graph)):
        if not isinstance(content, bytes):
            continue
        if number == GRAPH_NODE:
            found.nodes.append(_decode_node(content, folder))
        elif number == GRAPH_INITIALIZER:
            found.initializers.append(onnx_tensors.read_tensor(content, folder))
        elif number == GRAPH_INPUT:
            found.inputs += Message(content).texts(VALUE_NAME)
    found.functions = functions
    return found


def _decode_node(content: bytes, folder: Path | None) -> Node:
    message = Message(content)
    return Node(
        kind=message.text(NODE_KIND),
        name=message.text(NODE_NAME),
        inputs=tuple(message.texts(NODE_INPUT)),
        outputs=tuple(message.texts(NODE_OUTPUT)),
        attributes=dict(_decode_attribute(Message(part), folder) for part in message.parts(NODE_ATTRIBUTE)),
        domain=message.text(NODE_DOMAIN),
    )


def _decode_attribute(message: Message, folder: Path | None) -> tuple[str, Any]:
    """Returns the name and the value of an AttributeProto. A sound attribute has one value only."""
    numbers = [*message.floats(ATTRIBUTE_FLOATS), *message.integers(ATTRIBUTE_INTEGERS)]
    tensors = [onnx_tensors.read_tensor(part, folder) for part in message.parts(ATTRIBUTE_TENSOR)]
    texts = message.texts(ATTRIBUTE_TEXT)
    integers = message.integers(ATTRIBUTE_INTEGER)
    floats = message.floats(ATTRIBUTE_FLOAT)
    value = next((found[-1] for found in (tensors, texts, integers, floats) if found), None)
    return message.text(ATTRIBUTE_NAME), numbers or value


def _build(graph: _GraphMessage, shapes: Shapes, *, size: int) -> FileGraph:
    # ONNX Runtime gives the nodes of functions later numbers, so the functions are written out after the outputs.
    written_out = onnx_functions.write_out(graph.nodes, graph.functions)
    inner = _outputs([node for node in written_out if node.kind == CONSTANT], {})
    tensors, nodes = inner | _outputs(graph.nodes, shapes), _named(written_out)
    tensors |= {tensor.name: tensor for tensor in graph.initializers}
    for key in (key for node in nodes for key in (*node.inputs, *node.outputs) if key):
        tensors.setdefault(key, Tensor(key, None))
    packed = any(node.kind in OPERATORS for node in nodes)
    # Old files list their initializers among the inputs too.
    inputs = tuple(key for key in graph.inputs if tensors.get(key, Tensor(key, None)).data is None)
    external = {tensor.buffer: tensor.stored for tensor in tensors.values() if isinstance(tensor.buffer, tuple)}
    format_ = "onnx-packed" if packed else "onnx"
    return FileGraph(format_, size + sum(external.values()), tuple(nodes), tensors, inputs)


def _outputs(nodes: list[Node], shapes: Shapes) -> dict[str, Tensor]:
    """Returns the first output of each node, by its name."""
    tensors: dict[str, Tensor] = {}
    # ONNX Runtime numbers the nodes in file order, without the Constant nodes.
    number = 0
    for node in nodes:
        tensor = _constant(node) if node.kind == CONSTANT else Tensor("", shapes.get(node.name or number))
        if node.output:
            tensors[node.output] = replace(tensor, name=node.output)
        number += node.kind != CONSTANT
    return tensors


def _named(nodes: list[Node]) -> list[Node]:
    """Returns the nodes without the Constant nodes. A node without a name is named by its output."""
    return [replace(node, name=node.name or node.output or node.kind) for node in nodes if node.kind != CONSTANT]


def _constant(node: Node) -> Tensor:
    """Returns the value of a Constant node, as a tensor without a name."""
    for name, dtype in CONSTANT_TYPES.items():
        value = node.attributes.get(name)
        if isinstance(value, Tensor):
            return value
        if isinstance(value, int | float | list):
            array = np.array(value, dtype)
            return Tensor("", array.shape, array, array.nbytes, object())
    return Tensor("", None)
