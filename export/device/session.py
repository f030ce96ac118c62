"""Opens a private folder on a device, runs programs in it, and removes it at the end.

The device is always left as it was found. A shell script, the *keeper*, runs there for the whole time:

1. It makes the private folder.
2. It reads its input, to which nothing is ever written, until the input ends. The input ends when the block ends, when
   the connection breaks, or when this process dies.
3. It kills the program that runs, and removes the folder.

If the device never learns that the connection is gone, because a cable was pulled, the keeper ends after `LIFETIME`.
"""

import errno
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
from edgebnn.files import no_temporary_files

from .process import MOST_OUTPUT, Finished, Lines, TooMuchError, collect_output, end_client, start_client
from .target import Target

LIFETIME = 6 * 3600
CONNECT_SECONDS = 60
STEP_SECONDS = 60
COPY_SECONDS = 900
CLEAN_SECONDS = 30

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals that ask a command to end."""

FOLDER, REMOVED = "edgebnn folder ", "edgebnn removed"

SAY = """say() { printf '%s\\n' "$1" 2>/dev/null || echo "$1"; }"""
"""A shell function that prints any text as a line. Some small shells have no printf."""

KILL = """kill_program() {
  p=$(cat "$d/pid" 2>/dev/null)
  case $p in ''|*[!0-9]*) return ;; esac
  kill -s KILL -- "-$p" 2>/dev/null || kill -s KILL "$p" 2>/dev/null
}"""
"""A shell function that kills the process group whose number is in $d/pid, or else the process."""

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
"""A shell script that runs the command $2... in the folder $1.

With setsid the command gets its own process group, so that its children can be killed with it.
"""


class Device:
    """A target with a private folder, as `open_device` returns it."""

    def __init__(self, target: Target, folder: str, link: Path, keeper: "subprocess.Popen[bytes]") -> None:
        self.target = target
        self.folder = folder
        self._link = link
        self._keeper = keeper

    def __str__(self) -> str:
        return str(self.target)

    def path(self, name: str) -> str:
        """Returns the path, on the device, of a file in the private folder."""
        return f"{self.folder}/{name}"

    def sh(self, script: str, *arguments: str, seconds: float = STEP_SECONDS) -> Finished:
        """Runs a script in the device's sh, with `arguments` as $1, $2...

        Raises:
            UserError: the connection is lost, or the script took longer than `seconds`.
        """
        return self._run(_with(arguments, script), None, seconds, "a step", "check whether the device is overloaded")

    def program(self, command: Sequence[str], *, seconds: float, what: str) -> Finished:
        """Runs a program in the private folder.

        Args:
            command: the program and its arguments.
            seconds: time limit. A program that takes longer is killed on the device.
            what: the name of the program in messages.

        Raises:
            UserError: the connection is lost, or the program took too long.
        """
        script = _with([self.folder, *command], PROGRAM)
        return self._run(script, None, seconds, what, "check whether it hangs, or raise --limit")

    def push(self, source: Path, name: str, *, executable: bool = False) -> None:
        """Copies a file from this machine into the private folder.

        Args:
            source: the file.
            name: its name in the private folder.
            executable: whether it is a program.

        Raises:
            UserError: the file does not fit, or the connection is lost.
        """
        script = 'cat >"$1" && chmod "$2" "$1" && wc -c <"$1"'
        script = _with([self.path(name), "700" if executable else "600"], script)
        with source.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            remedy = "check the speed of the network"
            done = self._run(script, file, COPY_SECONDS, f"copying {source.name!r}", remedy)
        arrived = done.out.strip().splitlines()
        check(
            done.code == 0 and arrived and arrived[-1].strip() == str(size),
            f"{source.name!r} ({size / 1e6:.1f} MB) could not be copied to {self} ({done.last_line}); "
            "free space there, or name another folder with --folder",
        )

    def _run(self, script: str, source: IO[bytes] | None, seconds: float, what: str, remedy: str) -> Finished:
        process = start_client(self.target.command(script, self._link), source or subprocess.DEVNULL)
        try:
            done = collect_output(process, time.monotonic() + seconds)
        except TimeoutError:
            self._kill_program()
            late = f"{what} did not finish in {seconds:.0f} s on {self}"
            raise UserError(f"{late}, and was stopped; {remedy}") from None
        except TooMuchError:
            self._kill_program()
            much = f"{what} printed over {MOST_OUTPUT >> 20} MB on {self}"
            raise UserError(f"{much}, and was stopped; run it there by hand and look at its output") from None
        finally:
            end_client(process)
        if done.code:
            self._check_connection(done)
        return done

    def _check_connection(self, done: Finished) -> None:
        """Raises `UserError` if a command failed because the connection was lost.

        In that case the keeper's client ends too. The command's exit status and output do not show it, because a
        program may also end with 255 and print anything.
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
        process = start_client(self.target.command(script, self._link), subprocess.DEVNULL)
        try:
            collect_output(process, time.monotonic() + CLEAN_SECONDS)
        except (TimeoutError, TooMuchError):
            pass  # the keeper will kill it
        finally:
            end_client(process)


