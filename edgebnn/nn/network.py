"""The base class of all networks: a backbone that returns pooled features, and a head of linear layers."""

from typing import Any

from torch import Tensor, nn


class Network(nn.Module):
    """A backbone and a head. A subclass builds both, and implements `features` and `check_resolution`.

    Attributes:
        config: the configuration that the network is built from: a frozen dataclass of plain values. It has the fields
            `head` and `head_relu`, the property `num_features`, and `build()`, which returns a new network.
        num_features: width of the pooled features.
        head: linear layers with a ReLU between two layers. Some networks have BatchNorm there too. The head is empty if
            the features are the output.
    """

    config: Any
    num_features: int
    head: nn.Sequential

    def features(self, images: Tensor) -> Tensor:
        """Returns the pooled features (N, num_features) of normalised images (N, 3, H, W).

        Raises:
            UserError: the network cannot take images of this size.
        """
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """Returns the outputs (N, outputs) of the head for normalised images (N, 3, H, W)."""
        return self.head(self.features(images))

    def check_resolution(self, resolution: int) -> None:
        """Raises `UserError` if the network cannot take images of `resolution` x `resolution` pixels."""
        raise NotImplementedError

    @property
    def outputs(self) -> int:
        """Number of outputs per image."""
        return self.config.head[-1] if self.config.head else self.num_features


def linear_layers(
    inputs: int, widths: tuple[int, ...], *, relu_last: bool = False, norm: bool = False
) -> nn.Sequential:
    """Returns linear layers with a ReLU after each layer but the last.

    Args:
        inputs: number of input features.
        widths: number of outputs of each layer.
        relu_last: whether a ReLU follows the last layer too.
        norm: whether a BatchNorm precedes each ReLU.
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
