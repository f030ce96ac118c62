"""BatchNorm over the batch of all processes, on CPUs and on GPUs.

torch's SyncBatchNorm takes tensors on GPUs only. This one computes the same function on any device, with two
all-reduces: first the mean, then the variance around it. The difference of the mean square and the squared mean would
lose digits.
"""

from collections.abc import Iterator

import torch
from lightning.pytorch.plugins import LayerSync
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .distributed import world_size


class SyncBatchNorm(_BatchNorm):
    """`nn.BatchNorm1d`, `2d` or `3d` whose training statistics cover the batch of all processes."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"a batch of {input.dim()} dimensions has no channels")

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or world_size() == 1:
            return super().forward(x)
        self._check_input_dim(x)
        axes = [axis for axis in range(x.dim()) if axis != 1]
        shape = [1, -1] + [1] * (x.dim() - 2)
        # Under autocast, x may have a mantissa of 8 bits, which is too few for sums.
        values = x if x.dtype == torch.float64 else x.float()
        count = values.new_tensor([values.numel() / values.shape[1]])
        total = _AllReduce.apply(torch.cat([values.sum(axes), count]))
        count, mean = total[-1].detach(), total[:-1] / total[-1].detach()
        centred = values - mean.view(shape)
        variance = _AllReduce.apply(centred.square().sum(axes)) / count
        self._follow(mean.detach(), variance.detach() * count / (count - 1))
        result = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            result = result * self.weight.view(shape) + self.bias.view(shape)
        return result.to(x.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, unbiased: Tensor) -> None:
        """Updates the running statistics, as `nn.BatchNorm2d` does."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), share)


class _AllReduce(torch.autograd.Function):
    """The sum over all processes. Every process uses this sum, so its gradient is the sum of their gradients."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        total = x.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> Tensor:
        total = grad.contiguous().clone()
        distributed.all_reduce(total)
        return total


class BatchNormSync(LayerSync):
    """Lightning's plugin that replaces BatchNorm layers while several processes train, and restores them afterwards.

    Args:
        everywhere: if True, all layers except those in the method's `unsynchronised()` are replaced. If False, only
            those in its `synchronised()` are.
    """

    def __init__(self, everywhere: bool) -> None:
        self.everywhere = everywhere
        self.exchanged: list[tuple[nn.Module, str, _BatchNorm]] = []

    def apply(self, model: nn.Module) -> nn.Module:
        apart, together = (
            {layer for module in getattr(model, name, tuple)() for layer in module.modules()}
            for name in ("unsynchronised", "synchronised")
        )
        for parent, name, layer in list(_layers(model)):
            if layer in together or (self.everywhere and layer not in apart):
                self.exchanged.append((parent, name, layer))
                setattr(parent, name, synchronised_copy(layer))
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        for parent, name, layer in self.exchanged:
            now = getattr(parent, name)
            # The parameters are the same objects. The buffers may be on another device now.
            layer._buffers, layer.training = now._buffers, now.training
            setattr(parent, name, layer)
        self.exchanged = []
        return model


def _layers(model: nn.Module) -> Iterator[tuple[nn.Module, str, _BatchNorm]]:
    for parent in model.modules():
        for name, layer in parent.named_children():
            if isinstance(layer, _BatchNorm) and not isinstance(layer, SyncBatchNorm | nn.SyncBatchNorm):
                yield parent, name, layer


def synchronised_copy(layer: _BatchNorm) -> _BatchNorm:
    """Returns a layer that normalises over all processes, with the parameters and buffers of `layer`."""
    # The layer is still on the CPU when Lightning calls this, so its device does not tell the backend.
    if distributed.is_initialized() and distributed.get_backend() == "nccl":
        return nn.SyncBatchNorm.convert_sync_batchnorm(layer)
    with torch.device("meta"):
        result = SyncBatchNorm(layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats)
    result._parameters, result._buffers, result.training = layer._parameters, layer._buffers, layer.training
    return result
