"""Runs networks with their own classifiers: a checkpoint in PyTorch, or an exported file in its runtime."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgebnn import runtime
from edgebnn.checkpoint import Checkpoint
from edgebnn.errors import UserError, check
from edgebnn.graph import ModelInfo
from edgebnn.hints import NO_HINTS, Hints
from edgebnn.nn.packed import torch_convolutions

CPU_PIXELS = 16 * 224 * 224
"""Pixels of the batch at which torch is fastest on a CPU. With 64 images at 224x224, an image takes a third longer."""

EXPORT_PIXELS = 4 * 224 * 224
"""The same for exported files with a free batch size. With 16 images at 224x224, an image takes twice as long."""

LARGEST_BATCH = 256

RUN_LINEAR = "run a linear evaluation first (train/configs/linear.yaml) and evaluate the file that it writes"


@dataclass(frozen=True, eq=False)
class Classifier:
    """A network with its own classifier, ready to run.

    Attributes:
        path: the file.
        info: name, resolution, normalisation and labels of the network.
        outputs: number of scores per image.
        batch: images per run.
        projects: whether the head looks like a projection of pretraining: it has more than one linear layer.
        described_by: the entries of a record about the file and the runtime.
        runner: the runtime in a few words, for tables.
        scores: returns the scores (N, outputs) of normalised images (N, 3, resolution, resolution). Both are float32 on
            the CPU.
    """

    path: Path
    info: ModelInfo
    outputs: int
    batch: int
    projects: bool
    described_by: dict[str, Any]
    runner: str
    scores: Callable[[Tensor], Tensor]


def classifier_from_checkpoint(
    path: str, loaded: Checkpoint, *, device: torch.device, threads: int, batch: int | None = None
) -> Classifier:
    """Returns the classifier in a checkpoint. PyTorch runs it.

    Args:
        path: the file.
        loaded: the loaded checkpoint. Its network moves to the device.
        device: the device to run on.
        threads: number of torch's threads, in this whole process.
        batch: images per run. None for a number that suits the resolution.

    Raises:
        UserError: the network has no classifier, or cannot take images of its resolution.
    """
    network, info = loaded.model, loaded.info
    network.check_resolution(info.resolution)
    if not network.config.head or network.config.head_relu:
        ends_in = "a hidden layer" if network.config.head else "pooled features"
        raise UserError(f"checkpoint {path} ends in {ends_in} and has no classifier; {RUN_LINEAR}")
    torch.set_num_threads(threads)
    network.to(device)
    network.to(memory_format=torch.channels_last)
    at_once = batch or (LARGEST_BATCH if device.type == "cuda" else _fitting(CPU_PIXELS, info))

    # TF32 rounds the scales of the binary weights to 11 bits, and values then cross thresholds. On a CPU, torch
    # computes the convolutions. Our own kernels would otherwise be compared with themselves in an exported file.
    @torch.inference_mode()
    def scores(images: Tensor) -> Tensor:
        try:
            with torch.backends.cudnn.flags(enabled=True, allow_tf32=False), torch_convolutions():
                parts = images.to(memory_format=torch.channels_last).split(at_once)
                return torch.cat([network(part.to(device)).cpu() for part in parts])
        except torch.OutOfMemoryError:
            raise UserError(f"the GPU's memory is too small to run {path} on this batch; lower --batch") from None

    where = "cpu" if device.type == "cpu" else torch.cuda.get_device_name(device)
    return Classifier(
        path=Path(path),
        info=info,
        outputs=network.outputs,
        batch=at_once,
        projects=len(network.config.head) > 1,
        described_by={
            "checkpoint": path,
            "format": "checkpoint",
            "layout": loaded.layout,
            "assumed": list(loaded.assumed),
            "runtime": "torch",
            "runtime_version": torch.__version__,
            "device": where,
        },
        runner=f"torch {torch.__version__}, {where}",
        scores=scores,
    )


def classifier_from_export(model: runtime.Model, *, batch: int | None = None, hints: Hints = NO_HINTS) -> Classifier:
    """Returns the classifier in an exported file. The runtime of its format runs it.

    Args:
        model: the loaded file.
        batch: images per run, if the file has a free batch size. None for a number that suits the resolution.
        hints: resolution and normalisation, if the file does not say them.

    Raises:
        UserError: the file takes no RGB images, contradicts the hints, or cannot run.
    """
    check(model.channels == 3, f"model {model.path} takes images of {model.channels} channels; give one for RGB images")
    given = {name: value for name in ("resolution", "mean", "std") if (value := getattr(hints, name)) is not None}
    for name, value in given.items() if model.described else ():
        said = getattr(model.info, name)
        check(said == value, f"model {model.path} says that its {name} is {said}, not {value}; leave out the {name}")
    model = replace(model, info=replace(model.info, **given))
    outputs = model.run(np.zeros((model.batch or 1, *model.image_shape), np.float32)).shape[1]
    at_once = model.batch or batch or _fitting(EXPORT_PIXELS, model.info)

    def scores(images: Tensor) -> Tensor:
        parts = [_run_whole_batch(model, part.numpy()) for part in images.split(at_once)]
        return torch.from_numpy(np.concatenate(parts))

    return Classifier(
        path=model.path,
        info=model.info,
        outputs=outputs,
        batch=at_once,
        projects=False,
        described_by={
            "artifact": model.path.name,
            "format": model.format,
            "assumed": [] if model.described or hints.mean else ["ImageNet's normalisation"],
            "runtime": model.runtime,
            "runtime_version": model.runtime_version,
            "device": "cpu",
        }
        | ({"isa": model.isa} if model.isa else {}),
        runner=f"{model.runtime} {model.runtime_version}{f', {model.isa}' if model.isa else ''}",
        scores=scores,
    )


def _fitting(pixels: int, info: ModelInfo) -> int:
    return max(1, min(LARGEST_BATCH, pixels // info.resolution**2))


def _run_whole_batch(model: runtime.Model, images: np.ndarray) -> np.ndarray:
    """Returns the scores of the images. Copies of the last image fill a batch that the file fixes."""
    count = len(images)
    missing = -count % (model.batch or 1)
    return model.run(np.concatenate([images, images[-1:].repeat(missing, axis=0)]) if missing else images)[:count]
