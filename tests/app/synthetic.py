"""Writes many records of invented models: `python -m tests.app.synthetic FOLDER [--models 500] [--records 10000]`.

For timings of the dashboard, and for tests. The same arguments write the same records.
"""

import argparse
import random
from collections.abc import Iterator
from pathlib import Path

from edgebnn.records import Record, write_record

MACHINES = [
    {"cpu": "Raspberry Pi 4 Model B", "cores": 4, "features": ["neon"]},
    {"cpu": "Raspberry Pi 5", "cores": 4, "features": ["neon", "dotprod"]},
    {"cpu": "Server 9", "cores": 16, "features": ["avx2"]},
]
FORMATS = {"packed.onnx": ("onnxruntime", "neon", 8e5), "lce.tflite": ("lce_benchmark_model", None, 9e5)}
PER_MODEL = 4
"""Records of a model besides its latencies: accuracy, OPs and two sizes."""


def invent(models: int, records: int, seed: int = 0) -> Iterator[tuple[str, Record]]:
    """Yields `records` records with the names of their runs; all but a few are latencies, measured again and again."""
    random_ = random.Random(seed)
    per_model = records // models
    for number in range(models):
        name, run = f"model-{number:03d}", f"run{number % 50:02d}"
        ops, speed = random_.uniform(5e6, 5e8), random_.uniform(0.7, 1.4)
        top1 = 40 + 8 * (ops / 5e6) ** 0.35 * random_.uniform(0.9, 1.1)
        context = {"protocol": "linear, frozen features", "data": "imagenet", "pretrained_on": "imagenet"}
        yield run, Record("accuracy", name, {"top1": min(top1, 84.0)}, context, created=moment(number, 0))
        counted = {"flops": ops / 8, "bops": ops * 56, "ops": ops}
        yield run, Record("ops", name, counted, {"resolution": 224}, created=moment(number, 1))
        for place, (file, (_, _, size)) in enumerate(FORMATS.items()):
            context = {"artifact": file, "sha256": f"{number:04d}{file}", "format": file}
            values = {"bytes": float(int(size * (1 + ops / 1e8)))}
            yield run, Record("size", name, values, context, created=moment(number, 2 + place))
        for turn in range(per_model - PER_MODEL):
            file = list(FORMATS)[turn % 2]
            runtime, isa, _ = FORMATS[file]
            machine = MACHINES[turn // 2 % len(MACHINES)]
            median = ops / 1e7 * speed * (1 + turn // 2 % 3) * random_.uniform(0.97, 1.03)
            values = {"median_ms": median, "p10_ms": median * 0.96, "p90_ms": median * 1.07, "min_ms": median * 0.94}
            values |= {"first_ms": median * 2, "init_ms": 40.0, "peak_memory_bytes": 3e7 + ops / 10}
            context = {"artifact": file, "sha256": f"{number:04d}{file}", "runtime": runtime, "threads": 1}
            context |= {"isa": isa} if isa else {}
            yield (
                run,
                Record("latency", name, values, context | {"machine": machine}, created=moment(number, 10 + turn)),
            )


def moment(model: int, minute: int) -> str:
    return f"2026-{1 + model % 12:02d}-{1 + model % 28:02d}T{minute // 60:02d}:{minute % 60:02d}:00.000000+00:00"


def write_many(folder: Path, models: int = 500, records: int = 10_000) -> int:
    """Writes the records and returns how many files there are."""
    return len({write_record(record, folder / run) for run, record in invent(models, records)})


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", type=int, default=500)
    parser.add_argument("--records", type=int, default=10_000)
    given = parser.parse_args()
    print(write_many(given.folder, given.models, given.records), "records")
