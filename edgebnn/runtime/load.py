"""Loads a model file with the runtime of its format."""

from pathlib import Path

from edgebnn.errors import UserError, check
from edgebnn.files import existing_file
from edgebnn.runtime import lce, ort
from edgebnn.runtime.model import Model

MAX_THREADS = 1024
LOADERS = {".onnx": ort.load_onnx_model, ".tflite": lce.load_tflite_model}


def load_model(path: str | Path, *, threads: int = 1) -> Model:
    """Loads an ONNX file into ONNX Runtime, or a TFLite file into the Larq Compute Engine.

    Args:
        path: the file, `.onnx` or `.tflite`.
        threads: number of threads that a run may use.

    Raises:
        UserError: the file is missing, damaged, of another format, or no image classifier, or its runtime is not
            installed.
    """
    check(1 <= threads <= MAX_THREADS, f"{threads} threads cannot run a model; give 1 to {MAX_THREADS}")
    path = existing_file(path, "model")
    try:
        loader = LOADERS[path.suffix.lower()]
    except KeyError:
        raise UserError(f"model {path} is neither {' nor '.join(LOADERS)}; export it first") from None
    return loader(path, threads)
