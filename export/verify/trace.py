"""Runs an exported file so that the output of every part can be read: the stem, each unit, the head."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import ModelProto, NodeProto, TensorProto, helper

from edgebnn import runtime
from edgebnn.errors import UserError, check
from edgebnn.files import existing_file
from edgebnn.graph import InferenceGraph, ModelInfo, bits, ops
from edgebnn.graph.info import METADATA_KEY
from edgebnn.optional import LCE_PACKAGE
from edgebnn.runtime import kernels
from edgebnn.runtime.formats import tflite as tflite_format
from edgebnn.runtime.lce import LCE_PREFIX

from ..onnx.builder import INPUT, OUTPUT, stem_output_name, unit_output_name
from ..onnx.packed import IMAGE_OPERATOR, average_output_name, bits_output_name
from ..tflite.interpreter import open_interpreter

UNDESCRIBED = "{} does not describe itself; give a file written by `python -m export`"


@dataclass(frozen=True, eq=False)
class PartOutput:
    """The output of the stem or of one unit for some images.

    Attributes:
        values: (N, channels, H, W), float32.
        bits: (N, channels, H, W), booleans: the bits that the part packed for the next unit. None if the part packs
            no bits; only parts of a packed file do.
        average: (N, channels, H / 2, W / 2): the 2x2 average that the part passes to a next unit that pools. None if
            it passes no average.
    """

    values: np.ndarray
    bits: np.ndarray | None = None
    average: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Run:
    """The outputs of all parts of a file for some images.

    Attributes:
        stem: the stem's output. The first unit reads it.
        units: the output of each unit. The next unit reads it, and the head reads the last one.
        logits: (N, outputs).
    """

    stem: PartOutput
    units: list[PartOutput]
    logits: np.ndarray

    @property
    def inputs(self) -> list[PartOutput]:
        """The input of each unit: the stem's output, then the output of each unit but the last."""
        return [self.stem, *self.units][: len(self.units)]

    @property
    def features(self) -> np.ndarray:
        """The map (N, channels, H, W) that the head reads."""
        return (self.units[-1] if self.units else self.stem).values


@dataclass(frozen=True, eq=False)
class Trace:
    """An exported file that is ready to run with all outputs readable.

    Attributes:
        format: "onnx", "onnx-packed", "lce" or "tflite".
        runtime: what runs the file: "onnxruntime", "lce", "litert", or "numpy", a model of LCE's arithmetic.
        int8_head: whether the file stores the weights of its linear layers as int8.
        own_stem: whether the stem is edgebnn's operator `ImageConv`, whose floats equal the reference's bit for bit.
        run: runs the file on normalised images (N, channels, H, W).
    """

    format: str
    runtime: str
    int8_head: bool
    own_stem: bool
    run: Callable[[np.ndarray], Run]


@dataclass(frozen=True)
class _PartTensors:
    """The names of the tensors that hold a part's output in an ONNX file; "" for a tensor that it does not have."""

    values: str
    bits: str = ""
    average: str = ""


def read_info(path: Path) -> ModelInfo:
    """Returns an exported file's description of itself.

    Raises:
        UserError: the file is missing, unreadable, or has no description.
    """
    return _describe(path).info


def open_trace(path: Path, graph: InferenceGraph) -> Trace:
    """Opens an exported file of `graph`.

    Raises:
        UserError: the file is missing, unreadable, of another network, or its description contradicts the graph's.
    """
    described = _describe(path)
    for name in ("resolution", "mean", "std", "labels"):
        said, meant = getattr(described.info, name), getattr(graph.info, name)
        check(said == meant, lambda: f"{path} says {name} {said}, the checkpoint {meant}; export it again")  # noqa: B023
    try:
        if described.model is None or described.model.runtime != "onnxruntime":
            trace = _open_tflite(path, described.format)
        else:
            trace = _open_onnx(path, graph, described.model)
        found = trace.run(np.zeros((1, *described.image_shape), np.float32))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    stem_and_units = ops.count(graph.shape, graph.info.resolution)[: len(graph.units) + 1]
    expected = [*(layer.output for layer in stem_and_units), (graph.outputs,)]
    shown = [array.shape[1:] for array in (*(part.values for part in (found.stem, *found.units)), found.logits)]
    if shown != expected:
        stem, own = ("x".join(map(str, shapes[0])) for shapes in (shown, expected))
        about = f" (its stem gives {stem}, the checkpoint's {own})" if stem != own else ""
        raise UserError(f"{path} was made from another network{about}; export it again")
    return trace


@dataclass(frozen=True, eq=False)
class _Described:
    """What an exported file says of itself.

    Attributes:
        info: its name, resolution, normalisation and labels.
        format: "onnx", "onnx-packed", "lce" or "tflite".
        image_shape: channels, height and width.
        model: the file in its runtime; None for an LCE file where LCE is not installed.
    """

    info: ModelInfo
    format: str
    image_shape: tuple[int, int, int]
    model: runtime.Model | None


