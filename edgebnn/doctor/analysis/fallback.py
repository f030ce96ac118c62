"""Why a convolution that could be binary is not."""

import numpy as np

from edgebnn.doctor.analysis.borders import whole
from edgebnn.doctor.analysis.levels import PADS, Levels, fill
from edgebnn.doctor.network import Network, Node

FEWEST_WEIGHTS = 8
"""An output's weights of which fewer than these are alike in size may be so by chance."""


def why(network: Network, node: Node, key: str, weight: np.ndarray | None, levels: Levels, *, integer: bool) -> str:
    """A key of `findings.FELL_BACK`, or "" for a convolution that should not be binary.

    Args:
        network: the file.
        node: a convolution that is not binary.
        key: of its weights.
        weight: their values, outputs first, if they are constant.
        levels: the few values of each tensor that has no more.
        integer: whether it is computed with whole numbers.
    """
    given = node.inputs[0]
    if weight is None:
        return "weights not constant" if sees_bits(given, levels) or key in levels else ""
    if not sees_bits(given, levels):
        return ""
    if node.kind == "DEPTHWISE_CONV_2D" or whole(node.attributes.get("group"), 1) > 1:
        return "channels"
    if not binary(weight):
        return "weights not binary"
    if integer:
        return "int8"
    return _why_in_tflite(network, node, weight, levels) if network.channels_last else "floats"


def sees_bits(key: str, levels: Levels) -> bool:
    """Whether a tensor holds bits, and perhaps the 0 of a border."""
    return bool(levels.get(key, frozenset()) - {0.0})


def binary(weight: np.ndarray) -> bool:
    """Whether all weights of an output (first axis) are of one size and none is 0."""
    each = np.abs(weight.reshape(len(weight), -1)) if weight.size else weight
    if weight.size == 0 or each.shape[1] < FEWEST_WEIGHTS:
        return False
    return bool(each.min() > 0 and np.allclose(each, each[:, :1], rtol=1e-5, atol=0))


def _why_in_tflite(network: Network, node: Node, weight: np.ndarray, levels: Levels) -> str:
    """Of a float convolution of bits by binary weights."""
    given = node.inputs[0]
    pad = network.makers.get(given)
    pad = pad if pad is not None and pad.kind in PADS else None
    made = network.makers.get(pad.inputs[0]) if pad is not None and pad.inputs else network.makers.get(given)
    if made is not None and made.kind == "SIGN" and 0.0 in levels.get(made.outputs[0], ()):
        return "tf.sign"
    tensor = network.tensors.get(given)
    if tensor is not None and tensor.shape and tensor.shape[-1] != weight.shape[-1]:
        return "channels"
    if network.format != "lce":
        return "floats"
    if pad is not None:
        return "explicit zero pad" if fill(network, pad) == 0 else "explicit pad"
    if node.attributes.get("same") and weight.ndim == 4 and weight.shape[1] > 1:
        return "activation" if node.attributes.get("activation") else "explicit zero pad"
    return "pattern"
