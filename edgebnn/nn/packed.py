"""The forward convolution of signs with signs on a CPU, by the packed kernels: several times as fast as of floats.

Every accumulator is a whole number and exact, so the result differs from a convolution of floats by roundings, and
does not depend on the number of threads. The gradients are floats and stay torch's.
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
"""Inputs and outputs, terms of an accumulator, and multiply-accumulates of a batch, from where on the kernels are the
faster, but for few layers (docs/notes/training-speed.md)."""

_wanted = ContextVar("packed convolutions", default=True)


@contextmanager
def torch_convolutions() -> Iterator[None]:
    """Inside, torch computes all convolutions: for who checks the kernels against it."""
    token = _wanted.set(False)
    try:
        yield
    finally:
        _wanted.reset(token)


def worth_packing(signs: Tensor, weight: Tensor, stride: int) -> bool:
    """Whether a CPU's kernels are faster than torch: they arrange weights anew for each batch."""
    outputs, inputs, height, width = weight.shape
    terms = inputs * height * width
    products = outputs * terms * signs.shape[0] * signs.shape[2] * signs.shape[3] // stride**2
    enough = min(inputs, outputs) >= FEWEST_CHANNELS and terms >= FEWEST_TERMS and products >= FEWEST_PRODUCTS
    return signs.device.type == "cpu" and enough


def convolve_packed(signs: Tensor, weight: Tensor, scale: Tensor, stride: int, outside: float) -> Tensor | None:
    """The convolution of signs (N, I, H, W) with scale * sign(weight), or None where torch has to compute it.

    Args:
        signs: +1 and -1.
        weight: (O, I, K, K), whose signs count; K is 1 or 3, and the border K // 2 wide.
        scale: (O, 1, 1, 1).
        stride: of the convolution.
        outside: value of the padding, 0 or +1.

    Returns:
        (N, O, H / stride, W / stride), channels last. None elsewhere than on a CPU with fast kernels, in other types
        than float32, and for shapes the kernels do not take.
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
        padding="one" if outside else "zero",
        shortcut="none",
    )
    x = signs.permute(0, 2, 3, 1).contiguous().numpy()
    y, _ = kernels.KernelUnit(unit)(x, threads=torch.get_num_threads())
    return torch.from_numpy(y).permute(0, 3, 1, 2)


def _plain(tensor: Tensor) -> bool:
    """Whether NumPy may see it; the fake tensors of torch's compiler hold nothing to see."""
    return type(tensor) is Tensor and tensor.device.type == "cpu" and tensor.dtype == torch.float32


@lru_cache(maxsize=1)
def _fast() -> bool:
    try:
        return kernels.isa() != "scalar"
    except UserError:
        if {"EDGEBNN_ISA", "EDGEBNN_LIBRARY"} & os.environ.keys():
            raise  # who names kernels wants those
        return False  # not built, or for another processor
