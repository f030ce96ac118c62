"""Checkpoints: this project's own, and published ones as they are.

Ours is a safetensors file: tensors by the names of the networks in `edgebnn.nn`, and in the header's
metadata the network's configuration, under the name of its kind, and its `ModelInfo`, so that a file
needs nothing else to be used.
Published files are read by `edgebnn.layouts`. No file is ever unpickled beyond tensors and plain values.
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from edgebnn import layouts
from edgebnn.errors import UserError
from edgebnn.files import atomic_path, existing_file
from edgebnn.graph.info import METADATA_KEY, ModelInfo
from edgebnn.layouts_source import NO_HINTS, Hints
from edgebnn.nn import BiRealConfig, Network, ReActNetConfig, ResNetConfig

KINDS: dict[str, Any] = {"reactnet": ReActNetConfig, "bireal": BiRealConfig, "resnet": ResNetConfig}
"""What a network is made from, by the metadata key of its configuration."""


@dataclass(frozen=True)
class Checkpoint:
    """A network read from a file, in eval mode.

    Attributes:
        model: the network.
        info: name, resolution, normalisation, labels.
        layout: "edgebnn", or the published layout it was read from.
        ignored: keys of the file that are no part of the network, and why: every key of the file is
            either in the network or here.
        assumed: what was assumed because neither the file nor the user says it, in words ("stage 2",
            "resolution 224"); empty for this project's own files.
    """

    model: Network
    info: ModelInfo
    layout: str
    ignored: dict[str, str]
    assumed: tuple[str, ...] = ()


def save(path: str | Path, model: Network, info: ModelInfo) -> None:
    """Writes `model` and `info` to `path`, whole or not at all. Raises `UserError` if it cannot."""
    kind = next(kind for kind, config in KINDS.items() if type(model.config) is config)
    metadata = {kind: json.dumps(asdict(model.config)), METADATA_KEY: info.to_json()}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with atomic_path(path) as temporary:
        try:
            safetensors.torch.save_file(tensors, temporary, metadata)
        except safetensors.SafetensorError as error:
            raise UserError(f"cannot write {path} ({error}); free space or choose another path") from None


def load(path: str | Path, *, what: str = "checkpoint", hints: Hints = NO_HINTS) -> Checkpoint:
    """Reads one of this project's checkpoints, or a published file as it is (`edgebnn.layouts`).

    Args:
        path: the file.
        what: what it is to the user, for messages ("teacher", ...).
        hints: what the user says about a published file.

    Raises:
        UserError: the file is missing, cut off, not a checkpoint, or of an unknown layout.
    """
    path = existing_file(path, what)
    with path.open("rb") as file:
        start = file.read(9)
    # A safetensors file starts with the length of a JSON header, then the header itself.
    own = len(start) == 9 and start[8:] == b"{"
    try:
        return _load_own(path, what) if own else _load_published(path, what, hints)
    except UserError:
        raise
    except Exception as error:  # a file may be anyone's, and torch raises whatever its values lead it to
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1].strip()[:200]
        raise UserError(
            f"{what} {path} does not hold the network it looks like ({reason}); fetch or train it again"
        ) from None


def read_labels(path: str | Path) -> tuple[str, ...]:
    """Returns the class names in one of this project's checkpoints; none of any other file."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return ModelInfo.from_json((file.metadata() or {})[METADATA_KEY]).labels
    except (safetensors.SafetensorError, OSError, KeyError, ValueError):
        return ()


def _load_own(path: Path, what: str) -> Checkpoint:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{what} {path} is cut off or damaged ({error}); fetch or train it again") from None
    kind = next((kind for kind in KINDS if kind in metadata), None)
    if kind is None or METADATA_KEY not in metadata:
        raise UserError(f"{what} {path} is a safetensors file of another program; give one written by `train fit`")
    fields = json.loads(metadata[kind])
    config = KINDS[kind](**{**fields, "head": tuple(fields["head"])})
    try:
        info = ModelInfo.from_json(metadata[METADATA_KEY])
    except UserError as error:
        raise UserError(f"{what} {path}: {error}") from None
    return Checkpoint(build(config, tensors), info, "edgebnn", {})


def _load_published(path: Path, what: str, hints: Hints) -> Checkpoint:
    try:
        data = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # as above
        # Its own message advises loading with code execution allowed, which is no advice to pass on.
        if "allowlist this global" in str(error):
            raise UserError(
                f"{what} {path} holds Python objects besides tensors, which are not loaded from a file that may be "
                "anyone's; save its state_dict alone"
            ) from None
        raise UserError(f"{what} {path} is no checkpoint, or cut off or damaged; fetch it again") from None
    published = layouts.read(data, f"{what} {path}", hints)
    model = build(published.config, published.state)
    info = ModelInfo(name=path.name.split(".")[0])
    given = {name: value for name in ("resolution", "mean", "std") if (value := getattr(hints, name)) is not None}
    return Checkpoint(model, replace(info, **given), published.layout, published.ignored, published.assumed)


def build(config: Any, state: dict[str, Tensor]) -> Network:
    """A network of that configuration with that state, floats as float32, in eval mode."""
    # The weights come from the state, so the initialisation would be work for nothing.
    with torch.device("meta"):
        model: Network = config.build()
    floats = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    model.load_state_dict(floats, assign=True)
    return model.eval().requires_grad_(False)
