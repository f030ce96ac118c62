import os
from pathlib import Path

import pytest

from edgebnn.app.data.history import changes, measured_again
from edgebnn.app.data.overview import overview
from edgebnn.app.data.watch import duration, runs
from edgebnn.records import Record
from tests.app.data.test_model import configure
from tests.app.sample import RECORDS, SERVER, date


def timed(median: float, day: int, **context: object) -> Record:
    values = {"median_ms": median, "p10_ms": median * 0.9, "p90_ms": median * 1.1}
    told = {"artifact": "a.onnx", "runtime": "onnxruntime", "threads": 1, "machine": SERVER}
    return Record("latency", "m", values, told | context, created=date(day))


def test_regressions_are_those_whose_ranges_do_not_overlap() -> None:
    records = [
        *(timed(10.0, 1), timed(11.0, 2), timed(14.0, 3)),
        *(timed(50.0, 4, void=["hot"]), timed(10.0, 5), timed(12.0, 6)),
    ]
    found = changes(records)
    # 11 against 10: 9.9 to 12.1 and 9 to 11 overlap. 14 against 11: 12.6 is above 12.1. 50 is void, and 10 is compared
    # with 14: 11 is below 12.6. 12 against 10: 10.8 is below 11.
    expected = ["first", "no change shown", "regression", "void", "improvement", "no change shown"]
    assert list(found["change"]) == expected
    assert found["ratio"].iloc[2] == pytest.approx(14 / 11)
    assert found["ratio"].iloc[4] == pytest.approx(10 / 14)
    assert found["void"].iloc[3] == "hot"


def test_measurements_are_those_of_one_row() -> None:
    again = measured_again(RECORDS)
    table = overview(RECORDS)
    counts = {row.artifact: len(again[row.key]) for row in table.itertuples() if row.key in again}
    assert counts == {"large.onnx": 1, "small.onnx": 2, "small.tflite": 1}


def test_a_run_says_how_far_it_is_and_what_is_left(tmp_path: Path) -> None:
    for name, age, began in (("going", 10, 1010), ("stopped", 5000, 6000), ("finished", 10, 20)):
        folder = tmp_path / name
        configure(folder, name, "Distill")
        log = folder / "logs" / "csv" / "version_0" / "metrics.csv"
        log.parent.mkdir(parents=True)
        log.write_text("step,epoch,lr-Adam,train/loss\n9,,0.1,\n9,0,,5\n19,1,,4\n29,2,,3\n39,,0.1,\n")
        os.utime(log, (10_000 - age, 10_000 - age))
        os.utime(folder / "config.yaml", (10_000 - began, 10_000 - began))
    (tmp_path / "finished" / "finished").touch()
    found = {run.stage.model: run for run in runs(tmp_path, now=10_000)}
    assert [(run.state, run.step, run.epoch) for run in (found[name] for name in ("going", "stopped", "finished"))] == [
        *(("running", 39, 2), ("stopped", 39, 2), ("finished", 39, 2)),
    ]
    # Two of 8 epochs took 1000 seconds, so six take 3000.
    assert found["going"].left_s == 3000
    assert found["stopped"].left_s is None
    assert [duration(seconds) for seconds in (20, 3000, 10_000)] == ["under a minute", "50 min", "2.8 h"]
