"""The network to train, as a configuration chooses it, and the weights it starts from."""

from dataclasses import asdict, dataclass, replace

from edgebnn import checkpoint
from edgebnn.errors import UserError
from edgebnn.graph.shapes import Padding
from edgebnn.nn import Network, ReActNet, ReActNetConfig
from edgebnn.nn.estimators import Gradient


@dataclass(frozen=True)
class Student:
    """What a configuration chooses of a network; its head follows from the method.

    The attributes are those of `edgebnn.nn.ReActNetConfig`. Step 1 is `binary_weights: false`, a
    real-valued network `binary_activations: false` besides.
    """

    width: float = 1.0
    stem_stride: int = 2
    padding: Padding = "zero"
    binary_activations: bool = True
    binary_weights: bool = True
    activation_gradient: Gradient = "polynomial"
    weight_gradient: Gradient = "clipped"

    def with_head(self, head: tuple[int, ...], *, head_relu: bool = False) -> Network:
        """A new network with linear layers of those widths after pooling."""
        return ReActNet(ReActNetConfig(head=head, head_relu=head_relu, **asdict(self)))

    def with_projection(self, dim: int) -> Network:
        """A new network with MoCo v2's MLP head: features -> as many -> ReLU -> dim."""
        return self.with_head((self.num_features, dim))

    @property
    def num_features(self) -> int:
        """Width of the pooled features."""
        return self.with_head(()).num_features


PRECISION = ("binary_activations", "binary_weights", "activation_gradient", "weight_gradient")
"""What may differ between a network and the checkpoint it starts from."""


def start_from(network: Network, path: str) -> None:
    """Gives `network` the weights in the file `path`, whose network differs at most in what is binary.

    Raises:
        UserError: the file cannot be read, or holds a network of another shape.
    """
    found = checkpoint.load(path, what="initial checkpoint").model
    binary = {name: getattr(network.config, name) for name in PRECISION}
    if type(found.config) is not type(network.config) or replace(found.config, **binary) != network.config:
        raise UserError(
            f"initial checkpoint {path} holds {found.config}, the student is {network.config}; "
            "give both the same width, stem_stride, padding and teacher outputs"
        )
    network.load_state_dict(found.state_dict())
