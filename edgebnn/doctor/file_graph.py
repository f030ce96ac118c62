"""The nodes and tensors of a model file, in one form for ONNX and TFLite."""

from collections.abc import Container
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

OPERATORS = {"BinaryUnit", "ImageConv"}
"""The operators of edgebnn (docs/reference/operators.md). A file that has them is packed. Their outputs have channels
last."""

BIPOLAR = "BipolarQuant"
"""QONNX's quantiser: +scale where x >= 0, and else -scale (github.com/fastmachinelearning/qonnx)."""

LONGEST_CHAIN = 32
"""The largest number of operators to follow from a tensor back to its constant. A damaged file may hold cycles."""


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor of the file.

    Attributes:
        name: the name to show to a user.
        shape: its sizes, or None if they are not known.
        data: the values of a constant, or None if the tensor is no constant or its values cannot be read.
        stored: number of bytes that the constant takes in the file; 0 for other tensors.
        buffer: an identifier of those bytes. Tensors that share the bytes have the same identifier.
    """

    name: str
    shape: tuple[int, ...] | None
    data: np.ndarray | None = None
    stored: int = 0
    buffer: object = None

    @property
    def size(self) -> int:
        """Number of values; 0 if the shape is not known."""
        return int(np.prod(self.shape, dtype=object)) if self.shape is not None else 0


@dataclass(frozen=True, eq=False)
class Node:
    """An operator.

    Attributes:
        kind: the operator's name in its format, such as "CONV_2D", "LceBconv2d", "Conv" or "BinaryUnit".
        name: the name to show to a user.
        inputs, outputs: keys of `FileGraph.tensors`; "" for an optional tensor that is left out.
        attributes: the operator's settings, as far as the doctor uses them.
        domain: the domain of an ONNX operator; "" for a standard operator.
    """

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    domain: str = ""

    @property
    def output(self) -> str:
        """Key of the first output that is not left out; "" if there is none."""
        return next(filter(None, self.outputs), "")


@dataclass(frozen=True, eq=False)
class FileGraph:
    """The nodes and tensors of a model file.

    Attributes:
        format: "onnx", "onnx-packed", "lce", or "tflite" for a TFLite file without LCE operators.
        size: number of bytes of the file and of the external files that hold its weights.
        nodes: the operators in the order in which they run.
        tensors: the tensors by key. The key is the name in an ONNX file, and the number in a TFLite file.
        inputs: keys of the tensors that the caller of the network passes in.
    """

    format: str
    size: int
    nodes: tuple[Node, ...]
    tensors: dict[str, Tensor]
    inputs: tuple[str, ...]

    @property
    def channels_last(self) -> bool:
        """Whether images are (N, H, W, C), as in TFLite, and not (N, C, H, W)."""
        return self.format in ("lce", "tflite")

    @cached_property
    def makers(self) -> dict[str, Node]:
        """The node that computes each tensor, by the tensor's key."""
        return {key: node for node in self.nodes for key in node.outputs if key}

    @cached_property
    def users(self) -> dict[str, list[Node]]:
        """The nodes that read each tensor, by the tensor's key."""
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for key in node.inputs:
                found.setdefault(key, []).append(node)
        return found

    @cached_property
    def fixed(self) -> set[str]:
        """Keys of the tensors that are equal in every run: constants, and tensors computed from constants alone.

        Runtimes compute them once, when they load the file.
        """
        found = {key for key, tensor in self.tensors.items() if tensor.stored or tensor.data is not None}
        for node in self.nodes:
            given = [key for key in node.inputs if key]
            if given and found.issuperset(given):
                found.update(node.outputs)
        return found

    def source(self, key: str, through: Container[str] | None = None) -> str:
        """Returns the key of the constant from which a fixed tensor is computed.

        Of several constants it is the largest. A tensor that is not fixed returns its own key.

        Args:
            key: key of the tensor.
            through: kinds of operators to follow back to their inputs; None for all kinds.
        """
        for _ in range(LONGEST_CHAIN):
            maker = self.makers.get(key)
            if maker is None or key not in self.fixed or not (through is None or maker.kind in through):
                break
            key = max((each for each in maker.inputs if each), key=lambda each: self.tensors[each].size)
        return key

    def tensor(self, node: Node, index: int) -> Tensor | None:
        """Returns a node's input at an index, or None if the node has no such input."""
        key = node.inputs[index] if index < len(node.inputs) else ""
        return self.tensors.get(key)

    def constant(self, node: Node, index: int) -> np.ndarray | None:
        """Returns the values of a node's input, or None if they are not constant or not known."""
        tensor = self.tensor(node, index)
        return None if tensor is None else tensor.data

    def output(self, node: Node) -> Tensor | None:
        """Returns the tensor of a node's first output, or None if it is not known."""
        return self.tensors.get(node.output)
