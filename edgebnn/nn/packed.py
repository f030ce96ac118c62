"""Runs the forward convolution of signs with binary weights on a CPU, by the packed kernels.

This is several times as fast as a convolution of floats. Every accumulator is an exact whole number, so the result
differs from torch only by rounding, and it does not depend on the number of threads. torch computes the gradients.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from edgebnn.errors import UserError
from edgebnn.graph import Unit
from edgebnn.runtime import kernels

FEWEST_CHANNELS, FEWEST_TERMS, FEWEST_PRODUCTS = 32, 64, 1 << 23
"""The kernels are faster than torch from these sizes on, with few exceptions (docs/notes/training-speed.md): input and
output channels, terms per accumulator, and multiply-accumulates per batch."""

_wanted = ContextVar("packed convolutions", default=True)


@contextmanager
def torch_convolutions() -> Iterator[None]:
    """Lets torch compute all convolutions inside the block, for comparisons with the kernels."""
    token = _wanted.set(False)
    try:
        yield
    finally:
        _wanted.reset(token)


def worth_packing(signs: Tensor, weight: Tensor, stride: int) -> bool:
    """Returns whether the kernels are faster than torch.

    They rearrange the weights for each batch, which takes time.
    """
    outputs, inputs, height, width = weight.shape
    terms = inputs * height * width
    products = outputs * terms * signs.shape[0] * signs.shape[2] * signs.shape[3] // stride**2
    enough = min(inputs, outputs) >= FEWEST_CHANNELS and terms >= FEWEST_TERMS and products >= FEWEST_PRODUCTS
    return signs.device.type == "cpu" and enough


def convolve_packed(signs: Tensor, weight: Tensor, scale: Tensor, *, stride: int, pad_value: float) -> Tensor | None:
    """Returns the convolution of signs with scale * sign(weight), or None if torch must compute it.

    Args:
        signs: +1 and -1, (N, I, H, W).
        weight: (O, I, K, K), with K 1 or 3. Only its signs are used. The padding is K // 2 pixels wide.
        scale: (O, 1, 1, 1).
        stride: stride of the convolution.
        pad_value: value of the padding, 0 or +1.

    Returns:
        (N, O, H / stride, W / stride), channels last. The result is None without a CPU with fast kernels, for types
        other than float32, and for shapes that the kernels cannot run.
    """
    outputs, inputs, kernel, _ = weight.shape
    fits = signs.shape[2] % stride == 0 and signs.shape[3] % stride == 0
    fits = fits and kernel in (1, 3) and stride in (1, 2)
    fits = fits and kernel * kernel * inputs <= kernels.MAX_TERMS and max(inputs, outputs) <= kernels.MAX_CHANNELS
    if not (_wanted.get() and fits and _plain(signs) and _plain(weight) and _fast()):
        return None
    unit = Unit(
        threshold=np.zeros(inputs, np.float32),
        weight=(weight >= 0).to(torch.int8).mul_(2).sub_(1).numpy(),
        scale=scale.flatten().numpy(),
        bias=np.zeros(outputs, np.float32),
        slope=np.ones(outputs, np.float32),
        stride=stride,
        padding="one" if pad_value else "zero",
        shortcut="none",
    )
    x = signs.permute(0, 2, 3, 1).contiguous().numpy()
    y, _ = kernels.KernelUnit(unit)(x, threads=torch.get_num_threads())
    return torch.from_numpy(y).permute(0, 3, 1, 2)


def _plain(tensor: Tensor) -> bool:
    """Returns whether NumPy can read a tensor. The fake tensors of torch's compiler have no data."""
    return type(tensor) is Tensor and tensor.device.type == "cpu" and tensor.dtype == torch.float32


@lru_cache(maxsize=1)
def _fast() -> bool:
    """Returns whether this machine runs kernels that are faster than the plain path."""
    try:
        return kernels.isa() != "scalar"
    except UserError:
        if {"EDGEBNN_ISA", "EDGEBNN_LIBRARY"} & os.environ.keys():
            raise  # the user asked for particular kernels
        return False  # the kernels are not built, or are for another processor
