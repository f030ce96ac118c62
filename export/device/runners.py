"""The programs that measure a model file on a device."""

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
"""How long every program warms up in every call, benchmark_model's own default: enough for a clock to rise."""

LCE, TFLITE = "lce_benchmark_model", "benchmark_model"
WHERE = {
    LCE: "from https://github.com/larq/compute-engine/releases (aarch64, aarch32, android_arm64)",
    TFLITE: "from https://ai.google.dev/edge/litert/models/measurement (native benchmark binary)",
}
UNKNOWN_OPERATOR = "Encountered unresolved custom op"


class Runner(Protocol):
    """Measures a file that lies in the device's private folder."""

    @property
    def facts(self) -> dict[str, Any]:
        """What a record should say of the program."""

    def call(self, device: Device, name: str, threads: int, seconds: float, *, memory: bool = False) -> Sample:
        """One call: load, first run, warm-up, `RUNS` measured runs.

        Args:
            device: where it runs.
            name: the file's name in the private folder, our own.
            threads: threads a run may use.
            seconds: time limit.
            memory: whether the call is for the memory alone, so that watching it need not leave times unchanged.

        Raises:
            UserError: it failed, took too long, or printed something else.
        """


@dataclass(frozen=True)
class Tool:
    """TensorFlow Lite's benchmark_model or LCE's."""

    path: str
    kind: str
    digest: str | None

    @property
    def facts(self) -> dict[str, Any]:
        version = f"sha256 {self.digest[:12]}" if self.digest else "unknown"
        return {"runtime": self.kind, "runtime_version": version, "batch": 1}

    def call(self, device: Device, name: str, threads: int, seconds: float, *, memory: bool = False) -> Sample:
        flags = [f"--graph={device.path(name)}", f"--num_threads={threads}", f"--num_runs={RUNS}", "--min_secs=0"]
        flags += ["--warmup_runs=1", f"--warmup_min_secs={WARMUP_SECONDS}", f"--max_secs={seconds:.0f}"]
        # It looks every 50 ms, on a thread of its own.
        flags += ["--report_peak_memory_footprint=true"] * memory
        done = device.program([self.path, *flags], seconds=seconds, what=self.kind)
        # Where it logs depends on its version.
        output = f"{done.out}\n{done.err}"
        check(
            UNKNOWN_OPERATOR not in output,
            f"{self.path} does not know an operator of the file; an LCE file needs {LCE} ({WHERE[LCE]})",
        )
        _check_ran(done, self.path, device)
        return device_parse.benchmark(output).sample()


@dataclass(frozen=True)
class Python:
    """`edgebnn bench` of the wheel that a Python of the device has."""

    python: str

    @property
    def facts(self) -> dict[str, Any]:
        return {}

    def call(self, device: Device, name: str, threads: int, seconds: float, *, memory: bool = False) -> Sample:
        options = ["--threads", str(threads), "--runs", str(RUNS), "--warmup-seconds", str(WARMUP_SECONDS)]
        options += ["--seconds", f"{seconds:.0f}", "--json"]
        command = [self.python, "-m", "edgebnn", "bench", device.path(name), *options]
        done = device.program(command, seconds=seconds, what="edgebnn bench")
        _check_ran(done, "edgebnn bench", device)
        return device_parse.bench(done.out)


def _check_ran(done: Finished, program: str, device: Device) -> None:
    reasons = {
        126: "it cannot be run there; was it made for another processor, or does its folder forbid programs?",
        127: "it, or a library it needs, is not there",
        132: "illegal instruction: it was made for a newer processor",
        137: "it was killed; is there enough memory?",
    }
    said = done.last_line.removeprefix("error: ")
    remedy = f" ({reasons[done.code]})" if done.code in reasons else "; run it there by hand"
    check(done.code == 0, f"{program} failed on {device} with status {done.code}: {said}{remedy}")


def find_tool(device: Device, kinds: list[str], given: str | None) -> Tool | None:
    """The benchmark program: the one a user named, or the first of `kinds` in the device's PATH; None if there is none.

    Args:
        device: where to look.
        kinds: names to look for, see `WHERE`.
        given: a path or name on the device.

    Raises:
        UserError: the one named is not there.
    """
    for name in kinds if given is None else [given]:
        where = _found(device, name)
        if where is not None:
            return Tool(where, _kind(where, kinds), _digest(device, where))
    if given is not None:
        raise UserError(f"there is no program {given!r} to run on {device}; check the path, {_advice(kinds[0])}")
    return None


def _kind(path: str, kinds: list[str]) -> str:
    """What to call a program of any name: where only one kind will do, it is that or fails."""
    return kinds[0] if len(kinds) == 1 else LCE if "lce" in Path(path).name else TFLITE


def push_tool(device: Device, file: Path, kinds: list[str]) -> Tool:
    """Copies a benchmark program of this machine, one of `kinds`, into the private folder."""
    kind = _kind(file.name, kinds)
    device.push(file, kind, executable=True)
    return Tool(device.path(kind), kind, _digest(device, device.path(kind)))


def missing_tool(device: Device, kind: str) -> UserError:
    """What to tell a user whose device has no program to measure a .tflite file."""
    return UserError(f"there is no {kind} in the PATH of {device}; {_advice(kind)}")


def _advice(kind: str) -> str:
    return f"get it {WHERE[kind]}, then name it with --push-runner FILE (copied for the time) or --runner PATH (there)"


def find_python(device: Device, given: str, seconds: float) -> Python:
    """A Python of the device that has this project's wheel. Raises `UserError` if it has not, or takes too long."""
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
    """The absolute path of a program of the device, None if it cannot be run there."""
    check(name and not name.startswith("-"), f"{name!r} is no program; give a name or an absolute path")
    mark = "edgebnn found "  # a login shell may greet before it
    script = f'{SAY}\ncd / && p=$(command -v "$1") && [ -f "$p" ] && [ -x "$p" ] && say "{mark}$p"'
    done = device.sh(script, name)
    where = done.out.partition(mark)[2].removesuffix("\n")
    return where if done.code == 0 and where.startswith("/") and "\0" not in where else None


def _digest(device: Device, path: str) -> str | None:
    done = device.sh('sha256sum <"$1"', path)
    found = re.search(r"^[0-9a-f]{64}\b", done.out, re.MULTILINE)
    return found[0] if found else None
