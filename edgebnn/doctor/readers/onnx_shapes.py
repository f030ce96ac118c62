"""The shapes between an ONNX file's nodes, which the file does not hold.

One image of zeros is sent through it, with every optimisation off, and ONNX Runtime's profile names each node's.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from edgebnn.errors import UserError, check
from edgebnn.runtime.ort import FATAL, reason, register_kernels

TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}
LARGEST_INPUT = 1 << 28
"""Values; more than any image has."""

TIME = "_kernel_time"
Shapes = dict[str | int, tuple[int, ...]]


def find(path: Path) -> Shapes:
    """The shape of what each node gives first, by the node's name and by its number, for one image.

    Raises:
        UserError: ONNX Runtime cannot run the file.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = FATAL
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder, "profile"))
        register_kernels(path, options)
        try:
            session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"], enable_fallback=0)
            session.run(None, {each.name: _zeros(each, path) for each in session.get_inputs()})
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        except UserError:
            raise
        except Exception as error:  # ONNX Runtime's exceptions share no base of their own
            raise UserError(
                f"onnxruntime {onnxruntime.__version__} cannot run model {path} ({reason(error)}); export it again"
            ) from None
    found: Shapes = {}
    for event in events:
        told = event.get("args", {})
        for shapes in told.get("output_type_shape", [])[:1]:
            if event["name"].endswith(TIME):
                shape = tuple(next(iter(shapes.values()), ()))
                found[event["name"].removesuffix(TIME)] = found[int(told["node_index"])] = shape
    return found


def _zeros(given: Any, path: Path) -> np.ndarray:
    # One image of 3 x 224 x 224, where sizes are free.
    free = (1, 3, 224, 224) if len(given.shape) == 4 else (1,) * len(given.shape)
    sizes = [size if isinstance(size, int) and size > 0 else usual for size, usual in zip(given.shape, free)]
    check(
        int(np.prod(sizes, dtype=object)) <= LARGEST_INPUT,
        f"model {path} takes an input '{given.name}' of {sizes}, more than any image; export it again",
    )
    return np.zeros(sizes, TYPES.get(given.type, np.float32))
