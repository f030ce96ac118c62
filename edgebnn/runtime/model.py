"""A loaded model file: one interface for all runtimes."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from edgebnn.errors import UserError, check
from edgebnn.graph.info import ModelInfo
from edgebnn.graph.shapes import MAX_RESOLUTION


@dataclass(frozen=True, eq=False)
class Model:
    """A loaded model.

    Attributes:
        path: the file.
        format: the file's format. A TFLite file is "lce" if it has LCE operators.
        runtime: the runtime that runs the file.
        runtime_version: version of the runtime.
        threads: number of threads that a run may use.
        info: name, resolution, normalisation and labels. For a file without edgebnn's metadata these are its file name,
            the resolution of its input (224 if that is free), ImageNet's normalisation, and no labels.
        described: whether the file has edgebnn's metadata.
        channels: channels of the image.
        batch: number of images per run; None if it is free.
        isa: instruction set of the packed kernels, such as "avx2"; None if the file does not use them.
        init_ms: milliseconds that the runtime took to load the file; None if they were not measured.
    """

    path: Path
    format: Literal["onnx", "onnx-packed", "lce", "tflite"]
    runtime: Literal["onnxruntime", "lce", "litert"]
    runtime_version: str
    threads: int
    info: ModelInfo
    described: bool
    channels: int
    batch: int | None
    _infer: Callable[[np.ndarray], np.ndarray] = field(repr=False)
    isa: str | None = None
    init_ms: float | None = None
    _first: list[float] = field(default_factory=list, repr=False)

    @property
    def first_ms(self) -> float | None:
        """Milliseconds of the first run after loading; None before the first run."""
        return self._first[0] if self._first else None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        return (self.channels, self.info.resolution, self.info.resolution)

    @property
    def bytes(self) -> int:
        """Size of the file in bytes."""
        return self.path.stat().st_size

    def run(self, images: np.ndarray) -> np.ndarray:
        """Returns the logits (N, classes) of normalised float32 images (N, channels, height, width).

        A model with a fixed batch runs once per batch. Several threads may call this method of one model. A TFLite
        model then runs one thread's images after the other's.

        Raises:
            UserError: the images do not fit the model, are integers (pixels that nobody normalised), or hold NaN or
                infinite values, or the runtime refuses to run the model.
        """
        # No closures and no needless copies here: with cold caches they took 0.1 ms.
        if images.ndim != 4 or images.shape[1:] != self.image_shape or len(images) == 0:
            raise UserError(
                f"{self.path} takes N images of shape {self.image_shape}, not {images.shape}; preprocess them for it"
            )
        if images.dtype.kind in "iub":
            raise UserError(
                f"{self.path} takes normalised float32 images, not {images.dtype} pixels; prepare them with "
                "edgebnn.runtime.preprocess: normalise(pixels, model.info), or load_image(path, model.info)"
            )
        images = np.ascontiguousarray(images, np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            total = images.sum()
        # The sum is finite only if all values are, and takes half the time of `isfinite` with cold caches: 0.03 ms.
        if not math.isfinite(total) and not np.isfinite(images).all():
            raise UserError(f"images for {self.path} hold NaN or infinite values; prepare them again")
        batch = self.batch or len(images)
        if len(images) % batch:
            raise UserError(
                f"{self.path} takes {batch} images at a time, not {len(images)}; give a multiple, or export it again"
            )
        if len(images) == batch and self._first:
            return self._infer(images).reshape(batch, -1)
        begin = time.perf_counter_ns()
        parts = [self._infer(images[start : start + batch]) for start in range(0, len(images), batch)]
        if not self._first:
            self._first.append((time.perf_counter_ns() - begin) / 1e6)
        return np.concatenate([part.reshape(batch, -1) for part in parts])


def make_info(text: str | None, path: Path, side: int | None, channels: int) -> ModelInfo:
    """Returns the description in a file's metadata, checked against the shape of the file's input.

    Args:
        text: the metadata as JSON text, or None if the file has none.
        path: the file, for messages.
        side: height and width of the input in pixels, or None if they are free.
        channels: channels of the input.

    Raises:
        UserError: the metadata is damaged, or contradicts the input.
    """
    if text is None:
        info = ModelInfo(name=path.name.removesuffix(path.suffix), resolution=side or 224)
    else:
        try:
            info = ModelInfo.from_json(text)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
        check(len(info.mean) == channels, f"{path}: its metadata is for another number of channels; export it again")
        check(
            side in (None, info.resolution),
            f"{path}: its metadata says {info.resolution} pixels, its input {side}; export the model again",
        )
    check(
        1 <= info.resolution <= MAX_RESOLUTION,
        f"{path}: {info.resolution} pixels is no valid resolution; export the model again",
    )
    return info


def parse_image_shape(shape: list[int | None], path: Path) -> tuple[int | None, int, int | None]:
    """Returns batch, channels and side of an input of shape (N, C, H, W).

    A free size is None in the shape. The result has None for a free batch or side, and 3 for free channels.

    Raises:
        UserError: the input is no square image with its channels first.
    """
    shown = f"({', '.join('?' if size is None else str(size) for size in shape)})"
    check(len(shape) == 4, f"{path} takes an input of shape {shown}, no image; give an image classifier")
    batch, channels, height, width = shape
    check(height == width, f"{path} takes images of shape {shown}; only square images with channels first can be run")
    check(channels is None or 1 <= channels <= 4, f"{path} takes images of shape {shown}; the channels must come first")
    check(batch is None or batch > 0, f"{path} takes an input of shape {shown}; export it again")
    return batch, 3 if channels is None else channels, height
