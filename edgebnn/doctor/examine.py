"""Examines a model file: reads it and collects all findings in a report."""

import os
from pathlib import Path
from typing import Literal

from edgebnn.doctor import environment, findings, sizes, speed
from edgebnn.doctor.analysis.convolutions import find_convolutions
from edgebnn.doctor.file_graph import FileGraph
from edgebnn.doctor.readers import onnx as onnx_reader
from edgebnn.doctor.readers import tflite as tflite_reader
from edgebnn.doctor.report import DoctorReport
from edgebnn.errors import UserError, check
from edgebnn.files import existing_file
from edgebnn.runtime.formats import tflite
from edgebnn.runtime.system import machine

LARGEST_FILE = 2 << 30
"""Bytes. Files of both formats are smaller."""


def examine(
    path: str | Path,
    *,
    core: str | None = None,
    threads: int = 1,
    trained_in: Literal["pytorch", "tensorflow"] | None = None,
) -> DoctorReport:
    """Examines an `.onnx` or `.tflite` file and returns a report.

    Args:
        path: the file. An ONNX file is run once, and a TFLite file is only read.
        core: the core that the file is meant for, a key of `speed.CORES`. With None it is this machine's core, and the
            machine is examined too.
        threads: number of threads that a run will use.
        trained_in: the framework that trained the network, or None if it is not known. SAME padding at stride 2 is
            right for a network trained in TensorFlow and wrong for one trained in PyTorch.

    Raises:
        UserError: the file is missing, damaged or of another format, or the core is unknown.
    """
    check(core is None or core in speed.CORES, f"Unknown core '{core}'. Valid cores are {', '.join(speed.CORES)}")
    path = existing_file(path, "model")
    return diagnose(_read(path), str(path), core=core, threads=threads, trained_in=trained_in)


def diagnose(graph: FileGraph, path: str, *, core: str | None, threads: int, trained_in: str | None) -> DoctorReport:
    """Returns the report on a file that has been read from `path`. The arguments are those of `examine`."""
    layers = tuple(find_convolutions(graph))
    parts = sizes.measure_parts(graph, layers)
    machine_findings, remark = [], ""
    if core is None:
        own = machine.describe()
        isa = os.environ.get("EDGEBNN_ISA")
        machine_findings = environment.find_machine_problems(own, format_=graph.format, threads=threads, forced_isa=isa)
        if graph.format == "lce" and own["architecture"] in ("x86_64", "AMD64"):
            remark = "LCE's x86 kernels are plain and much slower than this; name the device's core with --core"
    return DoctorReport(
        path=path,
        format=graph.format,
        bytes=graph.size,
        findings=(
            *findings.find_convolution_problems(graph, layers, trained_in=trained_in),
            *sizes.find_size_problems(graph, parts),
        ),
        environment=tuple(machine_findings),
        convolutions=layers,
        parts=parts,
        uncounted=sizes.count_other_operators(graph),
        speed=speed.roofline(layers, speed.CORES[core] if core else speed.measure_this_machine(), remark),
    )


def _read(path: Path) -> FileGraph:
    check(
        path.stat().st_size <= LARGEST_FILE,
        f"model {path} has more than {LARGEST_FILE >> 30} GiB; give an image classifier",
    )
    if path.suffix.lower() == ".tflite":
        return tflite_reader.parse_tflite(tflite.read_tflite_file(path), f"model {path}")
    if path.suffix.lower() == ".onnx":
        return onnx_reader.read_onnx(path)
    raise UserError(f"model {path} is neither .onnx nor .tflite; export it first")
