"""Signs convolved by the packed kernels, against torch's convolution in float64."""

import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from edgebnn.nn import BinaryConv2d, ReActNetConfig
from edgebnn.nn.packed import convolve_packed, torch_convolutions, worth_packing
from edgebnn.runtime import kernels


def signs_of(*shape: int) -> torch.Tensor:
    return (torch.randint(0, 2, shape) * 2 - 1).float()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    channels=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    size=st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 6)),
    kernel=st.sampled_from([1, 3]),
    stride=st.sampled_from([1, 2]),
    outside=st.sampled_from([0.0, 1.0]),
    channels_last=st.booleans(),
    threads=st.integers(1, 3),
)
def test_it_is_the_convolution_rounded_once(
    seed: int,
    channels: tuple[int, int],
    size: tuple[int, int, int],
    kernel: int,
    stride: int,
    outside: float,
    channels_last: bool,
    threads: int,
) -> None:
    torch.manual_seed(seed)
    (inputs, outputs), (batch, height, width) = channels, size
    signs = signs_of(batch, inputs, height * stride, width * stride)
    if channels_last:
        signs = signs.contiguous(memory_format=torch.channels_last)
    weight, scale = torch.randn(outputs, inputs, kernel, kernel), torch.rand(outputs, 1, 1, 1)
    weight[0] = 0  # counts as +1
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = convolve_packed(signs, weight, scale, stride=stride, pad_value=outside)
    finally:
        torch.set_num_threads(before)
    padded = F.pad(signs.double(), (kernel // 2,) * 4, value=outside)
    sums = F.conv2d(padded, torch.where(weight >= 0, 1.0, -1.0).double(), stride=stride)
    assert found is not None
    assert found.is_contiguous(memory_format=torch.channels_last)
    # A whole number below 2^15 times a float32 is exact in float64.
    torch.testing.assert_close(found, (sums * scale.flatten()[:, None, None].double()).float(), rtol=0, atol=0)


@pytest.mark.parametrize("gradient", ["clipped", "polynomial"])
def test_gradients_are_those_of_torchs_convolution(gradient: str) -> None:
    torch.manual_seed(0)
    conv = BinaryConv2d(33, 40, 3, padding="one", gradient=gradient)  # type: ignore[arg-type]
    x = signs_of(16, 33, 7, 8).requires_grad_()
    assert worth_packing(x, conv.weight, 1)
    assert not worth_packing(x, conv.weight, 2)
    assert not worth_packing(x, conv.weight[:, :31], 1)
    assert not worth_packing(x, conv.weight[:31], 1)
    assert not worth_packing(x[:12], conv.weight, 1)
    assert not worth_packing(x[:0], conv.weight, 1)
    towards = torch.randn(16, 40, 7, 8)
    found = torch.autograd.grad((conv(x, signs=True) * towards).sum(), [x, conv.weight])
    with torch_convolutions():
        wanted = torch.autograd.grad((conv(x, signs=True) * towards).sum(), [x, conv.weight])
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)


def test_who_asks_for_torch_gets_torch() -> None:
    arguments = (signs_of(1, 4, 4, 4), torch.randn(6, 4, 3, 3), torch.ones(6, 1, 1, 1))
    assert convolve_packed(*arguments, stride=1, pad_value=0.0) is not None
    with torch_convolutions():
        assert convolve_packed(*arguments, stride=1, pad_value=0.0) is None
    assert convolve_packed(*arguments, stride=1, pad_value=0.0) is not None


def test_kernels_that_are_named_and_not_there_are_an_error() -> None:
    program = "from edgebnn.nn import packed; packed._fast()"
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "EDGEBNN_ISA": "none"}, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "UserError: EDGEBNN_ISA" in done.stderr


def test_fake_tensors_are_left_to_torch() -> None:
    with FakeTensorMode():
        x, weight = torch.ones(1, 4, 4, 4), torch.ones(6, 4, 3, 3)
        assert convolve_packed(x, weight, torch.ones(6, 1, 1, 1), stride=1, pad_value=0.0) is None


def test_what_the_kernels_do_not_take_is_left_to_torch() -> None:
    ones, scale = torch.ones(1, 4, 5, 4), torch.ones(6, 1, 1, 1)
    weight = torch.randn(6, 4, 3, 3)
    assert convolve_packed(ones, weight, scale, stride=2, pad_value=0.0) is None  # 5 rows do not divide
    assert convolve_packed(ones.double(), weight.double(), scale.double(), stride=1, pad_value=0.0) is None
    assert convolve_packed(ones, torch.randn(6, 4, 5, 5), scale, stride=1, pad_value=0.0) is None
    wide = torch.ones(1, kernels.MAX_TERMS // 9 + 1, 1, 1)
    assert convolve_packed(wide, torch.ones(1, wide.shape[1], 3, 3), scale[:1], stride=1, pad_value=0.0) is None
    # and the layer computes them
    conv = BinaryConv2d(4, 6, 3, stride=2)
    assert conv(ones, signs=True).shape == (1, 6, 3, 2)


def test_a_whole_networks_logits_are_torchs() -> None:
    torch.manual_seed(3)
    model = ReActNetConfig(width=1, head=(10,)).build().eval()
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        found = model(images)
        with torch_convolutions():
            wanted = model(images)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
