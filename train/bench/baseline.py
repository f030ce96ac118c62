"""S2-BNN's distillation step as its public code computes it (szq0214/S2-BNN, Distillation_only/step2).

It is rewritten for `train.bench.step` and used for measurements only. It keeps what costs time in the public code:

- the sign's gradient comes from float masks and a piecewise polynomial,
- the weights' gradient comes from clamped weights and detached sums,
- every learnable bias is a module,
- tensors are channels first, in float32,
- the teacher runs under no_grad with its BatchNorms,
- Adam has torch's default settings.

The unused layers of the public code's pointwise convolutions are left out, which makes the baseline faster. As in the
public code, sign(0) is 0.
"""

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgebnn.nn import BinaryUnit, Network, ReActNet

Pair = tuple[Tensor, Tensor, slice]
"""A parameter of the baseline, the corresponding parameter of `edgebnn.nn`, and the part of its output channels."""


class LearnedBias(nn.Module):
    """x + b, with a trained bias b per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias.expand(x.shape)


class SignByMasks(nn.Module):
    """sign(x). Its gradient is that of a piecewise polynomial, which float masks put together."""

    def forward(self, x: Tensor) -> Tensor:
        below, negative, low = ((x < limit).type(torch.float32) for limit in (-1, 0, 1))
        left = -1 * below + (x * x + 2 * x) * (1 - below)
        middle = left * negative + (2 * x - x * x) * (1 - negative)
        smooth = middle * low + 1 * (1 - low)
        return torch.sign(x).detach() - smooth.detach() + smooth


class ClampedConv(nn.Module):
    """A convolution with weights mean |W| * sign(W). Their gradient is that of clamp(W, -1, 1)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, kernel, kernel))
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight
        scale = weight.abs().mean(dim=3, keepdim=True).mean(dim=2, keepdim=True).mean(dim=1, keepdim=True).detach()
        clamped = torch.clamp(weight, -1.0, 1.0)
        held = (scale * torch.sign(weight)).detach() - clamped.detach() + clamped
        return F.conv2d(x, held, stride=self.stride, padding=weight.shape[2] // 2)


class HalfBlock(nn.Module):
    """Half of a block: the 3x3 convolution, or the one or two pointwise convolutions, with the layers around them."""

    def __init__(self, unit: BinaryUnit) -> None:
        super().__init__()
        outputs, inputs, kernel, _ = unit.conv.weight.shape
        self.before, self.sign = LearnedBias(inputs), SignByMasks()
        self.convs = nn.ModuleList(
            ClampedConv(inputs, inputs, kernel, unit.conv.stride) for _ in range(outputs // inputs)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(inputs) for _ in self.convs)
        self.pool = nn.AvgPool2d(2) if unit.shortcut == "pool" else nn.Identity()
        self.shift_in, self.prelu, self.shift_out = LearnedBias(outputs), nn.PReLU(outputs), LearnedBias(outputs)

    def forward(self, x: Tensor) -> Tensor:
        signs = self.sign(self.before(x))
        x = self.pool(x)
        halves = []
        for conv, norm in zip(self.convs, self.norms):
            half = norm(conv(signs))
            half += x
            halves.append(half)
        out = torch.cat(halves, dim=1) if len(halves) > 1 else halves[0]
        return self.shift_out(self.prelu(self.shift_in(out)))

    def pairs(self, unit: BinaryUnit) -> Iterator[Pair]:
        whole = slice(None)
        yield self.before.bias, unit.sign.shift, whole
        yield self.shift_in.bias, unit.act.shift_in, whole
        yield self.prelu.weight, unit.act.slope, whole
        yield self.shift_out.bias, unit.act.shift_out, whole
        inputs = self.before.bias.shape[1]
        for number, (conv, norm) in enumerate(zip(self.convs, self.norms)):
            part = slice(number * inputs, (number + 1) * inputs)
            yield cast(Tensor, conv.weight), unit.conv.weight, part
            yield cast(Tensor, norm.weight), unit.norm.weight, part
            yield cast(Tensor, norm.bias), unit.norm.bias, part


class BaselineStudent(nn.Module):
    """ReActNet-A with MoCo v2's head, with the shape and the weights of `network`."""

    def __init__(self, network: ReActNet) -> None:
        super().__init__()
        stem = network.stem
        self.stem = nn.Conv2d(3, stem.out_channels, 3, stride=stem.stride, padding=1, bias=False)  # type: ignore[arg-type]
        self.stem_norm = nn.BatchNorm2d(stem.out_channels)
        self.units = nn.ModuleList(HalfBlock(cast(BinaryUnit, unit)) for unit in network.units)
        widths = [layer.weight.shape for layer in network.head if isinstance(layer, nn.Linear)]
        first, last = (nn.Linear(inputs, outputs) for outputs, inputs in widths)
        self.fc = nn.Sequential(first, nn.ReLU(), last)
        with torch.no_grad():
            for here, there, part in self.pairs(network):
                here.copy_(there[part].view_as(here))

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem_norm(self.stem(images))
        for unit in self.units:
            x = unit(x)
        x = F.adaptive_avg_pool2d(x, 1)
        return self.fc(x.view(x.size(0), -1))

    def pairs(self, network: ReActNet) -> Iterator[Pair]:
        """Yields all parameters with their counterparts in `network`."""
        own = [self.stem, self.stem_norm, *self.fc]
        for here, there in zip(own, [network.stem, network.stem_norm, *network.head]):
            for a, b in zip(here.parameters(), there.parameters()):
                yield a, b, slice(None)
        for unit, other in zip(self.units, network.units):
            yield from cast(HalfBlock, unit).pairs(cast(BinaryUnit, other))


class BaselineStep(nn.Module):
    """The loss of one batch, as the public trainer computes it.

    Args:
        network: the student whose weights are copied.
        teacher: the teacher, in eval mode. It is used unchanged.
        temperature: T of the loss.
    """

    def __init__(self, network: ReActNet, teacher: Network, temperature: float = 0.2) -> None:
        super().__init__()
        self.student, self.teacher, self.temperature = BaselineStudent(network), teacher, temperature

    def forward(self, images: Tensor) -> Tensor:
        student = F.normalize(self.student(images), dim=1) / self.temperature
        with torch.no_grad():
            teacher = F.normalize(self.teacher(images), dim=1) / self.temperature
        target, logs = F.softmax(teacher, dim=1), F.log_softmax(student, dim=1)
        return -torch.bmm(target.unsqueeze(1), logs.unsqueeze(2)).mean()
