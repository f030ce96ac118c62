"""Is an exported file the network it was made from?

Four questions, asked of the file itself as it runs in its runtime:

    parts     Given the same input, do the stem, every unit and the head give what the reference gives? The
              file is run with every unit's output laid open; each part is compared with
              `edgebnn.graph.reference` on its input in that same run, so no error hides behind another. Parts
              that are operators of ours must be equal bit for bit, and the bits and averages they hand on those of
              their output; the logits are of the file as it runs untouched.
              Where a file keeps its head as int8, the reference's head has the weights rounded as they
              should be, and what the rounding alone does to the logits is told.
    bits      How many of the bits the units see differ from PyTorch's? Runtimes add floats in different
              orders, a value at a threshold can fall on the other side, and the flip can spread.
    answers   How far do the logits differ, and how often is the first class the same?
    words     Does the file say the same of its resolution, normalisation and classes?
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from edgebnn.errors import check
from edgebnn.graph import Head, InferenceGraph, reference
from edgebnn.nn import Network, RSign, Sign
from edgebnn.nn.packed import torch_convolutions

from ..onnx.builder import with_int8_weights
from . import rounding
from .limits import Limits
from .trace import Run, open_trace

MORE_THAN_ROUNDING = 2.0
"""The error, as a share of what rounding explains, of a unit that may not round and is off by less."""


@dataclass(frozen=True)
class Parity:
    """What was found.

    Errors are the largest difference of a part's output from the reference's, as a share of what rounding
    explains (`export.verify.rounding`): up to 1, the part computes exactly the same.

    Attributes:
        format: what the file is: "onnx", "onnx-packed", "lce" or "tflite".
        int8_head: whether its linear layers' weights are int8.
        units: number of units.
        units_exact: units whose error is at most 1 on every image.
        units_identical: units equal to the reference bit for bit on every image.
        max_unit_error: the largest error of a unit.
        stem_error, head_error: of the other two parts.
        packed_wrong: of stem and units of a packed file those that hand on other bits, or another average, than those
            of their output.
        bits_differing: percent.
        max_logit_difference: absolute.
        max_logit: largest PyTorch logit, to read the difference by.
        max_head_rounding: largest difference that int8 weights in the head make to a logit, on the same
            features; 0 where they are floats.
        top1_agreement: percent of images.
        images: number of images.
    """

    format: str
    int8_head: bool
    units: int
    units_exact: int
    units_identical: int
    max_unit_error: float
    stem_error: float
    head_error: float
    packed_wrong: int
    bits_differing: float
    max_logit_difference: float
    max_logit: float
    max_head_rounding: float
    top1_agreement: float
    images: int

    def failures(self, limits: Limits) -> list[str]:
        """What is outside the limits, in words; empty when all is well."""
        found = []
        for name, error in (("stem", self.stem_error), ("head", self.head_error)):
            if error > 1:
                found.append(
                    f"the {name} differs from the reference, by up to {error:.3g} times what rounding explains"
                )
        if self.units_exact < self.units:
            found.append(
                f"{self.units - self.units_exact} of {self.units} units differ from the reference, "
                f"by up to {self.max_unit_error:.3g} times what rounding explains"
            )
        if self.packed_wrong:
            found.append(f"{self.packed_wrong} parts hand on other bits or another average than their output's")
        if self.bits_differing > limits.bits_differing:
            found.append(f"{self.bits_differing:.3f}% of the bits differ, limit {limits.bits_differing:g}%")
        if self.top1_agreement < limits.top1_agreement:
            found.append(f"top-1 agrees on {self.top1_agreement:.2f}% of images, limit {limits.top1_agreement:g}%")
        return found


def verify(
    model: Network,
    graph: InferenceGraph,
    artifact: str | Path,
    images: np.ndarray,
    *,
    batch: int = 8,
    progress: bool = False,
) -> Parity:
    """Compares `artifact` with `model` in PyTorch and with `graph` in the reference.

    Args:
        model: the network.
        graph: `fold(model, ...)`.
        artifact: an `.onnx` or `.tflite` file made from it.
        images: normalised images (N, channels, H, W), float32.
        batch: images run at a time; the outputs of all units are held for that many.
        progress: whether to show a progress bar.

    Raises:
        UserError: the artifact is missing, unreadable, of another network, or describes itself otherwise.
    """
    check(len(images) > 0, "no images to verify with; name a folder that holds some")
    trace = open_trace(Path(artifact), graph)
    head = with_int8_weights(graph.head) if trace.int8_head else graph.head
    model = deepcopy(model).float().eval()
    parts = len(graph.units) + 2
    errors, identical, wrong = np.zeros(parts), np.ones(parts, bool), np.zeros(parts, bool)
    flipped = seen = agreed = 0
    logit_difference = max_logit = head_rounding = 0.0
    for part in _batches(images, batch, progress):
        bits, expected = _run_torch(model, part)
        run = trace.run(part)
        for number, (found, wanted, bound) in enumerate(_parts(graph, head, part, run)):
            identical[number] &= np.array_equal(found, wanted)
            errors[number] = max(errors[number], rounding.share(found, wanted, bound))
        for number, (unit, x, torch_bits) in enumerate(zip(graph.units, run.outputs, bits)):
            if unit.binary_input:
                own = x >= unit.threshold[:, None, None]
                flipped += int(np.count_nonzero(own != torch_bits))
                seen += x.size
                if number in run.bits:
                    wrong[number] |= not np.array_equal(own, run.bits[number])
        for number, averages in run.averages.items():
            wrong[number + 1] |= not np.array_equal(averages, reference.pool(run.outputs[number + 1]))
        agreed += int((run.logits.argmax(1) == expected.argmax(1)).sum())
        logit_difference = max(logit_difference, rounding.largest(np.abs(run.logits - expected)))
        max_logit = max(max_logit, float(np.abs(expected).max()))
        if trace.int8_head:
            unrounded = reference.head(graph.head, run.outputs[-1])
            head_rounding = max(head_rounding, rounding.largest(np.abs(run.logits - unrounded)))
    if trace.format == "onnx-packed":
        # The kernels promise the reference's very floats (edgebnn/kernels/core/), so nothing is left
        # to rounding but in a stem of standard operators, where a shortcut is a convolution, and in the head.
        exact = [trace.own_stem, *(unit.downsample is None for unit in graph.units), False]
        errors[exact] = np.where(identical[exact], 0.0, np.maximum(errors[exact], MORE_THAN_ROUNDING))
    stem_error, *unit_errors, head_error = errors.tolist()
    return Parity(
        format=trace.format,
        int8_head=trace.int8_head,
        units=len(graph.units),
        units_exact=sum(error <= 1 for error in unit_errors),
        units_identical=int(identical[1:-1].sum()),
        max_unit_error=max(unit_errors, default=0.0),
        stem_error=stem_error,
        head_error=head_error,
        packed_wrong=int(wrong.sum()),
        bits_differing=100 * flipped / max(seen, 1),
        max_logit_difference=logit_difference,
        max_logit=max_logit,
        max_head_rounding=head_rounding,
        top1_agreement=100 * agreed / len(images),
        images=len(images),
    )


def _parts(
    graph: InferenceGraph, head: Head, images: np.ndarray, run: Run
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Of the stem, each unit and the head: the file's output, the reference's on the same input, the bound."""
    yield run.outputs[0], reference.stem(graph.stem, images), rounding.of_stem(graph.stem, images)
    for unit, x, y in zip(graph.units, run.outputs, run.outputs[1:]):
        yield y, reference.unit(unit, x), rounding.of_unit(unit, x)
    yield run.logits, reference.head(head, run.outputs[-1]), rounding.of_head(head, run.outputs[-1])


def _run_torch(model: Network, images: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Every unit's bits (+1 as True) and the logits, as PyTorch computes them."""
    bits: list[np.ndarray] = []
    hooks = [
        module.register_forward_hook(lambda _module, _inputs, output: bits.append((output > 0).numpy()))
        for module in model.modules()
        if isinstance(module, RSign | Sign)
    ]
    try:
        # By torch alone, lest the kernels be compared with themselves.
        with torch.inference_mode(), torch_convolutions():
            logits = model(torch.from_numpy(images)).numpy()
    finally:
        for hook in hooks:
            hook.remove()
    return bits, logits


def _batches(images: np.ndarray, size: int, progress: bool) -> Iterator[np.ndarray]:
    with tqdm(total=len(images), desc="verifying", unit="image", disable=not progress) as bar:
        for start in range(0, len(images), size):
            part = images[start : start + size]
            yield part
            bar.update(len(part))
