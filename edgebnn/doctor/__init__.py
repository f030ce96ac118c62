"""`edgebnn doctor`: finds out why a model file is slow, large or wrong on a device.

It needs NumPy and ONNX Runtime only.
"""

from edgebnn.doctor.examine import examine
from edgebnn.doctor.report import DoctorReport, Finding

__all__ = ["DoctorReport", "Finding", "examine"]
