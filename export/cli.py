"""The commands of `python -m export`: a checkpoint to ONNX or LCE TFLite, proof that it is the same, and its speed."""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from edgebnn import records
from edgebnn.errors import check, exit_on_user_error
from edgebnn.files import sha256, write_bytes
from edgebnn.graph import InferenceGraph, ops

from . import arguments
from .device import cli as device_cli
from .fold import fold
from .onnx import packed, portable
from .tflite import lce, plain
from .verify import images
from .verify.parity import Limits, Parity, verify

SUFFIXES = {"onnx": ".onnx", "lce": ".tflite", "tflite": ".tflite"}

NEEDS = {
    "onnx": (
        "any ONNX Runtime runs it",
        "--packed writes a smaller and faster file, which ONNX Runtime runs with edgebnn's operator",
    ),
    "onnx-packed": (
        "ONNX Runtime runs it with edgebnn's operator (edgebnn.runtime.library_path())",
        "without --packed the file is larger and slower, and any ONNX Runtime runs it",
    ),
    "lce": (
        "the Larq Compute Engine runs it",
        "`export tflite` writes the network in floats, for any TFLite runtime",
    ),
    "tflite": (
        "any TFLite runtime runs it, in floats",
        "`export lce` writes the network in bits, for the Larq Compute Engine",
    ),
}
"""By the kind of an exported file: what runs it, and what a binary network's other file is for."""


def main(argv: list[str] | None = None) -> None:
    """Runs one command; user errors end it with code 2, a failed verification with code 1."""
    with exit_on_user_error():
        args = _parser().parse_args(argv)
        args.run(args)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="edgebnn export", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    texts = {
        "onnx": "write an ONNX file: portable, or packed",
        "lce": "write a Larq Compute Engine TFLite file",
        "tflite": "write a plain TFLite file, every convolution in floats: to be timed beside the others",
    }
    for name, text in texts.items():
        command = commands.add_parser(name, help=text, description=text)
        arguments.add_checkpoint(command)
        command.add_argument("out", metavar="OUT", type=Path, help=f"file to write, {SUFFIXES[name]}")
        command.set_defaults(run=_export, format=name)
        if name == "onnx":
            _add_forms(command)
        if name == "tflite":
            twin_text = "the real-valued twin: the same shapes without signs, for timing"
            command.add_argument("--real-valued", action="store_true", help=twin_text)
    text = "measure files on a device: this machine, or one behind ssh or adb"
    command = commands.add_parser("device", help=text, description=text)
    device_cli.add_arguments(command)
    command.set_defaults(run=device_cli.run)
    command = commands.add_parser("verify", help="compare an exported file with PyTorch and the reference")
    arguments.add_checkpoint(command, artifact=True)
    command.add_argument("artifact", metavar="ARTIFACT", type=Path, help=".onnx or .tflite file")
    command.add_argument(
        "--data", default=images.NOISE, help="folder of images, mnist5k, digits, or noise (default: %(default)s)"
    )
    command.add_argument("--images", type=int, default=64, help="images to use at most (default: %(default)s)")
    limits = Limits()
    for field, text in (
        ("bits_differing", "percent of bits that may differ from PyTorch's"),
        ("top1_agreement", "percent of images whose first class must agree"),
    ):
        flag = f"--{field.replace('_', '-')}"
        command.add_argument(flag, type=_percent, default=getattr(limits, field), help=f"{text} (default: %(default)s)")
    command.set_defaults(run=_verify)
    return parser


def _add_forms(command: argparse.ArgumentParser) -> None:
    forms = command.add_mutually_exclusive_group()
    packed_text = (
        "weights as bits: smaller and faster, for ONNX Runtime with edgebnn's operator "
        "(default: standard operators only, for any ONNX Runtime)"
    )
    forms.add_argument("--packed", action="store_true", help=packed_text)
    floats_text = "float convolutions, for runtimes without MatMulInteger; larger and slower"
    forms.add_argument("--floats", action="store_true", help=floats_text)
    command.add_argument("--int8-head", action="store_true", help="linear layers' weights as int8, a scale an output")


