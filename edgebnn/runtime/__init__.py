"""What a device needs: load a model, run it, time it, describe the machine. NumPy and onnxruntime only."""

from edgebnn.runtime.bench import Latency, measure, peak_memory, single_runs
from edgebnn.runtime.kernels import library_path
from edgebnn.runtime.load import load
from edgebnn.runtime.model import Model

__all__ = ["Latency", "Model", "library_path", "load", "measure", "peak_memory", "single_runs"]
