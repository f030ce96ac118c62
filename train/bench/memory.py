"""Peak memory of this process: what CUDA allocated on a GPU, or the resident memory on a CPU."""

import resource
import sys
from pathlib import Path

import torch


def reset_peak_memory(device: str) -> int:
    """Returns the bytes in use, and on a GPU starts a new peak measurement."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    return _resident("VmRSS")


def peak_memory(device: str) -> int:
    """Returns the largest number of bytes in use at once."""
    return torch.cuda.max_memory_allocated() if device == "cuda" else _resident("VmHWM")


def _resident(field: str) -> int:
    status = Path("/proc/self/status")
    if status.exists():
        # ru_maxrss is wrong here, because on Linux a process inherits it from its parent.
        (line,) = (line for line in status.read_text().splitlines() if line.startswith(field))
        return 1024 * int(line.split()[1])
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
