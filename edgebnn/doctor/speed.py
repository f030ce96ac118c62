"""Estimates the least time of a file's multiply-accumulates on one core: this machine's core, or a named one."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgebnn.doctor.analysis.convolutions import Convolution
from edgebnn.doctor.report import Speed, Work
from edgebnn.errors import UserError
from edgebnn.runtime import kernels

INT8_FACTOR = 2
"""How many int8 products a core computes in the time of one float product (docs/notes/exports.md)."""

MATRIX_SIDE = 64
"""Side of the float matrices that are multiplied. NumPy's BLAS uses one thread for them, and they fit the L1 cache."""

TRIES, REPEATS = 7, 50


@dataclass(frozen=True)
class Core:
    """The rates of one core, in multiply-accumulates per second.

    Attributes:
        name: the core and its clock.
        binary: rate for bits (EOR, CNT and ADD of 128 bits on ARM); 0 if it is not known.
        floats: rate for float32.
    """

    name: str
    binary: float
    floats: float


CORES = {
    "cortex-a53": Core("Cortex-A53 at 1.4 GHz (Raspberry Pi 3), estimated", 1.4e9 * 128 / 3, 1.4e9 * 4),
    "cortex-a55": Core("Cortex-A55 at 2.0 GHz (small core of phones), estimated", 2.0e9 * 128 / 3, 2.0e9 * 4),
    "cortex-a57": Core("Cortex-A57 at 1.43 GHz (Jetson Nano), estimated", 1.43e9 * 128 / 1.69, 1.43e9 * 4),
    "cortex-a72": Core("Cortex-A72 at 1.5 GHz (Raspberry Pi 4), llvm-mca's model", 1.5e9 * 128 / 1.69, 1.5e9 * 4),
    "cortex-a76": Core("Cortex-A76 at 2.4 GHz (Raspberry Pi 5), estimated", 2.4e9 * 128 / 1.5, 2.4e9 * 8),
    "cortex-a78": Core("Cortex-A78 at 2.4 GHz (phones), estimated", 2.4e9 * 128 / 1.5, 2.4e9 * 8),
    "cortex-a78ae": Core("Cortex-A78AE at 2.0 GHz (Jetson Orin), estimated", 2.0e9 * 128 / 1.5, 2.0e9 * 8),
    "cortex-x1": Core("Cortex-X1 at 2.8 GHz (large core of phones), estimated", 2.8e9 * 128 / 0.75, 2.8e9 * 16),
}
"""Binary rates: docs/notes/kernels.md, "On ARM". The A53 and the A55 have one vector unit of 128 bits, so EOR, CNT and
ADD take three cycles. The A57 is taken for an A72, and the A78 for an A76. The X1 has twice an A76's units.
Float rates: FMLA of 4 lanes, one per cycle up to the A72, two on the A76 and A78, four on the X1."""


def measure_this_machine() -> Core:
    """Measures the rates of this machine's core in about a tenth of a second. The best of several tries counts."""
    left = np.random.default_rng(0).standard_normal((MATRIX_SIDE, MATRIX_SIDE), np.float32)
    out = np.empty_like(left)
    best = np.inf
    for _ in range(TRIES):
        start = time.perf_counter()
        for _ in range(REPEATS):
            np.matmul(left, left, out=out)
        best = min(best, (time.perf_counter() - start) / REPEATS)
    try:
        isa = kernels.isa()
        binary, name = max(kernels.popcount_ceiling(isa) for _ in range(TRIES)), f"this machine, measured ({isa})"
    except UserError:
        binary, name = 0.0, "this machine, measured (no rate for bits: the kernels do not run)"
    return Core(name, binary, MATRIX_SIDE**3 / best)


def roofline(convolutions: Sequence[Convolution], core: Core, remark: str = "") -> Speed:
    """Returns the least time of the convolutions and linear layers on a core.

    Args:
        convolutions: the file's convolutions and linear layers.
        core: the core.
        remark: a remark for the report.
    """
    rates = {"binary": core.binary, "integer": INT8_FACTOR * core.floats, "float": core.floats}
    macs = dict.fromkeys(rates, 0)
    for each in convolutions:
        macs["float" if each.kind == "linear" else each.kind] += each.macs
    work = (
        Work(kind, macs[kind], rate, 1e3 * macs[kind] / rate if rate else None)
        for kind, rate in rates.items()
        if macs[kind]
    )
    return Speed(core.name, tuple(work), remark)
