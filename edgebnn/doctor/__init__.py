"""Why a model file is slow, large or wrong on a device: `edgebnn doctor`. NumPy and onnxruntime only."""

from edgebnn.doctor.examine import examine
from edgebnn.doctor.report import Finding, Report

__all__ = ["Finding", "Report", "examine"]
