"""Programs that stand in for a device's, and what tests of devices share."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edgebnn.export.cli import main

# A stand-in for LCE's program, which does not exist for x86: prints what it prints, for three runs.
PRINTED = """INFO: STARTING!
INFO: Initialized session in 1.5ms.
INFO: Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 300 seconds.
INFO: count=16 first=41707 curr=31870 min=31722 max=41707 avg=32491.4 std=2395

INFO: Running benchmark for at least 3 iterations and at least 0 seconds but terminate if exceeding 300 seconds.
INFO: count=3 first=31000 curr=33000 min=31000 max=33000 avg=32000 std=816

INFO: Inference timings in us: Init: 1500, First inference: 41707, Warmup (avg): 32491.4, Inference (avg): 32000
INFO: Memory footprint delta from the start of the tool (MB): init=2.5 overall=8.5
"""


def write_program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def hang(marker: Path) -> str:
    """A program that starts another, says where it runs, and never ends."""
    return f"sleep 1000 & echo $$ $! >'{marker}'; wait"


def prints(text: str) -> str:
    return f"cat <<'END'\n{text}END"


def fails(capsys: pytest.CaptureFixture[str], given: list[str]) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(given)
    assert stopped.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


def alive(marker: Path) -> bool:
    """Whether a process that `hang` named still runs."""
    return any(Path("/proc", pid).exists() and not zombie(pid) for pid in marker.read_text().split())


def zombie(pid: str) -> bool:
    try:
        return Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def wait_for(condition: Callable[[], object], seconds: float = 20) -> bool:
    """Whether the condition came true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False
