"""Tries a model file in a process of its own, because its interpreter does not check what it reads."""

import subprocess
import sys
from pathlib import Path

from edgebnn.errors import UserError

TRIAL_SECONDS = 120
TRIAL_BYTES = 8 << 30


def try_in_subprocess(module: str, data: bytes, path: Path, what: str) -> None:
    """Loads and runs a model once in a process of its own.

    Args:
        module: the module to run. It reads the file from stdin.
        data: the file.
        path: where the file lies, for messages.
        what: what the file should be, for messages.

    Raises:
        UserError: the process failed, crashed, or ran longer than `TRIAL_SECONDS`.
    """
    command = [sys.executable, "-m", module]
    try:
        # It runs in the root folder: `-m` searches the current folder for modules, and a user may have a select.py.
        done = subprocess.run(  # noqa: S603
            command, input=data, capture_output=True, timeout=TRIAL_SECONDS, cwd=Path(sys.executable).anchor
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"model {path} did not finish one run in {TRIAL_SECONDS} s; export it again") from None
    if done.returncode:
        lines = done.stderr.decode(errors="replace").split("\n")
        said = next((line for line in lines if "ERROR" in line or "Error" in line), "the interpreter crashed")
        raise UserError(f"model {path} is damaged, or no {what} ({said}); export it again")


def limit_memory() -> None:
    """Limits the memory of this process to `TRIAL_BYTES`, where the system has such a limit."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (TRIAL_BYTES, TRIAL_BYTES))
    except (ImportError, ValueError, OSError):
        pass
