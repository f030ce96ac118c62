"""Runs TFLite files in the interpreter of the Larq Compute Engine, without TensorFlow.

`import larq_compute_engine` would import TensorFlow for its converter. The interpreter is one C extension of that
package and needs only NumPy. So this module loads the extension from its file.

The interpreter does not check its input. A damaged file makes it read outside its memory and ends the process.
Therefore every file first runs once in a process of its own: `python -m edgebnn.runtime.lce < FILE`.
"""

import importlib.util
import sys
import threading
import time
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from edgebnn.errors import UserError, check
from edgebnn.graph.info import METADATA_KEY
from edgebnn.optional import LCE_PACKAGE, require
from edgebnn.runtime.formats import tflite
from edgebnn.runtime.model import Model, make_info, parse_image_shape
from edgebnn.runtime.trial import limit_memory, try_in_subprocess

LCE_PREFIX = "Lce"
"""The names of LCE's operators begin with this."""

EXTENSION = "larq_compute_engine.tflite.python.interpreter_wrapper_lite"


def load_lce_model(path: Path, threads: int) -> Model:
    """Loads a TFLite image classifier. See `edgebnn.runtime.load_model` for arguments and errors."""
    data = tflite.read_tflite_file(path)
    text = tflite.read_metadata(data, METADATA_KEY, f"model {path}")
    kinds = tflite.custom_operators(data, f"model {path}")
    extension = _extension()
    try_in_subprocess("edgebnn.runtime.lce", data, path, "model of the Larq Compute Engine")
    begin = time.perf_counter_ns()
    interpreter = _interpreter(extension, data, threads)
    init_ms = (time.perf_counter_ns() - begin) / 1e6
    shapes, types = interpreter.input_shapes, interpreter.input_types
    check(
        len(shapes) == 1 and types == [np.dtype(np.float32)] and len(interpreter.output_shapes) == 1,
        f"model {path} does not take one float32 image and return one output; give an image classifier",
    )
    check(len(shapes[0]) == 4, f"model {path} takes an input of shape {shapes[0]}, no image; give an image classifier")
    count, height, width, depth = shapes[0]
    batch, channels, side = parse_image_shape([count, depth, height, width], path)

    # An interpreter keeps its input and output in its own memory, and frees Python's lock while it runs.
    one_at_a_time = threading.Lock()

    def infer(images: np.ndarray) -> np.ndarray:
        image = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
        with one_at_a_time:
            return interpreter.predict([image])[0]

    return Model(
        path=path,
        format="lce" if any(kind.startswith(LCE_PREFIX) for kind in kinds) else "tflite",
        runtime="lce",
        runtime_version=metadata.version("larq-compute-engine"),
        threads=threads,
        info=make_info(None if text is None else str(text, "utf-8", "replace"), path, side, channels),
        described=text is not None,
        channels=channels,
        batch=batch,
        _infer=infer,
        init_ms=init_ms,
    )


def open_interpreter(data: bytes, *, threads: int) -> Any:
    """Returns LCE's interpreter of a file that is known to be sound.

    Args:
        data: the file.
        threads: number of threads that a run may use.

    Raises:
        UserError: LCE is not installed, or NumPy is too new for it.
    """
    return _interpreter(_extension(), data, threads)


def _extension() -> ModuleType:
    """Returns the C extension. It gets its usual name in `sys.modules`, so that larq_compute_engine shares it."""
    if EXTENSION in sys.modules:
        return sys.modules[EXTENSION]
    package, *folders, name = EXTENSION.split(".")
    require("a .tflite file", LCE_PACKAGE, install=LCE_PACKAGE.name)
    check(
        np.lib.NumpyVersion(np.__version__) < "2.0.0",
        f"the Larq Compute Engine cannot work with NumPy {np.__version__}; pip install 'numpy<2'",
    )
    root = importlib.util.find_spec(package)
    places = root.submodule_search_locations if root else None
    found = PathFinder.find_spec(name, [str(Path(place, *folders)) for place in places or []])
    if found is None or found.origin is None:
        raise UserError(f"{LCE_PACKAGE.name} is damaged; pip install --force-reinstall --no-deps {LCE_PACKAGE.name}")
    spec = importlib.util.spec_from_file_location(EXTENSION, found.origin)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules[EXTENSION] = module
    return module


def _interpreter(extension: ModuleType, data: bytes, threads: int) -> Any:
    use_reference_bconv = use_indirect_bgemm = use_xnnpack = False
    return extension.LiteInterpreter(data, threads, use_reference_bconv, use_indirect_bgemm, use_xnnpack)


def _try_stdin() -> None:
    """Loads the model on stdin and runs it once, with limited memory."""
    limit_memory()
    interpreter = _interpreter(_extension(), sys.stdin.buffer.read(), 1)
    interpreter.predict(
        [np.zeros(shape, dtype) for shape, dtype in zip(interpreter.input_shapes, interpreter.input_types)]
    )


if __name__ == "__main__":
    _try_stdin()
