"""Finds what makes a binary network slow on a machine."""

from typing import Any

from edgebnn.doctor.report import Finding

SIXTY_FOUR_BIT = {"aarch64", "arm64", "x86_64", "amd64", "armv8l"}
"""Architectures of 64-bit processors. A 32-bit process on a 64-bit ARM kernel reports "armv8l" or "aarch64"."""

SLOW_GOVERNORS = {"powersave", "conservative"}


def find_machine_problems(
    machine: dict[str, Any], *, format_: str, threads: int, forced_isa: str | None
) -> list[Finding]:
    """Returns the findings about a machine.

    Args:
        machine: the result of `edgebnn.runtime.system.machine.describe`.
        format_: the file's format: "onnx", "onnx-packed", "lce" or "tflite".
        threads: number of threads that a run will use.
        forced_isa: the value of EDGEBNN_ISA, or None if it is not set.
    """
    packed = format_ == "onnx-packed"
    found = [
        _find_userland(machine, packed=packed),
        _find_instruction_set(machine, packed=packed),
        _find_forced_path(forced_isa, packed=packed),
        _find_threads(machine, threads),
        _find_governor(machine),
    ]
    return [finding for finding in found if finding is not None]


def _find_userland(machine: dict[str, Any], *, packed: bool) -> Finding | None:
    if machine["bits"] != 32:
        return None
    if str(machine["architecture"]).lower() in SIXTY_FOUR_BIT:
        what = "a 32-bit userland on a 64-bit processor: binary kernels have half the registers, of half the width"
        remedy = "install a 64-bit system (Raspberry Pi OS 64-bit) and 64-bit Python, or LCE's aarch64 build"
        return Finding("32-bit userland", "problem", what, remedy)
    if packed:
        what = "a 32-bit processor or userland: the packed kernels run their plain path, several times slower"
        return Finding("32-bit", "problem", what, "use a 64-bit board, or LCE's aarch32 build with a .tflite file")
    return None


def _find_instruction_set(machine: dict[str, Any], *, packed: bool) -> Finding | None:
    intel = str(machine["architecture"]).lower() in ("x86_64", "amd64")
    if not packed or not intel or "avx2" in machine["features"]:
        return None
    what = "the processor has no AVX2: the packed kernels run their plain path, several times slower"
    return Finding("instruction set", "problem", what, "use a processor of 2013 or later; check the VM's flags")


def _find_forced_path(forced_isa: str | None, *, packed: bool) -> Finding | None:
    if not forced_isa or not packed:
        return None
    what = f"EDGEBNN_ISA forces the path {forced_isa}"
    return Finding("forced path", "note", what, "unset EDGEBNN_ISA to use the fastest path")


def _find_threads(machine: dict[str, Any], threads: int) -> Finding | None:
    cores = machine["cores"]
    if not cores or threads <= cores:
        return None
    what = f"{threads} threads on {cores} cores: the threads wait for one another"
    return Finding("threads", "problem", what, f"use {cores} threads at most")


def _find_governor(machine: dict[str, Any]) -> Finding | None:
    if machine["governor"] not in SLOW_GOVERNORS:
        return None
    what = f"the clock's governor is {machine['governor']}: the core's clock stays low, or rises slowly"
    remedy = "measure with `cpupower frequency-set -g performance`, and set the old governor again afterwards"
    return Finding("governor", "note", what, remedy)
