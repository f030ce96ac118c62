"""What is wrong with a file's convolutions, each finding with what to do."""

from collections.abc import Sequence

from edgebnn.doctor.analysis.convolutions import Convolution
from edgebnn.doctor.network import Network
from edgebnn.doctor.report import Finding, Severity

EXPORT = (
    "export it from its checkpoint with `python -m export onnx --packed`, or for ARM with `python -m export lce`; "
    "docs/reference/checkpoints.md says which checkpoints"
)

FELL_BACK: dict[str, tuple[str, str]] = {
    "tf.sign": (
        "convolutions see tf.sign, which gives 0 at 0 and is no quantiser to LCE's converter, so they run as floats",
        "write the quantiser as tf.where(x >= 0, 1.0, -1.0) and convert again",
    ),
    "explicit zero pad": (
        "binary convolutions behind an explicit zero pad run as floats: LCE fuses no such pad (its converter may have "
        "merged it into SAME since)",
        "leave the pad out and give the convolution padding='SAME', or pad the bits with +1; "
        "docs/reference/lce.md has stride 2",
    ),
    "explicit pad": (
        "binary convolutions behind an explicit pad run as floats: the pad does not lie where SAME would put it",
        "pad the bits with +1 where SAME pads: at stride 2 below and on the right alone; see docs/reference/lce.md",
    ),
    "weights not constant": (
        "convolutions take weights that operators compute, so they cannot be packed and run as floats",
        "freeze the weights: take the sign before exporting and store +1 and -1, or fold constants in the exporter",
    ),
    "weights not binary": (
        "convolutions see bits but have real-valued weights (of several sizes in one output, or with zeros)",
        "train step 2, where weights are binary too; a weight of 0 must become +1 or -1",
    ),
    "channels": (
        "binary convolutions with groups or one channel each run as floats",
        "use plain convolutions, with channels in multiples of 32; LCE packs channels into words of 32",
    ),
    "activation": (
        "binary convolutions with zero padding and a fused activation run as floats: LCE corrects zero padding only "
        "where none is fused",
        "train with padding 'one', or put the activation behind the shortcut's addition",
    ),
    "pattern": (
        "convolutions whose bits are packed and unpacked again run as floats: LCE's converter did not recognise them",
        "convert with larq-compute-engine 0.16 by `python -m export lce`, which checks every unit",
    ),
    "floats": (
        "convolutions of bits by binary weights run as floats: a binary network without its speed",
        EXPORT,
    ),
    "int8": (
        "convolutions of bits by binary weights run as products of int8: exact, and several times slower than bits",
        EXPORT,
    ),
}
"""Reasons of `Convolution.fell_back`: what was found, what to do."""

NOTES = {"int8"}
"""Of these, what is no problem: the file is right, and as fast as its runtime can be."""


def find(network: Network, convolutions: Sequence[Convolution], *, trained_in: str | None) -> list[Finding]:
    """Findings about convolutions.

    Args:
        network: the file.
        convolutions: its convolutions.
        trained_in: "pytorch" or "tensorflow": what a stride-2 convolution's SAME padding is right for; None where
            nobody says.
    """
    found = []
    for reason, (what, remedy) in FELL_BACK.items():
        names = tuple(each.name for each in convolutions if each.fell_back == reason)
        if names:
            severity: Severity = "note" if reason in NOTES else "problem"
            found.append(Finding(reason, severity, f"{len(names)} {what}", remedy, names))
    if trained_in != "tensorflow":
        found += _shifted(network, convolutions, told=trained_in is not None)
    found += _tiny_maps(network, convolutions)
    found += _unaligned(network, convolutions)
    found += _prelus(network)
    return found


def _shifted(network: Network, convolutions: Sequence[Convolution], *, told: bool) -> list[Finding]:
    """Convolutions that pad one side more, in a network that does not rotate its image first.

    `told` says that it was trained in PyTorch.
    """
    names = tuple(each.name for each in convolutions if each.lopsided and each.stride > 1)
    if not names or _rotates(network):
        return []
    # Untold, a binary network may well come from PyTorch, and be wrong in silence; most TFLite files do not.
    likely = told or any(each.kind == "binary" or each.fell_back for each in convolutions)
    severity: Severity = "problem" if network.channels_last and likely else "note"
    what = (
        f"{len(names)} strided convolutions pad one side more than the other (SAME): right if it was trained so, in "
        "TensorFlow; trained in PyTorch with padding=1 all around, their outputs are shifted by a pixel, and no "
        "converter says so"
    )
    remedy = (
        "if it was trained in TensorFlow, give --trained-in tensorflow; if in PyTorch, export with `python -m export "
        "lce` or `tflite`, which rotate the image so that it fits"
    )
    return [Finding("shifted stride 2", severity, what, remedy, names)]


def _rotates(network: Network) -> bool:
    """Whether the image's height and width are reversed before anything else: the exporters' way to be exact."""
    for node in network.nodes:
        axes = network.constant(node, 1)
        if node.kind == "REVERSE_V2" and node.inputs[0] in network.inputs and axes is not None:
            return {1, 2} <= set(axes.reshape(-1).tolist())
    return False


def _tiny_maps(network: Network, convolutions: Sequence[Convolution]) -> list[Finding]:
    if network.format != "lce":
        return []
    names = tuple(
        each.name
        for each in convolutions
        if each.kind == "binary" and each.padding.startswith("zero") and each.side and each.side < each.kernel
    )
    what = f"{len(names)} binary convolutions pad maps smaller than their kernel with zeros: wrong in LCE 0.16"
    remedy = "export with `python -m export lce`, which writes them as dense layers, or train with padding 'one'"
    return [Finding("tiny map", "problem", what, remedy, names)] if names else []


def _unaligned(network: Network, convolutions: Sequence[Convolution]) -> list[Finding]:
    word = 32 if network.format == "lce" else 8
    names = tuple(
        f"{each.name} ({each.inputs})" for each in convolutions if each.kind == "binary" and each.inputs % word
    )
    what = f"{len(names)} binary convolutions have input channels that fill no whole words of {word} bits"
    remedy = f"use channels in multiples of {word}: the rest of the last word is stored and counted for nothing"
    return [Finding("unaligned channels", "note", what, remedy, names)] if names else []


def _prelus(network: Network) -> list[Finding]:
    """relu(x) - slope * relu(-x), left as it was written."""
    names = tuple(
        node.name
        for node in network.nodes
        if node.kind in ("NEG", "Neg")
        and any(user.kind in ("RELU", "Relu") for key in node.outputs for user in network.users.get(key, []))
    )
    what = f"{len(names)} PReLUs are five operators each: TFLite's converter made no PRELU of them"
    remedy = "give the slope the shape (1, 1, channels), not (channels,), or use one PReLU operator"
    return [Finding("PReLU", "note", what, remedy, names)] if names else []
