"""What a latency depends on besides the model: the machine and the versions."""

import os
import platform
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

FEATURES = {
    # By the names of Linux, x86 and ARM; 32-bit ARM says neon, 64-bit asimd.
    "avx2": "avx2",
    "avx512f": "avx512f",
    "avx512_vpopcntdq": "avx512_vpopcntdq",
    "neon": "neon",
    "asimd": "neon",
    "asimddp": "dotprod",
    "i8mm": "i8mm",
}
"""Linux's names of the instruction sets that make a difference to binary networks, and ours."""


def describe() -> dict[str, Any]:
    """The machine as plain JSON.

    Keys: cpu, cores (those this process may use), features (see `FEATURES`), architecture, bits (of
    this process), governor (None where the system does not tell), os, python, numpy, onnxruntime.
    """
    cpu, features = parse_cpuinfo(_read("/proc/cpuinfo"))
    # The device tree names a board ("Raspberry Pi 4 Model B Rev 1.4") where the processor has no name.
    cpu = cpu or _read("/proc/device-tree/model").strip("\0\n") or platform.processor() or platform.machine()
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "features": features,
        "architecture": platform.machine(),
        "bits": 64 if sys.maxsize > 2**32 else 32,
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").strip() or None,
        "os": platform.platform(terse=True),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "onnxruntime": onnxruntime.__version__,
    }


def one_line(machine: dict[str, Any]) -> str:
    """`describe()`'s dict for people."""
    parts = [
        str(machine["cpu"]),
        f"{machine['cores']} cores",
        f"{machine['architecture']} ({machine['bits']}-bit)",
        " ".join(machine["features"]),
        f"governor {machine['governor']}" if machine["governor"] else "",
        str(machine["os"]),
    ]
    return ", ".join(part for part in parts if part)


def parse_cpuinfo(text: str) -> tuple[str, list[str]]:
    """The processor's name ("" where it has none) and its features, from the text of /proc/cpuinfo."""
    fields = dict(re.findall(r"^([^:\n]+?)[ \t]*:[ \t]*(.*?)[ \t]*$", text, re.MULTILINE))
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    features = [ours for name, ours in FEATURES.items() if name in flags]
    # A Raspberry Pi's file ends with "Model", the board; "model name" is the processor on x86.
    return fields.get("Model") or fields.get("model name") or "", features


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
