"""Writes the files that `--with-baselines` measures too: torchvision's small networks, and the float twin."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from edgebnn.checkpoint import Checkpoint
from edgebnn.errors import check
from edgebnn.files import write_bytes

from ..baselines import onnx as baselines
from ..fold import fold
from ..onnx import portable
from ..tflite import plain
from .measure import Subject, read_subject


def write_baselines(
    subjects: Sequence[Subject], checkpoint: Checkpoint | None, folder: Path, say: Callable[[str], None]
) -> Iterator[Subject]:
    """Writes the baselines into a folder and yields each: as ONNX if the user has ONNX files, and as TFLite likewise.

    Args:
        subjects: the user's files. The baselines get their resolution.
        checkpoint: the checkpoint from which the float twin is made; None for no twin.
        folder: the folder to write into.
        say: called with a description before each file is written.

    Raises:
        UserError: the files have several resolutions, or the checkpoint's network cannot take their resolution.
    """
    resolution = subjects[0].resolution
    sizes = sorted({each.resolution for each in subjects})
    check(len(sizes) == 1, f"the files take images of {sizes} pixels; give files of one size with --with-baselines")
    for suffix in sorted({each.suffix for each in subjects}):
        if checkpoint is not None:
            say(f"writing twin{suffix}")
            yield _twin(checkpoint, resolution, folder / f"twin{suffix}")
        for name in baselines.NETWORKS:
            say(f"writing {name}{suffix}")
            write = baselines.write_onnx if suffix == ".onnx" else baselines.write_tflite
            yield read_subject(write(name, folder, resolution), baseline=True)


def count_files(subjects: Sequence[Subject], *, twin: bool) -> int:
    """Returns how many files `write_baselines` writes, with or without a float twin."""
    kinds = {each.suffix for each in subjects}
    return len(kinds) * (len(baselines.NETWORKS) + twin)


def _twin(loaded: Checkpoint, resolution: int, path: Path) -> Subject:
    """Writes the checkpoint's network with real-valued activations and weights (`export.tflite.plain.real_valued`)."""
    graph = plain.real_valued(fold(loaded.model, replace(loaded.info, resolution=resolution)))
    write_bytes(path, portable.convert_to_onnx(graph) if path.suffix == ".onnx" else plain.convert_to_tflite(graph))
    return read_subject(path, baseline=True)
