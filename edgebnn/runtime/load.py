"""Loads a model file with the runtime of its format."""

from pathlib import Path

from edgebnn.errors import UserError, check
from edgebnn.files import existing_file
from edgebnn.optional import LITERT_PACKAGE
from edgebnn.runtime import lce, litert, ort
from edgebnn.runtime.formats import tflite
from edgebnn.runtime.model import Model

MAX_THREADS = 1024


def load_tflite_model(path: Path, threads: int) -> Model:
    """Loads a file with LCE's operators into LCE, and a plain one into LiteRT, or into LCE without LiteRT."""
    kinds = tflite.custom_operators(tflite.read_tflite_file(path), f"model {path}")
    for_lce = any(kind.startswith(lce.LCE_PREFIX) for kind in kinds) or bool(LITERT_PACKAGE.missing())
    return (lce.load_lce_model if for_lce else litert.load_litert_model)(path, threads)


LOADERS = {".onnx": ort.load_onnx_model, ".tflite": load_tflite_model}


def load_model(path: str | Path, *, threads: int = 1) -> Model:
    """Loads an ONNX file into ONNX Runtime, or a TFLite file into the Larq Compute Engine or LiteRT.

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
