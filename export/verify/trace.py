"""Exported files opened so that what passes between their parts can be read."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import ModelProto, TensorProto, helper

from edgebnn import runtime
from edgebnn.errors import UserError, check
from edgebnn.graph import InferenceGraph, ModelInfo, bits, ops
from edgebnn.runtime import kernels

from ..onnx.builder import INPUT, OUTPUT, stem_output_name, unit_output_name
from ..onnx.packed import IMAGE_OPERATOR, average_output_name, bits_output_name
from ..tflite import lce


@dataclass(frozen=True, eq=False)
class Run:
    """What a file gave for some images.

    Attributes:
        outputs: the stem's output and then every unit's, each (N, channels, H, W).
        logits: (N, outputs).
        bits: of a packed file, by the number of the unit that reads them, the bits (N, channels, H, W) it was given.
        averages: of a packed file, by the number of the unit that gives them, 2x2 averages of its output.
    """

    outputs: list[np.ndarray]
    logits: np.ndarray
    bits: dict[int, np.ndarray] = field(default_factory=dict)
    averages: dict[int, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Trace:
    """A file laid open.

    Attributes:
        format: "onnx", "onnx-packed", "lce" or "tflite".
        int8_head: whether its linear layers' weights are kept as int8.
        own_stem: whether its stem is an operator of ours, which gives the reference's very floats.
        run: normalised images (N, channels, H, W) -> what passed.
    """

    format: str
    int8_head: bool
    own_stem: bool
    run: Callable[[np.ndarray], Run]


def describe(path: Path) -> ModelInfo:
    """Returns what an artifact says of itself. Raises `UserError` if it is missing, unreadable, or says nothing."""
    return _load(path).info


def open_trace(path: Path, graph: InferenceGraph) -> Trace:
    """Opens an artifact of `graph`.

    Raises:
        UserError: the file is missing, unreadable, of another network, or describes itself otherwise.
    """
    loaded = _load(path)
    for name in ("resolution", "mean", "std", "labels"):
        said, meant = getattr(loaded.info, name), getattr(graph.info, name)
        check(said == meant, lambda: f"{path} says {name} {said}, the checkpoint {meant}; export it again")  # noqa: B023
    try:
        trace = _open_tflite(path, loaded.format) if loaded.runtime == "lce" else _open_onnx(path, graph, loaded)
        found = trace.run(np.zeros((1, *loaded.image_shape), np.float32))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    stem_and_units = ops.count(graph.shape, graph.info.resolution)[: len(graph.units) + 1]
    expected = [*(layer.output for layer in stem_and_units), (graph.outputs,)]
    shown = [output.shape[1:] for output in (*found.outputs, found.logits)]
    if shown != expected:
        stem, own = ("x".join(map(str, shapes[0])) for shapes in (shown, expected))
        about = f" (its stem gives {stem}, the checkpoint's {own})" if stem != own else ""
        raise UserError(f"{path} was made from another network{about}; export it again")
    return trace


def _load(path: Path) -> runtime.Model:
    # The runtime's own loader tries a damaged file where it can do no harm, and reads what the file says.
    loaded = runtime.load(path)
    check(loaded.described, f"{path} does not describe itself; give a file written by `python -m export`")
    return loaded


def _open_tflite(path: Path, format_: str) -> Trace:
    trace = lce.open_trace(path.read_bytes())
    return Trace(format_, False, False, lambda images: Run(*trace(images)))


def _open_onnx(path: Path, graph: InferenceGraph, loaded: runtime.Model) -> Trace:
    model = onnx.load(path)
    averages = _open_averages(model, len(graph.units))
    makers = {output: node for node in model.graph.node for output in node.output}
    names = [stem_output_name(), *(unit_output_name(number) for number in range(len(graph.units)))]
    packed = loaded.format == "onnx-packed"
    stem = makers[names[0]].op_type if names[0] in makers else ""
    own_stem = packed and stem == IMAGE_OPERATOR
    # Of the stem and every unit but the last, the operators that give the next unit its bits.
    gives = [own_stem, *(packed and unit.downsample is None for unit in graph.units)][: len(graph.units)]
    readers = [number for number, given in enumerate(gives) if given]
    packs = [bits_output_name(names[number]) for number in readers]
    missing = [name for name in [*names, *packs] if name not in makers]
    check(not missing, lambda: f"it has no {missing[0]} and was made from another network; export it again")
    channels_last = stem in ("Transpose", IMAGE_OPERATOR)
    session = _session(model, [*names, *averages.values()], packs, packed)

    def run(images: np.ndarray) -> Run:
        logits, *found = session.run([OUTPUT, *names, *packs, *averages.values()], {INPUT: images})
        if packed:  # as it runs untouched: units write over their inputs then, and some give averages alone
            logits = loaded.run(images)
        outputs, handed_on = found[: len(names)], found[len(names) : len(names) + len(packs)]
        averaged = dict(zip(averages, map(_channels_first, found[len(names) + len(packs) :])))
        if channels_last:
            outputs = [_channels_first(output) for output in outputs]
        # By the file's own channels, so that another network's file is refused as that.
        seen = {
            number: _channels_first(bits.unpack(each, outputs[number].shape[1]))
            for number, each in zip(readers, handed_on)
        }
        return Run(outputs, logits, seen, averaged)

    return Trace(loaded.format, _has_int8_head(model), own_stem, run)


def _open_averages(model: ModelProto, units: int) -> dict[int, str]:
    """Names of the averages that units give, by their numbers; those units are made to give what is averaged too."""
    averages = {number: average_output_name(number) for number in range(units)}
    makers = {output: node for node in model.graph.node for output in node.output}
    averages = {number: name for number, name in averages.items() if name in makers}
    for number, name in averages.items():
        if unit_output_name(number) not in makers:
            makers[name].output[0] = makers[name].output[0] or unit_output_name(number)
    return averages


def _session(model: ModelProto, names: list[str], packs: list[str], packed: bool) -> onnxruntime.InferenceSession:
    """`model` with further outputs: floats of these names, and packed bits of those."""
    for kind, outputs in ((TensorProto.FLOAT, names), (TensorProto.UINT8, packs)):
        model.graph.output.extend(helper.make_tensor_value_info(name, kind, None) for name in outputs)
    options = onnxruntime.SessionOptions()
    if packed:
        options.register_custom_ops_library(str(kernels.library_path()))
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _has_int8_head(model: ModelProto) -> bool:
    return any(
        tensor.name.startswith("head.") and tensor.data_type == TensorProto.INT8 for tensor in model.graph.initializer
    )


def _channels_first(value: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(value.transpose(0, 3, 1, 2))
