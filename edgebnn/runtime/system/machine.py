"""What a latency depends on besides the model: the machine and the versions."""

import os
import platform
import re
from collections import Counter
from typing import Any

import numpy as np
import onnxruntime

from edgebnn.runtime.system import facts
from edgebnn.runtime.system.facts import Facts

FEATURES = {
    # By the names of Linux, x86 and ARM; 32-bit ARM says neon, 64-bit asimd.
    "avx2": "avx2",
    "avx512f": "avx512f",
    "avx512_vpopcntdq": "avx512_vpopcntdq",
    "avx512_vnni": "avx512_vnni",
    "neon": "neon",
    "asimd": "neon",
    "asimddp": "dotprod",
    "i8mm": "i8mm",
}
"""Linux's names of the instruction sets that make a difference to binary networks, and ours."""

ARM_PARTS = {
    0xD03: "Cortex-A53",
    0xD04: "Cortex-A35",
    0xD05: "Cortex-A55",
    0xD07: "Cortex-A57",
    0xD08: "Cortex-A72",
    0xD09: "Cortex-A73",
    0xD0A: "Cortex-A75",
    0xD0B: "Cortex-A76",
    0xD0C: "Neoverse-N1",
    0xD0D: "Cortex-A77",
    0xD40: "Neoverse-V1",
    0xD41: "Cortex-A78",
    0xD44: "Cortex-X1",
    0xD46: "Cortex-A510",
    0xD47: "Cortex-A710",
    0xD48: "Cortex-X2",
    0xD49: "Neoverse-N2",
    0xD4D: "Cortex-A715",
    0xD4E: "Cortex-X3",
    0xD80: "Cortex-A520",
    0xD81: "Cortex-A720",
    0xD82: "Cortex-X4",
}
"""Arm's own cores by their part number in MIDR_EL1, as Linux lists them (arch/arm64/include/asm/cputype.h)."""


def describe() -> dict[str, Any]:
    """The machine as plain JSON.

    Keys: those of `hardware`, with the cores that this process may use, and the versions of python,
    numpy and onnxruntime.
    """
    described = hardware(facts.read())
    return described | {
        "cpu": described["cpu"] or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "os": platform.platform(terse=True),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "onnxruntime": onnxruntime.__version__,
    }


def hardware(found: Facts) -> dict[str, Any]:
    """What the facts of `edgebnn.runtime.system.facts` say of any machine, as plain JSON.

    Keys: cpu ("" where nothing names it), cores, features (see `FEATURES`), core_types (numbers of cores by
    name; empty where the processor does not tell), architecture, bits (of the programs, which may be 32 on a
    kernel of 64; None if unknown), governor (None where the system does not tell), os.
    """
    text = found.get("/proc/cpuinfo", "")
    cpu, features = parse_cpuinfo(text)
    hardware_line = re.search(r"^Hardware\s*:\s*(.+?)\s*$", text, re.MULTILINE)
    # The device tree names a board ("Raspberry Pi 4 Model B Rev 1.4") where the processor has no name.
    named = [" ".join(found.get("product", "").split()), cpu, found.get("/proc/device-tree/model", "").strip()]
    cores = re.fullmatch(r"[1-9][0-9]{0,5}", found.get("cores", ""))
    governors = {value for path, value in sorted(found.items()) if path.endswith("/scaling_governor")}
    os_name = re.search(r'^PRETTY_NAME="?([^"\n]+)', found.get("/etc/os-release", ""), re.MULTILINE)
    android = found.get("android")
    return {
        "cpu": next((name for name in [*named, hardware_line[1] if hardware_line else ""] if name), ""),
        "cores": int(cores[0]) if cores else len(re.findall(r"^processor\s*:", text, re.MULTILINE)) or 1,
        "features": features,
        "core_types": core_types(text),
        "architecture": found.get("architecture", ""),
        "bits": {"1": 32, "2": 64}.get(found.get("elf_class", "").rpartition(" ")[2]),
        "governor": ", ".join(sorted(governors)) or None,
        "os": f"Android {android}" if android else os_name[1] if os_name else found.get("system", ""),
    }


def one_line(machine: dict[str, Any]) -> str:
    """The dict of `describe` or `hardware` for people."""
    types = machine.get("core_types") or {}
    parts = [
        str(machine["cpu"]),
        f"{machine['cores']} cores"
        + (f" ({', '.join(f'{number} {name}' for name, number in types.items())})" if types else ""),
        f"{machine['architecture']} ({machine['bits'] or '?'}-bit)",
        " ".join(machine["features"]),
        f"governor {machine['governor']}" if machine["governor"] else "",
        str(machine["os"]),
    ]
    return ", ".join(part for part in parts if part)


def parse_cpuinfo(text: str) -> tuple[str, list[str]]:
    """The processor's name ("" where it has none) and its features, from the text of /proc/cpuinfo."""
    fields = dict(re.findall(r"^([^:\n]+?)[ \t]*:[ \t]*(.*?)[ \t]*$", text, re.MULTILINE))
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    features = list(dict.fromkeys(ours for name, ours in FEATURES.items() if name in flags))
    # A Raspberry Pi's file ends with "Model", the board; "model name" is the processor on x86.
    return fields.get("Model") or fields.get("model name") or "", features


def core_types(text: str) -> dict[str, int]:
    """How many cores of each of Arm's designs /proc/cpuinfo lists; those of other makers are left out."""
    found: Counter[str] = Counter()
    for block in re.split(r"\n\s*\n", text):
        fields = dict(re.findall(r"^([^:\n]+?)[ \t]*:[ \t]*(.*?)[ \t]*$", block, re.MULTILINE))
        if "processor" in fields and fields.get("CPU implementer", "").lower() == "0x41":
            try:
                found[ARM_PARTS[int(fields["CPU part"], 16)]] += 1
            except (KeyError, ValueError):
                continue
    return dict(found)