def _percent(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 100:
        raise argparse.ArgumentTypeError(f"{text} is not a percentage from 0 to 100")
    return number


def _export(args: argparse.Namespace) -> None:
    suffix = SUFFIXES[args.format]
    check(args.out.suffix == suffix, f"{args.out} does not end in {suffix}; name the file OUT{suffix}")
    loaded = arguments.load_to_export(args)
    graph = fold(loaded.model, loaded.info)
    if args.format == "tflite" and args.real_valued:
        graph = plain.real_valued(graph)
    format_, data = _convert(args, graph)
    write_bytes(args.out, data)
    print(f"wrote {args.out}: {len(graph.units)} units, {len(data) / 1e6:.2f} MB")
    print("; ".join(NEEDS[format_] if graph.binary else NEEDS[format_][:1]))
    if args.record:
        name, resolution = graph.info.name, graph.info.resolution
        artifact = {"artifact": args.out.name, "sha256": sha256(args.out), "format": format_}
        records.write(records.Record("size", name, {"bytes": len(data)}, artifact), args.record)
        totals = ops.totals(ops.count(graph.shape, resolution))
        values = {key: totals[key] for key in ("flops", "bops", "ops", "parameters", "binary_weights")}
        records.write(records.Record("ops", name, values, {"resolution": resolution}), args.record)


def _convert(args: argparse.Namespace, graph: InferenceGraph) -> tuple[str, bytes]:
    """What the file is, for records, and its content."""
    if args.format == "lce":
        return "lce", lce.convert(graph)
    if args.format == "tflite":
        return "tflite", plain.convert(graph)
    if args.packed:
        return "onnx-packed", packed.convert(graph, int8_head=args.int8_head)
    return "onnx", portable.convert(graph, floats=args.floats, int8_head=args.int8_head)


def _verify(args: argparse.Namespace) -> None:
    loaded = arguments.load_to_verify(args)
    graph = fold(loaded.model, loaded.info)
    limits = Limits(args.bits_differing, args.top1_agreement)
    pictures = images.load(args.data, graph.info, args.images)
    found = verify(loaded.model, graph, args.artifact, pictures, progress=sys.stderr.isatty())
    failures = found.failures(limits)
    print(_report(args.artifact, args.data, found))
    for failure in failures:
        print(f"FAILED: {failure}")
    assumed = f" (assumed: {', '.join(loaded.assumed)})" if loaded.assumed else ""
    if failures:
        print(f"not verified{assumed}")
    else:
        print(f"verified: equals the network as read{assumed}" if assumed else "verified")
    if args.record:
        values = {**asdict(found), "ok": int(not failures)}
        context = {
            "artifact": args.artifact.name,
            "sha256": sha256(args.artifact),
            "format": values.pop("format"),
            "int8_head": values.pop("int8_head"),
            "data": args.data,
            "limits": asdict(limits),
        } | ({"assumed": list(loaded.assumed)} if loaded.assumed else {})
        records.write(records.Record("parity", graph.info.name, values, context), args.record)
    if failures:
        raise SystemExit(1)


def _verdict(error: float) -> str:
    return "exact" if error <= 1 else "WRONG"


def _report(artifact: Path, data: str, found: Parity) -> str:
    rounded = f"  int8 weights move a logit by   {found.max_head_rounding:.4g} at most"
    return "\n".join(
        [
            f"{artifact} on {found.images} images of {data}",
            f"  units equal to the reference   {found.units_exact} of {found.units}"
            f" ({found.units_identical} bit for bit, largest error {found.max_unit_error:.2g} of rounding)",
            f"  stem and head                  {_verdict(found.stem_error)} and {_verdict(found.head_error)}",
            f"  bits differing from PyTorch's  {found.bits_differing:.4f}%",
            f"  largest logit difference       {found.max_logit_difference:.4g} (largest logit {found.max_logit:.4g})",
            *([rounded] if found.int8_head else []),
            f"  top-1 agreement                {found.top1_agreement:.2f}%",
        ]
    )