@contextmanager
def open_device(target: Target, folder: str | None = None) -> Iterator[Device]:
    """Yields the target with a private folder. At the end it kills what runs there and removes the folder.

    Args:
        target: the target.
        folder: the folder on the device in which the private folder is made; None for its folder of temporary files.

    Raises:
        UserError: the device cannot be reached, or the folder cannot be made.
    """
    check(
        folder is None or folder.isprintable(),
        f"{folder!r} is no valid folder name; choose a name of printable characters",
    )
    keep = f"set -- {target.folder}\n{KEEPER}" if folder is None else _with([folder], KEEPER)
    with ExitStack() as stack:
        private = tempfile.TemporaryDirectory(prefix="edgebnn-", dir=_plain_folder(), ignore_cleanup_errors=True)
        link = Path(stack.enter_context(private))
        arguments = target.command(keep, link / "c", opening=True)
        keeper = start_client(arguments, subprocess.PIPE)
        stack.callback(end_client, keeper)
        said = Lines(keeper)
        where = said.after(FOLDER, CONNECT_SECONDS)
        if where is None:
            raise UserError(_cannot_open(target, folder, keeper, said))
        # The path is the device's answer, so it is checked here and quoted wherever it is used.
        check(where.startswith("/") and where.isprintable(), f"{target} made a folder {where!r}, which is no path")
        device = Device(target, where, link / "c", keeper)
        stack.callback(_close, device, keeper, said)
        yield device


def _plain_folder() -> str:
    """Returns a folder for ssh's socket, with a short and plain path.

    ssh expands % in the path and splits it at spaces. The path of a socket may have 103 bytes on macOS and 107 on Linux
    (unix(7)). Our names and ssh's own suffix take 36 of them.
    """
    try:
        folder = tempfile.gettempdir()
    except OSError:
        raise no_temporary_files(OSError(errno.EROFS, "no folder for them can be written")) from None
    return folder if re.fullmatch(r"[A-Za-z0-9_./-]{1,66}", folder) else "/tmp"  # noqa: S108


def _cannot_open(target: Target, folder: str | None, keeper: "subprocess.Popen[bytes]", said: Lines) -> str:
    """Returns the message for a device on which no private folder could be opened."""
    try:
        code = keeper.wait(1)
    except subprocess.TimeoutExpired:
        return f"{target} did not answer in {CONNECT_SECONDS} s; check that it is on and can be reached"
    error = said.error()
    last = (error.strip().splitlines() or [f"exit status {code}"])[-1].strip()
    if code == 73:
        return f"no folder can be made on {target} in {folder or 'its temporary folder'} ({last}); use --folder"
    known = target.failure(code, error)
    return f"{target} cannot be used: " + (known or f"{last}; try to connect by hand")


def _close(device: Device, keeper: "subprocess.Popen[bytes]", said: Lines) -> None:
    """Lets the keeper clean up, and prints a note if it did not. Signals are ignored for that moment."""
    main = threading.current_thread() is threading.main_thread()
    before = {each: signal.signal(each, signal.SIG_IGN) for each in ENDING} if main else {}
    try:
        assert keeper.stdin is not None
        keeper.stdin.close()
        if said.after(REMOVED, CLEAN_SECONDS) is None:
            later = "it will do so when it notices that the connection is gone"
            print(f"note: {device} did not confirm that it removed {device.folder}; {later}", file=sys.stderr)
    finally:
        for each, handler in before.items():
            signal.signal(each, signal.SIG_DFL if handler is None else handler)


def _with(arguments: Sequence[str], script: str) -> str:
    """Returns the script with quoted arguments as $1, $2..."""
    return f"set -- {shlex.join(arguments)}\n{script}"
