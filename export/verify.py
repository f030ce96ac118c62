"""Is an exported file the network it was made from?

Three questions, asked of the file itself as it runs in its runtime:

    units     Given the same input, does every unit give what the reference gives? The file is run with
              every unit's output laid open; each is compared with `edgebnn.graph.reference` on the
              unit's input in that same run, so that no error hides behind an earlier one.
    bits      How many of the bits the units see differ from PyTorch's? Runtimes add floats in different
              orders, a value at a threshold can fall on the other side, and the flip can spread.
    answers   How far do the logits differ, and how often is the first class the same?
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper
from tqdm import tqdm

from edgebnn.errors import UserError, check
from edgebnn.files import existing_file
from edgebnn.graph import InferenceGraph, reference
from edgebnn.nn import ReActNet, RSign
from export import lce, tflite_file
from export.onnx import INPUT, OUTPUT, stem_output_name, unit_output_name

Trace = Callable[[np.ndarray], tuple[list[np.ndarray], np.ndarray]]
"""Images (N, channels, H, W) -> the stem's and every unit's output, and the logits."""


@dataclass(frozen=True)
class Limits:
    """What a verification must keep to, besides every unit being exact.

    Attributes:
        bits_differing: percent of bits, over all units and images, that may differ from PyTorch's.
        top1_agreement: percent of images whose first class must be PyTorch's.
    """

    bits_differing: float = 1.0
    top1_agreement: float = 99.0


@dataclass(frozen=True)
class Parity:
    """What was found.

    Attributes:
        units: number of units.
        units_exact: units whose every accumulator equals the reference's on every image: no output
            differs by more than the rounding of its last few float operations explains.
        units_identical: units equal to the reference bit for bit on every image.
        max_unit_error: largest difference of any unit's output, as a share of that rounding; up to 1 is exact.
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
    bits_differing: float
    max_logit_difference: float
    max_logit: float
    top1_agreement: float
    images: int

    def failures(self, limits: Limits) -> list[str]:
        """What is outside the limits, in words; empty when all is well."""
        found = []
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
        model: the network, in eval mode.
        graph: `fold(model, ...)`.
        artifact: an `.onnx` or `.tflite` file made from it.
        images: normalised images (N, channels, H, W), float32.
        batch: images run at a time; the outputs of all units are held for that many.
        progress: whether to show a progress bar.

    Raises:
        UserError: the artifact is missing, unreadable, or of another network.
    """
    check(len(images) > 0, "no images to verify with; name a folder that holds some")
    trace = open_trace(artifact, len(graph.units))
    model = model.float().eval()
    errors = np.zeros(len(graph.units))
    identical = np.ones(len(graph.units), bool)
    flipped = seen = agreed = 0
    logit_difference = max_logit = 0.0
    for part in _batches(images, batch, progress):
        bits, expected = _run_torch(model, part)
        outputs, logits = trace(part)
        check(logits.shape == expected.shape, f"{artifact} gives {logits.shape[1]} outputs, not {expected.shape[1]}")
        for number, unit in enumerate(graph.units):
            x, y = outputs[number], outputs[number + 1]
            check(x.shape[1] == unit.shape.in_channels, f"{artifact} was made from another network; export it again")
            wanted = reference.unit(unit, x)
            identical[number] &= np.array_equal(wanted, y)
            error = float((np.abs(wanted - y) / lce.rounding_bound(unit, x)).max())
            # A NaN is as large an error as there is, not one that compares as small.
            errors[number] = max(errors[number], error if np.isfinite(error) else np.finfo(np.float32).max)
            if unit.binary_input:
                flipped += int(np.count_nonzero((x >= unit.threshold[:, None, None]) != bits[number]))
                seen += x.size
        agreed += int((logits.argmax(1) == expected.argmax(1)).sum())
        logit_difference = max(logit_difference, float(np.abs(logits - expected).max()))
        max_logit = max(max_logit, float(np.abs(expected).max()))
    return Parity(
        units=len(graph.units),
        units_exact=int((errors <= 1).sum()),
        units_identical=int(identical.sum()),
        max_unit_error=float(errors.max(initial=0)),
        bits_differing=100 * flipped / max(seen, 1),
        max_logit_difference=logit_difference,
        max_logit=max_logit,
        top1_agreement=100 * agreed / len(images),
        images=len(images),
    )


def open_trace(artifact: str | Path, units: int) -> Trace:
    """Opens an artifact so that the outputs of its stem and its `units` units can be read.

    Raises:
        UserError: the file is missing, unreadable, or has not that many units.
    """
    path = existing_file(artifact, "artifact")
    if path.suffix == ".onnx":
        return _trace_onnx(path, units)
    if path.suffix == ".tflite":
        return _trace_tflite(path, units)
    raise UserError(f"{path} is neither .onnx nor .tflite; give a file written by `python -m export`")


def _trace_onnx(path: Path, units: int) -> Trace:
    try:
        model = onnx.load(path)
        names = [stem_output_name(), *(unit_output_name(number) for number in range(units))]
        made = {output for node in model.graph.node for output in node.output}
        missing = [name for name in names if name not in made]
        check(not missing, lambda: f"{path} has no tensor {missing[0]}; it was made from another network")
        model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    except UserError:
        raise
    except Exception as error:  # protobuf and onnxruntime raise types of their own, which they do not export
        raise UserError(
            f"{path} is no ONNX model that runs here ({str(error).splitlines()[0]}); export it again"
        ) from None

    def trace(images: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        logits, *outputs = session.run([OUTPUT, *names], {INPUT: images})
        return outputs, logits

    return trace


def _trace_tflite(path: Path, units: int) -> Trace:
    data = path.read_bytes()
    try:
        found = tflite_file.count_operators(data).get("PRELU", 0)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    check(found == units, f"{path} has {found} units, not {units}; it was made from another network")

    def trace(images: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        return lce.trace(data, images)

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
