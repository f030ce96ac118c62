"""Reads and writes checkpoints.

edgebnn's own checkpoint is a safetensors file. It has the tensors by the names of the networks in `edgebnn.nn`. The
metadata in its header has the network's configuration, under the name of its kind, and the `ModelInfo`. So the file is
complete.

`edgebnn.checkpoint.layouts` reads published files. Unpickling is limited to tensors and plain values for every file.
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

_SCALAR = np.float64(0).__reduce__()[0]  # the name of its module depends on the version of NumPy
_PLAIN: list[Any] = [
    argparse.Namespace,
    np.dtype,
    *{type(np.dtype(kind)) for kind in "?bhilqBHILQefd"},
    *((_SCALAR, f"numpy.{module}.multiarray.scalar") for module in ("core", "_core")),
]
"""The types that a file may contain besides tensors: a trainer's arguments, and NumPy numbers (the best accuracy)."""

KINDS: dict[str, Any] = {"reactnet": ReActNetConfig, "bireal": BiRealConfig, "resnet": ResNetConfig}
"""The type of a network's configuration, by its metadata key."""

RESOLUTION, NORMALISATION = "resolution", "ImageNet's normalisation"
"""The words in `Checkpoint.assumed` for assumptions about the images."""


@dataclass(frozen=True)
class Checkpoint:
    """A network read from a file, in eval mode.

    Attributes:
        model: the network.
        info: name, resolution, normalisation, labels.
        layout: "edgebnn", or the name of the published layout.
        ignored: for each unused key of the file, the reason. Every key that has tensors is used for the network or
            listed here. A mapping beside the weights ("optimizer") counts as one key.
        assumed: the assumptions that were made because neither the file nor the user says otherwise, such as "stage 2"
            or "resolution 224". Empty for edgebnn's own files.
        heads: state of the modules that a published method trained beside the network, by edgebnn's names: BURN's
            `classifier` and `target_classifier`. Their keys are listed in `ignored` too.
    """

    model: Network
    info: ModelInfo
    layout: str
    ignored: dict[str, str]
    assumed: tuple[str, ...] = ()
    heads: dict[str, Tensor] = field(default_factory=dict)


def save_checkpoint(path: str | Path, model: Network, info: ModelInfo) -> None:
    """Writes a checkpoint, whole or not at all.

    Args:
        path: the file.
        model: the network.
        info: its description.

    Raises:
        UserError: the file cannot be written.
    """
    kind = next(kind for kind, config in KINDS.items() if type(model.config) is config)
    metadata = {kind: json.dumps(asdict(model.config)), METADATA_KEY: info.to_json()}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with atomic_path(path) as temporary:
        try:
            safetensors.torch.save_file(tensors, temporary, metadata)
        except safetensors.SafetensorError as error:
            raise UserError(f"cannot write {path} ({error}); free space or choose another path") from None


def load_checkpoint(path: str | Path, *, what: str = "checkpoint", hints: Hints = NO_HINTS) -> Checkpoint:
    """Loads a checkpoint of edgebnn, or a published file (`edgebnn.checkpoint.layouts`).

    Args:
        path: the file.
        what: the role of the file in messages, such as "teacher".
        hints: the user's hints about a published file. A checkpoint of edgebnn accepts only another resolution.

    Raises:
        UserError: the file is missing, cut off, no checkpoint, of an unknown layout, or contradicts the hints, or the
            hints are invalid.
    """
    hints.check()
    path = existing_file(path, what)
    with path.open("rb") as file:
        start = file.read(9)
    # A safetensors file starts with the length of a JSON header (8 bytes), and the header follows.
    safe = len(start) == 9 and start[8:] == b"{"
    try:
        metadata, data = _read_safetensors(path, what) if safe else ({}, _unpickle(path, what))
        if METADATA_KEY in metadata or KINDS.keys() & metadata.keys():
            return _load_own(path, what, metadata, data, hints)
        return _load_published(path, what, data, hints)
    except UserError:
        raise
    except Exception as error:  # the file is untrusted, and its values can make torch raise anything
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1].strip()[:200]
        raise UserError(
            f"{what} {path} does not fit the network of its keys ({reason}); fetch or train it again"
        ) from None


def read_labels(path: str | Path) -> tuple[str, ...]:
    """Returns the class names in a checkpoint of edgebnn. For any other file the result is empty."""
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
        # torch's own message advises to allow code execution. This advice must not be passed on.
        if "allowlist this global" in str(error):
            named = re.search(r"GLOBAL (\S{1,80}) was not", str(error))
            raise UserError(
                f"{what} {path} contains Python objects besides tensors{f' ({named[1]})' if named else ''}, which are "
                "not loaded from untrusted files; save only its state_dict"
            ) from None
        raise UserError(f"{what} {path} is no checkpoint, or it is cut off or damaged; fetch it again") from None


def _load_own(path: Path, what: str, metadata: dict[str, str], tensors: dict[str, Tensor], hints: Hints) -> Checkpoint:
    said = {"stage": hints.stage, "stem stride": hints.stem_stride, "normalisation": hints.mean}
    for name, value in said.items():
        check(value is None, f"{what} {path} is a checkpoint of edgebnn and states its {name}; leave the {name} out")
    check(not hints.ema, f"{what} {path} is a checkpoint of edgebnn and has no averaged weights (EMA); leave ema out")
    kind = next((kind for kind in KINDS if kind in metadata), None)
    if kind is None or METADATA_KEY not in metadata:
        raise UserError(
            f"{what} {path} is from another version of edgebnn; give a file that `train fit` of this version wrote"
        )
    fields = json.loads(metadata[kind])
    config = KINDS[kind](**{**fields, "head": tuple(fields["head"])})
    try:
        info = ModelInfo.from_json(metadata[METADATA_KEY])
    except UserError as error:
        raise UserError(f"{what} {path}: {error}") from None
    resolution = info.resolution if hints.resolution is None else hints.resolution
    model = build_network(config, tensors)
    # Older versions named the data's classes in the file of a pretraining, whose outputs are no classes.
    labels = info.labels if config.head and not config.head_relu and len(info.labels) == model.outputs else ()
    return Checkpoint(model, replace(info, resolution=resolution, labels=labels), "edgebnn", {})


def _load_published(path: Path, what: str, data: Any, hints: Hints) -> Checkpoint:
    published = layouts.read_published(data, f"{what} {path}", hints)
    check_hints(published.config, hints, f"{what} {path}")
    model = build_network(published.config, published.state)
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
    """Returns the file's name without the suffixes of checkpoints."""
    return re.sub(r"(\.(pth|pt|pyth|ckpt|bin|safetensors|tar|gz))*$", "", path.name, flags=re.IGNORECASE) or "model"


def without_head(model: Network) -> Network:
    """Returns a network whose outputs are the pooled features of `model`. The two share their weights."""
    state = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("head.")}
    return build_network(replace(model.config, head=(), head_relu=False), state)


def build_network(config: Any, state: dict[str, Tensor]) -> Network:
    """Returns a network in eval mode, with a configuration of `edgebnn.nn` and a state dict. Floats become float32."""
    # The weights come from the state, so they need no initialisation.
    with torch.device("meta"):
        model: Network = config.build()
    floats = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    model.load_state_dict(floats, assign=True)
    return model.eval().requires_grad_(False)
