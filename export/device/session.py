"""A private folder on a device for as long as a block runs, with programs run in it.

Whatever happens, the device is left as it was found. A keeper runs there: it makes the folder, then reads its
input, to which nothing is ever written, until it ends. That is when the block ends, and also when the connection
breaks or this process dies. Then it kills the program that runs and removes the folder. Should the device never
learn that the connection is gone (a cable pulled), the keeper ends by itself after `LIFETIME`.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from edgebnn.errors import UserError, check

from .process import MOST_OUTPUT, Finished, Lines, TooMuchError, collect, end, start
from .target import Target

LIFETIME = 6 * 3600
CONNECT_SECONDS = 60
STEP_SECONDS = 60
COPY_SECONDS = 900
CLEAN_SECONDS = 30

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that ask a command to end."""

FOLDER, REMOVED = "edgebnn folder ", "edgebnn removed"

SAY = """say() { printf '%s\\n' "$1" 2>/dev/null || echo "$1"; }"""
"""sh: a line, whatever it holds. Not every small shell has printf."""

KILL = """kill_program() {
  p=$(cat "$d/pid" 2>/dev/null)
  case $p in ''|*[!0-9]*) return ;; esac
  kill -s KILL -- "-$p" 2>/dev/null || kill -s KILL "$p" 2>/dev/null
}"""
"""sh: kills the program whose process group, or at least process, stands in $d/pid."""

KEEPER = f"""umask 077
trap : HUP INT TERM
cd -- "$1" || exit 73
d=$(mktemp -d "$(pwd)/edgebnn.XXXXXXXX") || exit 73
cd /
{KILL}
{SAY}
say "{FOLDER}$d"
if timeout 9 true 2>/dev/null; then timeout {LIFETIME} cat >/dev/null; else cat >/dev/null; fi
n=0
while kill_program; rm -rf "$d" 2>/dev/null; [ -e "$d" ]; do
  n=$((n + 1))
  [ $n -gt 20 ] && exit 74
  sleep 1
done
say '{REMOVED}'
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
        return self._finished(_with(arguments, script), None, seconds, "a step", "see whether it is overloaded")

    def program(self, command: Sequence[str], *, seconds: float, what: str) -> Finished:
        """Runs a program in the private folder.

        Raises:
            UserError: as `sh`. A program that took too long is killed on the device.
        """
        script = _with([self.folder, *command], PROGRAM)
        return self._finished(script, None, seconds, what, "see whether it hangs, or raise --limit")

    def push(self, source: Path, name: str, *, executable: bool = False) -> None:
        """Copies a file of this machine into the private folder, under a name of our own choosing.

        Raises:
            UserError: it does not fit, or the connection is lost.
        """
        script = 'cat >"$1" && chmod "$2" "$1" && wc -c <"$1"'
        script = _with([self.path(name), "700" if executable else "600"], script)
        with source.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            remedy = "see whether the network is as fast as it should be"
            done = self._finished(script, file, COPY_SECONDS, f"copying {source.name!r}", remedy)
        arrived = done.out.strip().splitlines()
        check(
            done.code == 0 and arrived and arrived[-1].strip() == str(size),
            f"{source.name!r} ({size / 1e6:.1f} MB) could not be copied to {self} ({done.last_line}); "
            "free space there, or name another folder with --folder",
        )

    def _finished(self, script: str, source: IO[bytes] | None, seconds: float, what: str, remedy: str) -> Finished:
        process = start(self.target.command(script, self._link), source or subprocess.DEVNULL)
        try:
            done = collect(process, time.monotonic() + seconds)
        except TimeoutError:
            self._kill_program()
            late = f"{what} did not finish in {seconds:.0f} s on {self}"
            raise UserError(f"{late}, and was stopped; {remedy}") from None
        except TooMuchError:
            self._kill_program()
            much = f"{what} printed over {MOST_OUTPUT >> 20} MB on {self}"
            raise UserError(f"{much}, and was stopped; run it by hand there, and see what") from None
        finally:
            end(process)
        if done.code:
            self._check_connection(done)
        return done

    def _check_connection(self, done: Finished) -> None:
        """Raises `UserError` if a command failed because the connection was lost: then the keeper's is, too.

        Its exit status and what it said do not tell: a program may end with 255, and say anything.
        """
        try:
            self._keeper.wait(0.5)  # the keeper's client ends at the same time as this one
        except subprocess.TimeoutExpired:
            return
        reason = (
            self.target.failure(done.code, done.err)
            or f"{done.last_line}; check the device and its network, and measure again"
        )
        raise UserError(f"the connection to {self} was lost ({reason})")

    def _kill_program(self) -> None:
        script = _with([self.folder], f"d=$1\n{KILL}\nkill_program")
        process = start(self.target.command(script, self._link), subprocess.DEVNULL)
        try:
            collect(process, time.monotonic() + CLEAN_SECONDS)
        except (TimeoutError, TooMuchError):
            pass  # the keeper will
        finally:
            end(process)


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
        private = tempfile.TemporaryDirectory(prefix="edgebnn-", dir=_plain_folder(), ignore_cleanup_errors=True)
        link = Path(stack.enter_context(private))
        arguments = target.command(keep, link / "c", opening=True)
        keeper = start(arguments, subprocess.PIPE)
        stack.callback(end, keeper)
        said = Lines(keeper)
        where = said.after(FOLDER, CONNECT_SECONDS)
        if where is None:
            raise UserError(_cannot_open(target, folder, keeper, said))
        # The device's answer: it is used quoted, and must at least be a path.
        check(where.startswith("/") and where.isprintable(), f"{target} made a folder {where!r}, which is no path")
        device = Device(target, where, link / "c", keeper)
        stack.callback(_close, device, keeper, said)
        yield device


def _plain_folder() -> str:
    """Where ssh's socket goes: ssh expands % in its path and splits it at spaces.

    The path may have 103 bytes (macOS; Linux 107, unix(7)), of which our names and ssh's own suffix take 36.
    """
    folder = tempfile.gettempdir()
    return folder if re.fullmatch(r"[A-Za-z0-9_./-]{1,66}", folder) else "/tmp"  # noqa: S108


def _cannot_open(target: Target, folder: str | None, keeper: "subprocess.Popen[bytes]", said: Lines) -> str:
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


def _close(device: Device, keeper: "subprocess.Popen[bytes]", said: Lines) -> None:
    """Lets the keeper clean up, and says so if it did not. It takes a moment and must be done: signals wait."""
    main = threading.current_thread() is threading.main_thread()
    before = {each: signal.signal(each, signal.SIG_IGN) for each in ENDING} if main else {}
    try:
        assert keeper.stdin is not None
        keeper.stdin.close()
        if said.after(REMOVED, CLEAN_SECONDS) is None:
            later = "it will be once the device notices that the connection is gone"
            print(f"note: {device} did not say that {device.folder} is removed; {later}", file=sys.stderr)
    finally:
        for each, handler in before.items():
            signal.signal(each, signal.SIG_DFL if handler is None else handler)


def _with(arguments: Sequence[str], script: str) -> str:
    """`script` with the arguments as $1, $2..., whatever they hold."""
    return f"set -- {shlex.join(arguments)}\n{script}"
