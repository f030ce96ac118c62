"""What `--with-baselines` measures beside a user's files: torchvision's small networks, and the float twin."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from edgebnn import checkpoint as checkpoints
from edgebnn.errors import check
from edgebnn.files import write_bytes
from edgebnn.graph import ModelInfo
from export import baselines, onnx
from export.device import Subject, subject
from export.fold import fold
from export.random_networks import settle


def write(
    subjects: Sequence[Subject], checkpoint: str | None, folder: Path, say: Callable[[str], None]
) -> Iterator[Subject]:
    """Writes the networks into `folder`, as ONNX for ONNX files and as TFLite for TFLite files.

    Args:
        subjects: the user's files; the first one's resolution counts.
        checkpoint: that the twin is made of; None for no twin.
        folder: where to write.
        say: told what is being written, once a file.

    Raises:
        UserError: the files are of several resolutions, or the checkpoint cannot be read.
    """
    resolution = subjects[0].resolution
    sizes = sorted({each.resolution for each in subjects})
    check(len(sizes) == 1, f"the files take images of {sizes} pixels; measure those of one size with --with-baselines")
    for suffix in sorted({each.path.suffix.lower() for each in subjects}):
        if checkpoint is not None:
            say(f"writing twin{suffix}")
            yield _twin(checkpoint, resolution, folder / f"twin{suffix}")
        for name in baselines.NETWORKS:
            say(f"writing {name}{suffix}")
            convert = baselines.write if suffix == ".onnx" else baselines.write_tflite
            yield subject(convert(name, folder, resolution), baseline=True)


def steps(subjects: Sequence[Subject], checkpoint: str | None) -> int:
    """How many files `write` writes."""
    kinds = {each.path.suffix.lower() for each in subjects}
    return len(kinds) * (len(baselines.NETWORKS) + (checkpoint is not None))


def _twin(checkpoint: str, resolution: int, path: Path) -> Subject:
    """The same network with real-valued activations and weights, random ones: for timing."""
    loaded = checkpoints.load(checkpoint)
    config = replace(loaded.model.config, binary_activations=False, binary_weights=False)
    graph = fold(
        settle(type(loaded.model)(config), resolution),
        ModelInfo(name=f"{loaded.info.name}-twin", resolution=resolution, mean=loaded.info.mean, std=loaded.info.std),
    )
    if path.suffix == ".onnx":
        data = onnx.convert(graph)
    else:
        from export import tflite

        data = tflite.convert(graph)
    write_bytes(path, data)
    return subject(path, baseline=True)
