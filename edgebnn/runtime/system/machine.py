"""Describes the machine and the software versions that a latency depends on."""

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
    # Linux's name on the left. For the same unit, 32-bit ARM reports neon and 64-bit ARM reports asimd.
    "avx2": "avx2",
    "avx512f": "avx512f",
    "avx512_vpopcntdq": "avx512_vpopcntdq",
    "avx512_vnni": "avx512_vnni",
    "neon": "neon",
    "asimd": "neon",
    "asimddp": "dotprod",
    "i8mm": "i8mm",
}
"""The instruction sets that matter to binary networks: Linux's name for each, and edgebnn's name."""

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
    0xD42: "Cortex-A78AE",
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
"""Arm's own cores by their part number in MIDR_EL1 (Linux: arch/arm64/include/asm/cputype.h)."""


def describe() -> dict[str, Any]:
    """Returns a description of this machine as JSON data.

    The keys are those of `hardware`, and "python", "numpy" and "onnxruntime" for their versions. "cores" is the number
    of cores that this process may use.
    """
    described = hardware(facts.read_facts())
    return described | {
        "cpu": described["cpu"] or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "os": platform.platform(terse=True),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "onnxruntime": onnxruntime.__version__,
    }


def hardware(found: Facts) -> dict[str, Any]:
    """Returns a description of a machine as JSON data, from its facts (`edgebnn.runtime.system.facts`).

    Keys:

    - cpu: name of the processor or the board; "" if none is known
    - cores: number of cores
    - features: instruction sets, see `FEATURES`
    - core_types: number of cores by the core's name; empty if the processor does not report it
    - architecture: as `uname -m` prints it
    - bits: 32 or 64, of the programs; a 64-bit kernel can run 32-bit programs. None if unknown
    - governor: the clock's governor; None if the system does not report it
    - os: name of the operating system
    """
    text = found.get("/proc/cpuinfo", "")
    cpu, features = parse_cpuinfo(text)
    hardware_line = re.search(r"^Hardware\s*:\s*(.+?)\s*$", text, re.MULTILINE)
    # The device tree names the board ("Raspberry Pi 4 Model B Rev 1.4") if the processor has no name.
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
    """Returns the result of `describe` or `hardware` as one line of text."""
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
    """Returns the processor's name ("" if it has none) and its features, from the text of /proc/cpuinfo."""
    fields = dict(re.findall(r"^([^:\n]+?)[ \t]*:[ \t]*(.*?)[ \t]*$", text, re.MULTILINE))
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    features = list(dict.fromkeys(ours for name, ours in FEATURES.items() if name in flags))
    # On a Raspberry Pi "Model" names the board. On x86 "model name" names the processor.
    return fields.get("Model") or fields.get("model name") or "", features


def core_types(text: str) -> dict[str, int]:
    """Returns the number of cores of each Arm design in the text of /proc/cpuinfo. Other makers' cores are left out."""
    found: Counter[str] = Counter()
    for block in re.split(r"\n\s*\n", text):
        fields = dict(re.findall(r"^([^:\n]+?)[ \t]*:[ \t]*(.*?)[ \t]*$", block, re.MULTILINE))
        if "processor" in fields and fields.get("CPU implementer", "").lower() == "0x41":
            try:
                found[ARM_PARTS[int(fields["CPU part"], 16)]] += 1
            except (KeyError, ValueError):
                continue
    return dict(found)
