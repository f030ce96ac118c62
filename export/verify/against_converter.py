"""Compares a TFLite file of ours with the file that LCE's or TensorFlow's converter makes of the same network."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgebnn.errors import check
from edgebnn.graph import InferenceGraph

from ..tflite.converter import check_operators, convert_with_lce, convert_with_tensorflow
from ..tflite.file import count_operators
from ..tflite.interpreter import open_interpreter


@dataclass(frozen=True)
class ConverterComparison:
    """The result of a comparison with the converter.

    Attributes:
        more: operators that the file has and the converter's file has not, with their number.
        fewer: operators that only the converter's file has, with their number.
        parts: number of parts: the stem, the units and the logits.
        parts_equal: number of parts whose output equals the converter's bit for bit on every image.
        bytes: size of the file.
        converter_bytes: size of the converter's file.
    """

    more: Counter[str]
    fewer: Counter[str]
    parts: int
    parts_equal: int
    bytes: int
    converter_bytes: int

    @property
    def failures(self) -> list[str]:
        """Sentences about what is worse than in the converter's file; empty where nothing is."""
        found = []
        if self.more:
            found.append(f"operators that the converter does without: {_counts(self.more)}")
        if self.parts_equal < self.parts:
            found.append(f"{self.parts - self.parts_equal} of {self.parts} parts differ from the converter's file")
        return found

    def text(self) -> str:
        """Returns the comparison as a line of a report."""
        operators = f"without {_counts(self.fewer)}" if self.fewer else "the same operators"
        return (
            f"  the converter's file           {self.parts_equal} of {self.parts} parts equal bit for bit, "
            f"{operators}, {self.bytes:,} of {self.converter_bytes:,} bytes"
        )


def compare_with_converter(
    graph: InferenceGraph, artifact: Path, images: np.ndarray, *, format_: str
) -> ConverterComparison:
    """Converts a network and runs both files in the interpreter of their format.

    Args:
        graph: the network.
        artifact: our file of it.
        images: normalised images (N, channels, H, W), float32.
        format_: "lce" or "tflite".

    Raises:
        UserError: the format has no converter, or the converter is not installed.
    """
    check(format_ in ("lce", "tflite"), f"{artifact} is an ONNX file; --against-converter compares .tflite files")
    if format_ == "lce":
        theirs = convert_with_lce(graph)
        downsampling = [number for number, unit in enumerate(graph.units) if unit.downsample is not None]
        check_operators(theirs, len(graph.units), downsampling)
    else:
        theirs = convert_with_tensorflow(graph)
    ours = artifact.read_bytes()
    parts, logits = open_interpreter(ours).run(images)
    their_parts, their_logits = open_interpreter(theirs).run(images)
    pairs = list(zip([*parts, logits], [*their_parts, their_logits], strict=True))
    return ConverterComparison(
        more=count_operators(ours) - count_operators(theirs),
        fewer=count_operators(theirs) - count_operators(ours),
        parts=len(pairs),
        parts_equal=sum(np.array_equal(one, other) for one, other in pairs),
        bytes=len(ours),
        converter_bytes=len(theirs),
    )


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{number} {kind}" for kind, number in sorted(counts.items()))
