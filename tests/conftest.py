"""What holds for every test, and for every process a test starts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgebnn.optional import PACKAGES

ROOT = Path(__file__).parents[1]
# Both before torch is imported. As `python -m train` has it:
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Tests that run side by side (`pytest -n 2`) get a core each.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this clone, built once for all tests and all workers."""
    from filelock import FileLock

    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    with FileLock(folder / "wheel.lock"):
        # A build that failed is not tried again.
        if not (folder / "wheel").exists():
            (folder / "wheel").mkdir()
            subprocess.run([*command, "--wheel-dir", str(folder / "wheel"), str(ROOT)], check=True, timeout=280)
    (built,) = (folder / "wheel").glob("*.whl")
    return built


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints how many tests were left out because a package is not published for this Python, a line each."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = [report.longrepr[2].removeprefix("Skipped: ") for report in skipped]
    for package in PACKAGES.values():
        if count := reasons.count(package.unpublished()):
            tests = f"{count} test{'s' * (count > 1)}"
            terminalreporter.write_line(f"left out: {tests}, because {package.unpublished()}")
