"""The options of `edgebnn export device`; without what measures, so that its help comes at once."""

import argparse
from pathlib import Path

from edgebnn.cli import positive
from edgebnn.hints import add_hint_arguments

from .target import FORMS


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Adds the options to the command's parser."""
    command.add_argument("artifacts", nargs="+", metavar="ARTIFACT", type=Path, help=".onnx or .tflite files")
    command.add_argument("--target", required=True, help=FORMS)
    command.add_argument("--threads", type=positive, default=1, help="threads a run may use (default 1)")
    text = "rounds; in each, every file is loaded, warmed up and run 3 times (default 10)"
    command.add_argument("--rounds", type=positive, default=10, help=text)
    tools = command.add_mutually_exclusive_group()
    text = "lce_benchmark_model or benchmark_model on the device, a path or a name (default: whichever its PATH has)"
    tools.add_argument("--runner", metavar="PATH", help=text)
    text = "the same, a file here: copied to the device for the time"
    tools.add_argument("--push-runner", metavar="FILE", type=Path, help=text)
    text = "the device's Python that has edgebnn, for .onnx files (default: python3; local: this one)"
    command.add_argument("--python", metavar="PATH", help=text)
    text = "folder of the device to make a private one in (default: $TMPDIR or /tmp; adb: /data/local/tmp)"
    command.add_argument("--folder", help=text)
    command.add_argument("--limit", type=positive, default=300, help="seconds a call may take (default 300)")
    text = "measure ResNet-18, MobileNetV2 and MobileNetV3-small too; with --checkpoint also the float twin"
    command.add_argument("--with-baselines", action="store_true", help=text)
    command.add_argument("--checkpoint", help="what the files were exported from: the float twin is made like it")
    # The files that are measured say the resolution.
    add_hint_arguments(command, images=False)
    command.add_argument("--record", metavar="RUN", type=Path, help="folder to write latency and size records to")
    command.add_argument("--json", action="store_true", help="print JSON")
