"""S2-BNN's distillation step as its public code computes it (szq0214/S2-BNN, Distillation_only/step2).

Written anew for `train.bench.step`, to be measured and for nothing else: float masks and the smooth curve itself in the
sign's estimator, clamped weights and detached sums in the weights', every learnable bias a module, channels
first, the teacher under no_grad with its BatchNorms, Adam as it comes, float32. What its pointwise convolutions hold
besides and never use is left out, in its favour. As there, sign(0) is 0.
"""

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgebnn.nn import BinaryUnit, Network, ReActNet

Pair = tuple[Tensor, Tensor, slice]
"""A parameter here, the one of `edgebnn.nn` that it corresponds to, and its part of that one's outputs."""


class Bias(nn.Module):
    """x + b, b learnt a channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias.expand(x.shape)


class SignByMasks(nn.Module):
    """sign(x), its gradient by differentiating a piecewise polynomial put together with float masks."""

    def forward(self, x: Tensor) -> Tensor:
        below, negative, low = ((x < limit).type(torch.float32) for limit in (-1, 0, 1))
        left = -1 * below + (x * x + 2 * x) * (1 - below)
        middle = left * negative + (2 * x - x * x) * (1 - negative)
        smooth = middle * low + 1 * (1 - low)
        return torch.sign(x).detach() - smooth.detach() + smooth


class ClampedConv(nn.Module):
    """A convolution with mean |W| * sign(W), its gradient by differentiating clamp(W, -1, 1)."""

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
    """Half of its block: the 3x3 convolution, or the one or two pointwise ones, with what surrounds them."""

    def __init__(self, unit: BinaryUnit) -> None:
        super().__init__()
        outputs, inputs, kernel, _ = unit.conv.weight.shape
        self.before, self.sign = Bias(inputs), SignByMasks()
        self.convs = nn.ModuleList(
            ClampedConv(inputs, inputs, kernel, unit.conv.stride) for _ in range(outputs // inputs)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(inputs) for _ in self.convs)
        self.pool = nn.AvgPool2d(2) if unit.shortcut == "pool" else nn.Identity()
        self.shift_in, self.prelu, self.shift_out = Bias(outputs), nn.PReLU(outputs), Bias(outputs)

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
    """ReActNet-A with MoCo v2's head, of the shape and with the weights of `network`."""

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
        """All parameters and what they correspond to."""
        own = [self.stem, self.stem_norm, *self.fc]
        for here, there in zip(own, [network.stem, network.stem_norm, *network.head]):
            for a, b in zip(here.parameters(), there.parameters()):
                yield a, b, slice(None)
        for unit, other in zip(self.units, network.units):
            yield from cast(HalfBlock, unit).pairs(cast(BinaryUnit, other))


class BaselineStep(nn.Module):
    """The loss of one batch, as its trainer forms it.

    Args:
        network: student whose weights are taken over.
        teacher: taken as it is, in eval mode.
        temperature: of the loss.
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
