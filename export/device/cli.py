"""`python -m export device`: measures files on this machine, or on a machine behind ssh or adb."""

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
from edgebnn.progress import progress_bar
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


def run_device_command(args: argparse.Namespace) -> None:
    """Measures the files, prints the results and writes records.

    Raises:
        UserError: an option, a file or the device is at fault.
    """
    target = device_target.parse_target(args.target)
    check(args.threads <= MAX_THREADS, f"{args.threads} threads cannot run a model; give 1 to {MAX_THREADS}")
    check(
        args.with_baselines or args.checkpoint is None,
        "--checkpoint is for the float twin of --with-baselines; give both",
    )
    hinted = args.checkpoint is None and (read_hints(args) != NO_HINTS or args.keys)
    check(not hinted, "--stage, --stem-stride, --ema and --keys describe --checkpoint; give --checkpoint too")
    if args.push_runner is not None:
        existing_file(args.push_runner, "runner")
    subjects = [device.read_subject(path) for path in args.artifacts]
    runner_named = args.runner is not None or args.push_runner is not None
    tflite = any(each.suffix == ".tflite" for each in subjects)
    check(
        tflite or not runner_named,
        "a runner is for .tflite files, and none is given; --python names the program for .onnx files",
    )
    count = len(subjects)
    extra = device_baselines.count_files(subjects, twin=args.checkpoint is not None) if args.with_baselines else 0
    total = extra + device.count_steps(count + extra, args.rounds)
    with _signals_as_exceptions(), ExitStack() as stack:
        bar = stack.enter_context(progress_bar(total, "device", "step", beat=True))

        def say(what: str) -> None:
            bar.set_postfix_str(printable(what))
            bar.update()

        # The device is opened first: what it lacks is reported before the minutes that the baselines take.
        opened = stack.enter_context(device_session.open_device(target, args.folder))
        runners = find_runners(opened, target, subjects, args)
        if args.with_baselines:
            with tqdm.external_write_mode(sys.stderr):
                checkpoint = args.checkpoint and checkpoint_report.load_and_report(args.checkpoint, args)
            folder = stack.enter_context(temporary_folder())
            subjects += device_baselines.write_baselines(subjects, checkpoint, folder, say)
        pairs = [(each, runners[each.suffix]) for each in subjects]
        found = device.measure_files(
            opened, pairs, threads=args.threads, rounds=args.rounds, seconds=args.limit, say=say
        )
    # The results are printed before the records are written. If writing fails, they are not lost.
    print(device_report.to_json(found, target.kind) if args.json else device_report.to_table(found), flush=True)
    if args.with_baselines and args.checkpoint is None:
        text = "note: the float twin is left out; give --checkpoint CHECKPOINT to make it from"
        print(text, file=sys.stderr)
    if args.record:
        for record in device_report.to_records(found, target.kind):
            records.write_record(record, args.record)


def find_runners(
    opened: Device, target: Target, subjects: Sequence[Subject], args: argparse.Namespace
) -> dict[str, Runner]:
    """Returns the runner for the files of each suffix.

    Raises:
        UserError: the device has no such runner. The message says where to get it.
    """
    found: dict[str, Runner] = {}
    suffixes = {each.suffix for each in subjects}
    local = target.kind == "local"
    if ".tflite" in suffixes:
        # One program measures all .tflite files alike. LCE's program also runs plain files.
        kinds = [LCE] if any(each.format == "lce" for each in subjects) else [TFLITE, LCE]
        if args.push_runner is not None:
            found[".tflite"] = device_runners.push_tool(opened, args.push_runner, kinds)
        elif (tool := device_runners.find_tool(opened, kinds, _path(args.runner, local=local))) is not None:
            found[".tflite"] = tool
        # On this machine LCE's interpreter, which is in this environment, replaces the program.
        elif not local:
            raise device_runners.missing_tool(opened, kinds[0])
    if rest := suffixes - found.keys():
        given = _path(args.python, local=local) or (sys.executable if local else "python3")
        found |= dict.fromkeys(rest, device_runners.find_python(opened, given, args.limit))
    return found


def _path(given: str | None, *, local: bool) -> str | None:
    """Returns a path of this machine as an absolute path. A link, such as a virtual environment's, is not resolved."""
    return os.path.abspath(given) if given and local and os.sep in given else given


@contextmanager
def _signals_as_exceptions() -> Iterator[None]:
    """Turns signals that would end this process at once into an exception, so that the device is cleaned up."""

    def stop(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    # A signal that is ignored already stays ignored (nohup).
    handled = [each for each in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) == signal.SIG_DFL]
    for each in handled:
        signal.signal(each, stop)
    try:
        yield
    finally:
        for each in handled:
            signal.signal(each, signal.SIG_DFL)
