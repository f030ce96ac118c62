"""Is an exported file the network it was made from?

Four questions, asked of the file itself as it runs in its runtime:

    parts     Given the same input, do the stem, every unit and the head give what the reference gives? The
              file is run with every unit's output laid open; each part is compared with
              `edgebnn.graph.reference` on its input in that same run, so no error hides behind another.
    bits      How many of the bits the units see differ from PyTorch's? Runtimes add floats in different
              orders, a value at a threshold can fall on the other side, and the flip can spread.
    answers   How far do the logits differ, and how often is the first class the same?
    words     Does the file say the same of its resolution, normalisation and classes?
"""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper
from tqdm import tqdm

from edgebnn import runtime
from edgebnn.errors import UserError, check
from edgebnn.graph import InferenceGraph, reference
from edgebnn.nn import ReActNet, RSign
from export import lce, rounding
from export.onnx import INPUT, OUTPUT, stem_output_name, unit_output_name

Trace = Callable[[np.ndarray], tuple[list[np.ndarray], np.ndarray]]
"""Images (N, channels, H, W) -> the stem's and every unit's output, and the logits."""


@dataclass(frozen=True)
class Limits:
    """What a verification must keep to, besides every part being exact.

    Attributes:
        bits_differing: percent of bits, over all units and images, that may differ from PyTorch's.
        top1_agreement: percent of images whose first class must be PyTorch's.
    """

    bits_differing: float = 1.0
    top1_agreement: float = 99.0


@dataclass(frozen=True)
class Parity:
    """What was found.

    Errors are the largest difference of a part's output from the reference's, as a share of what rounding
    explains (`export.rounding`): up to 1, the part computes exactly the same.

    Attributes:
        units: number of units.
        units_exact: units whose error is at most 1 on every image.
        units_identical: units equal to the reference bit for bit on every image.
        max_unit_error: the largest error of a unit.
        stem_error, head_error: of the other two parts.
        bits_differing: percent.
        max_logit_difference: absolute.
        max_logit: largest PyTorch logit, to read the difference by.
        top1_agreement: percent of images.
        images: number of images.
    """

    units: int
    units_exact: int
    units_identical: int
    max_unit_error: float
    stem_error: float
    head_error: float
    bits_differing: float
    max_logit_difference: float
    max_logit: float
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
        if self.bits_differing > limits.bits_differing:
            found.append(f"{self.bits_differing:.3f}% of the bits differ, limit {limits.bits_differing:g}%")
        if self.top1_agreement < limits.top1_agreement:
            found.append(f"top-1 agrees on {self.top1_agreement:.2f}% of images, limit {limits.top1_agreement:g}%")
        return found


def verify(
    model: ReActNet,
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
    model = deepcopy(model).float().eval()
    parts = len(graph.units) + 2
    errors, identical = np.zeros(parts), np.ones(parts, bool)
    flipped = seen = agreed = 0
    logit_difference = max_logit = 0.0
    for part in _batches(images, batch, progress):
        bits, expected = _run_torch(model, part)
        outputs, logits = trace(part)
        for number, (found, wanted, bound) in enumerate(_parts(graph, part, outputs, logits)):
            identical[number] &= np.array_equal(found, wanted)
            errors[number] = max(errors[number], rounding.share(found, wanted, bound))
        for unit, x, torch_bits in zip(graph.units, outputs, bits):
            if unit.binary_input:
                flipped += int(np.count_nonzero((x >= unit.threshold[:, None, None]) != torch_bits))
                seen += x.size
        agreed += int((logits.argmax(1) == expected.argmax(1)).sum())
        logit_difference = max(logit_difference, rounding.largest(np.abs(logits - expected)))
        max_logit = max(max_logit, float(np.abs(expected).max()))
    stem_error, *unit_errors, head_error = errors.tolist()
    return Parity(
        units=len(graph.units),
        units_exact=sum(error <= 1 for error in unit_errors),
        units_identical=int(identical[1:-1].sum()),
        max_unit_error=max(unit_errors, default=0.0),
        stem_error=stem_error,
        head_error=head_error,
        bits_differing=100 * flipped / max(seen, 1),
        max_logit_difference=logit_difference,
        max_logit=max_logit,
        top1_agreement=100 * agreed / len(images),
        images=len(images),
    )


def _parts(
    graph: InferenceGraph, images: np.ndarray, outputs: list[np.ndarray], logits: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Of the stem, each unit and the head: the file's output, the reference's on the same input, the bound."""
    yield outputs[0], reference.stem(graph.stem, images), rounding.of_stem(graph.stem, images)
    for unit, x, y in zip(graph.units, outputs, outputs[1:]):
        yield y, reference.unit(unit, x), rounding.of_unit(unit, x)
    yield logits, reference.head(graph.head, outputs[-1]), rounding.of_head(graph.head, outputs[-1])


def open_trace(path: Path, graph: InferenceGraph) -> Trace:
    """Opens an artifact of `graph` so that the outputs of its stem and its units can be read.

    Raises:
        UserError: the file is missing, unreadable, of another network, or describes itself otherwise.
    """
    # The runtime's own loader tries a damaged file where it can do no harm, and reads what the file says.
    loaded = runtime.load(path)
    check(loaded.described, f"{path} does not describe itself; give a file written by `python -m export`")
    for field in ("resolution", "mean", "std", "labels"):
        said, meant = getattr(loaded.info, field), getattr(graph.info, field)
        check(said == meant, lambda: f"{path} says {field} {said}, the checkpoint {meant}; export it again")  # noqa: B023
    try:
        trace = _trace_onnx(path, len(graph.units)) if loaded.format == "onnx" else lce.open_trace(path.read_bytes())
        outputs, logits = trace(np.zeros((1, *loaded.image_shape), np.float32))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    found = [output.shape[1] for output in outputs] + [logits.shape[1]]
    channels = [graph.shape.stem_channels, *(unit.shape.out_channels for unit in graph.units), graph.outputs]
    check(found == channels, f"{path} was made from another network; export it again")
    return trace


def _trace_onnx(path: Path, units: int) -> Trace:
    model = onnx.load(path)
    names = [stem_output_name(), *(unit_output_name(number) for number in range(units))]
    made = {output for node in model.graph.node for output in node.output}
    missing = [name for name in names if name not in made]
    check(not missing, lambda: f"it has no {missing[0]} and was made from another network; export it again")
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    def trace(images: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        logits, *outputs = session.run([OUTPUT, *names], {INPUT: images})
        return outputs, logits

    return trace


def _run_torch(model: ReActNet, images: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Every unit's bits (+1 as True) and the logits, as PyTorch computes them."""
    bits: list[np.ndarray] = []
    hooks = [
        module.register_forward_hook(lambda _module, _inputs, output: bits.append((output > 0).numpy()))
        for module in model.modules()
        if isinstance(module, RSign)
    ]
    try:
        with torch.inference_mode():
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
