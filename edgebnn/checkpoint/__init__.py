"""Checkpoints: this project's own files, and files published by others."""

from edgebnn.checkpoint.file import KINDS, NORMALISATION, RESOLUTION, Checkpoint, build, load, read_labels, save
from edgebnn.hints import NO_HINTS, Hints

__all__ = [
    "KINDS",
    "NORMALISATION",
    "NO_HINTS",
    "RESOLUTION",
    "Checkpoint",
    "Hints",
    "build",
    "load",
    "read_labels",
    "save",
]
