"""Measures the shapes between the nodes of an ONNX file. The file itself does not hold them.

ONNX Runtime runs the file once on an image of zeros, without optimisations. Its profile lists the output shape of each
node.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from edgebnn.errors import UserError, check
from edgebnn.files import temporary_folder
from edgebnn.runtime.ort import FATAL, error_reason, register_kernels

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
"""The largest number of values of an input. No image has more."""

TIME = "_kernel_time"
"""The profile's event for a run of a node is named after the node, with this suffix."""

Shapes = dict[str | int, tuple[int, ...]]
"""The shape of each node's first output, by the node's name and by its number."""


def measure_shapes(path: Path) -> Shapes:
    """Returns the shape of each node's first output for one image.

    Raises:
        UserError: ONNX Runtime cannot run the file.
    """
    with temporary_folder() as folder:
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
        except Exception as error:  # ONNX Runtime's exceptions have no base class of their own
            version = onnxruntime.__version__
            raise UserError(
                f"onnxruntime {version} cannot run model {path} ({error_reason(error)}); export it again"
            ) from None
    found: Shapes = {}
    for event in events:
        arguments = event.get("args", {})
        for shapes in arguments.get("output_type_shape", [])[:1]:
            if event["name"].endswith(TIME):
                shape = tuple(next(iter(shapes.values()), ()))
                found[event["name"].removesuffix(TIME)] = found[int(arguments["node_index"])] = shape
    return found


def _zeros(model_input: Any, path: Path) -> np.ndarray:
    """Returns zeros for an input. If its sizes are free, they are those of one image of 3 x 224 x 224."""
    shape = model_input.shape
    usual_sizes = (1, 3, 224, 224) if len(shape) == 4 else (1,) * len(shape)
    sizes = [size if isinstance(size, int) and size > 0 else usual for size, usual in zip(shape, usual_sizes)]
    check(
        int(np.prod(sizes, dtype=object)) <= LARGEST_INPUT,
        f"model {path} takes an input '{model_input.name}' of {sizes}, more than any image; export it again",
    )
    return np.zeros(sizes, TYPES.get(model_input.type, np.float32))
