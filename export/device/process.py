"""Starts, reads and ends the programs of this machine that talk to a device (sh, ssh, adb).

They run apart from the terminal. Reading has limits of time and size, and every program is ended.
"""

import os
import selectors
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from edgebnn.errors import UserError

MOST_OUTPUT = 8 << 20
"""Bytes that are read from a program at most."""

GRACE_SECONDS = 3
"""The time that the keeper gets to clean up and end by itself."""


@dataclass(frozen=True)
class Finished:
    """The exit status and the output of a finished command."""

    code: int
    out: str
    err: str

    @property
    def last_line(self) -> str:
        """The last line that it wrote, for messages: of stderr, or of stdout if stderr is empty."""
        lines = [line.strip() for line in (self.err or self.out).splitlines() if line.strip()]
        return lines[-1][:300] if lines else f"exit status {self.code}"


class Lines:
    """Reads the keeper's output line by line, with a time limit (see `export.device.session`)."""

    def __init__(self, keeper: "subprocess.Popen[bytes]") -> None:
        self._keeper = keeper
        self._held = b""

    def after(self, mark: str, seconds: float) -> str | None:
        """Returns the rest of the next line that starts with `mark`, or None if none comes within `seconds`."""
        assert self._keeper.stdout is not None
        end = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._keeper.stdout, selectors.EVENT_READ)
            while True:
                *lines, self._held = self._held.split(b"\n")
                for number, line in enumerate(lines):
                    text = line.decode(errors="replace").rstrip("\r")
                    if text.startswith(mark):
                        self._held = b"\n".join([*lines[number + 1 :], self._held])
                        return text[len(mark) :]
                # The time is checked first, because a device that never stops writing would always be ready.
                if (left := end - time.monotonic()) <= 0 or not selector.select(left):
                    return None
                data = os.read(self._keeper.stdout.fileno(), 4096)
                if not data or len(self._held) > MOST_OUTPUT:
                    return None
                self._held += data

    def error(self) -> str:
        """Returns what the keeper has written on stderr so far."""
        assert self._keeper.stderr is not None
        # A program that the client started (ProxyCommand) may outlive it. Then the pipe has no end, so do not wait.
        os.set_blocking(self._keeper.stderr.fileno(), False)
        return (self._keeper.stderr.read(MOST_OUTPUT) or b"").decode(errors="replace")


class TooMuchError(Exception):
    """A program wrote more than `MOST_OUTPUT` bytes."""


def start_client(arguments: list[str], source: IO[bytes] | int) -> "subprocess.Popen[bytes]":
    """Starts a client in its own session. So Ctrl-C in the terminal reaches only this process, which then cleans up.

    Args:
        arguments: the client's command line.
        source: the client's input, as in `subprocess.Popen`.

    Raises:
        UserError: the program is missing or may not be run.
    """
    environment = os.environ | {"LC_ALL": "C"}
    # A window that asks for a password would contradict BatchMode.
    environment.pop("SSH_ASKPASS", None)
    try:
        return subprocess.Popen(  # noqa: S603
            arguments,
            stdin=source,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env=environment,
            bufsize=0,
        )
    except PermissionError:
        raise UserError(f"the program {arguments[0]} may not be run; check its permissions, and your PATH") from None
    except FileNotFoundError:
        package = {"ssh": "openssh-client", "adb": "adb"}.get(arguments[0], arguments[0])
        raise UserError(f"there is no program {arguments[0]}; install it (Debian: apt-get install {package})") from None


def collect_output(process: "subprocess.Popen[bytes]", until: float) -> Finished:
    """Waits for a client and returns its outputs and its exit status.

    Args:
        process: the client.
        until: the latest time, of `time.monotonic()`.

    Raises:
        TimeoutError: the client has not ended by then.
        TooMuchError: the client wrote too much.
    """
    assert process.stdout is not None
    assert process.stderr is not None
    out, err = process.stdout.fileno(), process.stderr.fileno()
    texts = {out: b"", err: b""}
    with selectors.DefaultSelector() as selector:
        for pipe in texts:
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            left = until - time.monotonic()
            ready = selector.select(left) if left > 0 else []
            if not ready:
                raise TimeoutError
            for key, _ in ready:
                data = os.read(key.fd, 65536)
                if not data:
                    selector.unregister(key.fd)
                texts[key.fd] += data
                if len(texts[key.fd]) > MOST_OUTPUT:
                    raise TooMuchError
    try:
        code = process.wait(max(0.1, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise TimeoutError from None
    return Finished(code, texts[out].decode(errors="replace"), texts[err].decode(errors="replace"))


def end_client(process: "subprocess.Popen[bytes]") -> None:
    """Ends a client if it still runs, and closes its pipes.

    A client with an input pipe is the keeper. Its input is closed first, and it gets a moment to clean up and end.
    """
    if process.stdin is not None:
        process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_SECONDS)
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
