"""The network to train, as a configuration describes it, and its start weights."""

from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

from edgebnn.checkpoint import Checkpoint
from edgebnn.errors import UserError
from edgebnn.graph.shapes import Padding
from edgebnn.hints import Hints
from edgebnn.nn import BiRealConfig, Network, ReActNetConfig, ResNetConfig
from edgebnn.nn.estimators import Gradient, WeightGradient
from edgebnn.nn.resnet import ResNetArch

from ..data.sources import Images
from .published import load_network

Arch = Literal["reactnet-a", "reactnet-18", "birealnet-18", "resnet-18", "resnet-34", "resnet-50"]

PRECISION = ("binary_activations", "binary_weights", "activation_gradient", "weight_gradient")
"""Arguments that may differ between a network and its initial checkpoint."""

BINARY_ONLY = ("padding", *PRECISION)
"""Arguments that a real-valued ResNet does not have."""


@dataclass(frozen=True)
class Student:
    """The network to train, without its head, which the method adds.

    Stage 1 has `binary_weights: false`. A real-valued twin also has `binary_activations: false`. `resnet-18`,
    `resnet-34` and `resnet-50` are real-valued and have only `width` and `stem_stride`.

    Attributes:
        arch: architecture.
        width: factor on the number of channels.
        stem_stride: stride of the first convolution, 1 or 2. Stride 1 suits small images.
        padding: value of the padding around a 3x3 binary convolution: zero (as published) or one.
        binary_activations: whether the convolutions see signs.
        binary_weights: whether the weights of the convolutions are signs.
        activation_gradient: pseudo-gradient of the activations' sign (docs/reference/configurations.md).
        weight_gradient: pseudo-gradient of the weights' sign.
    """

    arch: Arch = "reactnet-a"
    width: float = 1.0
    stem_stride: int = 2
    padding: Padding = "zero"
    binary_activations: bool = True
    binary_weights: bool = True
    activation_gradient: Gradient = "polynomial"
    weight_gradient: WeightGradient = "clipped"

    def config(self, head: tuple[int, ...], *, head_relu: bool = False) -> Any:
        """Returns the configuration of the network.

        Args:
            head: widths of the linear layers after pooling.
            head_relu: whether a ReLU follows the last layer of the head.

        Raises:
            UserError: the values do not fit the architecture.
        """
        common: dict[str, Any] = {"width": self.width, "stem_stride": self.stem_stride}
        common |= {"head": tuple(head), "head_relu": head_relu}
        if self.arch in get_args(ResNetArch):
            given = [f for f in fields(self) if f.name in BINARY_ONLY and getattr(self, f.name) != f.default]
            if given:
                defaults = ", ".join(f"{field.name} {field.default}" for field in given)
                raise UserError(
                    f"a {self.arch} is real-valued and has no {given[0].name}; leave it at its default: {defaults}"
                )
            return ResNetConfig(arch=self.arch, **common)  # type: ignore[arg-type]
        common |= {name: getattr(self, name) for name in BINARY_ONLY}
        if self.arch in ("birealnet-18", "reactnet-18"):
            return BiRealConfig(arch=self.arch, **common)
        if self.arch != "reactnet-a":
            raise UserError(f"Unknown arch '{self.arch}'. Valid values are {', '.join(get_args(Arch))}")
        return ReActNetConfig(**common)

    def with_head(self, head: tuple[int, ...], *, head_relu: bool = False) -> Network:
        """Returns a new network. The arguments are those of `config`."""
        network: Network = self.config(head, head_relu=head_relu).build()
        return network

    def with_projection(self, dim: int) -> Network:
        """Returns a new network with MoCo v2's MLP head: features -> features -> ReLU -> dim."""
        return self.with_head((self.num_features, dim))

    @property
    def num_features(self) -> int:
        """Width of the pooled features."""
        return self.config(()).num_features


def duplicate(network: Network) -> Network:
    """Returns a new network with the same configuration and weights."""
    # The state is copied, because a module in training may hold objects that cannot be deep-copied.
    copied: Network = network.config.build()
    copied.load_state_dict(network.state_dict())
    return copied


def load_initial_weights(network: Network, path: str, data: Images, hints: Hints | None = None) -> Checkpoint:
    """Loads the weights in a file into the network, and tells the data the normalisation of these weights.

    The network in the file may differ only in what is binary (`PRECISION`).

    Args:
        network: the network that takes the weights.
        path: the file.
        data: the images that the network is trained on.
        hints: what the user says about a published file.

    Returns:
        The checkpoint that the file holds.

    Raises:
        UserError: the file cannot be read, holds a network of another shape, or needs another normalisation than the
            data have.
    """
    found = load_network(path, data, what="initial checkpoint", key="init_checkpoint", hints=hints, weights_alone=True)
    wanted, held = network.config, found.model.config
    precision = {name: getattr(wanted, name) for name in PRECISION if hasattr(wanted, name)}
    if type(held) is not type(wanted) or replace(held, **precision) != wanted:
        raise UserError(
            f"initial checkpoint {path} holds {held}, the student is {wanted}; "
            "give both the same width, arch, stem_stride, padding and teacher outputs"
        )
    data.use_normalisation(found.info, needed_by=f"initial checkpoint {path}")
    network.load_state_dict(found.model.state_dict())
    return found
