"""What the readers of the published layouts share: a file's tensors, each taken once and checked."""

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
    """A published file in this project's terms.

    Attributes:
        config: the network's configuration, one of `edgebnn.nn`.
        state: its state dict.
        layout: the name of the layout.
        ignored: keys of the file that the network has no use for, and why.
        assumed: what was assumed because neither the file nor the user says it, in words ("stage 2").
        heads: state of what a method trained beside the network, by this project's names: BURN's classifiers.
    """

    config: Any
    state: dict[str, Tensor]
    layout: str
    ignored: dict[str, str]
    assumed: tuple[str, ...] = ()
    heads: dict[str, Tensor] = field(default_factory=dict)


class Source:
    """A network's tensors, each taken once, so that what is left over is known.

    Args:
        tensors: the file's state dict.
        prefix: what the network's own keys start with; every other key is `outside`.
        what: the file, for messages.
        hints: what the user says about the file.
        others: prefixes of networks beside this one, and why they are not read.
        names: the names in the file of tensors that are called otherwise there.

    Attributes:
        outside: the tensors of the state dict that are not the network's; a reader may take some.
        assumed: what a reader assumed so far, in words; a reader appends to it.
    """

    def __init__(
        self,
        tensors: dict[str, Tensor],
        prefix: str,
        what: str,
        hints: Hints = NO_HINTS,
        others: Mapping[str, str] | None = None,
        names: Mapping[str, str] | None = None,
    ) -> None:
        self._others = others or {}
        self._names = names or {}
        # The prefix of another network may be longer than this one's, and start with it.
        apart = tuple(other for other in self._others if len(other) > len(prefix))
        self._prefix = prefix
        self._tensors: dict[str, Tensor] = {}
        self._modules: set[str] = set()  # those at the top of whose tensors some were taken
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
        """Returns the ends of those of the network's names that begin with `start`."""
        return [key[len(start) :] for key in self._tensors if key.startswith(start)]

    def peek(self, key: str) -> Tensor:
        if key not in self._tensors:
            raise UserError(f"{self.what} lacks {key}; it is cut off or of an unknown layout, fetch it again")
        return self._tensors[key]

    def take(self, key: str, *shapes: tuple[int, ...]) -> Tensor:
        """The tensor, floats as float32; if shapes are given it must have one of them."""
        tensor = self.peek(key)
        if shapes and tuple(tensor.shape) not in shapes:
            raise UserError(f"{self.what}: {key} has shape {tuple(tensor.shape)}, not {shapes[0]}; is it whole?")
        del self._tensors[key]
        self._modules.add(key.split(".")[0])
        return tensor.float() if tensor.is_floating_point() else tensor

    def resnet_stem_stride(self) -> int:
        """Returns the stride of a ResNet's first convolution: 2 where it is 7x7, 1 where it is 3x3.

        The 3x3 one is that of ResNets for small images, without a max pool.
        """
        shape = tuple(self.peek("conv1.weight").shape)
        if shape[-1] == 3 and self.hints.stem_stride is None:
            self.assumed.append("its 3x3 conv1 has stride 1 and padding 1, and no max pool follows")
        if shape[-1] not in (3, 7):
            raise UserError(f"{self.what}: conv1.weight has shape {shape}; known are 7x7 and 3x3 convolutions")
        return 1 if shape[-1] == 3 else 2

    def norm(self, new: str, *olds: str) -> dict[str, Tensor]:
        """The state of the BatchNorm `new`, which stands for those named `olds`, side by side."""
        state = {f"{new}.{part}": torch.cat([self.take(f"{old}.{part}") for old in olds]) for part in _NORM_PARTS}
        # One counter serves BatchNorms side by side; files of old PyTorch have none.
        part = "num_batches_tracked"
        counters = [self.take(f"{old}.{part}") for old in olds if f"{old}.{part}" in self]
        return state | {f"{new}.{part}": counters[0] if counters else torch.zeros((), dtype=torch.long)}

    def convolution(self, old: str, shape: tuple[int, int, int, int]) -> Tensor:
        """The weights of the binary convolution `old`: 4-D `weight`, or `weights` in one column."""
        key = f"{old}.weights" if f"{old}.weights" in self else f"{old}.weight"
        column = (shape[0] * shape[1] * shape[2] * shape[3], 1)
        # Signs may be stored as whole numbers.
        return self.take(key, shape, column).reshape(shape).float()

    def reacting(self, unit: str, sign: str, shift_in: str, slope: str, shift_out: str) -> dict[str, Tensor]:
        """The state of the RSign and the RPReLU of `unit`, from modules of the other names."""
        return {
            f"{unit}.sign.shift": self.take(f"{sign}.bias").flatten(),
            f"{unit}.act.shift_in": self.take(f"{shift_in}.bias").flatten(),
            f"{unit}.act.slope": self.take(f"{slope}.weight").flatten(),
            f"{unit}.act.shift_out": self.take(f"{shift_out}.bias").flatten(),
        }

    def linear(self, new: str, old: str) -> dict[str, Tensor]:
        """The state of the linear layer `new`, in the file `old`."""
        return {f"{new}.{part}": self.take(f"{old}.{part}") for part in ("weight", "bias")}

    def rest(self, reasons: Iterable[tuple[str, str]] = ()) -> dict[str, str]:
        """Returns the names in the file of what was not taken, and why it need not be.

        Args:
            reasons: beginnings of names within the network, and why what is called so has no use.

        Raises:
            UserError: something is left that no published layout has.
        """
        ignored = {self._name(key): self._explain_outside(key) for key in self.outside}
        for key in self._tensors:
            why = next((why for start, why in reasons if key.startswith(start)), None) or self._explain_beside(key)
            if why is None:
                raise UserError(
                    f"{self.what} holds {self._name(self._prefix + key)}, which no published layout has; "
                    "is it another network?"
                )
            ignored[self._name(self._prefix + key)] = why
        return ignored

    def _explain_beside(self, key: str) -> str | None:
        """Why a module beside those that the network runs has no use; None where it may be part of the network."""
        module = key.split(".")[0]
        why = None if module in self._modules else explain(module)
        # Of a network that has none by the usual names, it would be the classifier.
        return None if why == HEAD and not {"fc", "linear"} & self._modules else why

    def _explain_outside(self, key: str) -> str:
        start = max((other for other in self._others if key.startswith(other)), key=len, default=None)
        return (self._others[start] if start is not None else explain(key)) or "outside the network"

    def _name(self, key: str) -> str:
        return self._names.get(key, key)
