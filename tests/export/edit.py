"""Faults to plant in ONNX files."""

from collections.abc import Callable

import numpy as np
import onnx
from onnx import numpy_helper


def with_initializer(data: bytes, name: str, change: Callable[[np.ndarray], None]) -> bytes:
    """An ONNX file with one constant changed in place."""
    model = onnx.load_from_string(data)
    for tensor in model.graph.initializer:
        if tensor.name == name:
            value = numpy_helper.to_array(tensor).copy()
            change(value)
            tensor.CopyFrom(numpy_helper.from_array(value, name))
            return model.SerializeToString()
    raise AssertionError(name)
