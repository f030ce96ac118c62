"""What holds for every test, and for every process a test starts."""

import os

import pytest

from edgebnn.optional import PACKAGES

# As `python -m train` has it: before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints how many tests were left out because a package is not published for this Python, a line each."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = [report.longrepr[2].removeprefix("Skipped: ") for report in skipped]
    for package in PACKAGES.values():
        if count := reasons.count(package.unpublished()):
            tests = f"{count} test{'s' * (count > 1)}"
            terminalreporter.write_line(f"left out: {tests}, because {package.unpublished()}")
