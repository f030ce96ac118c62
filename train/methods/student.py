"""The network to train, as a configuration chooses it, and the weights it starts from."""

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
from .base import match_normalisation
from .published import load_network

Arch = Literal["reactnet-a", "reactnet-18", "birealnet-18", "resnet-18", "resnet-34", "resnet-50"]

PRECISION = ("binary_activations", "binary_weights", "activation_gradient", "weight_gradient")
"""What may differ between a network and the checkpoint it starts from."""

BINARY_ONLY = ("padding", *PRECISION)
"""What means nothing to a real-valued ResNet."""


@dataclass(frozen=True)
class Student:
    """What a configuration chooses of a network; its head follows from the method.

    The attributes are those of the networks' configurations in `edgebnn.nn`. Step 1 is
    `binary_weights: false`, a real-valued twin `binary_activations: false` besides. `resnet-18`,
    `resnet-34` and `resnet-50` are real-valued as they are and take `width` and `stem_stride` alone.
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
        """The configuration of the network with linear layers of those widths after pooling.

        Raises:
            UserError: the values make no such network.
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
        """A new network with linear layers of those widths after pooling."""
        network: Network = self.config(head, head_relu=head_relu).build()
        return network

    def with_projection(self, dim: int) -> Network:
        """A new network with MoCo v2's MLP head: features -> as many -> ReLU -> dim."""
        return self.with_head((self.num_features, dim))

    @property
    def num_features(self) -> int:
        """Width of the pooled features."""
        return self.config(()).num_features


def duplicate(network: Network) -> Network:
    """A new network of the same configuration and weights."""
    # By its state, since a module in training may hold what cannot be deep-copied.
    copied: Network = network.config.build()
    copied.load_state_dict(network.state_dict())
    return copied


def start_from(network: Network, path: str, data: Images, hints: Hints | None = None) -> Checkpoint:
    """Gives `network` the weights in the file `path`, whose network differs at most in what is binary.

    Args:
        network: the network.
        path: the file.
        data: what it will see.
        hints: what the user says about a published file.

    Returns:
        What the file holds.

    Raises:
        UserError: the file cannot be read, holds a network of another shape, or was made for images
            normalised otherwise than `data` does.
    """
    found = load_network(path, data, what="initial checkpoint", key="init_checkpoint", hints=hints, weights_alone=True)
    wanted, held = network.config, found.model.config
    precision = {name: getattr(wanted, name) for name in PRECISION if hasattr(wanted, name)}
    if type(held) is not type(wanted) or replace(held, **precision) != wanted:
        raise UserError(
            f"initial checkpoint {path} holds {held}, the student is {wanted}; "
            "give both the same width, arch, stem_stride, padding and teacher outputs"
        )
    match_normalisation(found.info, data, f"initial checkpoint {path}")
    network.load_state_dict(found.model.state_dict())
    return found
