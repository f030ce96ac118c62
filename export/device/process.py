"""Programs of this machine that talk to a device: started apart from the terminal, read with limits, ended for sure."""

import os
import selectors
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from edgebnn.errors import UserError

MOST_OUTPUT = 8 << 20
GRACE_SECONDS = 3


@dataclass(frozen=True)
class Finished:
    """How a command ended: its exit status and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def last_line(self) -> str:
        """What it said last, on stderr if anything, for messages."""
        lines = [line.strip() for line in (self.err or self.out).splitlines() if line.strip()]
        return lines[-1][:300] if lines else f"exit status {self.code}"


class Lines:
    """What the keeper writes, read with a time limit."""

    def __init__(self, keeper: "subprocess.Popen[bytes]") -> None:
        self._keeper = keeper
        self._held = b""

    def after(self, mark: str, seconds: float) -> str | None:
        """The rest of the next line that starts with `mark`; None if none comes in `seconds`."""
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
                # Asked first: a device that never stops talking would always be ready.
                if (left := end - time.monotonic()) <= 0 or not selector.select(left):
                    return None
                data = os.read(self._keeper.stdout.fileno(), 4096)
                if not data or len(self._held) > MOST_OUTPUT:
                    return None
                self._held += data

    def error(self) -> str:
        """What it wrote on stderr until now."""
        assert self._keeper.stderr is not None
        # Where the client has ended and a program that it started (ProxyCommand) has not, the pipe has no end.
        os.set_blocking(self._keeper.stderr.fileno(), False)
        return (self._keeper.stderr.read(MOST_OUTPUT) or b"").decode(errors="replace")


class TooMuchError(Exception):
    """A program's output has no end."""


def start(arguments: list[str], source: IO[bytes] | int) -> "subprocess.Popen[bytes]":
    """Starts a client in a session of its own: Ctrl-C in the terminal is for this process, which then cleans up."""
    environment = os.environ | {"LC_ALL": "C"}
    # A window asking for a password would not be BatchMode.
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


def collect(process: "subprocess.Popen[bytes]", until: float) -> Finished:
    """Both outputs and the exit status. Raises TimeoutError at the time `until`, TooMuchError on too much output."""
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


def end(process: "subprocess.Popen[bytes]") -> None:
    """Ends a client, if it has not ended, and closes its pipes.

    One with an input, the keeper, is given a moment to end by the end of that, since then it cleans up.
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
