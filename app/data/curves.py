"""Training curves of a run folder, from the CSV files that training writes."""

from pathlib import Path

import pandas as pd

LARGEST = 20_000_000
"""Bytes of a log that is read."""

MOST_POINTS = 400
"""Points of a curve that are drawn. A longer curve is thinned out."""

NAMES = {
    "train/loss": "Loss",
    "train/spread": "Spread of the outputs",
    "train/flips": "Flipped weights",
    "train/images_per_s": "Images per second",
    "val/top1": "Top-1 accuracy",
    "val/top5": "Top-5 accuracy",
    "train/skipped_images": "Skipped images",
    "lr": "Learning rate",
}
"""What the page calls a column of the log. Others keep their own name."""

HELP = {
    "Loss": "The training loss of the logged steps.",
    "Spread of the outputs": "1: the outputs point in all directions. 0: all images give one output (collapse).",
    "Flipped weights": "Share of binary weights whose sign a logged step changed.",
    "Learning rate": "The optimizer's learning rate.",
    "Top-1 accuracy": "Share of held-out images whose class is ranked first, in percent.",
    "Images per second": "Training images per second, over all processes.",
}


def curves(folder: Path, stage: str) -> pd.DataFrame:
    """Returns the curves of a run folder in long form: stage, metric, step, value. Empty where there are none."""
    empty = pd.DataFrame(columns=["stage", "metric", "step", "value"])
    parts = []
    # A resumed run has a version more for each start.
    for path in sorted(folder.glob("logs/csv/version_*/metrics.csv"), key=lambda path: _number(path.parent.name)):
        if path.is_symlink() or path.stat().st_size > LARGEST:
            continue
        try:
            parts.append(pd.read_csv(path))
        except (OSError, ValueError):
            continue
    if not parts:
        return empty
    table = pd.concat(parts, ignore_index=True)
    if "step" not in table:
        return empty
    found = []
    for column in table.columns.difference(["step", "epoch"], sort=False):
        name = NAMES.get("lr" if column.startswith("lr-") else column, column)
        values = pd.to_numeric(table[column], errors="coerce")
        curve = pd.DataFrame({"step": pd.to_numeric(table["step"], errors="coerce"), "value": values}).dropna()
        # What a resumed run did again replaces what it had done.
        curve = curve.drop_duplicates("step", keep="last").sort_values("step")
        found.append(thinned(curve).assign(stage=stage, metric=name))
    return pd.concat(found, ignore_index=True)[list(empty.columns)] if found else empty


def thinned(curve: pd.DataFrame) -> pd.DataFrame:
    """Returns at most `MOST_POINTS` points of a curve, evenly spread, the last one among them."""
    if len(curve) <= MOST_POINTS:
        return curve
    places = [round(number * (len(curve) - 1) / (MOST_POINTS - 1)) for number in range(MOST_POINTS)]
    return curve.iloc[places]


def _number(name: str) -> int:
    digits = name.rpartition("_")[2]
    return int(digits) if digits.isdecimal() else -1
