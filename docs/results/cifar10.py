"""Writes docs/results/cifar10.md and its figures from the records under docs/results/cifar10: `make results`."""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from edgebnn import records
from edgebnn.app.summary import markdown_table
from edgebnn.files import write_bytes
from edgebnn.records import Record

from .figures import accuracy_figure, curves_figure
from .keep import KEPT

PAGE = Path("docs/results/cifar10.md")
LINEAR = "linear, frozen features"
KNN = "kNN, k = 20"

METHODS: Mapping[str, tuple[str, float | None]] = {
    "moco-v2": ("MoCo v2", 46.9),
    "enhanced-moco-v2": ("enhanced MoCo v2", 52.5),
    "moco-v2-distill": ("MoCo v2 + distillation", 56.0),
    "distill": ("distillation alone", 61.5),
    "byol": ("BYOL", 49.25),
    "swav": ("SwAV", 49.41),
    "burn": ("BURN", 62.29),
    "burn-code": ("BURN's public code", None),
    "supervised": ("supervised", 64.10),
    "untrained": ("untrained network", None),
}
"""Every method with its name in tables and its published top-1 on ImageNet by linear evaluation, in percent: S2-BNN's
table 4 and BURN's table 1."""

ABLATION: Mapping[str, tuple[str, float | None]] = {
    "burn-divergence": ("divergence alone, one stage", 57.33),
    "burn-similarity": ("+ feature similarity", 59.53),
    "burn-dynamic": ("+ dynamic balancing", 61.43),
    "burn": ("+ two stages", 62.29),
}
"""BURN's ablation, with the published top-1 on ImageNet."""

FILES: Mapping[str, str] = {
    "packed.onnx": "packed ONNX",
    "portable.onnx": "portable ONNX",
    "lce.tflite": "LCE",
}


@dataclass(frozen=True)
class Run:
    """The kept results of one method and seed.

    Attributes:
        method: its name in `METHODS` or `ABLATION`, or `teacher`.
        seed: of every stage.
        linear: top-1 by linear evaluation, in percent; None where it is not measured yet.
        knn: top-1 by kNN, in percent; None where it is not measured yet.
        curves: the epochs of each stage of training, by the stage's name.
        files: right answers of each exported file and of the checkpoint it was made from, of 10,000.
    """

    method: str
    seed: int
    linear: float | None
    knn: float | None
    curves: dict[str, list[dict[str, float]]]
    files: dict[str, int]

    @property
    def hours(self) -> float:
        """Hours of pretraining."""
        return sum(row["seconds"] for stage in self.curves.values() for row in stage) / 3600


def main() -> None:
    """Writes the page and its figures."""
    runs = read_runs()
    write_bytes(PAGE, ("\n".join(page(runs)) + "\n").encode())
    if any(run.curves for run in runs if run.method in METHODS):
        accuracy_figure(PAGE.with_name("cifar10-accuracy.svg"), _linear_accuracies(runs))
        curves_figure(PAGE.with_name("cifar10-curves.svg"), _first_seeds(runs))
    print(f"wrote {PAGE}")


def page(runs: list[Run]) -> Iterator[str]:
    """Yields the page's lines."""
    for section in (introduction, methods, ablation, exports):
        yield from section(runs)
    yield from again()


def read_runs(kept: Path = KEPT) -> list[Run]:
    """Returns every kept run, by method and seed."""
    runs = []
    for folder in sorted(path for path in kept.glob("cifar10-*") if path.is_dir()):
        method, _, seed = folder.name.removeprefix("cifar10-").partition("-seed")
        found = records.read_records(folder)
        runs.append(
            Run(
                method=method,
                seed=int(seed or 0),
                linear=_top1(found, LINEAR),
                knn=_top1(found, KNN),
                curves={path.parent.name: _read_curve(path) for path in _stages_trained(folder)},
                files=_right_answers(found),
            )
        )
    return runs


def introduction(runs: list[Run]) -> Iterator[str]:
    teachers = [run for run in runs if run.method == "teacher"]
    yield "# CIFAR-10: nine methods, a ReActNet of a quarter of the width, 8 epochs in each of two stages"
    yield ""
    yield "Every method trains the same network, sees the same number of images, and is measured in the same way."
    yield "The setting is far smaller than that of the papers: 32x32 pixels, 50,000 images, 16 epochs in all."
    yield "Compare the order of the methods with the published order. Do not compare the figures."
    yield ""
    yield "- Network: ReActNet of width 0.25 with a stem of stride 1. Its packed file is smaller than 1 MB."
    yield "- Stage 1 trains with binary activations. Stage 2 starts from stage 1 and trains with binary weights too."
    yield "- kNN: 20 neighbours among the 50,000 training images. Linear: a classifier on frozen features."
    yield "- Both are measured on the 10,000 test images, which no training uses."
    for run in teachers:
        if run.linear is not None and run.knn is not None:
            yield f"- Teacher: a real-valued ResNet-18 of width 0.25 by MoCo v2, {len(run.curves['teacher'])} epochs:"
            yield f"  {run.knn:.1f}% by kNN, {run.linear:.1f}% by linear evaluation."
    yield ""
    yield "The published figures are top-1 on ImageNet, by linear evaluation, at the papers' full size."
    yield ""


