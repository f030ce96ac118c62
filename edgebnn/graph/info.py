"""The facts that a model file holds about itself, so that anybody can use it."""

import json
import math
from dataclasses import asdict, dataclass, field

from edgebnn.errors import UserError, check
from edgebnn.graph.shapes import MAX_RESOLUTION

METADATA_KEY = "edgebnn"
"""The metadata key of the JSON text in ONNX files, TFLite files and checkpoints."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

SMALL = 64
"""Below this resolution (CIFAR, digits) a network sees whole images. Nothing is cropped away."""


def resize_side(resolution: int) -> int:
    """Returns the short side, in pixels, to which evaluation resizes an image before it cuts out the centre."""
    return round(resolution * 256 / 224) if resolution >= SMALL else resolution


@dataclass(frozen=True)
class ModelInfo:
    """Facts about a network that are stored in its checkpoint and in every exported file.

    Attributes:
        name: the model's name in records and tables.
        resolution: height and width of the input image in pixels.
        mean: per-channel mean subtracted from an image scaled to [0, 1].
        std: per-channel standard deviation the difference is divided by.
        labels: class names in the order of the logits; empty when unknown.
    """

    name: str = "model"
    resolution: int = 224
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    labels: tuple[str, ...] = field(default=())

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> "ModelInfo":
        """Reads the JSON text that `to_json` wrote.

        Raises:
            UserError: the text is damaged, or its values make no sense.
        """
        try:
            data = json.loads(text)
            info = ModelInfo(
                name=str(data["name"]),
                resolution=int(data["resolution"]),
                mean=tuple(float(value) for value in data["mean"]),
                std=tuple(float(value) for value in data["std"]),
                labels=tuple(str(label) for label in data["labels"]),
            )
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            raise UserError(f"the model's metadata is damaged ({error}); export it again") from None
        sound = (
            info.name != ""
            and 1 <= info.resolution <= MAX_RESOLUTION
            and len(info.mean) == len(info.std) > 0
            and all(math.isfinite(value) for value in info.mean)
            and all(math.isfinite(value) and value > 0 for value in info.std)
        )
        check(sound, "the model's metadata has a name, resolution, mean or std that makes no sense; export it again")
        return info
