"""The commands of `edgebnn export` that read a checkpoint: exporting it, and verifying an exported file."""

import argparse
from dataclasses import asdict
from pathlib import Path

from edgebnn import records
from edgebnn.files import sha256, write_bytes
from edgebnn.graph import InferenceGraph, ops
from edgebnn.progress import progress_bar

from . import arguments
from .fold import count_zero_weights, fold
from .onnx import packed, portable
from .tflite import lce, plain
from .verify import images
from .verify.against_converter import compare_with_converter
from .verify.limits import Limits
from .verify.parity import Parity, verify

NEEDS = {
    "onnx": (
        "any ONNX Runtime runs it",
        "--packed writes a smaller and faster file, which ONNX Runtime runs with edgebnn's operators",
    ),
    "onnx-packed": (
        "ONNX Runtime runs it with edgebnn's operators (edgebnn.runtime.library_path())",
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
"""For each format: what runs the file, and which other file a binary network can be exported to."""

RUNTIMES = {
    "onnxruntime": "ONNX Runtime",
    "lce": "the Larq Compute Engine",
    "litert": "LiteRT",
    "numpy": "a NumPy model of LCE's arithmetic, because LCE is not installed",
}
"""What runs a file, for the report of `verify`."""

CONVERTER_IMAGES = 8
"""Images on which a file is compared with the converter's. A few suffice: every output of every unit must be equal."""


def export_checkpoint(args: argparse.Namespace) -> None:
    """Writes the exported file, and records of its size and its operations.

    Raises:
        UserError: the checkpoint cannot be read, or the format cannot hold its network.
    """
    loaded = arguments.load_to_export(args)
    with progress_bar(3, "export", "step", beat=True) as bar:
        bar.set_postfix_str("folding the network")
        graph = fold(loaded.model, loaded.info)
        if args.format == "tflite" and args.real_valued:
            graph = plain.real_valued(graph)
        bar.update()
        bar.set_postfix_str(f"converting {len(graph.units)} units")
        format_, data = _convert(args, graph)
        bar.update()
        bar.set_postfix_str(f"writing {args.out}")
        write_bytes(args.out, data)
    print(f"wrote {args.out}: {len(graph.units)} units, {len(data) / 1e6:.2f} MB")
    zeros, weights = count_zero_weights(loaded.model)
    if zeros:
        print(f"{zeros:,} of {weights:,} binary weights are exactly 0 and become +1 (torch.sign would leave them 0)")
    if outputs := arguments.describe_outputs(loaded):
        print(outputs)
    print("; ".join(NEEDS[format_] if graph.binary else NEEDS[format_][:1]))
    if args.record:
        name, resolution = graph.info.name, graph.info.resolution
        artifact = {"artifact": args.out.name, "sha256": sha256(args.out), "format": format_}
        records.write_record(records.Record("size", name, {"bytes": len(data)}, artifact), args.record)
        totals = ops.totals(ops.count(graph.shape, resolution))
        values = {key: totals[key] for key in ("flops", "bops", "ops", "parameters", "binary_weights")}
        records.write_record(records.Record("ops", name, values, {"resolution": resolution}), args.record)


def _convert(args: argparse.Namespace, graph: InferenceGraph) -> tuple[str, bytes]:
    """Returns the format of the file, as in records, and the content of the file."""
    if args.format == "lce":
        return "lce", lce.convert_to_lce(graph)
    if args.format == "tflite":
        return "tflite", plain.convert_to_tflite(graph)
    if args.packed:
        return "onnx-packed", packed.convert_to_packed_onnx(graph, int8_head=args.int8_head)
    return "onnx", portable.convert_to_onnx(graph, floats=args.floats, int8_head=args.int8_head)


def verify_artifact(args: argparse.Namespace) -> None:
    """Verifies an exported file, prints the result, and writes a record. Exits with code 1 if the file fails.

    Raises:
        UserError: a file cannot be read, or an option contradicts the exported file.
    """
    loaded = arguments.load_to_verify(args)
    graph = fold(loaded.model, loaded.info)
    limits = Limits(args.bits_differing, args.top1_agreement)
    pictures = images.load_images(args.data, graph.info, args.images)
    found = verify(loaded.model, graph, args.artifact, pictures, progress=True)
    failures = found.failures(limits)
    print(_result_text(args.artifact, args.data, found))
    zeros, weights = count_zero_weights(loaded.model)
    if zeros:
        print(f"  binary weights exactly 0       {zeros:,} of {weights:,}, +1 in the file and in PyTorch")
    if args.against_converter:
        converted = compare_with_converter(graph, args.artifact, pictures[:CONVERTER_IMAGES], format_=found.format)
        print(converted.text())
        failures += converted.failures
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
            "runtime": values.pop("runtime"),
            "int8_head": values.pop("int8_head"),
            "data": args.data,
            "limits": asdict(limits),
            "zero_weights": zeros,
        } | ({"assumed": list(loaded.assumed)} if loaded.assumed else {})
        records.write_record(records.Record("parity", graph.info.name, values, context), args.record)
    if failures:
        raise SystemExit(1)


def _verdict(error: float) -> str:
    return "exact" if error <= 1 else "WRONG"


def _result_text(artifact: Path, data: str, found: Parity) -> str:
    rounded = f"  int8 weights move a logit by   {found.max_head_rounding:.4g} at most"
    return "\n".join(
        [
            f"{artifact} on {found.images} images of {data}, run by {RUNTIMES[found.runtime]}",
            f"  units equal to the reference   {found.units_exact} of {found.units}"
            f" ({found.units_identical} bit for bit, largest error {found.max_unit_error:.2g} of rounding)",
            f"  stem and head                  {_verdict(found.stem_error)} and {_verdict(found.head_error)}",
            f"  bits differing from PyTorch's  {found.bits_differing:.4f}%",
            f"  largest logit difference       {found.max_logit_difference:.4g} (largest logit {found.max_logit:.4g})",
            *([rounded] if found.int8_head else []),
            f"  top-1 agreement                {found.top1_agreement:.2f}%",
        ]
    )
