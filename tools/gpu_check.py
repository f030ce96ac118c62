"""Checks edgebnn on one GPU in at most 8 minutes: speed, memory, resuming, nccl, a profile, then CIFAR-10.

    python tools/gpu_check.py [--data FOLDER] [--runs runs/gpu-check] [--minutes 8] [--quick]

Every check is a command of edgebnn, run in a process of its own. Its result is a record under RUNS, and its output
lies beside the records. The time left at the end goes to the CIFAR-10 recipes: the teacher, then `distill`. They stop
when the time is over, and the same command resumes them.

`--quick` runs the same checks with small networks on the CPU: to see that the script works.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open

from edgebnn import records
from edgebnn.errors import check, exit_on_user_error
from edgebnn.records import Record
from edgebnn.runtime.system import machine
from edgebnn.text import columns

RESERVE = 10.0
"""Seconds kept for the last records."""

SMALL = ("--trainer.limit_train_batches", "6", "--trainer.enable_progress_bar", "false")
"""What makes a run short: six steps per epoch."""


@dataclass
class Session:
    """One call of this script.

    Attributes:
        runs: folder of everything that is written.
        quick: whether to use the CPU and small networks.
        deadline: when to stop, as `time.monotonic` counts.
    """

    runs: Path
    quick: bool
    deadline: float

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()

    @property
    def device(self) -> str:
        return "cpu" if self.quick else "cuda"

    def run(self, name: str, *arguments: object) -> int:
        """Runs `python -m ARGUMENTS`, its output in `NAME.log`, and returns its exit code; 124 where time was over."""
        self.runs.mkdir(parents=True, exist_ok=True)
        with (self.runs / f"{name}.log").open("ab") as log:
            try:
                command = [sys.executable, "-m", *map(str, arguments)]
                done = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, timeout=max(self.left, 1))  # noqa: S603
            except subprocess.TimeoutExpired:
                return 124
        return done.returncode

    def fit(self, name: str, folder: str, *more: object) -> int:
        """Runs a short stage of the demo in the run folder `folder`."""
        accelerator = ("--trainer.accelerator", "cpu" if self.quick else "gpu", "--trainer.devices", 1)
        given = ("--config", "demo-moco", "--run", self.runs / folder, *accelerator, *SMALL, *more)
        return self.run(name, "edgebnn.train", "fit", *given)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the checks and prints a table of them. Exits with code 1 if one failed, with 2 on a user's mistake."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", default="uoft-cs/cifar10", help="CIFAR-10: folder of Parquet files, or hub name")
    parser.add_argument("--runs", type=Path, default=Path("runs/gpu-check"), help="folder for records and runs")
    parser.add_argument("--minutes", type=float, default=8, help="time for everything (default 8)")
    parser.add_argument("--quick", action="store_true", help="small networks on the CPU: to see that it works")
    chosen = parser.parse_args(arguments)
    with exit_on_user_error():
        check(chosen.minutes > 0, f"--minutes {chosen.minutes} leaves no time; give more than 0")
        session = Session(chosen.runs, chosen.quick, time.monotonic() + 60 * chosen.minutes - RESERVE)
        if not session.quick:
            import torch

            check(torch.cuda.is_available(), "this torch sees no GPU; run on a machine with one, or give --quick")
        found = list(run_checks(session, chosen.data).items())
    print(
        columns([("check", "result", "s"), *((name, said, f"{seconds:.0f}") for name, (said, seconds) in found)], "llr")
    )
    raise SystemExit(any(said.startswith("FAILED") for _, (said, _) in found))


def run_checks(session: Session, data: str) -> dict[str, tuple[str, float]]:
    """Runs each check, writes its record, and returns its result in words and its seconds, by its name."""
    steps: dict[str, Callable[[], str]] = {
        "training speed": lambda: training_speed(session),
        "resume, bf16-mixed": lambda: resumes(session, "bf16-mixed"),
        **({} if session.quick else {"resume, 16-mixed": lambda: resumes(session, "16-mixed")}),
        "one process of torchrun": lambda: one_process(session),
        "CIFAR-10": lambda: cifar10(session, data),
    }
    found = {}
    for name, step in steps.items():
        begin = time.monotonic()
        said = step() if session.left > 0 else "left out: the time is over"
        found[name] = said, time.monotonic() - begin
        values = {"ok": int(said.startswith("ok")), "seconds": round(found[name][1], 1)}
        context: dict[str, Any] = {"check": name, "said": said, "quick": session.quick, "machine": machine.describe()}
        records.write_record(Record("check", "gpu-check", values, context), session.runs)
    return found


def training_speed(session: Session) -> str:
    """A step of ours beside the public code's, with a profile; the record is the benchmark's own."""
    given = ("--device", session.device, "--record", session.runs, "--profile", *(["--quick"] if session.quick else []))
    return _said(session.run("bench-train", "edgebnn.train.bench", *given), "see bench-train.log")


def resumes(session: Session, precision: str) -> str:
    """Whether a run that stopped within an epoch ends with the bits of one that did not."""
    more = ("--trainer.precision", precision, "--trainer.max_epochs", 2)
    name = f"resume-{precision}"
    stopped = session.runs / f"{name}-stopped"
    codes = [
        session.fit(name, f"{name}-whole", *more),
        session.fit(name, stopped.name, *more, "--trainer.max_steps", 4),
        session.fit(name, stopped.name, *more, "--ckpt_path", stopped / "last.ckpt"),
    ]
    if any(codes):
        return _said(max(codes), "")
    differing = differing_tensors(session.runs / f"{name}-whole", stopped)
    return "ok: equal bits" if not differing else f"FAILED: {len(differing)} tensors differ, {differing[0]} first"


def one_process(session: Session) -> str:
    """Whether one process under torchrun, with nccl on a GPU, trains."""
    launcher = ("torch.distributed.run", "--standalone", "--nproc_per_node", 1, "-m", "--", "edgebnn.train", "fit")
    given = ("--config", "demo-moco", "--run", session.runs / "torchrun", "--trainer.strategy", "ddp", *SMALL)
    accelerator = ("--trainer.accelerator", "cpu" if session.quick else "gpu", "--trainer.max_epochs", 1)
    backend = "gloo" if session.quick else "nccl"
    return _said(session.run("torchrun", *launcher, *given, *accelerator), backend)


def cifar10(session: Session, data: str) -> str:
    """Trains the CIFAR-10 teacher and a student by `distill` for the time left; a later call resumes both."""
    if session.quick:
        return "ok: left out with --quick"
    for recipe, more in (("cifar10-teacher", ()), ("cifar10", ("method=distill",))):
        code = session.run(recipe, "edgebnn.train", "recipe", recipe, "--set", f"data={data}", *more)
        if code == 124:
            return f"ok: {recipe} stopped at the end of the time; the same command resumes it"
        if code:
            return _said(code, "")
    return "ok: finished"


def differing_tensors(one: Path, other: Path) -> list[str]:
    """Returns the names of the tensors of two runs' models that differ in a bit."""
    files = [safe_open(run / "model.safetensors", framework="np") for run in (one, other)]
    names = [set(file.keys()) for file in files]
    differ = [name for name in names[0] & names[1] if _bytes(files[0], name) != _bytes(files[1], name)]
    return sorted(differ + list(names[0] ^ names[1]))


def _bytes(file: Any, name: str) -> bytes:
    return file.get_tensor(name).tobytes()


def _said(code: int, what: str) -> str:
    if code == 0:
        return f"ok: {what}"
    return "FAILED: the time was over" if code == 124 else f"FAILED: exit code {code}; see the log beside the records"


if __name__ == "__main__":
    main()
