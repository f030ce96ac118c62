"""What the export commands take: a checkpoint, and what the user says of it.

`verify` takes an exported file besides, which says what the checkpoint may not: it is compared with the network at
that file's own resolution, normalisation and class names.
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

IMAGES = ("resolution", "mean", "std")
"""What `Hints` and `ModelInfo` both say of the images."""

SHOWN = 80
"""Characters of a value in a message."""


def load_to_export(args: argparse.Namespace) -> Checkpoint:
    """Reads the checkpoint as the options say and reports what was assumed.

    Raises:
        UserError: a file cannot be read, or contradicts the options.
    """
    given = _given(args)
    loaded = checkpoint_report.load_checkpoint(args.checkpoint, args)
    return replace(loaded, info=replace(loaded.info, **given))


def load_to_verify(args: argparse.Namespace) -> Checkpoint:
    """The checkpoint, described by the artifact where neither it nor an option describes it.

    Raises:
        UserError: one of the two files cannot be read, or an option contradicts the artifact.
    """
    hints, given = read_hints(args), _given(args)
    loaded = checkpoints.load(args.checkpoint, hints=hints)
    said = read_info(args.artifact)
    check(
        len(said.labels) in (0, loaded.model.outputs), f"{args.artifact} was made from another network; export it again"
    )
    if loaded.layout == "edgebnn":
        # It may lack class names alone: a network of pretraining has no classes.
        labels = loaded.info.labels or said.labels
        found = replace(loaded, info=replace(loaded.info, **{"labels": labels, **given}))
    else:
        given |= {name: value for name in IMAGES if (value := getattr(hints, name)) is not None}
        for name in [name for name in ("labels", *IMAGES) if name in given]:
            check(
                getattr(said, name) == given[name],
                f"{args.artifact} says {name} {_shown(getattr(said, name))}, --{name} {_shown(given[name])}; "
                f"leave --{name} out, or export the file again with it",
            )
        assumed = checkpoint_report.not_assumed(loaded.assumed, checkpoints.RESOLUTION, checkpoints.NORMALISATION)
        found = replace(loaded, info=replace(said, **given), assumed=assumed)
    checkpoint_report.report(args.checkpoint, found, keys=args.keys)
    return found


def _shown(value: Any) -> str:
    """`value` in a message: of a thousand class names the first few."""
    text = str(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _given(args: argparse.Namespace) -> dict[str, Any]:
    """What the options say of the file beside the hints, by the names of `ModelInfo`."""
    check(args.name is None or args.name.strip(), "--name is empty; give the model's name, or leave --name out")
    given = {"name": args.name, "labels": None if args.labels is None else _labels(args.labels)}
    return {name: value for name, value in given.items() if value is not None}


def _labels(path: Path) -> tuple[str, ...]:
    try:
        # Text editors on Windows put a byte order mark first, which is no part of a name.
        lines = existing_file(path, "labels file").read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise UserError(f"labels file {path} is not UTF-8 text; give one class name a line") from None
    labels = tuple(line.strip() for line in lines if line.strip())
    check(labels, f"labels file {path} names no class; give one class name a line")
    return labels
