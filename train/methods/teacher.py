"""A frozen teacher: a trained network, prepared for fast inference."""

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from edgebnn.checkpoint.reasons import PROJECTOR
from edgebnn.errors import UserError
from edgebnn.hints import Hints
from edgebnn.nn import Network

from ..data.sources import Images
from .published import load_network


class FrozenTeacher(nn.Module):
    """A frozen copy of a network: always in eval mode, without gradients, in channels_last.

    BatchNorms after a plain convolution are folded into it, and the network runs in inference mode. The outputs are
    ordinary tensors, so a loss may save them for its backward pass.

    The state belongs to another file, so a method lists it in `external`.

    Args:
        network: any network.
        resolution: side of an image that the network can take, in pixels.

    Attributes:
        outputs: width of the outputs of `forward`.
        num_features: width of the outputs of `features`.
    """

    def __init__(self, network: Network, resolution: int) -> None:
        super().__init__()
        self.network = deepcopy(network).to(memory_format=torch.channels_last)
        self.network.eval().requires_grad_(False)
        self.outputs = network.outputs
        self.num_features = network.num_features
        some = next(self.network.parameters())
        fold_batchnorms(self.network, some.new_zeros(1, 3, resolution, resolution))

    def forward(self, images: Tensor) -> Tensor:
        """Returns the outputs of the head (N, outputs) for normalised images (N, 3, H, W)."""
        with torch.inference_mode():
            outputs = self.network(images.contiguous(memory_format=torch.channels_last))
        # Autograd refuses to save a tensor made in inference mode. A copy is an ordinary tensor.
        return outputs.clone()

    def features(self, images: Tensor) -> Tensor:
        """Returns the pooled features (N, num_features) of normalised images (N, 3, H, W)."""
        with torch.inference_mode():
            features = self.network.features(images.contiguous(memory_format=torch.channels_last))
        return features.clone()

    def train(self, mode: bool = True) -> "FrozenTeacher":
        """Keeps the teacher in eval mode when the method changes to train mode."""
        return super().train(False)


def load_teacher(path: str, data: Images, hints: Hints | None = None, *, projection: bool = False) -> FrozenTeacher:
    """Returns the teacher in a file, and tells the data the normalisation that the teacher needs.

    Args:
        path: a checkpoint of any network and layout that `edgebnn.checkpoint` reads.
        data: the images that the teacher will see.
        hints: what the user says about a published file.
        projection: whether the head must be a projection, as pretraining leaves it: linear layers with ReLU between.

    Raises:
        UserError: the file cannot be read, or its network does not fit the data or lacks the head.
    """
    found = load_network(path, data, what="teacher", key="teacher", hints=hints)
    data.use_normalisation(found.info, needed_by="the teacher")
    if projection and (len(found.model.config.head) < 2 or found.model.config.head_relu):
        other = next((key for key, why in found.ignored.items() if why == PROJECTOR), None)
        if other:
            raise UserError(
                f"teacher {path} has no projection head that this method can use: {other} belongs to {PROJECTOR}; give "
                "a MoCo v2 or SwAV file, or use a method that takes features alone (burn, burn-code)"
            )
        raise UserError(
            f"teacher {path} has no projection head; give the file of its pretraining, not of its linear evaluation"
        )
    found.model.check_resolution(data.resolution)
    return FrozenTeacher(found.model, data.resolution)


@torch.no_grad()
def fold_batchnorms(network: nn.Module, example: Tensor) -> None:
    """Folds every BatchNorm that takes the output of an `nn.Conv2d` into that convolution, in place.

    W' = W * g and b' = beta + (b - mean) * g, with g = gamma / sqrt(var + eps). This holds in eval mode only.

    Args:
        network: a network in eval mode. Only the BatchNorm may read the output of such a convolution.
        example: an input. A forward pass with it shows which BatchNorm follows which convolution.
    """
    last: tuple[nn.Conv2d, Tensor] | None = None
    pairs: dict[nn.Module, nn.Conv2d] = {}

    def convolved(module: nn.Module, _: object, output: Tensor) -> None:
        nonlocal last
        assert isinstance(module, nn.Conv2d)
        last = module, output

    def normed(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if last is not None and inputs[0] is last[1]:
            pairs[module] = last[0]

    handles = [m.register_forward_hook(convolved) for m in network.modules() if isinstance(m, nn.Conv2d)]
    handles += [m.register_forward_pre_hook(normed) for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    network(example)
    for handle in handles:
        handle.remove()
    for name, norm in list(network.named_modules()):
        if isinstance(norm, nn.BatchNorm2d) and norm in pairs:
            conv = pairs[norm]
            assert norm.running_mean is not None
            assert norm.running_var is not None
            conv.weight, conv.bias = fuse_conv_bn_weights(
                conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
            )
            parent, _, child = name.rpartition(".")
            setattr(network.get_submodule(parent), child, nn.Identity())
