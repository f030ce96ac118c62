"""Checkpoints: this project's own, and published ones as they are.

Ours is a safetensors file: tensors by the names of the networks in `edgebnn.nn`, and in the header's
metadata the network's configuration, under the name of its kind, and its `ModelInfo`, so that a file
needs nothing else to be used.
Published files are read by `edgebnn.checkpoint.layouts`. No file is ever unpickled beyond tensors and plain values.
"""

import argparse
import json
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from edgebnn.checkpoint import layouts
from edgebnn.checkpoint.hints import check_hints
from edgebnn.errors import UserError, check
from edgebnn.files import atomic_path, existing_file
from edgebnn.graph.info import METADATA_KEY, ModelInfo
from edgebnn.hints import NO_HINTS, Hints
from edgebnn.nn import BiRealConfig, Network, ReActNetConfig, ResNetConfig

_SCALAR = np.float64(0).__reduce__()[0]  # its module has another name in every version of NumPy
_PLAIN: list[Any] = [
    argparse.Namespace,
    np.dtype,
    *{type(np.dtype(kind)) for kind in "?bhilqBHILQefd"},
    *((_SCALAR, f"numpy.{module}.multiarray.scalar") for module in ("core", "_core")),
]
"""What a file may hold besides tensors: a trainer's arguments, and numbers of NumPy, such as the best accuracy."""

KINDS: dict[str, Any] = {"reactnet": ReActNetConfig, "bireal": BiRealConfig, "resnet": ResNetConfig}
"""What a network is made from, by the metadata key of its configuration."""

RESOLUTION, NORMALISATION = "resolution", "ImageNet's normalisation"
"""How `Checkpoint.assumed` names what is assumed of the images."""


@dataclass(frozen=True)
class Checkpoint:
    """A network read from a file, in eval mode.

    Attributes:
        model: the network.
        info: name, resolution, normalisation, labels.
        layout: "edgebnn", or the published layout it was read from.
        ignored: keys of the file that are no part of the network, and why: every key of the file that holds
            tensors is either in the network or here. A mapping beside the weights ("optimizer") is one key.
        assumed: what was assumed because neither the file nor the user says it, in words ("stage 2",
            "resolution 224"); empty for this project's own files.
        heads: state of what a published method trained beside the network, by this project's names: BURN's
            `classifier` and `target_classifier`. Their keys are in `ignored`, too.
    """

    model: Network
    info: ModelInfo
    layout: str
    ignored: dict[str, str]
    assumed: tuple[str, ...] = ()
    heads: dict[str, Tensor] = field(default_factory=dict)


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
    """Reads one of this project's checkpoints, or a published file as it is (`edgebnn.checkpoint.layouts`).

    Args:
        path: the file.
        what: what it is to the user, for messages ("teacher", ...).
        hints: what the user says about a published file. One of this project's says it all itself, and takes another
            resolution only.

    Raises:
        UserError: the file is missing, cut off, not a checkpoint, of an unknown layout, or contradicts the hints; or
            these make no sense.
    """
    hints.check()
    path = existing_file(path, what)
    with path.open("rb") as file:
        start = file.read(9)
    # A safetensors file starts with the length of a JSON header, then the header itself.
    safe = len(start) == 9 and start[8:] == b"{"
    try:
        metadata, data = _read_safetensors(path, what) if safe else ({}, _unpickle(path, what))
        if METADATA_KEY in metadata or KINDS.keys() & metadata.keys():
            return _load_own(path, what, metadata, data, hints)
        return _load_published(path, what, data, hints)
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


def _read_safetensors(path: Path, what: str) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{what} {path} is cut off or damaged ({error}); fetch or train it again") from None


def _unpickle(path: Path, what: str) -> Any:
    try:
        with torch.serialization.safe_globals(_PLAIN):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # as above
        # Its own message advises loading with code execution allowed, which is no advice to pass on.
        if "allowlist this global" in str(error):
            named = re.search(r"GLOBAL (\S{1,80}) was not", str(error))
            raise UserError(
                f"{what} {path} holds Python objects besides tensors{f' ({named[1]})' if named else ''}, which are not "
                "loaded from a file that may be anyone's; save its state_dict alone"
            ) from None
        raise UserError(f"{what} {path} is no checkpoint, or cut off or damaged; fetch it again") from None


def _load_own(path: Path, what: str, metadata: dict[str, str], tensors: dict[str, Tensor], hints: Hints) -> Checkpoint:
    said = {"stage": hints.stage, "stem stride": hints.stem_stride, "normalisation": hints.mean}
    for name, value in said.items():
        check(value is None, f"{what} {path} is edgebnn's own and says its {name} itself; leave the {name} out")
    check(not hints.ema, f"{what} {path} is edgebnn's own and holds no averaged weights (EMA); leave ema out")
    kind = next((kind for kind in KINDS if kind in metadata), None)
    if kind is None or METADATA_KEY not in metadata:
        raise UserError(f"{what} {path} is of another version of edgebnn; give one written by this one's `train fit`")
    fields = json.loads(metadata[kind])
    config = KINDS[kind](**{**fields, "head": tuple(fields["head"])})
    try:
        info = ModelInfo.from_json(metadata[METADATA_KEY])
    except UserError as error:
        raise UserError(f"{what} {path}: {error}") from None
    resolution = info.resolution if hints.resolution is None else hints.resolution
    return Checkpoint(build(config, tensors), replace(info, resolution=resolution), "edgebnn", {})


def _load_published(path: Path, what: str, data: Any, hints: Hints) -> Checkpoint:
    published = layouts.read(data, f"{what} {path}", hints)
    check_hints(published.config, hints, f"{what} {path}")
    model = build(published.config, published.state)
    info = ModelInfo(name=_name(path))
    given = {name: value for name in ("resolution", "mean", "std") if (value := getattr(hints, name)) is not None}
    assumed = list(published.assumed)
    if hints.resolution is None:
        assumed.append(f"{RESOLUTION} {info.resolution}")
    if hints.mean is None:
        assumed.append(NORMALISATION)
    return Checkpoint(
        model, replace(info, **given), published.layout, published.ignored, tuple(assumed), published.heads
    )


def _name(path: Path) -> str:
    """The file's name without the endings of checkpoints."""
    return re.sub(r"(\.(pth|pt|pyth|ckpt|bin|safetensors|tar|gz))*$", "", path.name, flags=re.IGNORECASE) or "model"


def build(config: Any, state: dict[str, Tensor]) -> Network:
    """A network of that configuration with that state, floats as float32, in eval mode."""
    # The weights come from the state, so the initialisation would be work for nothing.
    with torch.device("meta"):
        model: Network = config.build()
    floats = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    model.load_state_dict(floats, assign=True)
    return model.eval().requires_grad_(False)
