"""A model file laid open, whatever its format: nodes and tensors by name."""

from collections.abc import Container
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

OPERATORS = {"BinaryUnit", "ImageConv"}
"""Ours (docs/reference/operators.md): a file that has them is a packed one. What they give has channels last."""

LONGEST_CHAIN = 32
"""Operators between a constant and what is made of it; a damaged file may hold circles."""


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor of the file.

    Attributes:
        name: what people call it.
        shape: its sizes; None where they are not known.
        data: its values where it is a constant that could be read.
        stored: bytes of it that stand in the file; 0 unless it is a constant.
        buffer: which bytes of the file those are: tensors that share them have the same.
    """

    name: str
    shape: tuple[int, ...] | None
    data: np.ndarray | None = None
    stored: int = 0
    buffer: object = None

    @property
    def size(self) -> int:
        """Values; 0 where the shape is not known."""
        return int(np.prod(self.shape, dtype=object)) if self.shape is not None else 0


@dataclass(frozen=True, eq=False)
class Node:
    """An operator.

    Attributes:
        kind: its name in the format's own words ("CONV_2D", "LceBconv2d", "Conv", "BinaryUnit").
        name: what people call it.
        inputs, outputs: keys of `Network.tensors`; "" is one left out.
        attributes: its settings; only those that the doctor reads.
    """

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def output(self) -> str:
        """Key of the first output that is there; "" if none is."""
        return next(filter(None, self.outputs), "")


@dataclass(frozen=True, eq=False)
class Network:
    """A file's nodes in the order they run.

    Attributes:
        format: "onnx", "onnx-packed", "lce", or "tflite" for a TFLite file without an operator of LCE's.
        size: bytes of the file, and of those beside it that hold its weights.
        nodes: the operators.
        tensors: by key.
        inputs: keys of what the caller gives.
        channels_last: whether images are (N, H, W, C).
    """

    format: str
    size: int
    nodes: tuple[Node, ...]
    tensors: dict[str, Tensor]
    inputs: tuple[str, ...]

    @property
    def channels_last(self) -> bool:
        return self.format in ("lce", "tflite")

    @cached_property
    def makers(self) -> dict[str, Node]:
        """The node that makes each tensor."""
        return {key: node for node in self.nodes for key in node.outputs if key}

    @cached_property
    def users(self) -> dict[str, list[Node]]:
        """The nodes that read each tensor."""
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for key in node.inputs:
                found.setdefault(key, []).append(node)
        return found

    @cached_property
    def fixed(self) -> set[str]:
        """Keys of what is the same in every run: constants, and what is made of them alone.

        Runtimes work it out when they load the file.
        """
        found = {key for key, tensor in self.tensors.items() if tensor.stored or tensor.data is not None}
        for node in self.nodes:
            given = [key for key in node.inputs if key]
            if given and found.issuperset(given):
                found.update(node.outputs)
        return found

    def source(self, key: str, through: Container[str] | None = None) -> str:
        """Key of the constant that a fixed tensor is made of, or of its largest one; `key` itself where there is none.

        Args:
            key: of the tensor.
            through: kinds of operators to look behind; None for all.
        """
        for _ in range(LONGEST_CHAIN):
            maker = self.makers.get(key)
            if maker is None or key not in self.fixed or not (through is None or maker.kind in through):
                break
            key = max((each for each in maker.inputs if each), key=lambda each: self.tensors[each].size)
        return key

    def tensor(self, node: Node, place: int) -> Tensor | None:
        """A node's input, None where it has none there."""
        key = node.inputs[place] if place < len(node.inputs) else ""
        return self.tensors.get(key)

    def constant(self, node: Node, place: int) -> np.ndarray | None:
        """The values of a node's input where they are constant."""
        tensor = self.tensor(node, place)
        return None if tensor is None else tensor.data

    def output(self, node: Node) -> Tensor | None:
        """A node's first output."""
        return self.tensors.get(node.output)
