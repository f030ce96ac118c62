"""Verifies that an exported file computes the same as the network it was made from.

The file itself runs in its own runtime. Four checks are made:

    parts        The stem, every unit and the head must compute what the reference computes on the same input. Each part
                 is compared with `edgebnn.graph.reference` on the input that the part had in the same run. So the
                 error of one part does not hide the error of another. Operators of edgebnn must equal the reference
                 bit for bit, and the bits and averages that they pass on must match their output. If the file stores
                 its head as int8, the reference's head has the same rounded weights, and the effect of the rounding
                 is reported.
    bits         The bits that the units read are compared with PyTorch's. Runtimes add floats in different orders. A
                 value close to a threshold can then fall on the other side, and the changed bit can spread to later
                 units.
    answers      The logits and the chosen classes are compared with PyTorch's.
    description  The file must state the same resolution, normalisation and classes.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from edgebnn.errors import check
from edgebnn.graph import InferenceGraph, reference
from edgebnn.nn import Network, RSign, Sign
from edgebnn.nn.packed import torch_convolutions
from edgebnn.progress import progress_bar

from ..onnx.builder import with_int8_weights
from . import rounding
from .comparison import Comparison, PartResult
from .limits import Limits
from .trace import Run, Trace, open_trace


@dataclass(frozen=True)
class Parity:
    """The result of a verification.

    An error is the largest difference between a part's output and the reference's, as a share of what rounding explains
    (`export.verify.rounding`). A part with an error of up to 1 computes exactly the same.

    Attributes:
        format: the file's format: "onnx", "onnx-packed", "lce" or "tflite".
        runtime: what ran the file: "onnxruntime", "lce", "litert", or "numpy", a model of LCE's arithmetic.
        int8_head: whether the weights of the file's linear layers are int8.
        units: number of units.
        units_exact: number of units whose error is at most 1 on every image.
        units_identical: number of units equal to the reference bit for bit on every image.
        max_unit_error: largest error of a unit.
        stem_error, head_error: the errors of the stem and of the head.
        packed_wrong: for a packed file, the number of parts (stem and units) that pass on bits or an average that do
            not match their own output. 0 for other files.
        bits_differing: percentage of the bits that differ from PyTorch's.
        max_logit_difference: largest absolute difference from PyTorch's logits.
        max_logit: largest absolute logit of PyTorch, as a scale for `max_logit_difference`.
        max_head_rounding: largest change of a logit by int8 weights in the head, for the same features. 0 if the
            weights are floats.
        top1_agreement: percentage of images on which the file and PyTorch choose the same class.
        images: number of images.
    """

    format: str
    runtime: str
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
        """Returns one sentence per result outside the limits. The list is empty if the file passes."""
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
            found.append(f"{self.packed_wrong} parts pass on bits or an average that do not match their output")
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
    """Compares an exported file with the network in PyTorch and with the inference graph in the reference.

    Args:
        model: the network.
        graph: `fold(model, ...)`.
        artifact: an `.onnx` or `.tflite` file that was made from the network.
        images: normalised images (N, channels, H, W), float32.
        batch: number of images to run at a time. The outputs of all units are held in memory for that many.
        progress: whether to show progress on stderr.

    Raises:
        UserError: the file is missing, unreadable, of another network, or its description contradicts the graph's.
    """
    check(len(images) > 0, "no images to verify with; name a folder that holds some")
    trace = open_trace(Path(artifact), graph)
    model = deepcopy(model).float().eval()
    comparison = _new_comparison(trace, graph)
    expected = replace(graph, head=with_int8_weights(graph.head)) if trace.int8_head else graph
    for part in _batches(images, batch, progress):
        torch_bits, torch_logits = _run_torch(model, part)
        run = trace.run(part)
        _compare_parts(comparison, expected, part, run)
        makers = [comparison.stem, *comparison.units]
        for unit, read, unit_bits, maker in zip(graph.units, run.inputs, torch_bits, makers):
            comparison.bits.compare(unit, read, unit_bits, maker)
        comparison.logits.compare(run.logits, torch_logits)
        if trace.int8_head:
            unrounded = reference.head(graph.head, run.features)
            change = rounding.largest_value(np.abs(run.logits - unrounded))
            comparison.max_head_rounding = max(comparison.max_head_rounding, change)
    return _parity(trace, comparison, images=len(images))


def _new_comparison(trace: Trace, graph: InferenceGraph) -> Comparison:
    # edgebnn's operators promise the reference's very floats (edgebnn/kernels/core/). In a packed file only three
    # parts may round: a stem of standard operators, a unit whose shortcut is a convolution, and the head.
    packed = trace.format == "onnx-packed"
    return Comparison(
        stem=PartResult(may_round=not trace.own_stem),
        units=[PartResult(may_round=not packed or unit.downsample is not None) for unit in graph.units],
        head=PartResult(may_round=True),
    )


def _compare_parts(comparison: Comparison, graph: InferenceGraph, images: np.ndarray, run: Run) -> None:
    """Compares each part of the file with the reference on the input that the part had in this run."""
    stem, head = graph.stem, graph.head
    comparison.stem.compare(run.stem.values, reference.stem(stem, images), rounding.stem_bound(stem, images))
    comparison.stem.compare_average(run.stem)
    for unit, read, made, result in zip(graph.units, run.inputs, run.units, comparison.units):
        x = read.values
        result.compare(made.values, reference.unit(unit, x), rounding.unit_bound(unit, x))
        result.compare_average(made)
    features = run.features
    comparison.head.compare(run.logits, reference.head(head, features), rounding.head_bound(head, features))


def _parity(trace: Trace, found: Comparison, *, images: int) -> Parity:
    unit_errors = [unit.error for unit in found.units]
    return Parity(
        format=trace.format,
        runtime=trace.runtime,
        int8_head=trace.int8_head,
        units=len(found.units),
        units_exact=sum(error <= 1 for error in unit_errors),
        units_identical=sum(unit.identical for unit in found.units),
        max_unit_error=max(unit_errors, default=0.0),
        stem_error=found.stem.error,
        head_error=found.head.error,
        packed_wrong=sum(part.passes_wrong for part in (found.stem, *found.units)),
        bits_differing=100 * found.bits.differing / max(found.bits.compared, 1),
        max_logit_difference=found.logits.max_difference,
        max_logit=found.logits.max_torch_logit,
        max_head_rounding=found.max_head_rounding,
        top1_agreement=100 * found.logits.agreed / images,
        images=images,
    )


def _run_torch(model: Network, images: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Returns the bits of every unit (+1 as True) and the logits, as PyTorch computes them."""
    bits: list[np.ndarray] = []
    hooks = [
        module.register_forward_hook(lambda _module, _inputs, output: bits.append((output > 0).numpy()))
        for module in model.modules()
        if isinstance(module, RSign | Sign)
    ]
    try:
        # PyTorch's own convolutions are used: otherwise edgebnn's kernels would be compared with themselves.
        with torch.inference_mode(), torch_convolutions():
            logits = model(torch.from_numpy(images)).numpy()
    finally:
        for hook in hooks:
            hook.remove()
    return bits, logits


def _batches(images: np.ndarray, size: int, progress: bool) -> Iterator[np.ndarray]:
    """Yields batches of images and shows the progress."""
    with progress_bar(len(images), "verifying", "image") if progress else nullcontext() as bar:
        for start in range(0, len(images), size):
            part = images[start : start + size]
            yield part
            if bar is not None:
                bar.update(len(part))
