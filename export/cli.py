"""`edgebnn export`: exports a checkpoint to ONNX or TFLite, verifies the file, and measures its speed on a device.

Options are read before anything heavy is imported, so help and errors appear at once.
"""

import argparse
from pathlib import Path

from edgebnn.errors import check, exit_on_user_error
from edgebnn.files import existing_file
from edgebnn.hints import add_hint_arguments

from .device.options import add_arguments as add_device_arguments
from .verify.limits import NOISE, Limits

SUFFIXES = {"onnx": ".onnx", "lce": ".tflite", "tflite": ".tflite"}


def main(argv: list[str] | None = None) -> None:
    """Runs one command. A user error ends it with code 2, and a failed verification with code 1."""
    with exit_on_user_error():
        args = _parser().parse_args(argv)
        if args.command == "device":
            from .device import cli as device

            return device.run_device_command(args)
        existing_file(args.checkpoint, "checkpoint")
        if args.command == "export":
            suffix = SUFFIXES[args.format]
            check(args.out.suffix == suffix, f"{args.out} does not end in {suffix}; name the file OUT{suffix}")
        else:
            existing_file(args.artifact, "artifact")
        from . import commands

        commands.export_checkpoint(args) if args.command == "export" else commands.verify_artifact(args)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="edgebnn export", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    texts = {
        "onnx": "write an ONNX file, portable or packed",
        "lce": "write a Larq Compute Engine TFLite file",
        "tflite": "write a plain TFLite file with every convolution in floats, for timing beside the others",
    }
    for name, text in texts.items():
        command = commands.add_parser(name, help=text, description=text)
        _add_checkpoint(command)
        command.add_argument("out", metavar="OUT", type=Path, help=f"file to write, {SUFFIXES[name]}")
        command.set_defaults(command="export", format=name)
        if name == "onnx":
            _add_forms(command)
        if name == "tflite":
            twin_text = "write the real-valued twin: the same shapes without signs, for timing"
            command.add_argument("--real-valued", action="store_true", help=twin_text)
    text = "measure files on a device: this machine, or a machine behind ssh or adb"
    command = commands.add_parser("device", help=text, description=text)
    add_device_arguments(command)
    command.set_defaults(command="device")
    command = commands.add_parser("verify", help="compare an exported file with PyTorch and with the reference")
    _add_checkpoint(command, artifact=True)
    command.add_argument("artifact", metavar="ARTIFACT", type=Path, help=".onnx or .tflite file")
    command.add_argument(
        "--data", default=NOISE, help="folder of images, mnist5k, digits, or noise (default: %(default)s)"
    )
    command.add_argument("--images", type=int, default=64, help="largest number of images (default: %(default)s)")
    limits = Limits()
    for field, text in (
        ("bits_differing", "largest percentage of bits that may differ from PyTorch's"),
        ("top1_agreement", "smallest percentage of images on which the top-1 class must agree"),
    ):
        flag = f"--{field.replace('_', '-')}"
        command.add_argument(flag, type=_percent, default=getattr(limits, field), help=f"{text} (default: %(default)s)")
    converter_text = "compare a .tflite file with the one that LCE's or TensorFlow's converter makes"
    command.add_argument("--against-converter", action="store_true", help=converter_text)
    command.set_defaults(command="verify")
    return parser


def _add_checkpoint(command: argparse.ArgumentParser, *, artifact: bool = False) -> None:
    """Adds the options that describe the checkpoint. With `artifact`, an exported file describes it too."""
    names = " (default: from the checkpoint, or else from ARTIFACT)" if artifact else ""
    command.add_argument(
        "checkpoint", metavar="CHECKPOINT", help="a checkpoint of edgebnn (.safetensors), or a published file"
    )
    command.add_argument("--name", help=f"name of the model in the file and in records{names}")
    command.add_argument("--labels", type=Path, help=f"text file with one class name per line{names}")
    features_text = "leave out the head, so that the outputs are the pooled features"
    command.add_argument("--features", action="store_true", help=features_text)
    command.add_argument("--record", metavar="RUN", type=Path, help="folder to write records to")
    add_hint_arguments(command, otherwise="ARTIFACT's" if artifact else None)


def _add_forms(command: argparse.ArgumentParser) -> None:
    """Adds the options that choose the form of an ONNX file."""
    forms = command.add_mutually_exclusive_group()
    packed_text = (
        "store weights as bits: smaller and faster, for ONNX Runtime with edgebnn's operators "
        "(default: standard operators only, for any ONNX Runtime)"
    )
    forms.add_argument("--packed", action="store_true", help=packed_text)
    floats_text = "use float convolutions, for runtimes without MatMulInteger; larger and slower"
    forms.add_argument("--floats", action="store_true", help=floats_text)
    command.add_argument(
        "--int8-head", action="store_true", help="store the weights of linear layers as int8, with one scale per output"
    )


def _percent(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 100:
        raise argparse.ArgumentTypeError(f"{text} is not a percentage from 0 to 100")
    return number
