"""The part of edgebnn that a device needs: loads, runs and times a model file, and describes the machine.

It needs NumPy and ONNX Runtime only.
"""

from edgebnn.runtime.bench import Latency, measure_latency, measure_runs, peak_memory
from edgebnn.runtime.kernels import library_path
from edgebnn.runtime.load import load_model
from edgebnn.runtime.model import Model

__all__ = ["Latency", "Model", "library_path", "load_model", "measure_latency", "measure_runs", "peak_memory"]
