"""Figures of the results pages, as SVG files that are the same to the byte for the same records."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot as plt

matplotlib.rcParams.update({"svg.hashsalt": "edgebnn", "svg.fonttype": "none", "font.size": 9})

Curve = Sequence[Mapping[str, float]]


def accuracy_figure(path: Path, accuracies: Mapping[str, Sequence[float]]) -> None:
    """Draws one row per method: a dot per seed, and a line at their mean.

    Args:
        path: the SVG file to write.
        accuracies: linear top-1 in percent of every seed, by the method's name.
    """
    figure, axes = plt.subplots(figsize=(7, 0.6 + 0.32 * len(accuracies)))
    ordered = sorted(accuracies.items(), key=lambda item: sum(item[1]) / len(item[1]))
    for row, (_, values) in enumerate(ordered):
        mean = sum(values) / len(values)
        axes.plot([mean, mean], [row - 0.3, row + 0.3], color="0.4")
        axes.plot(values, [row] * len(values), "o", color="#0072b2", markersize=5)
        axes.annotate(f"{mean:.1f}", (max(values), row), xytext=(8, -3), textcoords="offset points")
    axes.set_yticks(range(len(ordered)), [name for name, _ in ordered])
    axes.set_xlabel("top-1 by linear evaluation, %  (a dot per seed, a line at their mean)")
    axes.margins(x=0.1)
    axes.grid(axis="x", alpha=0.3)
    _save(figure, path)


def curves_figure(path: Path, curves: Mapping[str, Mapping[str, Curve]]) -> None:
    """Draws the loss and the share of flipped weights over the epochs, stage 2 after stage 1, one line per method.

    Args:
        path: the SVG file to write.
        curves: epochs of every stage, by the method's name and the stage's.
    """
    figure, (losses, flips) = plt.subplots(1, 2, figsize=(9, 3.6))
    for index, (name, stages) in enumerate(curves.items()):
        line = {"label": name, "color": f"C{index % 10}", "linestyle": "-" if index < 10 else "--"}
        epochs = [row for stage in stages.values() for row in stage]
        # The losses of different methods have different units: each is shown as a share of its first.
        first = epochs[0]["train/loss"]
        losses.plot(range(1, len(epochs) + 1), [row["train/loss"] / first for row in epochs], **line)
        numbered = [(number, row["train/flips"]) for number, row in enumerate(epochs, 1) if "train/flips" in row]
        if numbered:
            flips.plot(*zip(*numbered, strict=True), **line)
    losses.set_ylabel("loss, as a share of the first epoch's")
    flips.set_ylabel("share of binary weights that flip per step")
    flips.set_yscale("log")
    for axes in (losses, flips):
        axes.set_xlabel("epoch, both stages")
        axes.grid(alpha=0.3)
    losses.legend(fontsize=7)
    _save(figure, path)


def _save(figure: plt.Figure, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
