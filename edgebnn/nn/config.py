"""The configurations of networks: plain values that are checked, because they may come from an untrusted file."""

from dataclasses import dataclass
from typing import Any, get_args

from edgebnn.errors import check
from edgebnn.graph.shapes import Padding
from edgebnn.nn.estimators import Gradient, WeightGradient

MAX_OUTPUTS = 1 << 20
MAX_LAYERS = 16
"""Limits of a head, far above any real network. A damaged file must not make a program build millions of layers."""


@dataclass(frozen=True)
class BinaryConfig:
    """The fields that the configurations of all binary networks share.

    Attributes:
        width: factor on all channels; 1 is as published.
        stem_stride: stride of the stem: 2 as published, 1 for small images.
        padding: padding of the 3x3 binary convolutions: zero (as published) or one.
        head: widths of the linear layers after pooling, with a ReLU between two layers. () returns the features,
            (1000,) is a classifier, and (1024, 128) is MoCo v2's projection.
        head_relu: whether a ReLU follows the last layer too (BURN's backbone).
        binary_activations: whether convolutions read signs. Stage 1 binarises only the activations.
        binary_weights: whether convolutions have signs as weights. Stage 2 binarises activations and weights.
        activation_gradient: pseudo-gradient of the sign of activations.
        weight_gradient: pseudo-gradient of binary weights: clipped (ReActNet, S2-BNN) or scaled-identity (BURN).
    """

    width: float = 1.0
    stem_stride: int = 2
    padding: Padding = "zero"
    head: tuple[int, ...] = (1000,)
    head_relu: bool = False
    binary_activations: bool = True
    binary_weights: bool = True
    activation_gradient: Gradient = "polynomial"
    weight_gradient: WeightGradient = "clipped"

    def __post_init__(self) -> None:
        check_choices(
            self,
            stem_stride=(1, 2),
            padding=get_args(Padding),
            head_relu=(True, False),
            binary_activations=(True, False),
            binary_weights=(True, False),
            activation_gradient=get_args(Gradient),
            weight_gradient=get_args(WeightGradient),
        )
        check_head(self.head)


def check_choices(config: Any, **choices: tuple[Any, ...]) -> None:
    """Checks named fields of a configuration. `choices` has the valid values of each field.

    Raises:
        UserError: a field has another value.
    """
    for name, valid in choices.items():
        value = getattr(config, name)
        check(
            any(value == choice and type(value) is type(choice) for choice in valid),
            f"Unknown {name} '{value}'. Valid values are {', '.join(map(str, valid))}",
        )


def check_head(widths: tuple[int, ...]) -> None:
    """Raises `UserError` if a head cannot have linear layers of these widths."""
    check(len(widths) <= MAX_LAYERS, f"a head of {len(widths)} layers is more than {MAX_LAYERS}")
    sound = all(type(width) is int and 1 <= width <= MAX_OUTPUTS for width in widths)
    check(sound, f"head widths {widths} are not whole numbers from 1 to {MAX_OUTPUTS}")
