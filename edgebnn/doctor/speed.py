"""The least time a file's multiply-accumulates take on one core: this machine's, measured, or a named one."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgebnn.doctor.analysis.convolutions import Convolution
from edgebnn.doctor.report import Speed, Work
from edgebnn.errors import UserError
from edgebnn.runtime import kernels

INT8_FACTOR = 2
"""Products of int8 beside those of floats: 82 to 89 against 41 G a second on AVX2 (docs/notes/exports.md)."""

SIDE = 64
"""Of the float matrices multiplied: what NumPy's BLAS does on one thread, in the first cache."""

TRIES, REPEATS = 7, 50


@dataclass(frozen=True)
class Core:
    """Multiply-accumulates a second of one core.

    Attributes:
        name: the core and its clock.
        binary: of bits: EOR, CNT and ADD of 128 bits; 0 where it is not known.
        floats: of float32.
    """

    name: str
    binary: float
    floats: float


CORES = {
    "cortex-a72": Core("Cortex-A72 at 1.5 GHz (Raspberry Pi 4), llvm-mca's model", 1.5e9 * 128 / 1.69, 1.5e9 * 4),
    "cortex-a76": Core("Cortex-A76 at 2.4 GHz (Raspberry Pi 5), estimated", 2.4e9 * 128 / 1.5, 2.4e9 * 8),
}
"""Binary: docs/notes/kernels.md, "On ARM". Floats: FMLA of 4 lanes, one a cycle on the A72 and two on the A76."""


def this_machine() -> Core:
    """This machine's core, measured in about a tenth of a second; the best of several tries."""
    left = np.random.default_rng(0).standard_normal((SIDE, SIDE), np.float32)
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
        binary, name = 0.0, "this machine, measured (bits not: its kernels do not run)"
    return Core(name, binary, SIDE**3 / best)


def roofline(convolutions: Sequence[Convolution], core: Core, remark: str = "") -> Speed:
    """The least time of the convolutions and linear layers on `core`."""
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
