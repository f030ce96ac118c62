"""Opens a TFLite file of `export` in an interpreter, so that the output of each part can be read."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgebnn.optional import LCE_PACKAGE
from edgebnn.runtime import lce, litert

from .file import expose_units, read_operators
from .numpy_model import NumpyModel

Predict = Callable[[np.ndarray], list[np.ndarray]]
"""One image (1, H, W, channels) -> the file's outputs, each with its batch of 1."""


@dataclass(frozen=True, eq=False)
class OpenedFile:
    """A file in an interpreter.

    Attributes:
        runtime: what runs the file: "lce", "litert", or "numpy", the model of LCE's arithmetic.
        predict: one image -> the logits, the stem's output, and every unit's output.
    """

    runtime: str
    predict: Predict

    def run(self, images: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        """Returns the outputs of the parts and the logits.

        Args:
            images: normalised float32 images (N, channels, H, W).

        Returns:
            The stem's output and every unit's output, each (N, channels, H, W) and not rotated, and the logits
            (N, outputs).
        """
        each = [self.predict(np.ascontiguousarray(image[None].transpose(0, 2, 3, 1))) for image in images]
        logits, *outputs = (np.concatenate(parts) for parts in zip(*each))
        return [np.ascontiguousarray(output[:, ::-1, ::-1].transpose(0, 3, 1, 2)) for output in outputs], logits


def open_interpreter(data: bytes) -> OpenedFile:
    """Opens a file in the interpreter of its format.

    An LCE file runs in LCE's interpreter, and in the NumPy model of its arithmetic where LCE is not installed. A plain
    file runs in LiteRT. LCE's x86 kernels are slow: a ReActNet-A at 224x224 takes up to half a second per image.

    Args:
        data: a TFLite file of `export`.

    Raises:
        UserError: the data is no such file, or its interpreter is not installed.
    """
    exposed = expose_units(data)
    if not any(operator.kind.startswith(lce.LCE_PREFIX) for operator in read_operators(data)):
        return OpenedFile("litert", litert.open_interpreter(exposed, threads=1))
    if LCE_PACKAGE.missing():
        return OpenedFile("numpy", NumpyModel(exposed).predict)
    interpreter = lce.open_interpreter(exposed, threads=1)
    return OpenedFile("lce", lambda image: interpreter.predict([image]))