def methods(runs: list[Run]) -> Iterator[str]:
    yield "## Methods"
    yield ""
    yield "The column *spread* has the standard deviation over the seeds."
    yield ""
    yield markdown_table(_rows(runs, METHODS))
    yield ""
    if any(run.curves for run in runs if run.method in METHODS):
        yield "![Linear accuracy of every method](cifar10-accuracy.svg)"
        yield ""
        yield "![Loss and share of weights that flip per step](cifar10-curves.svg)"
        yield ""


def ablation(runs: list[Run]) -> Iterator[str]:
    yield "## BURN's parts"
    yield ""
    yield "Each row adds one part of BURN to the row above it. One stage of 16 epochs sees as many images as two"
    yield "stages of 8 epochs."
    yield ""
    yield markdown_table(_rows(runs, ABLATION))
    yield ""


def exports(runs: list[Run]) -> Iterator[str]:
    yield "## Exported files"
    yield ""
    yield "The table has the number of right answers among the 10,000 test images, for the best seed of every method."
    yield "The network is the pretrained network with its linear classifier. `edgebnn train evaluate` counts the right"
    yield "answers of PyTorch and of each exported file."
    yield ""
    best = {run.method: run for run in sorted(runs, key=lambda run: run.linear or 0) if run.files}
    yield markdown_table(
        [
            {"method": name, "seed": str(best[key].seed), "PyTorch": _count(best[key], "checkpoint")}
            | {title: _count(best[key], file) for file, title in FILES.items()}
            for key, (name, _) in METHODS.items()
            if key in best
        ]
        or [{"method": "not measured yet"}]
    )
    yield ""


def again() -> Iterator[str]:
    yield "## Do it again"
    yield ""
    yield "```sh"
    yield "python -m tools.cifar10 teacher              # only to train the teacher again"
    yield "python -m tools.cifar10 distill --seed 0"
    yield "make results"
    yield "```"
    yield ""
    yield "The first two commands train, evaluate and export, and write records and curves to `docs/results/cifar10`."
    yield "The teacher's network lies there too, for the students. An interrupted command resumes where it stopped."
    yield "`make results` writes this page from those records."


def _rows(runs: list[Run], names: Mapping[str, tuple[str, float | None]]) -> list[dict[str, str]]:
    chosen = {key: [run for run in runs if run.method == key] for key in names}
    return [_row(*names[key], chosen[key]) for key in names]


def _row(name: str, published: float | None, runs: list[Run]) -> dict[str, str]:
    linear = [run.linear for run in runs if run.linear is not None]
    knn = [run.knn for run in runs if run.knn is not None]
    hours = [run.hours for run in runs if run.linear is not None]
    return {
        "method": name,
        "linear, %": _mean(linear),
        "spread": f"{stdev(linear):.2f}" if len(linear) > 1 else "",
        "kNN, %": _mean(knn),
        "seeds": str(len(linear)) if linear else "not run yet",
        "hours of training": f"{fmean(hours):.1f}" if linear and any(hours) else "",
        "published, ImageNet, %": "" if published is None else f"{published:.2f}",
    }


def _mean(values: list[float]) -> str:
    return f"{fmean(values):.1f}" if values else ""


def _count(run: Run, file: str) -> str:
    return f"{run.files[file]:,}" if file in run.files else ""


def _top1(found: list[Record], protocol: str) -> float | None:
    """The newest top-1 of a protocol, in percent."""
    values = [record.values["top1"] for record in found if record.context.get("protocol") == protocol]
    return values[-1] if values else None


def _right_answers(found: list[Record]) -> dict[str, int]:
    """Right answers by the name of the file, those of the checkpoint under `checkpoint`."""
    counts = {}
    for record in found:
        if "format" in record.context:
            name = Path(str(record.context.get("artifact", "checkpoint"))).name
            counts[name] = round(record.values["right"])
    return counts


def _stages_trained(folder: Path) -> list[Path]:
    """Curves of the stages that trained the network; an evaluation trains a classifier only."""
    return [path for path in sorted(folder.glob("*/curve.csv")) if path.parent.name not in ("linear", "knn")]


def _read_curve(path: Path) -> list[dict[str, float]]:
    with path.open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def _linear_accuracies(runs: list[Run]) -> dict[str, list[float]]:
    """Linear accuracies of every seed, by the method's name in tables."""
    found = {
        name: [run.linear for run in runs if run.method == key and run.linear] for key, (name, _) in METHODS.items()
    }
    return {name: values for name, values in found.items() if values}


def _first_seeds(runs: list[Run]) -> dict[str, dict[str, list[dict[str, float]]]]:
    """Curves of the first seed of every method, by the method's name in tables."""
    first = {run.method: run.curves for run in sorted(runs, key=lambda run: -run.seed) if run.curves}
    return {name: first[key] for key, (name, _) in METHODS.items() if key in first}


if __name__ == "__main__":
    main()
