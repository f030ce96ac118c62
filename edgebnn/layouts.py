"""The published checkpoint layouts, translated to the names of `edgebnn.nn.ReActNet`.

    reactnet   Liu et al.: `weights` as one (N, 1) column at step 2, `weight` 4-D at step 1
    s2-bnn     Shen et al.: `weight` 4-D; every block holds all three pointwise convolutions and their
               BatchNorms, though it runs either the one or the other two; `fc` is a classifier after
               linear evaluation, a projection of two layers after pretraining
    burn       Kim & Choi: `weight` 4-D; `fc.0` with a ReLU after pooling, the classifier outside the
               backbone

Each is found by its keys under the wrappers seen in the wild (`module.`, `encoder_q.`, `backbone.`).
S2-BNN and BURN name the files of both steps alike; they are read as step 2, both binary.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from edgebnn.errors import UserError, check
from edgebnn.graph.shapes import REACTNET_A_CHANNELS
from edgebnn.nn import ReActNetConfig

_FIRST_KEY = "feature.0.conv1.weight"
_PREFIX = re.compile(r"((?:module\.|encoder_q\.|backbone\.|model\.|online_net\.0\.)*)" + re.escape(_FIRST_KEY))
_NORM_PARTS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
_DEAD = re.compile(r"feature\.\d+\.(binary_pw|binary_pw_down[12]|bn2|bn2_[12])\.")


@dataclass(frozen=True)
class Published:
    """A published file in this project's terms.

    Attributes:
        config: the network's configuration.
        state: its state dict.
        layout: "reactnet", "s2-bnn" or "burn".
        ignored: keys of the file that the network has no use for, and why.
    """

    config: ReActNetConfig
    state: dict[str, Tensor]
    layout: str
    ignored: dict[str, str]


def read(data: Any, what: str) -> Published:
    """Translates the content of a published file.

    Args:
        data: what `torch.load` gave.
        what: the file, for messages.

    Raises:
        UserError: the layout is unknown, or a key is missing, unexpected or of the wrong shape.
    """
    tensors = _state_dict(data, what)
    prefix = _find_prefix(tensors, what)
    source = _Source({key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}, what)
    outside = {key: value for key, value in tensors.items() if not key.startswith(prefix)}
    layout, config = _describe(source, outside)

    state = {"stem.weight": source.take("feature.0.conv1.weight")}
    state |= _norm(source, "stem_norm", ["feature.0.bn1"])
    for block in range(1, len(REACTNET_A_CHANNELS)):
        state |= _block(source, block)
    state |= _head(source, outside)

    ignored = dict.fromkeys(outside, "outside the encoder")
    for key in source.left():
        check(_DEAD.match(key), f"{what} holds {prefix}{key}, which no published layout has; is it another network?")
        ignored[prefix + key] = "a pointwise convolution or its BatchNorm that this block never runs"
    return Published(config, state, layout, ignored)


class _Source:
    """The encoder's tensors, each taken once, so that what is left over is known."""

    def __init__(self, tensors: dict[str, Tensor], what: str) -> None:
        self._tensors = tensors
        self._what = what

    def __contains__(self, key: str) -> bool:
        return key in self._tensors

    def peek(self, key: str) -> Tensor:
        if key not in self._tensors:
            raise UserError(f"{self._what} lacks {key}; it is cut off or of an unknown layout, fetch it again")
        return self._tensors[key]

    def take(self, key: str, *shapes: tuple[int, ...]) -> Tensor:
        """The tensor, floats as float32; if shapes are given it must have one of them."""
        tensor = self.peek(key)
        if shapes and tuple(tensor.shape) not in shapes:
            raise UserError(f"{self._what}: {key} has shape {tuple(tensor.shape)}, not {shapes[0]}; is it whole?")
        del self._tensors[key]
        return tensor.float() if tensor.is_floating_point() else tensor

    def left(self) -> list[str]:
        return list(self._tensors)


def _state_dict(data: Any, what: str) -> dict[str, Tensor]:
    for key in ("state_dict", "model"):
        if isinstance(data, Mapping) and isinstance(data.get(key), Mapping):
            data = data[key]
    if not isinstance(data, Mapping) or not all(isinstance(value, Tensor) for value in data.values()):
        raise UserError(f"{what} holds no state dict of tensors; give the file that holds the weights")
    return {str(key): value for key, value in data.items()}


def _find_prefix(tensors: dict[str, Tensor], what: str) -> str:
    found = sorted({match[1] for match in map(_PREFIX.fullmatch, tensors) if match}, key=len)
    if not found:
        known = "edgebnn's .safetensors, and S2-BNN, BURN and ReActNet files"
        example = next(iter(tensors), "no key at all")
        raise UserError(f"{what} is of an unknown layout (it holds {example}); known are {known}")
    # BURN's pretraining file holds its backbone under two names; either will do.
    return found[0]


