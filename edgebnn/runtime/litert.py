"""Runs plain TFLite files in LiteRT, with XNNPACK: TFLite as a phone runs it.

The interpreter does not check its input. Therefore every file first runs once in a process of its own:
`python -m edgebnn.runtime.litert < FILE`.
"""

import sys
import threading
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from edgebnn.errors import check
from edgebnn.graph.info import METADATA_KEY
from edgebnn.optional import LITERT_PACKAGE, require
from edgebnn.runtime.formats import tflite
from edgebnn.runtime.model import Model, make_info, parse_image_shape
from edgebnn.runtime.trial import limit_memory, try_in_subprocess


def load_litert_model(path: Path, threads: int) -> Model:
    """Loads a TFLite image classifier. See `edgebnn.runtime.load_model` for arguments and errors."""
    data = tflite.read_tflite_file(path)
    text = tflite.read_metadata(data, METADATA_KEY, f"model {path}")
    require("a plain .tflite file", LITERT_PACKAGE, install=LITERT_PACKAGE.name)
    try_in_subprocess("edgebnn.runtime.litert", data, path, "plain TFLite model")
    begin = time.perf_counter_ns()
    interpreter = _interpreter(data, threads)
    init_ms = (time.perf_counter_ns() - begin) / 1e6
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    check(
        len(inputs) == len(outputs) == 1 and inputs[0]["dtype"] == np.float32,
        f"model {path} does not take one float32 image and return one output; give an image classifier",
    )
    shape = [int(side) for side in inputs[0]["shape"]]
    check(len(shape) == 4, f"model {path} takes an input of shape {shape}, no image; give an image classifier")
    count, height, width, depth = shape
    batch, channels, side = parse_image_shape([count, depth, height, width], path)
    predict = _predictor(interpreter)
    return Model(
        path=path,
        format="tflite",
        runtime="litert",
        runtime_version=metadata.version(LITERT_PACKAGE.name),
        threads=threads,
        info=make_info(None if text is None else str(text, "utf-8", "replace"), path, side, channels),
        described=text is not None,
        channels=channels,
        batch=batch,
        _infer=lambda images: predict(np.ascontiguousarray(images.transpose(0, 2, 3, 1)))[0],
        init_ms=init_ms,
    )


def open_interpreter(data: bytes, *, threads: int) -> Callable[[np.ndarray], list[np.ndarray]]:
    """Opens a file that is known to be sound.

    Args:
        data: the file.
        threads: number of threads that a run may use.

    Returns:
        A function of the file's input, which returns copies of all its outputs. Several threads may call it.

    Raises:
        UserError: LiteRT is not installed.
    """
    require("a plain .tflite file", LITERT_PACKAGE, install=LITERT_PACKAGE.name)
    return _predictor(_interpreter(data, threads))


def _interpreter(data: bytes, threads: int) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=data, num_threads=threads)
    interpreter.allocate_tensors()
    return interpreter


def _predictor(interpreter: Any) -> Callable[[np.ndarray], list[np.ndarray]]:
    source = interpreter.get_input_details()[0]["index"]
    results = [output["index"] for output in interpreter.get_output_details()]
    # An interpreter holds one set of tensors, so two threads would read each other's answers.
    lock = threading.Lock()

    def predict(images: np.ndarray) -> list[np.ndarray]:
        with lock:
            interpreter.set_tensor(source, images)
            interpreter.invoke()
            return [interpreter.get_tensor(index) for index in results]

    return predict


def _try_stdin() -> None:
    """Loads the model on stdin and runs it once, with limited memory."""
    limit_memory()
    interpreter = _interpreter(sys.stdin.buffer.read(), 1)
    for details in interpreter.get_input_details():
        interpreter.set_tensor(details["index"], np.zeros(details["shape"], details["dtype"]))
    interpreter.invoke()


if __name__ == "__main__":
    _try_stdin()
