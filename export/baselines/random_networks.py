"""Random networks that behave as trained ones do, to be timed.

A network of freshly drawn weights is a bad subject. Without training nothing keeps activations in range: those
of torchvision's MobileNets shrink by a factor a layer, and on their way to 0 they pass through denormal floats,
which processors handle many times slower. And the bits of a binary network whose shifts are all 0 are soon
all alike. So after drawing, one batch of noise is sent through, and every BatchNorm takes the statistics of what
it sees, every sign the mean.
"""

from typing import Any

import torch
from torch import Tensor, nn

from edgebnn.nn import ReActNet, ReActNetConfig, RSign

SETTLING_IMAGES = 16


def reactnet(config: ReActNetConfig, resolution: int, *, seed: int = 0) -> ReActNet:
    """A random ReActNet in eval mode, settled on noise of that resolution.

    Shifts, slopes and gains are drawn as wildly as trained ones, negative ones included.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = ReActNet(config)
        for name, tensor in model.state_dict().items():
            if name.endswith(("shift_in", "shift_out", "norm.weight", "norm.bias")):
                # A gain well below 1: a unit's output must not outgrow its shortcut.
                tensor.normal_(0, 0.5)
            elif name.endswith("slope"):
                tensor.normal_(0.2, 0.3)
        model.stem_norm.weight.fill_(1)
    return settle(model, resolution, seed=seed)


def settle(model: Any, resolution: int, *, seed: int = 0) -> Any:
    """Sets each BatchNorm's statistics, and each sign's shift, to what it sees of noise; gives `model` in eval mode.

    Args:
        model: a network for images (N, 3, resolution, resolution).
        resolution: side of the images in pixels.
        seed: of the images.
    """
    model.eval().requires_grad_(False)
    hooks = []
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = 1.0
            module.train()
        elif isinstance(module, RSign):
            hooks.append(module.register_forward_pre_hook(_centre))
    images = torch.randn(SETTLING_IMAGES, 3, resolution, resolution, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        model(images)
    for hook in hooks:
        hook.remove()
    return model.eval()


def _centre(sign: RSign, inputs: tuple[Tensor, ...]) -> None:
    sign.shift.copy_(-inputs[0].mean(dim=(0, 2, 3)))
