"""Runs the programs that measure a model file on a device: benchmark_model, LCE's version, and `edgebnn bench`."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from edgebnn.errors import UserError, check

from . import parse as device_parse
from .parse import RUNS, Sample
from .process import Finished
from .session import SAY, Device

WARMUP_SECONDS = 0.5
"""The warm-up of every program in every call. It is benchmark_model's default, and long enough for a clock to rise."""

LCE, TFLITE = "lce_benchmark_model", "benchmark_model"
WHERE = {
    LCE: "from https://github.com/larq/compute-engine/releases (aarch64, aarch32, android_arm64)",
    TFLITE: "from https://ai.google.dev/edge/litert/models/measurement (native benchmark binary)",
}
UNKNOWN_OPERATOR = "Encountered unresolved custom op"


class Runner(Protocol):
    """A program that measures a file in the device's private folder."""

    @property
    def facts(self) -> dict[str, Any]:
        """Facts about the program, for records."""

    def call(self, device: Device, name: str, *, threads: int, seconds: float, memory: bool = False) -> Sample:
        """Calls the program once: it loads the file and makes a first run, a warm-up and `RUNS` measured runs.

        Args:
            device: the device.
            name: the file's name in the private folder.
            threads: number of threads that a run may use.
            seconds: time limit of the call.
            memory: whether the call is only for the memory. Watching the memory may then change the times.

        Raises:
            UserError: the program failed, took too long, or printed unexpected text.
        """


@dataclass(frozen=True)
class Tool:
    """TensorFlow Lite's benchmark_model, or LCE's version of it.

    Attributes:
        path: the program on the device.
        kind: `LCE` or `TFLITE`.
        digest: SHA-256 of the program, or None if the device cannot compute it.
    """

    path: str
    kind: str
    digest: str | None

    @property
    def facts(self) -> dict[str, Any]:
        version = f"sha256 {self.digest[:12]}" if self.digest else "unknown"
        return {"runtime": self.kind, "runtime_version": version, "batch": 1}

    def call(self, device: Device, name: str, *, threads: int, seconds: float, memory: bool = False) -> Sample:
        flags = [f"--graph={device.path(name)}", f"--num_threads={threads}", f"--num_runs={RUNS}", "--min_secs=0"]
        flags += ["--warmup_runs=1", f"--warmup_min_secs={WARMUP_SECONDS}", f"--max_secs={seconds:.0f}"]
        # The program looks at its memory every 50 ms, in a thread of its own.
        flags += ["--report_peak_memory_footprint=true"] * memory
        done = device.program([self.path, *flags], seconds=seconds, what=self.kind)
        # Some versions log to stdout, others to stderr.
        output = f"{done.out}\n{done.err}"
        check(
            UNKNOWN_OPERATOR not in output,
            f"{self.path} does not know an operator of the file; an LCE file needs {LCE} ({WHERE[LCE]})",
        )
        _check_ran(done, self.path, device)
        return device_parse.parse_benchmark_model(output).sample()


@dataclass(frozen=True)
class Python:
    """`edgebnn bench`, run by a Python on the device that has edgebnn installed."""

    python: str

    @property
    def facts(self) -> dict[str, Any]:
        return {}

    def call(self, device: Device, name: str, *, threads: int, seconds: float, memory: bool = False) -> Sample:
        options = ["--threads", str(threads), "--runs", str(RUNS), "--warmup-seconds", str(WARMUP_SECONDS)]
        options += ["--seconds", f"{seconds:.0f}", "--json"]
        command = [self.python, "-m", "edgebnn", "bench", device.path(name), *options]
        done = device.program(command, seconds=seconds, what="edgebnn bench")
        _check_ran(done, "edgebnn bench", device)
        return device_parse.parse_edgebnn_bench(done.out)


def _check_ran(done: Finished, program: str, device: Device) -> None:
    """Raises `UserError` if the program failed. The message explains common exit statuses of a shell."""
    reasons = {
        126: "it cannot run there; was it built for another processor, or does its folder forbid programs?",
        127: "the program, or a library that it needs, is missing there",
        132: "illegal instruction: it was built for a newer processor",
        137: "it was killed; is there enough memory?",
    }
    said = done.last_line.removeprefix("error: ")
    remedy = f" ({reasons[done.code]})" if done.code in reasons else "; run it there by hand"
    check(done.code == 0, f"{program} failed on {device} with status {done.code}: {said}{remedy}")


def find_tool(device: Device, kinds: list[str], given: str | None) -> Tool | None:
    """Returns the benchmark program that the user named, or else the first of `kinds` in the device's PATH.

    Returns None if the user named none and the PATH has none.

    Args:
        device: the device.
        kinds: the names to look for, see `WHERE`.
        given: the program that the user named, a path or a name on the device; None for none.

    Raises:
        UserError: the named program is not there.
    """
    for name in kinds if given is None else [given]:
        where = _found(device, name)
        if where is not None:
            return Tool(where, _kind(where, kinds), _digest(device, where))
    if given is not None:
        raise UserError(f"there is no program {given!r} to run on {device}; check the path, {_advice(kinds[0])}")
    return None


def _kind(path: str, kinds: list[str]) -> str:
    """Returns the kind of a program, by its name. If only one kind is allowed, it is that kind."""
    return kinds[0] if len(kinds) == 1 else LCE if "lce" in Path(path).name else TFLITE


def push_tool(device: Device, file: Path, kinds: list[str]) -> Tool:
    """Copies a benchmark program, of one of the `kinds`, from this machine into the private folder."""
    kind = _kind(file.name, kinds)
    device.push(file, kind, executable=True)
    return Tool(device.path(kind), kind, _digest(device, device.path(kind)))


def missing_tool(device: Device, kind: str) -> UserError:
    """Returns the error for a device that has no program to measure a .tflite file."""
    return UserError(f"there is no {kind} in the PATH of {device}; {_advice(kind)}")


def _advice(kind: str) -> str:
    where = "--push-runner FILE (a file here) or --runner PATH (a file on the device)"
    return f"get it {WHERE[kind]}, then name it with {where}"


def find_python(device: Device, given: str, seconds: float) -> Python:
    """Returns a Python on the device that has edgebnn installed.

    Raises:
        UserError: there is no such Python, it has no edgebnn, or it takes too long to start.
    """
    where = _found(device, given)
    check(where, f"there is no Python {given!r} on {device}; name one with --python PATH")
    assert where is not None
    done = device.program([where, "-c", "import edgebnn.runtime"], seconds=seconds, what=given)
    check(
        done.code == 0,
        f"{given} on {device} has no edgebnn ({done.last_line}); pip install its wheel there, or name another Python "
        "with --python PATH",
    )
    return Python(where)


def _found(device: Device, name: str) -> str | None:
    """Returns the absolute path of a program on the device, or None if it cannot be run there."""
    check(name and not name.startswith("-"), f"{name!r} is no program name; give a name or an absolute path")
    mark = "edgebnn found "  # a login shell may print a greeting first
    script = f'{SAY}\ncd / && p=$(command -v "$1") && [ -f "$p" ] && [ -x "$p" ] && say "{mark}$p"'
    done = device.sh(script, name)
    where = done.out.partition(mark)[2].removesuffix("\n")
    return where if done.code == 0 and where.startswith("/") and "\0" not in where else None


def _digest(device: Device, path: str) -> str | None:
    """Returns the SHA-256 of a file on the device, or None if the device cannot compute it."""
    done = device.sh('sha256sum <"$1"', path)
    found = re.search(r"^[0-9a-f]{64}\b", done.out, re.MULTILINE)
    return found[0] if found else None
