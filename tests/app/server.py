"""A Streamlit server of a test: its port, and the wait for it."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]
ROOT = Path(__file__).parents[2]
PATIENCE = 120
"""Seconds within which it has to answer."""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextmanager
def dashboard(runs: Path, *options: str) -> Iterator[str]:
    """Runs the dashboard on the records under `runs`, as `streamlit run app/main.py` does, and gives its address."""
    port = free_port()
    command = [sys.executable, "-m", "streamlit", "run", "app/main.py", "--server.port", str(port)]
    with running([*command, "--", "--runs", os.fspath(runs), *options], port, ROOT) as address:
        yield address


@contextmanager
def running(command: Sequence[str | Path], port: int, folder: Path) -> Iterator[str]:
    """Runs the command in `folder`, which has to answer on the port, and gives its address."""
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://localhost:{port}"
    try:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                with urllib.request.urlopen(f"{address}/_stcore/health", timeout=5) as answer:  # noqa: S310
                    assert answer.read() == b"ok"
                    break
            except OSError:
                assert process.poll() is None, "streamlit ended"
                assert time.monotonic() < end, "streamlit does not answer"
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=20)
