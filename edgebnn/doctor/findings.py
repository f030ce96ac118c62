"""Finds what is wrong with a file's convolutions. Each finding has a remedy."""

from collections.abc import Sequence

from edgebnn.doctor.analysis.convolutions import Convolution
from edgebnn.doctor.file_graph import BIPOLAR, FileGraph
from edgebnn.doctor.report import Finding, Severity

EXPORT = (
    "export it from its checkpoint with `python -m export onnx --packed`, or for ARM with `python -m export lce`; "
    "docs/reference/checkpoints.md lists the supported checkpoints"
)

FELL_BACK: dict[str, tuple[str, str]] = {
    "tf.sign": (
        "convolutions read the output of tf.sign and run in floats: tf.sign returns 0 at 0, and LCE's converter "
        "does not recognise it as a quantiser",
        "write the quantiser as tf.where(x >= 0, 1.0, -1.0) and convert again",
    ),
    "explicit zero pad": (
        "binary convolutions after an explicit zero pad run in floats: LCE does not fuse such a pad (its converter may "
        "have merged the pad into SAME afterwards)",
        "remove the pad and give the convolution padding='SAME', or pad the bits with +1; for stride 2 see "
        "docs/reference/lce.md",
    ),
    "explicit pad": (
        "binary convolutions after an explicit pad run in floats: the pad is not where SAME would put it",
        "pad the bits with +1 where SAME pads (at stride 2 only below and on the right); see docs/reference/lce.md",
    ),
    "weights not constant": (
        "convolutions have weights that operators compute, so the weights cannot be packed and the convolutions run in "
        "floats",
        "store the weights as constants: apply the sign before exporting and store +1 and -1, or let the exporter fold "
        "constants",
    ),
    "weights not binary": (
        "convolutions read bits but have real-valued weights (several magnitudes in one output channel, or zeros)",
        "train stage 2, in which weights are binary too; a weight of 0 must become +1 or -1",
    ),
    "channels": (
        "binary convolutions that are grouped or depthwise run in floats",
        "use convolutions without groups, with channels in multiples of 32; LCE packs 32 channels into one word",
    ),
    "activation": (
        "binary convolutions with zero padding and a fused activation run in floats: LCE corrects zero padding only "
        "without a fused activation",
        "train with padding 'one', or put the activation after the addition of the shortcut",
    ),
    "between": (
        "binary convolutions run in floats, because operators lie between the quantiser and the convolution: LCE looks "
        "for the quantiser directly before it",
        "move these operators before the quantiser, so that the convolution reads the quantiser's output: moving and "
        "selecting values (max pool, transpose, reshape, slice, ...) and taking signs give the same in either order",
    ),
    "kernel": (
        "binary convolutions with a non-square kernel run in floats: edgebnn's operators have kernels of 1x1 and 3x3",
        "use a 3x3 or 1x1 kernel and train again, or convert the network with LCE for ARM",
    ),
    "dense": (
        "linear layers of bits by binary weights run as floats, and their binary weights take 32 times their bits: "
        "neither LCE nor ONNX Runtime has a binary dense layer",
        "write the layer as a 1x1 convolution of a 1x1 map, which can be packed, or store its weights as int8",
    ),
    "pattern": (
        "convolutions whose bits are packed and then unpacked run in floats: LCE's converter did not recognise them",
        "convert with `python -m export lce` and larq-compute-engine 0.16; the command checks every unit",
    ),
    "floats": (
        "convolutions of bits and binary weights run in floats: a binary network without its speed",
        EXPORT,
    ),
    "int8": (
        "convolutions of bits and binary weights run as int8 products: exact, and several times slower than bits",
        EXPORT,
    ),
}
"""For each reason in `Convolution.fell_back`: what was found, and the remedy."""

NOTES = {"int8"}
"""The reasons that are no problem: the file is right, and as fast as its runtime can run it."""


def find_convolution_problems(
    graph: FileGraph, convolutions: Sequence[Convolution], *, trained_in: str | None
) -> list[Finding]:
    """Returns the findings about a file's convolutions.

    Args:
        graph: the file.
        convolutions: its convolutions.
        trained_in: "pytorch" or "tensorflow", or None if it is not known. SAME padding at stride 2 is right for
            networks that were trained in TensorFlow.
    """
    found = []
    for reason, (what, remedy) in FELL_BACK.items():
        names = tuple(
            f"{each.name} (after {each.between})" if each.between else each.name
            for each in convolutions
            if each.fell_back == reason
        )
        if names:
            severity: Severity = "note" if reason in NOTES else "problem"
            found.append(Finding(reason, severity, f"{len(names)} {what}", remedy, names))
    if trained_in != "tensorflow":
        found += _find_shifted(graph, convolutions, pytorch=trained_in == "pytorch")
    found += _find_tiny_maps(graph, convolutions)
    found += _find_unaligned_channels(graph, convolutions)
    found += _find_split_prelus(graph)
    found += _find_bipolar(graph)
    return found


