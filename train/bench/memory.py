"""Peak memory of this process: what CUDA allocated, or what the kernel says was resident."""

import resource
import sys
from pathlib import Path

import torch


def start(device: str) -> int:
    """Bytes in use now; peaks are counted from here."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    return _resident("VmRSS")


def peak(device: str) -> int:
    """The most bytes that were in use at once."""
    return torch.cuda.max_memory_allocated() if device == "cuda" else _resident("VmHWM")


def _resident(field: str) -> int:
    status = Path("/proc/self/status")
    if status.exists():
        # Not ru_maxrss, which a process on Linux inherits from the one that started it.
        (line,) = (line for line in status.read_text().splitlines() if line.startswith(field))
        return 1024 * int(line.split()[1])
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
