"""The options of `edgebnn export device`. This module imports nothing heavy, so help appears at once."""

import argparse
from pathlib import Path

from edgebnn.cli import positive
from edgebnn.hints import add_hint_arguments

from .target import FORMS


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Adds the options to the parser of the command."""
    command.add_argument("artifacts", nargs="+", metavar="ARTIFACT", type=Path, help=".onnx or .tflite files")
    command.add_argument("--target", required=True, help=FORMS)
    command.add_argument("--threads", type=positive, default=1, help="number of threads that a run may use (default 1)")
    text = "number of rounds; in each round every file is loaded, warmed up and run 3 times (default 10)"
    command.add_argument("--rounds", type=positive, default=10, help=text)
    tools = command.add_mutually_exclusive_group()
    text = "lce_benchmark_model or benchmark_model on the device, as a path or a name (default: the one in its PATH)"
    tools.add_argument("--runner", metavar="PATH", help=text)
    text = (
        "lce_benchmark_model or benchmark_model as a file on this machine; it is copied to the device and removed later"
    )
    tools.add_argument("--push-runner", metavar="FILE", type=Path, help=text)
    text = "a Python on the device that has edgebnn, for .onnx files (default: python3; with local: this Python)"
    command.add_argument("--python", metavar="PATH", help=text)
    text = "folder on the device in which a private folder is made (default: $TMPDIR or /tmp; adb: /data/local/tmp)"
    command.add_argument("--folder", help=text)
    command.add_argument("--limit", type=positive, default=300, help="seconds that a call may take (default 300)")
    text = "also measure ResNet-18, MobileNetV2 and MobileNetV3-small, and with --checkpoint the float twin"
    command.add_argument("--with-baselines", action="store_true", help=text)
    command.add_argument("--checkpoint", help="the checkpoint of the files; the float twin is made from it")
    # No option for the resolution: the measured files state it.
    add_hint_arguments(command, images=False)
    command.add_argument("--record", metavar="RUN", type=Path, help="folder to write latency and size records to")
    command.add_argument("--json", action="store_true", help="print JSON")