def _find_shifted(graph: FileGraph, convolutions: Sequence[Convolution], *, pytorch: bool) -> list[Finding]:
    """Finds strided convolutions that pad one side more, in a network that does not rotate its image first.

    Args:
        graph: the file.
        convolutions: its convolutions.
        pytorch: whether the user said that the network was trained in PyTorch.
    """
    names = tuple(each.name for each in convolutions if each.lopsided and each.stride > 1)
    if not names or _rotates_image(graph):
        return []
    # A binary network may well come from PyTorch, and the error would be silent. Most other TFLite files do not.
    likely = pytorch or any(each.kind == "binary" or each.fell_back for each in convolutions)
    severity: Severity = "problem" if graph.channels_last and likely else "note"
    what = (
        f"{len(names)} strided convolutions pad one side more than the other (SAME): right for a network trained in "
        "TensorFlow, but shifted by a pixel for one trained in PyTorch with padding=1, and no converter reports it"
    )
    remedy = (
        "if it was trained in TensorFlow, give --trained-in tensorflow; if in PyTorch, export it with `python -m "
        "export lce` or `tflite`, which rotate the image so that the padding is right"
    )
    return [Finding("shifted stride 2", severity, what, remedy, names)]


def _rotates_image(graph: FileGraph) -> bool:
    """Returns whether the image is first reversed in height and width, as edgebnn's exporters do to be exact."""
    for node in graph.nodes:
        axes = graph.constant(node, 1)
        if node.kind == "REVERSE_V2" and node.inputs[0] in graph.inputs and axes is not None:
            return {1, 2} <= set(axes.reshape(-1).tolist())
    return False


def _find_tiny_maps(graph: FileGraph, convolutions: Sequence[Convolution]) -> list[Finding]:
    if graph.format != "lce":
        return []
    names = tuple(
        each.name
        for each in convolutions
        if each.kind == "binary" and each.padding.startswith("zero") and each.side and each.side < each.kernel
    )
    what = f"{len(names)} binary convolutions pad maps smaller than their kernel with zeros: LCE 0.16 errs there"
    remedy = "export it with `python -m export lce`, which writes them as dense layers, or train with padding 'one'"
    return [Finding("tiny map", "problem", what, remedy, names)] if names else []


def _find_unaligned_channels(graph: FileGraph, convolutions: Sequence[Convolution]) -> list[Finding]:
    word = 32 if graph.format == "lce" else 8
    names = tuple(
        f"{each.name} ({each.inputs})" for each in convolutions if each.kind == "binary" and each.inputs % word
    )
    what = f"{len(names)} binary convolutions have input channels that do not fill whole words of {word} bits"
    remedy = f"use channels in multiples of {word}; the unused bits of the last word take space and time"
    return [Finding("unaligned channels", "note", what, remedy, names)] if names else []


def _find_bipolar(graph: FileGraph) -> list[Finding]:
    names = tuple(node.name for node in graph.nodes if node.kind == BIPOLAR)
    what = f"{len(names)} BipolarQuant operators are QONNX's, which ONNX Runtime does not run"
    remedy = (
        "write each as scale * Where(x >= 0, 1, -1), or compile the file with FINN; the doctor examines it without "
        "shapes, so its work is not counted"
    )
    return [Finding("QONNX", "problem", what, remedy, names)] if names else []


def _find_split_prelus(graph: FileGraph) -> list[Finding]:
    """Finds PReLUs that are still written as relu(x) - slope * relu(-x)."""
    names = tuple(
        node.name
        for node in graph.nodes
        if node.kind in ("NEG", "Neg")
        and any(user.kind in ("RELU", "Relu") for key in node.outputs for user in graph.users.get(key, []))
    )
    what = f"{len(names)} PReLUs are five operators each: TFLite's converter did not merge them into one PRELU"
    remedy = "give the slope the shape (1, 1, channels) instead of (channels,), or use one PReLU operator"
    return [Finding("PReLU", "note", what, remedy, names)] if names else []
