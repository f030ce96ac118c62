"""The command `edgebnn`: counts a network's operations, times and examines model files, and classifies images."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from edgebnn import records
from edgebnn.errors import check, exit_on_user_error
from edgebnn.files import sha256
from edgebnn.graph import ops
from edgebnn.programs import PROGRAMS, run_program
from edgebnn.records import Record
from edgebnn.text import columns

if TYPE_CHECKING:
    from edgebnn.runtime import Latency, Model


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command. A user error ends it with code 2."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    with exit_on_user_error():
        if given and given[0] in PROGRAMS:
            return run_program(given[0], given[1:])
        parsed = _parser().parse_args(given)
        parsed.command(parsed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="edgebnn", description="Binary neural networks on small machines.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("ops", help="count a network's operations, parameters and bytes")
    command.add_argument("--arch", choices=["reactnet-a", "reactnet-18", "birealnet-18"], default="reactnet-a")
    command.add_argument("--resolution", type=positive, default=224, help="side of the image in pixels (default 224)")
    command.add_argument("--width", type=float, default=1.0, help="factor on all channels (default 1)")
    command.add_argument("--stem-stride", type=int, choices=[1, 2], default=2, help="stride of the stem (default 2)")
    command.add_argument("--classes", type=positive, default=1000, help="outputs of the last layer (default 1000)")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.set_defaults(command=_ops)

    command = commands.add_parser("bench", help="time model files side by side")
    command.add_argument("artifacts", nargs="+", metavar="ARTIFACT", help="an .onnx file or an LCE .tflite file")
    command.add_argument("--threads", type=positive, default=1, help="number of threads that a run may use (default 1)")
    command.add_argument("--runs", type=positive, default=50, help="measured runs of each file (default 50)")
    command.add_argument("--seconds", type=positive, default=60, help="stop measuring after this time (default 60)")
    text = "seconds of warm-up, and at least 3 runs (default 0)"
    command.add_argument("--warmup-seconds", type=float, default=0.0, help=text)
    command.add_argument("--record", metavar="RUN_FOLDER", help="run folder to write latency and size records to")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.set_defaults(command=_bench)

    text = "explain why a model file is slow, large or wrong on a device, and what to do"
    command = commands.add_parser(
        "doctor", help=text, description=f"{text}; exit code 0: no problem, 1: problems, 2: the file cannot be read"
    )
    command.add_argument("artifact", metavar="ARTIFACT", help="an .onnx or .tflite file")
    text = (
        "core to estimate for: cortex-a53 (Raspberry Pi 3), -a72 (4), -a76 (5), -a55, -a78, -x1 (phones), -a57, -a78ae "
        "(Jetson), each as cortex-... (default: this machine)"
    )
    command.add_argument("--core", help=text)
    command.add_argument(
        "--threads", type=positive, default=1, help="number of threads that a run will use (default 1)"
    )
    text = "framework that trained the network: SAME padding at stride 2 is right for tensorflow, wrong for pytorch"
    command.add_argument("--trained-in", choices=["pytorch", "tensorflow"], help=text)
    command.add_argument("--json", action="store_true", help="print JSON")
    command.set_defaults(command=_doctor)

    command = commands.add_parser("predict", help="classify images")
    command.add_argument("artifact", metavar="ARTIFACT", help="an .onnx file or an LCE .tflite file")
    command.add_argument("images", nargs="+", metavar="IMAGE", help="PNG, JPEG..., or .npy: uint8 height x width x 3")
    command.add_argument("--top", type=positive, default=5, help="number of classes to print per image (default 5)")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.set_defaults(command=_predict)

    for name, program in PROGRAMS.items():
        commands.add_parser(name, help=program.text, add_help=False)
    return parser


def positive(text: str) -> int:
    """Parses an option's whole number of 1 or more. Raises `argparse.ArgumentTypeError` for anything else."""
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of 1 or more")
    return int(text)


def _ops(arguments: argparse.Namespace) -> None:
    shape_of = ops.reactnet_a if arguments.arch == "reactnet-a" else ops.resnet18
    network = shape_of(width=arguments.width, stem_stride=arguments.stem_stride, classes=arguments.classes)
    layers = ops.count(network, arguments.resolution)
    totals = ops.totals(layers)
    if arguments.json:
        sums = ("ops", "parameters", "bytes")
        each = [asdict(layer) | {name: getattr(layer, name) for name in sums} for layer in layers]
        print(json.dumps(totals | {"layers": each}, indent=1))
        return
    figures = ("flops", "bops", "ops", "parameters", "bytes")
    rows = []
    for layer in layers:
        shape = "x".join(map(str, layer.output))
        rows.append([layer.name, layer.kind, shape, *(_grouped(getattr(layer, name)) for name in figures)])
    rows.append(["total", "", "", *(_grouped(totals[name]) for name in figures)])
    print(columns([("layer", "kind", "output", *figures), *rows], "lllrrrrr"))


def _grouped(number: float) -> str:
    return f"{number:,.0f}" if number == int(number) else f"{number:,.2f}"


