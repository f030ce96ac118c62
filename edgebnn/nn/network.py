"""What every network here is: a backbone that gives pooled features, and a head of linear layers."""

from typing import Any

from torch import Tensor, nn


class Network(nn.Module):
    """A backbone and a head. A subclass builds both and writes `features` and `check_resolution`.

    Attributes:
        config: a frozen dataclass of plain values from which the network is built. All have the fields
            `head` and `head_relu`, the property `num_features`, and `build()`, which gives a new network.
        num_features: width of the pooled features.
        head: linear layers with ReLU between them (and BatchNorm, as a network says); empty where the features
            are the output.
    """

    config: Any
    num_features: int
    head: nn.Sequential

    def features(self, images: Tensor) -> Tensor:
        """Pooled features (N, num_features) of normalised images (N, 3, H, W).

        Raises:
            UserError: the network cannot take images of that size.
        """
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """Outputs of the head, (N, head[-1]), of normalised images (N, 3, H, W)."""
        return self.head(self.features(images))

    def check_resolution(self, resolution: int) -> None:
        """Raises `UserError` unless the network can take images of `resolution` x `resolution`."""
        raise NotImplementedError

    @property
    def outputs(self) -> int:
        """Width of what `forward` gives."""
        return self.config.head[-1] if self.config.head else self.num_features


def linear_layers(
    inputs: int, widths: tuple[int, ...], *, relu_last: bool = False, norm: bool = False
) -> nn.Sequential:
    """Linear layers of the given widths with a ReLU after each but the last, and after it if asked.

    With `norm` a BatchNorm stands before each ReLU.
    """
    layers: list[nn.Module] = []
    for number, outputs in enumerate(widths):
        layers.append(nn.Linear(inputs, outputs))
        if relu_last or number + 1 < len(widths):
            if norm:
                layers.append(nn.BatchNorm1d(outputs))
            layers.append(nn.ReLU())
        inputs = outputs
    return nn.Sequential(*layers)
