"""What of a machine makes a binary network slow, from `edgebnn.runtime.system.machine.describe`'s words."""

from typing import Any

from edgebnn.doctor.report import Finding

WIDE = {"aarch64", "arm64", "x86_64", "amd64", "armv8l"}
"""Architectures of 64-bit processors; a 32-bit process on a 64-bit ARM kernel says "armv8l" or "aarch64"."""

SLOW_GOVERNORS = {"powersave", "conservative"}


def find(machine: dict[str, Any], *, format_: str, threads: int, forced_isa: str | None) -> list[Finding]:
    """Findings about a machine.

    Args:
        machine: as `describe` gives it.
        format_: of the file: "onnx", "onnx-packed", "lce" or "tflite".
        threads: threads that will be used.
        forced_isa: what EDGEBNN_ISA says, None where it says nothing.
    """
    found = []
    architecture, features = str(machine["architecture"]).lower(), set(machine["features"])
    if machine["bits"] == 32 and architecture in WIDE:
        what = "a 32-bit userland on a 64-bit processor: binary kernels have half the registers and words"
        remedy = "install a 64-bit system (Raspberry Pi OS 64-bit) and 64-bit Python, or LCE's aarch64 build"
        found.append(Finding("32-bit userland", "problem", what, remedy))
    elif machine["bits"] == 32 and format_ == "onnx-packed":
        what = "a 32-bit processor or userland: the packed kernels run their plain path, several times slower"
        found.append(
            Finding("32-bit", "problem", what, "use a 64-bit board, or LCE's aarch32 build with a .tflite file")
        )
    if format_ == "onnx-packed" and architecture in ("x86_64", "amd64") and "avx2" not in features:
        what = "the processor has no AVX2: the packed kernels run their plain path, several times slower"
        found.append(
            Finding("instruction set", "problem", what, "use a processor of 2013 or later; check the VM's flags")
        )
    if forced_isa and format_ == "onnx-packed":
        what = f"EDGEBNN_ISA forces the path {forced_isa}"
        found.append(Finding("forced path", "note", what, "unset EDGEBNN_ISA, so that the fastest path is taken"))
    cores = machine["cores"]
    if cores and threads > cores:
        what = f"{threads} threads on {cores} cores: they wait for one another"
        found.append(Finding("threads", "problem", what, f"use {cores} threads at most"))
    if machine["governor"] in SLOW_GOVERNORS:
        what = f"the clock's governor is {machine['governor']}: the core stays or starts slow"
        remedy = "measure with `cpupower frequency-set -g performance`, and set it back"
        found.append(Finding("governor", "note", what, remedy))
    return found