def _bench(arguments: argparse.Namespace) -> None:
    # Imported here, so that `edgebnn ops` does not need ONNX Runtime.
    from edgebnn.runtime import Latency, load_model, measure_runs, peak_memory
    from edgebnn.runtime.formats import onnx_file
    from edgebnn.runtime.system import machine

    models = [load_model(path, threads=arguments.threads) for path in arguments.artifacts]
    for model in models if arguments.record else []:
        # Size and digest of this file alone would not describe the weights.
        whole = model.path.suffix.lower() != ".onnx" or not onnx_file.has_external_weights(model.path)
        check(whole, f"model {model.path} has weights in external files; save it as one file to record it")
    limits = {"seconds": arguments.seconds, "warmup_seconds": arguments.warmup_seconds}
    times = measure_runs(models, runs=arguments.runs, **limits)
    latencies = [Latency.from_runs(each) for each in times]
    described = machine.describe()
    if arguments.record:
        session = records.new_session()
        for model, latency, each in zip(models, latencies, times):
            rounds = {"session": session, "rounds_ms": [round(time, 4) for time in each]}
            _record(model, latency, {"machine": described} | rounds, arguments.record)
    if arguments.json:
        results = [
            {"model": model.info.name, "path": str(model.path), "bytes": model.bytes}
            | _circumstances(model)
            | asdict(latency)
            | {"init_ms": model.init_ms, "first_ms": model.first_ms, "milliseconds": each}
            for model, latency, each in zip(models, latencies, times)
        ]
        print(json.dumps({"machine": described, "peak_memory_bytes": peak_memory(), "results": results}, indent=1))
        return
    fastest = min(latency.median_ms for latency in latencies)
    rows = [
        (
            model.info.name,
            str(model.path),
            f"{model.runtime} {model.runtime_version}{f', {model.isa}' if model.isa else ''}",
            f"{latency.median_ms:.3f}",
            f"{latency.p10_ms:.3f}-{latency.p90_ms:.3f}",
            f"{latency.median_ms / fastest:.2f}x",
            str(latency.runs),
        )
        for model, latency in zip(models, latencies)
    ]
    header = ("model", "artifact", "runtime", "median ms", "p10-p90 ms", "ratio", "runs")
    print(columns([header, *rows], "lllrrrr"))
    print(f"{arguments.threads} thread{'s' * (arguments.threads > 1)} on {machine.one_line(described)}")


def _record(model: "Model", latency: "Latency", told: dict[str, Any], run: str) -> None:
    """Writes a latency and a size record of a model into a run folder. `told` is more context of the latency."""
    values = asdict(latency)
    context = _circumstances(model) | {"runs": values.pop("runs")} | told
    records.write_record(Record("latency", model.info.name, values, context), run)
    context = {"artifact": model.path.name, "sha256": sha256(model.path), "format": model.format}
    records.write_record(Record("size", model.info.name, {"bytes": model.bytes}, context), run)


def _circumstances(model: "Model") -> dict[str, Any]:
    return {
        "artifact": model.path.name,
        "sha256": sha256(model.path),
        "runtime": model.runtime,
        "runtime_version": model.runtime_version,
        "threads": model.threads,
        "batch": model.batch or 1,
    } | ({"isa": model.isa} if model.isa else {})


def _doctor(arguments: argparse.Namespace) -> None:
    from edgebnn.doctor import examine

    report = examine(
        arguments.artifact, core=arguments.core, threads=arguments.threads, trained_in=arguments.trained_in
    )
    print(json.dumps(report.to_json(), indent=1) if arguments.json else report.to_text())
    if report.problems:
        raise SystemExit(1)


def _predict(arguments: argparse.Namespace) -> None:
    from edgebnn.runtime import load_model, preprocess

    model = load_model(arguments.artifact)
    if not model.described:
        print(f"note: {model.path} does not state its normalisation; ImageNet's is assumed", file=sys.stderr)
    if not model.info.labels:
        print(f"note: {model.path} names no classes; the numbers of its outputs are printed", file=sys.stderr)
    answers = []
    for path in arguments.images:
        logits = model.run(preprocess.load_image(path, model.info))[0].astype(np.float64)
        labels = model.info.labels or tuple(map(str, range(len(logits))))
        check(
            len(labels) == len(logits),
            f"{model.path} has {len(labels)} labels for {len(logits)} classes; export it again",
        )
        check(np.isfinite(logits).all(), f"{model.path} returns values that are not finite for {path}; export it again")
        shares = np.exp(logits - logits.max())
        shares /= shares.sum()
        best = np.argsort(-shares, kind="stable")[: arguments.top]
        classes = [{"class": int(i), "label": labels[i], "probability": float(shares[i])} for i in best]
        answers.append({"image": path, "classes": classes})
    if arguments.json:
        print(json.dumps(answers, indent=1))
        return
    for answer in answers:
        print(answer["image"])
        print(columns([(f"  {c['probability']:7.2%}", c["label"]) for c in answer["classes"]], "ll"))


if __name__ == "__main__":
    main()
