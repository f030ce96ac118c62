"""A private folder on a device for as long as a block runs, with programs run in it.

Whatever happens, the device is left as it was found. A keeper runs there: it makes the folder, then reads its
input, to which nothing is ever written, until it ends. That is when the block ends, and also when the connection
breaks or this process dies. Then it kills the program that runs and removes the folder. Should the device never
learn that the connection is gone (a cable pulled), the keeper ends by itself after `LIFETIME`.
"""

import os
import selectors
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from edgebnn.errors import UserError, check
from export.device_target import Target

LIFETIME = 6 * 3600
CONNECT_SECONDS = 60
STEP_SECONDS = 60
COPY_SECONDS = 900
CLEAN_SECONDS = 30
MOST_OUTPUT = 8 << 20

FOLDER, REMOVED = "edgebnn folder ", "edgebnn removed"

KILL = """kill_program() {
  p=$(cat "$d/pid" 2>/dev/null)
  case $p in ''|*[!0-9]*) return ;; esac
  kill -s KILL -- "-$p" 2>/dev/null || kill -s KILL "$p" 2>/dev/null
}"""
"""sh: kills the program whose process group, or at least process, stands in $d/pid."""

KEEPER = f"""umask 077
trap : HUP INT TERM
cd "$1" || exit 73
d=$(mktemp -d "$(pwd)/edgebnn.XXXXXXXX") || exit 73
cd /
{KILL}
printf '%s%s\\n' '{FOLDER}' "$d"
if command -v timeout >/dev/null 2>&1; then timeout {LIFETIME} cat >/dev/null; else cat >/dev/null; fi
n=0
while kill_program; rm -rf "$d" 2>/dev/null; [ -e "$d" ]; do
  n=$((n + 1))
  [ $n -gt 20 ] && exit 74
  sleep 1
done
printf '%s\\n' '{REMOVED}'
"""

PROGRAM = """cd "$1" || exit 125
shift
if command -v setsid >/dev/null 2>&1; then group=setsid; else group=; fi
$group sh -c 'echo $$ >pid && exec "$@"' sh "$@" </dev/null &
wait $!
code=$?
rm -f pid
exit $code
"""
"""sh: runs $2... in the folder $1; in a process group where there is setsid, so that its children die with it."""


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


class Device:
    """A target with a private folder. Made by `opened`."""

    def __init__(self, target: Target, folder: str, link: Path, keeper: "subprocess.Popen[bytes]") -> None:
        self.target = target
        self.folder = folder
        self._link = link
        self._keeper = keeper

    def __str__(self) -> str:
        return str(self.target)

    def path(self, name: str) -> str:
        """The path on the device of a file in the private folder."""
        return f"{self.folder}/{name}"

    def sh(self, script: str, *arguments: str, seconds: float = STEP_SECONDS) -> Finished:
        """Runs `script` in the device's sh, with `arguments` as $1, $2...

        Raises:
            UserError: the connection is lost, or it took longer than `seconds`.
        """
        return self._finished(_with(arguments, script), None, seconds, "a step")

    def program(self, command: Sequence[str], *, seconds: float, what: str) -> Finished:
        """Runs a program in the private folder.

        Raises:
            UserError: as `sh`. A program that took too long is killed on the device.
        """
        return self._finished(_with([self.folder, *command], PROGRAM), None, seconds, what)

    def push(self, source: Path, name: str, *, executable: bool = False) -> None:
        """Copies a file of this machine into the private folder, under a name of our own choosing.

        Raises:
            UserError: it does not fit, or the connection is lost.
        """
        script = 'cat >"$1" && chmod "$2" "$1" && wc -c <"$1"'
        script = _with([self.path(name), "700" if executable else "600"], script)
        with source.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            done = self._finished(script, file, COPY_SECONDS, f"copying {source.name!r}")
        arrived = done.out.strip().splitlines()
        check(
            done.code == 0 and arrived and arrived[-1].strip() == str(size),
            f"{source.name!r} ({size / 1e6:.1f} MB) could not be copied to {self} ({done.last_line}); "
            "free space there, or name another folder with --folder",
        )

    def _finished(self, script: str, source: IO[bytes] | None, seconds: float, what: str) -> Finished:
        process = _start(self.target.command(script, self._link), source or subprocess.DEVNULL)
        try:
            done = _collect(process, time.monotonic() + seconds)
        except TimeoutError:
            self._kill_program()
            late = f"{what} did not finish in {seconds:.0f} s on {self}"
            raise UserError(f"{late}, and was stopped; see whether it hangs, or raise --limit") from None
        except _TooMuchError:
            self._kill_program()
            raise UserError(f"{what} printed over {MOST_OUTPUT >> 20} MB on {self}, and was stopped") from None
        finally:
            _end(process)
        if done.code:
            self._check_connection(done)
        return done

    def _check_connection(self, done: Finished) -> None:
        said = self.target.failure(done.code, done.err)
        if said is None and self.target.kind != "local" and done.code == 255:
            time.sleep(0.2)  # the keeper's client ends at the same time as this one
        if said is not None or self._keeper.poll() is not None:
            reason = said or f"{done.last_line}; check the device and its network, and measure again"
            raise UserError(f"the connection to {self} was lost ({reason})")

    def _kill_program(self) -> None:
        script = _with([self.folder], f"d=$1\n{KILL}\nkill_program")
        process = _start(self.target.command(script, self._link), subprocess.DEVNULL)
        try:
            _collect(process, time.monotonic() + CLEAN_SECONDS)
        except TimeoutError:
            pass  # the keeper will
        finally:
            _end(process)


