"""The commands of `python -m export`: a checkpoint to ONNX or LCE TFLite, proof that it is the same, and its speed."""

import argparse
import sys
from dataclasses import asdict, replace
from pathlib import Path

from edgebnn import checkpoint as checkpoints
from edgebnn import records
from edgebnn.errors import UserError, check, exit_on_user_error
from edgebnn.files import existing_file, sha256, write_bytes
from edgebnn.graph import InferenceGraph, ops
from export import device_cli, images, lce, onnx, packed, tflite
from export.fold import fold
from export.verify import Limits, Parity, verify

SUFFIXES = {"onnx": ".onnx", "lce": ".tflite", "tflite": ".tflite"}


def main(arguments: list[str] | None = None) -> None:
    """Runs one command; user errors end it with code 2, a failed verification with code 1."""
    with exit_on_user_error():
        args = _parser().parse_args(arguments)
        args.run(args)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m export", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    texts = {
        "onnx": "write an ONNX file: portable, or packed",
        "lce": "write a Larq Compute Engine TFLite file",
        "tflite": "write a plain TFLite file, every convolution in floats: to be timed beside the others",
    }
    for name, text in texts.items():
        command = commands.add_parser(name, help=text, description=text)
        _add_checkpoint(command)
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
    _add_checkpoint(command)
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


def _add_checkpoint(command: argparse.ArgumentParser) -> None:
    command.add_argument("checkpoint", metavar="CHECKPOINT", help="ours (.safetensors), or a published file as it is")
    command.add_argument("--name", help="the model's name in the file and in records")
    command.add_argument("--resolution", type=int, help="image size in pixels (default: the checkpoint's, or 224)")
    command.add_argument("--labels", type=Path, help="text file with one class name a line")
    command.add_argument("--record", metavar="RUN", type=Path, help="folder to write records of what was found to")


def _add_forms(command: argparse.ArgumentParser) -> None:
    forms = command.add_mutually_exclusive_group()
    packed_text = "weights as bits, for edgebnn's own ONNX Runtime operator (default: standard operators only)"
    forms.add_argument("--packed", action="store_true", help=packed_text)
    floats_text = "float convolutions, for runtimes without MatMulInteger; larger and slower"
    forms.add_argument("--floats", action="store_true", help=floats_text)
    command.add_argument("--int8-head", action="store_true", help="linear layers' weights as int8, a scale an output")


def _load(args: argparse.Namespace) -> tuple[checkpoints.Checkpoint, InferenceGraph]:
    loaded = checkpoints.load(args.checkpoint)
    info = loaded.info
    if args.name is not None:
        info = replace(info, name=args.name)
    if args.resolution is not None:
        info = replace(info, resolution=args.resolution)
    if args.labels is not None:
        info = replace(info, labels=_labels(args.labels))
    if loaded.layout != "edgebnn":
        note = f", {len(loaded.ignored)} keys of it unused" if loaded.ignored else ""
        print(f"read {args.checkpoint} as a file in {loaded.layout} layout{note}", file=sys.stderr)
    return loaded, fold(loaded.model, info)


def _labels(path: Path) -> tuple[str, ...]:
    try:
        lines = existing_file(path, "labels file").read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise UserError(f"labels file {path} is not UTF-8 text; give one class name a line") from None
    labels = tuple(line.strip() for line in lines if line.strip())
    check(labels, f"labels file {path} names no class; give one class name a line")
    return labels


def _percent(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 100:
        raise argparse.ArgumentTypeError(f"{text} is not a percentage from 0 to 100")
    return number


def _export(args: argparse.Namespace) -> None:
    suffix = SUFFIXES[args.format]
    check(args.out.suffix == suffix, f"{args.out} does not end in {suffix}; name the file OUT{suffix}")
    _, graph = _load(args)
    if args.format == "tflite" and args.real_valued:
        graph = tflite.real_valued(graph)
    format_, data = _convert(args, graph)
    write_bytes(args.out, data)
    print(f"wrote {args.out}: {len(graph.units)} units, {len(data) / 1e6:.2f} MB")
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
        return "tflite", tflite.convert(graph)
    if args.packed:
        return "onnx-packed", packed.convert(graph, int8_head=args.int8_head)
    return "onnx", onnx.convert(graph, floats=args.floats, int8_head=args.int8_head)


def _verify(args: argparse.Namespace) -> None:
    loaded, graph = _load(args)
    limits = Limits(args.bits_differing, args.top1_agreement)
    pictures = images.load(args.data, graph.info, args.images)
    found = verify(loaded.model, graph, args.artifact, pictures, progress=sys.stderr.isatty())
    failures = found.failures(limits)
    print(_report(args.artifact, args.data, found))
    for failure in failures:
        print(f"FAILED: {failure}")
    print("verified" if not failures else "not verified")
    if args.record:
        values = {**asdict(found), "ok": int(not failures)}
        context = {
            "artifact": args.artifact.name,
            "sha256": sha256(args.artifact),
            "format": values.pop("format"),
            "int8_head": values.pop("int8_head"),
            "data": args.data,
            "limits": asdict(limits),
        }
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
