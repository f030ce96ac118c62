"""Makes random networks for timing whose activations behave like those of trained networks.

Networks with freshly drawn weights give wrong times, for two reasons:

- Nothing keeps the activations in range. In torchvision's MobileNets they shrink in every layer and become denormal
  floats, which processors compute many times slower.
- In a binary network whose shifts are all 0, almost all bits soon become equal.

Therefore one batch of noise runs through the network. Every BatchNorm takes the statistics of its input, and every sign
takes the mean of its input as its shift.
"""

from typing import Any

import torch
from torch import Tensor, nn

from edgebnn.nn import ReActNet, ReActNetConfig, RSign

SETTLING_IMAGES = 16


def reactnet(config: ReActNetConfig, resolution: int, *, seed: int = 0) -> ReActNet:
    """Returns a random ReActNet in eval mode, settled on noise (`settle`).

    Its shifts, slopes and gains vary as widely as trained ones. Negative values occur too.

    Args:
        config: the network.
        resolution: side of the noise images in pixels.
        seed: seed of the weights and the noise.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = ReActNet(config)
        for name, tensor in model.state_dict().items():
            if name.endswith(("shift_in", "shift_out", "norm.weight", "norm.bias")):
                # The gains are well below 1, so that a unit's convolution does not outgrow its shortcut.
                tensor.normal_(0, 0.5)
            elif name.endswith("slope"):
                tensor.normal_(0.2, 0.3)
        model.stem_norm.weight.fill_(1)
    return settle(model, resolution, seed=seed)


def settle(model: Any, resolution: int, *, seed: int = 0) -> Any:
    """Sets the statistics of each BatchNorm and the shift of each sign from noise. Returns the model in eval mode.

    Args:
        model: a network for images (N, 3, resolution, resolution).
        resolution: side of the images in pixels.
        seed: seed of the images.
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
