"""Networks with the statistics of trained ones, for tests: nothing left at its initial value."""

from typing import Any

import numpy as np
import torch

from edgebnn.nn import Network


def random_network(seed: int, config: Any) -> Network:
    """A network in eval mode with random shifts, slopes and BatchNorms, negative gains included."""
    generator = torch.Generator().manual_seed(seed)

    def normal(tensor: torch.Tensor, mean: float, std: float) -> None:
        tensor.copy_(torch.randn(tensor.shape, generator=generator) * std + mean)

    torch.manual_seed(seed)
    model: Network = config.build()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if "shift" in name or name.endswith(("norm.bias", ".downsample.2.bias")):
                normal(tensor, 0, 0.5)
            elif name.endswith("slope"):
                normal(tensor, 0.2, 0.3)
            elif name.endswith(("norm.weight", ".downsample.2.weight")):
                # A unit's output must not outgrow its shortcut, or later units see all bits alike.
                normal(tensor, 0, 0.5)
            elif name.endswith("running_mean"):
                normal(tensor, 0, 0.3)
            elif name.endswith("running_var"):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) * 2 + 0.1)
            elif name.startswith("head") and name.endswith("bias"):
                normal(tensor, 0, 0.1)
    return model.eval().requires_grad_(False)


def noise(seed: int, count: int, resolution: int) -> np.ndarray:
    """Standard normal images (count, 3, resolution, resolution), float32."""
    return np.random.default_rng(seed).standard_normal((count, 3, resolution, resolution), dtype=np.float32)
