"""Records of invented models, for the dashboard's tests only."""

from pathlib import Path

from edgebnn.records import Record, write_record

BOARD = {"cpu": "Board 4", "cores": 4, "features": ["neon"], "governor": None}
SERVER = {"cpu": "Server 9", "cores": 16, "features": ["avx2"], "governor": "performance"}


def accuracy(model: str, top1: float, day: int) -> Record:
    context = {"protocol": "linear", "data": "digits <test>", "epochs": 3}
    return Record("accuracy", model, {"top1": top1}, context, created=date(day))


def latency(model: str, file: str, runtime: str, median: float, day: int, machine: dict[str, object]) -> Record:
    values = {"median_ms": median, "p10_ms": median * 0.9, "p90_ms": median * 1.2, "min_ms": median * 0.8}
    context = {"artifact": file, "runtime": runtime, "runtime_version": "1", "threads": 2, "machine": machine}
    return Record("latency", model, values, context, created=date(day))


def date(day: int) -> str:
    return f"2026-01-{day:02d}T10:20:30.000000+00:00"


RECORDS = [
    accuracy("small", 50.5, 1),
    accuracy("small", 61.25, 3),
    accuracy("large & slow", 72.5, 2),
    latency("small", "small.onnx", "onnxruntime", 3.5, 1, SERVER),
    latency("small", "/elsewhere/small.onnx", "onnxruntime", 2.5, 2, SERVER),
    latency("small", "small.tflite", "lce", 8.0, 2, BOARD),
    latency("large & slow", "large.onnx", "onnxruntime", 40.0, 2, SERVER),
    Record("size", "small", {"bytes": 812345}, {"artifact": "small.onnx"}, created=date(4)),
    Record("size", "small", {"bytes": 2123456}, {"artifact": "small.tflite"}, created=date(4)),
    Record("ops", "small", {"flops": 10, "bops": 64, "ops": 4710000.5}, {"resolution": 32}, created=date(4)),
    Record("parity", "small", {"ok": 1, "top1_agreement": 99.5}, {"artifact": "small.onnx"}, created=date(4)),
    Record("parity", "small", {"ok": 0, "top1_agreement": 51.5}, {"artifact": "small.tflite"}, created=date(4)),
    Record("size", "untimed", {"bytes": 77}, {"artifact": "untimed.onnx"}, created=date(5)),
]
SUPERSEDED = 2


def write_all(root: Path) -> None:
    for number, record in enumerate(RECORDS):
        write_record(record, root / f"run{number % 3}")
