"""Loads the checkpoint of an export command, with the options that describe it.

`verify` also reads the exported file. If the checkpoint does not state resolution, normalisation or class names, they
are taken from that file.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgebnn import checkpoint as checkpoints
from edgebnn.checkpoint import Checkpoint
from edgebnn.checkpoint import report as checkpoint_report
from edgebnn.errors import UserError, check
from edgebnn.files import existing_file
from edgebnn.hints import read_hints

from .verify.trace import read_info

IMAGE_FIELDS = ("resolution", "mean", "std")
"""The fields about images that `Hints` and `ModelInfo` share."""

MAX_SHOWN = 80
"""The largest number of characters of a value in a message."""


def load_to_export(args: argparse.Namespace) -> Checkpoint:
    """Loads the checkpoint with the given options, and reports what was assumed.

    Raises:
        UserError: a file cannot be read, or an option contradicts it.
    """
    overrides = _overrides(args)
    loaded = checkpoint_report.load_and_report(args.checkpoint, args)
    return _chosen_outputs(args, replace(loaded, info=replace(loaded.info, **overrides)))


def describe_outputs(found: Checkpoint) -> str:
    """Returns what the outputs of a network are, if they are no classes, and else ""."""
    outputs, config = found.model.outputs, found.model.config
    if not config.head:
        return f"its {outputs} outputs are the pooled features, not classes"
    if found.layout != "edgebnn" or found.info.labels or (len(config.head) == 1 and not config.head_relu):
        return ""
    return f"its {outputs} outputs are a projection, not classes; --features writes the pooled features"


def _chosen_outputs(args: argparse.Namespace, found: Checkpoint) -> Checkpoint:
    """Returns the checkpoint without its head if --features asks for the pooled features."""
    if not args.features:
        return found
    check(args.labels is None, "--features writes no classes; leave --labels out")
    return replace(found, model=checkpoints.without_head(found.model), info=replace(found.info, labels=()))


def load_to_verify(args: argparse.Namespace) -> Checkpoint:
    """Loads the checkpoint. Its description is completed from the exported file.

    Raises:
        UserError: a file cannot be read, or an option contradicts the exported file.
    """
    hints, overrides = read_hints(args), _overrides(args)
    loaded = _chosen_outputs(args, checkpoints.load_checkpoint(args.checkpoint, hints=hints))
    file_info = read_info(args.artifact)
    check(
        len(file_info.labels) in (0, loaded.model.outputs),
        f"{args.artifact} was made from another network; export it again",
    )
    if loaded.layout == "edgebnn":
        # Only the class names can be missing: a pretrained network has no classes.
        labels = loaded.info.labels or file_info.labels
        found = replace(loaded, info=replace(loaded.info, **{"labels": labels, **overrides}))
    else:
        overrides |= {name: value for name in IMAGE_FIELDS if (value := getattr(hints, name)) is not None}
        for name in [name for name in ("labels", *IMAGE_FIELDS) if name in overrides]:
            check(
                getattr(file_info, name) == overrides[name],
                f"{args.artifact} says {name} {_shown(getattr(file_info, name))}, --{name} {_shown(overrides[name])}; "
                f"leave --{name} out, or export the file again with it",
            )
        assumed = checkpoint_report.not_assumed(loaded.assumed, checkpoints.RESOLUTION, checkpoints.NORMALISATION)
        found = replace(loaded, info=replace(file_info, **overrides), assumed=assumed)
    checkpoint_report.report_checkpoint(args.checkpoint, found, keys=args.keys)
    return found


def _shown(value: Any) -> str:
    """Returns a value for a message, shortened if it is long (a thousand class names)."""
    text = str(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def _overrides(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the values of --name and --labels, if they are given, by the field names of `ModelInfo`."""
    check(args.name is None or args.name.strip(), "--name is empty; give the model's name, or leave --name out")
    overrides = {"name": args.name, "labels": None if args.labels is None else _labels(args.labels)}
    return {name: value for name, value in overrides.items() if value is not None}


def _labels(path: Path) -> tuple[str, ...]:
    """Returns the class names in a labels file."""
    try:
        # Text editors on Windows write a byte order mark first. It is not part of a name.
        lines = existing_file(path, "labels file").read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise UserError(f"labels file {path} is not UTF-8 text; give one class name per line") from None
    labels = tuple(line.strip() for line in lines if line.strip())
    check(labels, f"labels file {path} contains no class name; give one class name per line")
    return labels
