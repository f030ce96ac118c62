"""Folds a trained network into its inference graph. Shifts, BatchNorms and weight scales disappear.

The trained network computes, for the unit with sign shift s, weights alpha * sign(W), BatchNorm
(gamma, beta, mean, var, eps), and RPReLU shifts p (before) and q (after):

    out = PReLU(BN(alpha * conv(sign(x + s), sign(W))) + shortcut(x) + p) + q

In the inference graph every unit passes on its output without q. So a unit reads x' = x - c, where c is the q of the
previous unit. The stem passes on its output with the first unit's s added, so c = -s. The first unit then compares with
0, and LCE needs no subtraction for it. A shortcut is linear, so shortcut(x) = shortcut(x') + shortcut(c). With
g = gamma / sqrt(var + eps) the graph's constants are:

    threshold = -(s + c)                              x + s >= 0  <=>  x' >= -(s + c)
    scale     = alpha * g                             a negative gain makes a negative scale
    bias      = beta - mean * g + p + shortcut(c)
    slope     = the PReLU's
    c         = q

If the shortcut is an average pool, a 1x1 convolution V and a BatchNorm with gain h, then its weights become V * h, its
bias is added to the unit's bias, and shortcut(c) is (V * h) c. Bi-Real-Net has no modules for s, p and q, so they are
0, and its slope is 1. A max pool after the stem leaves c unchanged.

The head averages, so its first linear layer adds W c to its bias. The stem is BN(conv(x)): its weights become W * g,
and its bias beta - mean * g - c. Everything is computed in float64 and rounded once.

The page docs/design/folding.md derives these formulas.
"""

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from edgebnn.errors import UserError, check
from edgebnn.graph import Head, InferenceGraph, Linear, ModelInfo, Stem, Unit
from edgebnn.nn import BinaryUnit, BiRealNet, BiRealUnit, Network, ReActNet, RPReLU, RSign


def fold(model: Network, info: ModelInfo, *, dtype: type[np.floating] = np.float32) -> InferenceGraph:
    """Returns the inference graph of a network in eval mode.

    Args:
        model: the network: binary, of stage 1, or real-valued.
        info: the description that the exported file will have.
        dtype: the type of the graph's floats.

    Raises:
        UserError: the network has no inference graph, a weight is not finite, or the network cannot take images of
            `info.resolution`.
    """
    if not isinstance(model, ReActNet | BiRealNet):
        name = getattr(model.config, "arch", type(model).__name__)
        raise UserError(
            f"a {name} has no binary units, so it cannot be exported; give a checkpoint of a ReActNet-A, a ReActNet-18 "
            "or a Bi-Real-Net-18"
        )
    for name, tensor in model.state_dict().items():
        check(bool(torch.isfinite(tensor).all()), f"{name} holds values that are not finite; the training diverged")

    gain, bias = _affine(model.stem_norm)
    modules = [cast(BinaryUnit | BiRealUnit, module) for module in model.units]
    carried = -_sign_shift(modules[0]) if modules else np.zeros(len(gain))
    stem = Stem(
        (_f64(model.stem.weight) * gain[:, None, None, None]).astype(dtype),
        (bias - carried).astype(dtype),
        model.config.stem_stride,
        pool=isinstance(model, BiRealNet) and isinstance(model.pool, nn.MaxPool2d),
    )
    units = []
    for module in modules:
        unit, carried = _unit(module, carried, dtype)
        units.append(unit)
    return InferenceGraph(stem, tuple(units), _head(model.head, carried, dtype), info)


def count_zero_weights(model: Network) -> tuple[int, int]:
    """Returns how many binary weights of a network are exactly 0, and how many binary weights it has.

    A bit is +1 or -1, so a weight of 0 becomes +1, in training and in every exported file. Published code calls
    `torch.sign`, which leaves it 0.
    """
    units = [cast(BinaryUnit | BiRealUnit, module) for module in getattr(model, "units", ())]
    weights = [unit.conv.weight for unit in units if unit.conv.binary]
    return sum(int((weight == 0).sum()) for weight in weights), sum(weight.numel() for weight in weights)


def _unit(module: BinaryUnit | BiRealUnit, carried: np.ndarray, dtype: type[np.floating]) -> tuple[Unit, np.ndarray]:
    """Returns the folded unit, and its q. `carried` is c, the q of the previous unit."""
    conv, act = module.conv, module.act
    gain, bias = _affine(module.norm)
    weight = _f64(conv.weight)
    alpha = np.abs(weight).mean(axis=(1, 2, 3)) if conv.binary else np.ones(len(weight))
    shift_in, slope, shift_out = np.zeros(len(weight)), np.ones(len(weight)), np.zeros(len(weight))
    if isinstance(act, RPReLU):
        shift_in, slope, shift_out = _f64(act.shift_in), _f64(act.slope), _f64(act.shift_out)
    downsample, over_shortcut = _shortcut(module, carried)
    unit = Unit(
        threshold=(0 - (_sign_shift(module) + carried)).astype(dtype),
        weight=np.where(weight >= 0, 1, -1).astype(np.int8) if conv.binary else weight.astype(dtype),
        scale=(alpha * gain).astype(dtype),
        bias=(bias + shift_in + over_shortcut).astype(dtype),
        slope=slope.astype(dtype),
        stride=conv.stride,
        padding=conv.padding,
        shortcut=module.shortcut,
        binary_input=module.sign.binary,
        downsample=None if downsample is None else downsample.astype(dtype),
    )
    return unit, shift_out


def _sign_shift(module: BinaryUnit | BiRealUnit) -> np.ndarray:
    """Returns the shift s of a unit's sign."""
    if isinstance(module.sign, RSign):
        return _f64(module.sign.shift)
    check(
        module.sign.binary,
        "a Bi-Real-Net-18 with real-valued activations clips them, which no exported file does; train stage 1 first",
    )
    return np.zeros(module.conv.weight.shape[1])


def _shortcut(module: BinaryUnit | BiRealUnit, carried: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
    """Returns the weights of the shortcut's convolution (None without one), and shortcut(c)."""
    if isinstance(module, BiRealUnit) and module.shortcut == "downsample":
        _, conv, norm = module.downsample
        gain, bias = _affine(cast(nn.BatchNorm2d, norm))
        weight = _f64(cast(nn.Conv2d, conv).weight)[:, :, 0, 0] * gain[:, None]
        return weight, weight @ carried + bias
    return None, np.concatenate([carried, carried]) if module.shortcut == "repeat" else carried


def _head(layers: nn.Sequential, carried: np.ndarray, dtype: type[np.floating]) -> Head:
    """Returns the folded head. Without a linear layer c stays as the head's offset."""
    folded: list[Linear] = []
    offset = carried
    modules = list(layers)
    for module, following in zip(modules, [*modules[1:], None]):
        if isinstance(module, nn.Linear):
            weight, bias = _f64(module.weight), _f64(module.bias)
            if not folded:
                bias, offset = bias + weight @ carried, np.zeros_like(carried)
            folded.append(Linear(weight.astype(dtype), bias.astype(dtype), relu=isinstance(following, nn.ReLU)))
    return Head(offset.astype(dtype), tuple(folded))


def _affine(norm: nn.BatchNorm2d) -> tuple[np.ndarray, np.ndarray]:
    """Returns the gain and the bias of a BatchNorm in eval mode."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gain = _f64(norm.weight) / np.sqrt(_f64(norm.running_var) + norm.eps)
    return gain, _f64(norm.bias) - _f64(norm.running_mean) * gain


def _f64(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy()
