"""Reads and writes checkpoints: edgebnn's own files, and published files of other code."""

from edgebnn.checkpoint.file import (
    KINDS,
    NORMALISATION,
    RESOLUTION,
    Checkpoint,
    build_network,
    load_checkpoint,
    read_labels,
    save_checkpoint,
    without_head,
)
from edgebnn.hints import NO_HINTS, Hints

__all__ = [
    "KINDS",
    "NORMALISATION",
    "NO_HINTS",
    "RESOLUTION",
    "Checkpoint",
    "Hints",
    "build_network",
    "load_checkpoint",
    "read_labels",
    "save_checkpoint",
    "without_head",
]
