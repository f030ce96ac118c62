"""The tensors of a published file, for the readers of all layouts. Each tensor is taken once and checked."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from edgebnn.checkpoint.reasons import COUNTERS, HEAD, explain
from edgebnn.errors import UserError
from edgebnn.hints import NO_HINTS, Hints

_NORM_PARTS = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True)
class Published:
    """A published file, translated to edgebnn's names.

    Attributes:
        config: the network's configuration, of `edgebnn.nn`.
        state: the network's state dict.
        layout: name of the layout.
        ignored: for each unused key of the file, the reason.
        assumed: the assumptions that were made because neither the file nor the user says otherwise ("stage 2").
        heads: state of the modules that a method trained beside the network, by edgebnn's names: BURN's classifiers.
    """

    config: Any
    state: dict[str, Tensor]
    layout: str
    ignored: dict[str, str]
    assumed: tuple[str, ...] = ()
    heads: dict[str, Tensor] = field(default_factory=dict)


class Source:
    """The tensors of a network in a published file. Each is taken once, so that the unused ones are known.

    Args:
        tensors: the file's state dict.
        prefix: prefix of the network's keys. Every other key is `outside`.
        what: the name of the file in messages.
        hints: the user's hints about the file.
        others: prefixes of other networks in the state dict, each with the reason why it is not read.
        names: the names in the file, for tensors that have another name there.

    Attributes:
        outside: the tensors of the state dict that are not part of the network. A reader may take some.
        assumed: the assumptions so far. A reader appends to them.
    """

    def __init__(
        self,
        tensors: dict[str, Tensor],
        prefix: str,
        what: str,
        *,
        hints: Hints = NO_HINTS,
        others: Mapping[str, str] | None = None,
        names: Mapping[str, str] | None = None,
    ) -> None:
        self._others = others or {}
        self._names = names or {}
        # The prefix of another network can begin with this network's prefix.
        apart = tuple(other for other in self._others if len(other) > len(prefix))
        self._prefix = prefix
        self._tensors: dict[str, Tensor] = {}
        self._modules: set[str] = set()  # top-level modules of which a tensor was taken
        self.outside: dict[str, Tensor] = {}
        for key, tensor in tensors.items():
            counts = key.rpartition(".")[2] in COUNTERS
            if key.startswith(prefix) and not key.startswith(apart) and not counts:
                self._tensors[key[len(prefix) :]] = tensor
            else:
                self.outside[key] = tensor
        self.what = what
        self.hints = hints
        self.assumed: list[str] = []

    def __contains__(self, key: str) -> bool:
        return key in self._tensors

    def under(self, start: str) -> list[str]:
        """Returns the network's names that begin with `start`, without this beginning."""
        return [key[len(start) :] for key in self._tensors if key.startswith(start)]

    def peek(self, key: str) -> Tensor:
        """Returns a tensor without taking it. Raises `UserError` if it is missing."""
        if key not in self._tensors:
            raise UserError(f"{self.what} lacks {key}: it is cut off or of an unknown layout; fetch it again")
        return self._tensors[key]

    def take(self, key: str, *shapes: tuple[int, ...]) -> Tensor:
        """Takes a tensor and returns it, floats as float32.

        Args:
            key: its name within the network.
            shapes: the shapes that it may have; any shape if none are given.

        Raises:
            UserError: the tensor is missing or has another shape.
        """
        tensor = self.peek(key)
        if shapes and tuple(tensor.shape) not in shapes:
            raise UserError(f"{self.what}: {key} has shape {tuple(tensor.shape)}, not {shapes[0]}; is it whole?")
        del self._tensors[key]
        self._modules.add(key.split(".")[0])
        return tensor.float() if tensor.is_floating_point() else tensor

    def resnet_stem_stride(self) -> int:
        """Returns the stride of a ResNet's first convolution: 2 if it is 7x7, and 1 if it is 3x3.

        ResNets for small images have a 3x3 convolution and no max pool.
        """
        shape = tuple(self.peek("conv1.weight").shape)
        if shape[-1] == 3 and self.hints.stem_stride is None:
            self.assumed.append("its 3x3 conv1 has stride 1 and padding 1, and no max pool follows")
        if shape[-1] not in (3, 7):
            raise UserError(f"{self.what}: conv1.weight has shape {shape}; known are 7x7 and 3x3 convolutions")
        return 1 if shape[-1] == 3 else 2

    def norm(self, new: str, *olds: str) -> dict[str, Tensor]:
        """Takes BatchNorms that lie side by side, and returns the state of one BatchNorm that replaces them.

        Args:
            new: name of the BatchNorm in edgebnn.
            olds: names of the BatchNorms in the file.
        """
        state = {f"{new}.{part}": torch.cat([self.take(f"{old}.{part}") for old in olds]) for part in _NORM_PARTS}
        # One counter suffices. Files from old PyTorch have no counter.
        part = "num_batches_tracked"
        counters = [self.take(f"{old}.{part}") for old in olds if f"{old}.{part}" in self]
        return state | {f"{new}.{part}": counters[0] if counters else torch.zeros((), dtype=torch.long)}

    def convolution(self, old: str, shape: tuple[int, int, int, int]) -> Tensor:
        """Takes the weights of a binary convolution and returns them in a shape.

        The file has them as 4-D `weight`, or as `weights` in one column (N, 1).
        """
        key = f"{old}.weights" if f"{old}.weights" in self else f"{old}.weight"
        column = (shape[0] * shape[1] * shape[2] * shape[3], 1)
        # Some files store signs as whole numbers.
        return self.take(key, shape, column).reshape(shape).float()

    def reacting(self, unit: str, sign: str, shift_in: str, slope: str, shift_out: str) -> dict[str, Tensor]:
        """Takes the modules of an RSign and an RPReLU, and returns their state for a unit.

        Args:
            unit: name of the unit in edgebnn.
            sign, shift_in, slope, shift_out: names of the modules in the file.
        """
        return {
            f"{unit}.sign.shift": self.take(f"{sign}.bias").flatten(),
            f"{unit}.act.shift_in": self.take(f"{shift_in}.bias").flatten(),
            f"{unit}.act.slope": self.take(f"{slope}.weight").flatten(),
            f"{unit}.act.shift_out": self.take(f"{shift_out}.bias").flatten(),
        }

    def linear(self, new: str, old: str) -> dict[str, Tensor]:
        """Takes the linear layer `old` of the file, and returns its state for the layer `new`."""
        return {f"{new}.{part}": self.take(f"{old}.{part}") for part in ("weight", "bias")}

    def rest(self, reasons: Iterable[tuple[str, str]] = ()) -> dict[str, str]:
        """Returns the tensors that were not taken, by their names in the file, each with the reason.

        Args:
            reasons: beginnings of names within the network, each with the reason why such tensors are unused.

        Raises:
            UserError: a tensor is left that no published layout has.
        """
        ignored = {self._name(key): self._explain_outside(key) for key in self.outside}
        for key in self._tensors:
            why = next((why for start, why in reasons if key.startswith(start)), None) or self._explain_beside(key)
            if why is None:
                raise UserError(
                    f"{self.what} contains {self._name(self._prefix + key)}, which no published layout has; "
                    "check that it is the right network"
                )
            ignored[self._name(self._prefix + key)] = why
        return ignored

    def _explain_beside(self, key: str) -> str | None:
        """Returns why a module that the network does not run is unused; None if it may be part of the network."""
        module = key.split(".")[0]
        why = None if module in self._modules else explain(module)
        # If the network has no classifier of a usual name, this head would be its classifier.
        return None if why == HEAD and not {"fc", "linear"} & self._modules else why

    def _explain_outside(self, key: str) -> str:
        start = max((other for other in self._others if key.startswith(other)), key=len, default=None)
        return (self._others[start] if start is not None else explain(key)) or "outside the network"

    def _name(self, key: str) -> str:
        return self._names.get(key, key)
