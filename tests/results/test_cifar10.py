"""What is kept of runs on CIFAR-10, and the page that is made of it."""

import csv
from pathlib import Path

import pytest

from docs.results import cifar10, keep
from docs.results.cifar10 import KNN, LINEAR
from edgebnn import records
from edgebnn.records import Record
from tools.cifar10 import recipe_of

ROOT = Path(__file__).parents[2]


def make_stage(run: Path, name: str, rows: list[dict[str, float]], finished: bool = True) -> Path:
    """A folder as `train fit` leaves it, of a training with batches of 100 images."""
    stage = run / name
    logs = stage / "logs/csv/version_0"
    logs.mkdir(parents=True)
    (stage / "config.yaml").write_text("data: {init_args: {batch_size: 100}}\n")
    if rows:
        with (logs / "metrics.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    if finished:
        (stage / "finished").touch()
    return stage


def logged(step: int, epoch: int, speed: float, loss: float) -> dict[str, float]:
    return {"step": step, "epoch": epoch, "train/images_per_s": speed, "train/loss": loss}


def top1(run: Path, protocol: str, value: float) -> None:
    records.write_record(Record("accuracy", "m", {"top1": value}, {"protocol": protocol}), run)


def test_curve_has_the_means_of_each_epoch_and_the_seconds_that_the_speed_implies(tmp_path: Path) -> None:
    rows = [logged(9, 0, 50.0, 4.0), logged(19, 0, 100.0, 2.0), logged(29, 1, 200.0, 1.0)]
    stage = make_stage(tmp_path, "stage1", rows)
    assert keep.curve(stage) == [
        # 10 steps of 100 images at 50 and at 100 images a second: 20 and 10 seconds.
        {"epoch": 1, "step": 20, "seconds": 30.0, "train/loss": 3.0},
        {"epoch": 2, "step": 30, "seconds": 5.0, "train/loss": 1.0},
    ]


def test_a_step_that_was_logged_before_and_after_an_interruption_counts_once(tmp_path: Path) -> None:
    stage = make_stage(tmp_path, "stage1", [logged(9, 0, 100.0, 4.0), logged(19, 0, 100.0, 9.0)])
    again = stage / "logs/csv/version_1"
    again.mkdir()
    (again / "metrics.csv").write_text("epoch,step,train/images_per_s,train/loss\n0,19,100.0,2.0\n")
    assert keep.curve(stage) == [{"epoch": 1, "step": 20, "seconds": 20.0, "train/loss": 3.0}]


def test_only_finished_stages_are_kept_and_nothing_of_a_replaced_run_stays(tmp_path: Path) -> None:
    run, kept = tmp_path / "cifar10-distill-seed0", tmp_path / "kept"
    top1(make_stage(run, "linear", []), LINEAR, 50.0)
    make_stage(run, "stage2", [logged(9, 0, 50.0, 4.0)], finished=False)
    (first,) = keep.keep(run, kept)
    assert records.read_record(first).values["top1"] == 50.0
    first.with_name("accuracy-m-old.json").write_bytes(first.read_bytes())
    assert keep.keep(run, kept) == [first]
    assert list(kept.rglob("*.*")) == [first]


def test_the_teacher_is_kept_and_put_back_unless_one_was_trained(tmp_path: Path) -> None:
    stage = make_stage(tmp_path / "cifar10-teacher", "teacher", [logged(9, 0, 50.0, 4.0)])
    (stage / "model.safetensors").write_bytes(b"weights")
    kept, runs = tmp_path / "kept", tmp_path / "runs"
    keep.keep(tmp_path / "cifar10-teacher", kept)
    found = runs / "cifar10-teacher/teacher/model.safetensors"
    keep.restore_teacher(runs, kept)
    assert found.read_bytes() == b"weights"
    found.write_bytes(b"trained here")
    keep.restore_teacher(runs, kept)
    assert found.read_bytes() == b"trained here"


def test_page_shows_mean_spread_and_seeds(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    for seed, (linear, knn) in enumerate([(50.0, 40.0), (54.0, 43.0)]):
        run = tmp_path / f"cifar10-burn-seed{seed}"
        make_stage(run, "stage1", [logged(359, 0, 10.0, 4.0)])
        top1(make_stage(run, "linear", []), LINEAR, linear)
        top1(make_stage(run, "knn", []), KNN, knn)
        keep.keep(run, kept)
    table = "\n".join(cifar10.methods(cifar10.read_runs(kept)))
    row = next(line for line in table.splitlines() if line.startswith("| BURN |"))
    # The mean of 50 and 54; their standard deviation, sqrt(8); 36,000 images at 10 a second are an hour.
    assert [cell.strip() for cell in row.split("|")[1:-1]] == ["BURN", "52.0", "2.83", "41.5", "2", "1.0", "62.29"]
    assert "| SwAV |  |  |  | not run yet |" in table


def test_page_in_the_repository_is_made_of_the_records_in_the_repository() -> None:
    text = (ROOT / cifar10.PAGE).read_text(encoding="utf-8")
    assert text == "\n".join(cifar10.page(cifar10.read_runs(ROOT / keep.KEPT))) + "\n"


@pytest.mark.parametrize(
    ("method", "recipe", "folder"),
    [
        ("teacher", "cifar10-teacher", "cifar10-teacher"),
        ("untrained", "cifar10-untrained", "cifar10-untrained-seed3"),
        ("burn", "cifar10", "cifar10-burn-seed3"),
        ("burn-code", "cifar10", "cifar10-burn-code-seed3"),
        ("burn-dynamic", "cifar10-burn-ablation", "cifar10-burn-dynamic-seed3"),
    ],
)
def test_every_row_of_the_table_has_a_recipe(method: str, recipe: str, folder: str) -> None:
    found, _, run = recipe_of(method, 3)
    assert (found, run) == (recipe, folder)
    assert (ROOT / "train/recipes" / f"{found}.yaml").exists()
    assert method == "teacher" or method in {**cifar10.METHODS, **cifar10.ABLATION}
