"""What `--with-baselines` measures beside a user's files: torchvision's small networks, and the float twin."""

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
from .measure import Subject, subject


def write(
    subjects: Sequence[Subject], checkpoint: Checkpoint | None, folder: Path, say: Callable[[str], None]
) -> Iterator[Subject]:
    """Writes the networks into `folder`, as ONNX for ONNX files and as TFLite for TFLite files.

    Args:
        subjects: the user's files; the first one's resolution counts.
        checkpoint: that the twin is made of; None for no twin.
        folder: where to write.
        say: told what is being written, once a file.

    Raises:
        UserError: the files are of several resolutions, or the checkpoint's network does not take theirs.
    """
    resolution = subjects[0].resolution
    sizes = sorted({each.resolution for each in subjects})
    check(len(sizes) == 1, f"the files take images of {sizes} pixels; measure those of one size with --with-baselines")
    for suffix in sorted({each.suffix for each in subjects}):
        if checkpoint is not None:
            say(f"writing twin{suffix}")
            yield _twin(checkpoint, resolution, folder / f"twin{suffix}")
        for name in baselines.NETWORKS:
            say(f"writing {name}{suffix}")
            convert = baselines.write if suffix == ".onnx" else baselines.write_tflite
            yield subject(convert(name, folder, resolution), baseline=True)


def steps(subjects: Sequence[Subject], *, twin: bool) -> int:
    """How many files `write` writes, with a checkpoint for the twin or without."""
    kinds = {each.suffix for each in subjects}
    return len(kinds) * (len(baselines.NETWORKS) + twin)


def _twin(loaded: Checkpoint, resolution: int, path: Path) -> Subject:
    """The checkpoint's network with real-valued activations and weights (`export.tflite.plain.real_valued`)."""
    graph = plain.real_valued(fold(loaded.model, replace(loaded.info, resolution=resolution)))
    write_bytes(path, portable.convert_to_onnx(graph) if path.suffix == ".onnx" else plain.convert_to_tflite(graph))
    return subject(path, baseline=True)
