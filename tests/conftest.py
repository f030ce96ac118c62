"""What holds for every test, and for every process a test starts."""

import os
from collections import Counter

import pytest

from edgebnn.optional import PACKAGES

# As `python -m train` has it: before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints in one line each how many tests were left out because a package is not published for this Python."""
    reasons = [package.unpublished() for package in PACKAGES.values()]
    skipped = Counter(
        report.longrepr[2].removeprefix("Skipped: ") for report in terminalreporter.stats.get("skipped", [])
    )
    for reason in filter(None, reasons):
        if skipped[reason]:
            terminalreporter.write_line(f"left out: {skipped[reason]} tests, because {reason}")