def _describe(path: Path) -> _Described:
    if _needs_missing_lce(path):
        text = tflite_format.read_metadata(path.read_bytes(), METADATA_KEY, f"model {path}")
        if text is None:
            raise UserError(UNDESCRIBED.format(path))
        info = ModelInfo.from_json(str(text, "utf-8", "replace"))
        return _Described(info, "lce", (len(info.mean), info.resolution, info.resolution), None)
    # The runtime's loader first tries the file in a process of its own, where a damaged file can do no harm.
    loaded = runtime.load_model(path)
    check(loaded.described, UNDESCRIBED.format(path))
    return _Described(loaded.info, loaded.format, loaded.image_shape, loaded)


def _needs_missing_lce(path: Path) -> bool:
    if path.suffix.lower() != ".tflite" or not LCE_PACKAGE.missing():
        return False
    existing_file(path, "model")
    kinds = tflite_format.custom_operators(tflite_format.read_tflite_file(path), f"model {path}")
    return any(kind.startswith(LCE_PREFIX) for kind in kinds)


def _open_tflite(path: Path, format_: str) -> Trace:
    opened = open_interpreter(path.read_bytes())

    def run(images: np.ndarray) -> Run:
        (stem, *units), logits = opened.run(images)
        return Run(PartOutput(stem), [PartOutput(values) for values in units], logits)

    return Trace(format_, opened.runtime, int8_head=False, own_stem=False, run=run)


def _open_onnx(path: Path, graph: InferenceGraph, loaded: runtime.Model) -> Trace:
    model = onnx.load(path)
    packed = loaded.format == "onnx-packed"
    makers = _makers(model)
    stem_name = stem_output_name()
    stem_operator = makers[stem_name].op_type if stem_name in makers else ""
    own_stem = packed and stem_operator == IMAGE_OPERATOR
    parts = _name_tensors(graph, makers, packed=packed, own_stem=own_stem)
    _expose_averaged_values(parts, makers)
    wanted = [*(part.values for part in parts), *(part.bits for part in parts if part.bits)]
    made = _makers(model)
    missing = [name for name in wanted if name not in made]
    check(not missing, lambda: f"it has no {missing[0]} and was made from another network; export it again")
    session = _open_session(model, parts, packed=packed)
    channels_last = stem_operator in ("Transpose", IMAGE_OPERATOR)

    def run(images: np.ndarray) -> Run:
        names = [output.name for output in session.get_outputs()]
        found = dict(zip(names, session.run(names, {INPUT: images})))
        stem, *units = (_read_output(part, found, channels_last=channels_last) for part in parts)
        # The added outputs change how a packed file runs: without them units write over their inputs, and some write
        # averages alone. So the logits come from the file as it is.
        return Run(stem, units, loaded.run(images) if packed else found[OUTPUT])

    return Trace(loaded.format, "onnxruntime", _has_int8_head(model), own_stem, run)


def _makers(model: ModelProto) -> dict[str, NodeProto]:
    """Returns the node that computes each tensor, by the tensor's name."""
    return {output: node for node in model.graph.node for output in node.output}


def _name_tensors(
    graph: InferenceGraph, makers: dict[str, NodeProto], *, packed: bool, own_stem: bool
) -> list[_PartTensors]:
    """Returns the names of the output tensors of the stem and of each unit."""
    names = [stem_output_name(), *(unit_output_name(number) for number in range(len(graph.units)))]
    averages = ["", *(average_output_name(number) for number in range(len(graph.units)))]
    own_operator = [own_stem, *(packed and unit.downsample is None for unit in graph.units)]
    # No unit follows the last one, so it packs no bits.
    packs_bits = [*own_operator[: len(graph.units)], False]
    return [
        _PartTensors(name, bits_output_name(name) if packs else "", average if average in makers else "")
        for name, average, packs in zip(names, averages, packs_bits)
    ]


def _expose_averaged_values(parts: list[_PartTensors], makers: dict[str, NodeProto]) -> None:
    """Makes the units that write an average alone write the averaged values too."""
    for part in parts:
        if part.average and part.values not in makers:
            outputs = makers[part.average].output
            outputs[0] = outputs[0] or part.values


def _open_session(model: ModelProto, parts: list[_PartTensors], *, packed: bool) -> onnxruntime.InferenceSession:
    """Returns a session of `model` that has the tensors of all parts as further outputs."""
    for part in parts:
        tensors = (
            (part.values, TensorProto.FLOAT),
            (part.bits, TensorProto.UINT8),
            (part.average, TensorProto.FLOAT),
        )
        model.graph.output.extend(helper.make_tensor_value_info(name, kind, None) for name, kind in tensors if name)
    options = onnxruntime.SessionOptions()
    if packed:
        options.register_custom_ops_library(str(kernels.library_path()))
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _read_output(part: _PartTensors, found: dict[str, np.ndarray], *, channels_last: bool) -> PartOutput:
    values = found[part.values]
    if channels_last:
        values = _channels_first(values)
    # The number of channels is the file's own. A file of another network is then refused for its shapes, not its bits.
    packed = bits.unpack(found[part.bits], values.shape[1]) if part.bits else None
    return PartOutput(
        values,
        bits=None if packed is None else _channels_first(packed),
        average=_channels_first(found[part.average]) if part.average else None,
    )


def _has_int8_head(model: ModelProto) -> bool:
    return any(
        tensor.name.startswith("head.") and tensor.data_type == TensorProto.INT8 for tensor in model.graph.initializer
    )


def _channels_first(value: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(value.transpose(0, 3, 1, 2))
