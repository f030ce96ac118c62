"""Shows how far a long loop has come: a bar on a terminal, and a line now and then in a log file."""

import sys
import threading
import time
from types import TracebackType
from typing import Any

from edgebnn.text import printable

LOG_SECONDS = 60.0
"""Seconds between two progress lines if stderr is no terminal."""


def progress_bar(total: int, label: str, unit: str, *, beat: bool = False) -> Any:
    """Returns a context manager that shows progress on stderr: tqdm's bar on a terminal, and else `ProgressLines`.

    Both have the methods `update` and `set_postfix_str`.

    Args:
        total: number of units of the whole work.
        label: what is done, such as "verifying".
        unit: what is counted, such as "image".
        beat: whether lines also appear while a single unit runs. Give it if a unit can take minutes.
    """
    if not sys.stderr.isatty():
        return ProgressLines(total, label, unit, beat=beat)
    from tqdm import tqdm

    return tqdm(total=total, desc=label, unit=unit, leave=False, file=sys.stderr)


class ProgressLines:
    """Prints a line to stderr every `LOG_SECONDS`. Work that takes less time prints nothing.

    The arguments are those of `progress_bar`.
    """

    def __init__(self, total: int, label: str, unit: str, *, beat: bool = False) -> None:
        self.total, self.label, self.unit = total, label, unit
        self.count, self.state = 0, ""
        self.began = self.printed = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True) if beat else None

    def __enter__(self) -> "ProgressLines":
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def update(self, count: int = 1) -> None:
        """Adds finished units, and prints a line if the last one is `LOG_SECONDS` old."""
        self.count += count
        if self._thread is None:
            self._print_if_due()

    def set_postfix_str(self, state: str, refresh: bool = True) -> None:
        """Sets the end of the line: the present step, or a result so far."""
        self.state = state

    def _beat(self) -> None:
        while not self._ended.wait(LOG_SECONDS):
            self._print_if_due()

    def _print_if_due(self) -> None:
        now = time.monotonic()
        # The waiting of a thread may end a moment early.
        if now - self.printed < 0.9 * LOG_SECONDS:
            return
        self.printed = now
        state = f", {printable(self.state)}" if self.state else ""
        elapsed = duration(now - self.began)
        print(f"{self.label}: {self.count} of {self.total} {self.unit}s{state}, {elapsed}", file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """Returns a time in words, such as "45 s", "3 min 20 s" or "2 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
