import json
import math
import random

import pandas as pd
import pytest

from edgebnn.app.charts.scatter import scatter
from edgebnn.app.data.axes import AXES
from edgebnn.app.data.choose import Budget, front, groups, points, unlike, within
from edgebnn.app.data.overview import overview
from edgebnn.app.data.published import FILE, published_points
from tests.app.sample import RECORDS
from tests.app.synthetic import invent

LATENCY, SIZE = AXES["Latency"], AXES["Size"]


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return overview(RECORDS)


def files(found: pd.DataFrame) -> list[str]:
    return [file or "" for file in found["artifact"]]


@pytest.mark.parametrize(
    ("budget", "kept"),
    [
        (Budget(), ["large.onnx", "small.onnx", "small.tflite", "untimed.onnx"]),
        (Budget(least_top1=61.25), ["large.onnx", "small.onnx", "small.tflite"]),
        (Budget(least_top1=61.5), ["large.onnx"]),
        (Budget(most={"Latency": 8.0}), ["small.onnx", "small.tflite"]),
        (Budget(most={"Latency": 7.999}), ["small.onnx"]),
        (Budget(most={"Size": 1.0}), ["small.onnx", "untimed.onnx"]),
        (Budget(most={"Latency": math.inf}), ["large.onnx", "small.onnx", "small.tflite", "untimed.onnx"]),
        (Budget(among={"device": ["Board 4"]}), ["small.tflite"]),
        (Budget(among={"runtime": ["lce", "onnxruntime"], "device": ["Server 9"]}), ["large.onnx", "small.onnx"]),
        (Budget(text="SMALL server"), ["small.onnx"]),
        (Budget(text="small & nothing"), []),
    ],
)
def test_a_budget_keeps_what_fits(table: pd.DataFrame, budget: Budget, kept: list[str]) -> None:
    assert files(within(table, budget)[0]) == kept


def test_rows_without_the_figure_are_counted(table: pd.DataFrame) -> None:
    found, lacking = within(table, Budget(least_top1=50, most={"Size": 100.0}))
    # large has no size; untimed has no accuracy.
    assert (files(found), lacking) == (["small.onnx", "small.tflite"], {"Size": 1, "Accuracy": 1})


def test_the_front_is_what_no_other_point_beats() -> None:
    random_ = random.Random(3)
    rows = [
        {"x": x, "top1": x // 2 + random_.randint(1, 20), "machine": f"m{random_.randint(0, 1)}"}
        for x in random_.choices(range(40), k=200)
    ]
    found = pd.DataFrame(rows).assign(data="d", protocol="p", threads=1.0, void=None)
    found.loc[found.index % 7 == 0, "void"] = "busy"
    sound = [row for row in found.itertuples() if pd.isna(row.void)]
    expected = [
        pd.isna(row.void)
        and not any(
            other.machine == row.machine
            and (other.x <= row.x and other.top1 >= row.top1 and (other.x < row.x or other.top1 > row.top1))
            for other in sound
        )
        for row in found.itertuples()
    ]
    assert 5 < sum(expected) < 60
    assert list(front(found, LATENCY)) == expected


def test_points_of_unlike_conditions_have_fronts_of_their_own(table: pd.DataFrame) -> None:
    found = points(table, LATENCY)
    assert list(groups(found, LATENCY)) == [
        "digits <test>, linear, Server 9, 2 threads",
        "digits <test>, linear, Server 9, 2 threads",
        "digits <test>, linear, Board 4, 2 threads",
    ]
    # On Board 4 there is one file alone, so it is on its front, though small.onnx is faster on Server 9.
    assert list(front(found, LATENCY)) == [True, True, True]
    assert unlike(found, LATENCY) == ["2 devices: Server 9; Board 4"]
    assert unlike(points(table, SIZE), SIZE) == []
    void = found.assign(void=["hot", None, None], protocol=["a", "b", "b"], threads=[1.0, 2.0, 2.0])
    assert unlike(void, LATENCY) == [
        *("2 evaluation protocols: a; b", "2 devices: Server 9; Board 4", "2 thread counts: 1; 2"),
        "1 void time: something disturbed the measurement",
    ]


def test_a_file_is_one_point_where_the_device_does_not_matter() -> None:
    table = overview(record for _, record in invent(models=3, records=60))
    assert len(points(table, LATENCY)) == 3 * 2 * 3
    assert len(points(table, SIZE)) == 3 * 2
    assert set(points(table, SIZE)["x"]) == set(table["bytes"] / 1e6)


def test_published_points_have_sources_and_stay_out_of_the_front(table: pd.DataFrame) -> None:
    given = json.loads(FILE.read_text())["points"]
    assert all(point["source"] and point["top1"] for point in given)
    others = published_points(LATENCY)
    assert sorted(others["x"]) == sorted(point["median_ms"] for point in given if "median_ms" in point)
    assert set(published_points(AXES["OPs"])["x"]) == {87.126016}
    found = points(table, LATENCY)
    found = found.assign(front=front(found, LATENCY), group=groups(found, LATENCY), picked=False)
    chart = scatter(found, LATENCY, log=True, published=others).to_dict()
    hollow = [layer for layer in chart["layer"] if layer["mark"].get("filled") is False]
    assert [layer["mark"]["shape"] for layer in hollow if "shape" in layer["mark"]] == ["diamond"]