@contextmanager
def opened(target: Target, folder: str | None = None) -> Iterator[Device]:
    """Gives a private folder on `target`, and removes it with all that runs in it.

    Args:
        target: the device.
        folder: where on the device to make it; by default where temporary files go.

    Raises:
        UserError: the device cannot be reached, or the folder not made.
    """
    check(folder is None or folder.isprintable(), f"{folder!r} is no name for a folder; choose a plain one")
    keep = f"set -- {target.folder}\n{KEEPER}" if folder is None else _with([folder], KEEPER)
    with ExitStack() as stack:
        link = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgebnn-", ignore_cleanup_errors=True)))
        arguments = target.command(keep, link / "c", opening=True)
        keeper = _start(arguments, subprocess.PIPE)
        stack.callback(_end, keeper)
        said = _Lines(keeper)
        where = said.after(FOLDER, CONNECT_SECONDS)
        if where is None:
            raise UserError(_cannot_open(target, folder, keeper, said))
        # The device's answer: it is used quoted, and must at least be a path.
        check(where.startswith("/") and where.isprintable(), f"{target} made a folder {where!r}, which is no path")
        device = Device(target, where, link / "c", keeper)
        stack.callback(_close, device, keeper, said)
        yield device


def _cannot_open(target: Target, folder: str | None, keeper: "subprocess.Popen[bytes]", said: "_Lines") -> str:
    try:
        code = keeper.wait(1)
    except subprocess.TimeoutExpired:
        return f"{target} did not answer in {CONNECT_SECONDS} s; check that it is on and can be reached"
    error = said.error()
    last = (error.strip().splitlines() or [f"exit status {code}"])[-1].strip()
    if code == 73:
        return f"no folder can be made on {target} in {folder or 'its temporary folder'} ({last}); use --folder"
    known = target.failure(code, error)
    return f"{target} cannot be used: " + (known or f"{last}; try the same by hand")


def _close(device: Device, keeper: "subprocess.Popen[bytes]", said: "_Lines") -> None:
    """Lets the keeper clean up, and says so if it did not. It takes a moment and must be done: Ctrl-C waits."""
    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if main else None
    try:
        assert keeper.stdin is not None
        keeper.stdin.close()
        if said.after(REMOVED, CLEAN_SECONDS) is None:
            later = "it will be once the device notices that the connection is gone"
            print(f"note: {device} did not say that {device.folder} is removed; {later}", file=sys.stderr)
    finally:
        if main:
            signal.signal(signal.SIGINT, before)


class _Lines:
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
                if not selector.select(max(0, end - time.monotonic())):
                    return None
                data = os.read(self._keeper.stdout.fileno(), 4096)
                if not data or len(self._held) > MOST_OUTPUT:
                    return None
                self._held += data

    def error(self) -> str:
        """What it wrote on stderr until it ended."""
        assert self._keeper.stderr is not None
        return self._keeper.stderr.read(MOST_OUTPUT).decode(errors="replace")


class _TooMuchError(Exception):
    """A program's output has no end."""


def _with(arguments: Sequence[str], script: str) -> str:
    """`script` with the arguments as $1, $2..., whatever they hold."""
    return f"set -- {shlex.join(arguments)}\n{script}"


def _start(arguments: list[str], source: IO[bytes] | int) -> "subprocess.Popen[bytes]":
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
    except FileNotFoundError:
        package = {"ssh": "openssh-client", "adb": "adb"}.get(arguments[0], arguments[0])
        raise UserError(f"there is no program {arguments[0]}; install it (Debian: apt-get install {package})") from None


def _collect(process: "subprocess.Popen[bytes]", end: float) -> Finished:
    """Both outputs and the exit status. Raises TimeoutError at the time `end`, _TooMuchError on too much output."""
    assert process.stdout is not None
    assert process.stderr is not None
    out, err = process.stdout.fileno(), process.stderr.fileno()
    texts = {out: b"", err: b""}
    with selectors.DefaultSelector() as selector:
        for pipe in texts:
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(max(0, end - time.monotonic()))
            if not ready:
                raise TimeoutError
            for key, _ in ready:
                data = os.read(key.fd, 65536)
                if not data:
                    selector.unregister(key.fd)
                texts[key.fd] += data
                if len(texts[key.fd]) > MOST_OUTPUT:
                    raise _TooMuchError
    try:
        code = process.wait(max(0.1, end - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise TimeoutError from None
    return Finished(code, texts[out].decode(errors="replace"), texts[err].decode(errors="replace"))


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ends a client, if it has not ended, and closes its pipes."""
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
