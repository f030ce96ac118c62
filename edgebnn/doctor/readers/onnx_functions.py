"""Writes out the functions of an ONNX file: a call becomes the function's nodes.

The field numbers are those of FunctionProto in onnx.proto.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from edgebnn.doctor.file_graph import Node
from edgebnn.doctor.readers.protobuf import Message

NAME, INPUT, OUTPUT, NODE, DOMAIN = 1, 4, 5, 7, 10

DEEPEST, MOST_NODES = 16, 200_000
"""The largest depth of calls, and the largest number of nodes. In a damaged file functions may call themselves."""


@dataclass(frozen=True)
class Function:
    """A function of the file: the names of its inputs and outputs, and its nodes."""

    inputs: list[str]
    outputs: list[str]
    nodes: list[Node]


Functions = dict[tuple[str, str], Function]
"""The functions by domain and name. A function may have the name of a standard operator."""


def read_functions(contents: Iterable[bytes], decode_node: Callable[[bytes], Node]) -> Functions:
    """Returns the functions of a file.

    Args:
        contents: the bytes of each FunctionProto.
        decode_node: decodes a NodeProto.
    """
    found = {}
    for message in map(Message, contents):
        nodes = [decode_node(part) for part in message.parts(NODE)]
        found[message.text(DOMAIN), message.text(NAME)] = Function(message.texts(INPUT), message.texts(OUTPUT), nodes)
    return found


def write_out(nodes: list[Node], functions: Functions) -> list[Node]:
    """Returns the nodes with the nodes of functions in the place of calls.

    Raises:
        ValueError: functions call each other too deeply, or write out to too many nodes.
    """
    return list(_written_out(nodes, functions, 0)) if functions else nodes


def _written_out(nodes: list[Node], functions: Functions, depth: int) -> list[Node]:
    if depth > DEEPEST:
        raise ValueError("functions call each other without end")
    found: list[Node] = []
    for node in nodes:
        function = functions.get((node.domain, node.kind))
        if function is None:
            found.append(node)
        else:
            found += _written_out(_called(node, function), functions, depth + 1)
        if len(found) > MOST_NODES:
            raise ValueError("functions write out to too many nodes")
    return found


def _called(call: Node, function: Function) -> list[Node]:
    """Returns the nodes of a function with the tensors of a call. Other names start with the call's output."""
    names = {"": ""}
    for inner, outer in ((function.inputs, call.inputs), (function.outputs, call.outputs)):
        # Inputs and outputs at the end may be left out of the call.
        names |= dict(zip(inner, [*outer, *[""] * (len(inner) - len(outer))]))

    def outside(name: str) -> str:
        return names.get(name) or (name and f"{call.output}/{name}")

    return [
        replace(
            node,
            name=f"{call.name or call.output}/{node.name or node.kind}",
            inputs=tuple(map(outside, node.inputs)),
            outputs=tuple(map(outside, node.outputs)),
        )
        for node in function.nodes
    ]
