"""`python -m export device`: measures files on this machine, or on one behind ssh or adb."""

import argparse
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from tqdm import tqdm

from edgebnn import records
from edgebnn.checkpoint import report as checkpoint_report
from edgebnn.errors import check
from edgebnn.files import existing_file, temporary_folder
from edgebnn.hints import NO_HINTS, read_hints
from edgebnn.text import printable

from . import baselines as device_baselines
from . import measure as device
from . import report as device_report
from . import runners as device_runners
from . import session as device_session
from . import target as device_target
from .measure import Subject
from .runners import LCE, TFLITE, Runner
from .session import Device
from .target import Target

MAX_THREADS = 1024


def run(args: argparse.Namespace) -> None:
    """Measures, prints, and writes records."""
    target = device_target.parse(args.target)
    check(args.threads <= MAX_THREADS, f"{args.threads} threads cannot run a model; give 1 to {MAX_THREADS}")
    check(args.with_baselines or args.checkpoint is None, "--checkpoint is for the twin of --with-baselines; give both")
    asked = args.checkpoint is None and (read_hints(args) != NO_HINTS or args.keys)
    check(not asked, "--stage, --stem-stride, --ema and --keys are about --checkpoint; give it too")
    if args.push_runner is not None:
        existing_file(args.push_runner, "runner")
    subjects = [device.subject(path) for path in args.artifacts]
    named = args.runner is not None or args.push_runner is not None
    tflite = any(each.suffix == ".tflite" for each in subjects)
    check(tflite or not named, "a runner is for .tflite files, and none is given; .onnx files are run by --python")
    count = len(subjects)
    extra = device_baselines.steps(subjects, twin=args.checkpoint is not None) if args.with_baselines else 0
    total = extra + device.steps(count + extra, args.rounds)
    with _endings(), ExitStack() as stack:
        bar = stack.enter_context(tqdm(total=total, desc="device", unit="step", disable=None, file=sys.stderr))

        def say(what: str) -> None:
            bar.set_postfix_str(printable(what))
            bar.update()

        # The device first: what it lacks is told before the minutes that baselines take.
        opened = stack.enter_context(device_session.opened(target, args.folder))
        runners = find_runners(opened, target, subjects, args)
        if args.with_baselines:
            with tqdm.external_write_mode(sys.stderr):
                checkpoint = args.checkpoint and checkpoint_report.load_checkpoint(args.checkpoint, args)
            folder = stack.enter_context(temporary_folder())
            subjects += device_baselines.write(subjects, checkpoint, folder, say)
        pairs = [(each, runners[each.suffix]) for each in subjects]
        found = device.measure(opened, pairs, threads=args.threads, rounds=args.rounds, seconds=args.limit, say=say)
    # Printed first: should the folder of records be full, nothing measured is lost.
    print(device_report.to_json(found, target.kind) if args.json else device_report.table(found), flush=True)
    if args.with_baselines and args.checkpoint is None:
        text = "note: the float twin is left out; --checkpoint CHECKPOINT says what it should be like"
        print(text, file=sys.stderr)
    if args.record:
        for record in device_report.to_records(found, target.kind):
            records.write(record, args.record)


def find_runners(
    opened: Device, target: Target, subjects: Sequence[Subject], args: argparse.Namespace
) -> dict[str, Runner]:
    """A runner for files of each suffix. Raises `UserError` if the device has none, saying where to get it."""
    found: dict[str, Runner] = {}
    suffixes = {each.suffix for each in subjects}
    local = target.kind == "local"
    if ".tflite" in suffixes:
        # One program for all of them, so that they are measured alike; LCE's also runs plain ones.
        kinds = [LCE] if any(each.format == "lce" for each in subjects) else [TFLITE, LCE]
        if args.push_runner is not None:
            found[".tflite"] = device_runners.push_tool(opened, args.push_runner, kinds)
        elif (tool := device_runners.find_tool(opened, kinds, _path(args.runner, local=local))) is not None:
            found[".tflite"] = tool
        # LCE's interpreter, which is in this environment, can stand in for its program.
        elif not local:
            raise device_runners.missing_tool(opened, kinds[0])
    if rest := suffixes - found.keys():
        given = _path(args.python, local=local) or (sys.executable if local else "python3")
        found |= dict.fromkeys(rest, device_runners.find_python(opened, given, args.limit))
    return found


def _path(given: str | None, *, local: bool) -> str | None:
    """On this machine a path may begin where the user stands. Of a link, a virtual environment's, it stays one."""
    return os.path.abspath(given) if given and local and os.sep in given else given


@contextmanager
def _endings() -> Iterator[None]:
    """Makes a signal that would end this process at once, with what it made left behind, an exception."""

    def stop(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    # One that is ignored already stays so (nohup).
    asked = [each for each in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) == signal.SIG_DFL]
    for each in asked:
        signal.signal(each, stop)
    try:
        yield
    finally:
        for each in asked:
            signal.signal(each, signal.SIG_DFL)
