"""`python -m export device`: measures files on this machine, or on one behind ssh or adb."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from tqdm import tqdm

from edgebnn import records
from edgebnn.errors import check
from edgebnn.files import existing_file
from edgebnn.text import printable
from export import device, device_baselines, device_report, device_runners, device_session, device_target
from export.device import Subject
from export.device_runners import LCE, TFLITE, Runner, Tool
from export.device_session import Device
from export.device_target import Target

MAX_THREADS = 1024


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    command.add_argument("artifacts", nargs="+", metavar="ARTIFACT", type=Path, help=".onnx or .tflite files")
    command.add_argument("--target", required=True, help=device_target.FORMS)
    command.add_argument("--threads", type=_positive, default=1, help="threads a run may use (default 1)")
    text = "rounds; in each, every file is loaded, warmed up and run 3 times (default 10)"
    command.add_argument("--rounds", type=_positive, default=10, help=text)
    tools = command.add_mutually_exclusive_group()
    text = "lce_benchmark_model or benchmark_model on the device, a path or a name (default: whichever its PATH has)"
    tools.add_argument("--runner", metavar="PATH", help=text)
    text = "the same, a file here: copied to the device for the time"
    tools.add_argument("--push-runner", metavar="FILE", type=Path, help=text)
    text = "the device's Python that has edgebnn, for .onnx files (default: python3; local: this one)"
    command.add_argument("--python", metavar="PATH", help=text)
    text = "folder of the device to make a private one in (default: $TMPDIR or /tmp; adb: /data/local/tmp)"
    command.add_argument("--folder", help=text)
    command.add_argument("--limit", type=_positive, default=300, help="seconds a call may take (default 300)")
    text = "measure ResNet-18, MobileNetV2 and MobileNetV3-small too; with --checkpoint also the float twin"
    command.add_argument("--with-baselines", action="store_true", help=text)
    command.add_argument("--checkpoint", help="what the files were exported from: the float twin is made like it")
    command.add_argument("--record", metavar="RUN", type=Path, help="folder to write latency and size records to")
    command.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> None:
    """Measures, prints, and writes records."""
    target = device_target.parse(args.target)
    check(args.threads <= MAX_THREADS, f"{args.threads} threads cannot run a model; give 1 to {MAX_THREADS}")
    check(args.with_baselines or args.checkpoint is None, "--checkpoint is for the twin of --with-baselines; give both")
    if args.push_runner is not None:
        existing_file(args.push_runner, "runner")
    subjects = [device.subject(path) for path in args.artifacts]
    count = len(subjects)
    extra = device_baselines.steps(subjects, args.checkpoint) if args.with_baselines else 0
    total = extra + device.steps(count + extra, args.rounds)
    with ExitStack() as stack:
        bar = stack.enter_context(tqdm(total=total, desc="device", unit="step", disable=None, file=sys.stderr))

        def say(what: str) -> None:
            bar.set_postfix_str(printable(what))
            bar.update()

        if args.with_baselines:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgebnn-baselines-")))
            subjects += device_baselines.write(subjects, args.checkpoint, folder, say)
        opened = stack.enter_context(device_session.opened(target, args.folder))
        runners = find_runners(opened, target, subjects, args)
        pairs = list(zip(subjects, runners))
        found = device.measure(opened, pairs, threads=args.threads, rounds=args.rounds, seconds=args.limit, say=say)
    if args.record:
        for record in device_report.to_records(found, target.kind):
            records.write(record, args.record)
    print(device_report.to_json(found, target.kind) if args.json else device_report.table(found))
    if args.with_baselines and args.checkpoint is None and not args.json:
        print("note: the float twin is left out; --checkpoint CHECKPOINT says what it should be like")


def find_runners(opened: Device, target: Target, subjects: Sequence[Subject], args: argparse.Namespace) -> list[Runner]:
    """A runner for each file. Raises `UserError` if the device has none, saying where to get it."""
    found: list[Runner] = []
    python: Runner | None = None
    tool: Tool | None = None
    # One program for all .tflite files, so that they are measured alike; LCE's also runs plain ones.
    kinds = [LCE] if any(each.format == "lce" for each in subjects) else [TFLITE, LCE]
    local = target.kind == "local"
    if any(each.path.suffix.lower() == ".tflite" for each in subjects):
        if args.push_runner is not None:
            tool = device_runners.push_tool(opened, args.push_runner)
        else:
            tool = device_runners.find_tool(opened, kinds, args.runner)
    for each in subjects:
        if each.path.suffix.lower() == ".tflite" and tool is not None:
            found.append(tool)
            continue
        if each.path.suffix.lower() == ".tflite" and not local:
            raise device_runners.missing_tool(opened, kinds[0])
        # LCE's interpreter, which is in this environment, can stand in for its program.
        if python is None:
            python = device_runners.find_python(opened, args.python or (sys.executable if local else "python3"))
        found.append(python)
    return found


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number
