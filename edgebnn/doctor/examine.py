"""Reads a model file and puts the findings together."""

import os
from pathlib import Path
from typing import Literal

from edgebnn.doctor import environment, findings, sizes, speed
from edgebnn.doctor.analysis import convolutions
from edgebnn.doctor.network import Network
from edgebnn.doctor.readers import onnx as onnx_reader
from edgebnn.doctor.readers import tflite as tflite_reader
from edgebnn.doctor.report import Report
from edgebnn.errors import UserError, check
from edgebnn.files import existing_file
from edgebnn.runtime.formats import tflite
from edgebnn.runtime.system import machine

LARGEST = 2 << 30
"""Bytes: neither format's files are larger."""


def examine(
    path: str | Path,
    *,
    core: str | None = None,
    threads: int = 1,
    trained_in: Literal["pytorch", "tensorflow"] | None = None,
) -> Report:
    """Examines an `.onnx` or `.tflite` file.

    Args:
        path: the file. An ONNX file is run once; a TFLite file is only read.
        core: one of `speed.CORES` that the file is meant for; None is this machine, which then is examined too.
        threads: threads that will be used.
        trained_in: what trained the network, since SAME padding at stride 2 is right for one and wrong for the other;
            None where that is not known.

    Raises:
        UserError: the file is missing, damaged or of another kind, or there is no such core.
    """
    check(core is None or core in speed.CORES, f"Unknown core '{core}'. Valid cores are {', '.join(speed.CORES)}")
    path = existing_file(path, "model")
    return diagnose(_read(path), str(path), core=core, threads=threads, trained_in=trained_in)


def diagnose(network: Network, path: str, *, core: str | None, threads: int, trained_in: str | None) -> Report:
    """`examine` of what has been read from `path`."""
    layers = tuple(convolutions.find(network))
    parts = sizes.parts(network, layers)
    about, remark = [], ""
    if core is None:
        own = machine.describe()
        isa = os.environ.get("EDGEBNN_ISA")
        about = environment.find(own, format_=network.format, threads=threads, forced_isa=isa)
        if network.format == "lce" and own["architecture"] in ("x86_64", "AMD64"):
            remark = "LCE has plain reference kernels on x86, far from this: name the device's core with --core"
    return Report(
        path=path,
        format=network.format,
        bytes=network.size,
        findings=(*findings.find(network, layers, trained_in=trained_in), *sizes.findings(network, parts)),
        environment=tuple(about),
        convolutions=layers,
        parts=parts,
        uncounted=sizes.uncounted(network),
        speed=speed.roofline(layers, speed.CORES[core] if core else speed.this_machine(), remark),
    )


def _read(path: Path) -> Network:
    check(path.stat().st_size <= LARGEST, f"model {path} has more than {LARGEST >> 30} GiB; give an image classifier")
    if path.suffix.lower() == ".tflite":
        return tflite_reader.read(tflite.read(path), f"model {path}")
    if path.suffix.lower() == ".onnx":
        return onnx_reader.read(path)
    raise UserError(f"model {path} is none of .onnx, .tflite; export it first")