def _describe(source: _Source, outside: dict[str, Tensor]) -> tuple[str, ReActNetConfig]:
    width = source.peek(_FIRST_KEY).shape[0] / REACTNET_A_CHANNELS[0]
    if "fc.0.weight" in source and "fc.2.weight" not in source:
        classifier = _find_classifier(outside)
        widths = [len(source.peek("fc.0.weight"))] + ([len(outside[classifier])] if classifier else [])
        return "burn", ReActNetConfig(
            width=width,
            head=tuple(widths),
            head_relu=classifier is None,
            activation_gradient="clipped",
            weight_gradient="identity",
        )
    if "fc.2.weight" in source:
        head: tuple[int, ...] = (len(source.peek("fc.0.weight")), len(source.peek("fc.2.weight")))
    else:
        head = (len(source.peek("fc.weight")),) if "fc.weight" in source else ()
    if "feature.1.binary_pw.weight" in source and "feature.1.binary_pw_down1.weight" in source:
        return "s2-bnn", ReActNetConfig(width=width, head=head)
    # ReActNet's step 1 trains ordinary convolutions; only step 2 has the (N, 1) `weights`.
    binary_weights = "feature.1.binary_3x3.weights" in source
    return "reactnet", ReActNetConfig(width=width, head=head, binary_weights=binary_weights)


def _find_classifier(outside: dict[str, Tensor]) -> str | None:
    return next((key for key in outside if key.endswith("head.fc_cls.weight")), None)


def _block(source: _Source, block: int) -> dict[str, Tensor]:
    old, first, second = f"feature.{block}", 2 * block - 2, 2 * block - 1
    inputs = source.peek(f"{old}.move11.bias").numel()
    outputs = source.peek(f"{old}.move22.bias").numel()
    expands = inputs != outputs
    pointwise = [f"{old}.binary_pw_down1", f"{old}.binary_pw_down2"] if expands else [f"{old}.binary_pw"]
    norms = [f"{old}.bn2_1", f"{old}.bn2_2"] if expands else [f"{old}.bn2"]
    return (
        _unit(source, first, old, ("move11", "move12", "prelu1", "move13"))
        | {f"units.{first}.conv.weight": _convolution(source, f"{old}.binary_3x3", (inputs, inputs, 3, 3))}
        | _norm(source, f"units.{first}.norm", [f"{old}.bn1"])
        | _unit(source, second, old, ("move21", "move22", "prelu2", "move23"))
        | {
            f"units.{second}.conv.weight": torch.cat(
                [_convolution(source, name, (outputs // len(pointwise), inputs, 1, 1)) for name in pointwise]
            )
        }
        | _norm(source, f"units.{second}.norm", norms)
    )


def _unit(source: _Source, number: int, old: str, names: tuple[str, str, str, str]) -> dict[str, Tensor]:
    sign, shift_in, slope, shift_out = names
    return {
        f"units.{number}.sign.shift": source.take(f"{old}.{sign}.bias").flatten(),
        f"units.{number}.act.shift_in": source.take(f"{old}.{shift_in}.bias").flatten(),
        f"units.{number}.act.slope": source.take(f"{old}.{slope}.weight").flatten(),
        f"units.{number}.act.shift_out": source.take(f"{old}.{shift_out}.bias").flatten(),
    }


def _convolution(source: _Source, name: str, shape: tuple[int, int, int, int]) -> Tensor:
    key = f"{name}.weights" if f"{name}.weights" in source else f"{name}.weight"
    column = (shape[0] * shape[1] * shape[2] * shape[3], 1)
    return source.take(key, shape, column).reshape(shape)


def _norm(source: _Source, new: str, olds: list[str]) -> dict[str, Tensor]:
    state = {}
    for part in _NORM_PARTS:
        if part == "num_batches_tracked":
            # One counter serves BatchNorms side by side; files of old PyTorch have none.
            counters = [source.take(f"{old}.{part}") for old in olds if f"{old}.{part}" in source]
            state[f"{new}.{part}"] = counters[0] if counters else torch.zeros((), dtype=torch.long)
        else:
            state[f"{new}.{part}"] = torch.cat([source.take(f"{old}.{part}") for old in olds])
    return state


def _head(source: _Source, outside: dict[str, Tensor]) -> dict[str, Tensor]:
    state = {}
    for old, new in (("fc", "head.0"), ("fc.0", "head.0"), ("fc.2", "head.2")):
        if f"{old}.weight" in source:
            state[f"{new}.weight"] = source.take(f"{old}.weight")
            state[f"{new}.bias"] = source.take(f"{old}.bias")
    classifier = _find_classifier(outside)
    if classifier and "head.2.weight" not in state and "head.0.weight" in state:
        for part in ("weight", "bias"):
            state[f"head.2.{part}"] = outside.pop(classifier[: -len("weight")] + part).float()
    return state
