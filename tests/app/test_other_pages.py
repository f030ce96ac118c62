"""The pages Compare, Model, History and Runs in Chromium: what they show against the records."""

from pathlib import Path

from playwright.sync_api import Page

from edgebnn.app.data.compare import compare, sentence
from edgebnn.app.data.store import Store
from edgebnn.app.shell import DEMO
from edgebnn.records import Record, write_record
from tests.app.reading import grid, settle
from tests.app.sample import SERVER, date
from tests.app.server import dashboard

ROW, HEADING, TICK = 35, 35, 18
"""Pixels of the data table: heights of a row and of the heading, and where the column of ticks is."""


def test_ticked_rows_are_compared(tab: Page, address: str) -> None:
    tab.goto(address)
    grid(tab, "Rows")
    settle(tab)
    table = tab.get_by_test_id("data-grid-canvas").last
    for row in range(2):
        # A layer above the canvas takes the clicks.
        table.click(position={"x": TICK, "y": HEADING + ROW * row + ROW // 2}, force=True)
        settle(tab)
    tab.get_by_role("button", name="Compare 2 files").click()
    tab.get_by_text("small.onnx is faster than large.onnx: 16.00 times as fast.").wait_for()
    assert "files=large" in tab.url
    rows = {row["Figure"]: row for row in grid(tab, "Side by side")}
    median = rows["Median latency (ms)"]
    assert (median["large.onnx"], median["small.onnx"], median["Differs"]) == ("40.000", "2.500", "differs")
    assert (rows["Device"]["Differs"], rows["File size"]["large.onnx"]) == ("", "\N{EN DASH}")


def test_the_paired_ratio_on_the_page_is_the_records(tab: Page, tmp_path: Path) -> None:
    rounds = {
        "fast.onnx": [1.0, 1.1, 1.2, 5.0, 1.0, 1.1, 1.3, 1.0],
        "slow.onnx": [2.0, 2.3, 2.4, 9.0, 2.1, 2.2, 2.5, 2.2],
    }
    made = {}
    for file, times in rounds.items():
        values = {"median_ms": sorted(times)[4], "p10_ms": 1.0, "p90_ms": 9.0}
        context = {"artifact": file, "runtime": "onnxruntime", "threads": 1, "machine": SERVER}
        context |= {"session": "one", "rounds_ms": times}
        made[file] = Record("latency", "m", values, context, created=date(1))
        write_record(made[file], tmp_path)
    expected = sentence("fast.onnx", "slow.onnx", compare(made["fast.onnx"], made["slow.onnx"]))
    assert expected == "fast.onnx is faster than slow.onnx: 2.00 times as fast, 95% interval 1.80 to 2.20."
    with dashboard(tmp_path) as address:
        names = ("m, slow.onnx, onnxruntime, 1 thread, Server 9", "m, fast.onnx, onnxruntime, 1 thread, Server 9")
        tab.goto(f"{address}/compare?files={names[0]}&files={names[1]}")
        tab.get_by_text(expected).wait_for()
        tab.get_by_text("8 rounds in which both files took turns").wait_for()


def test_layers_and_history_show_the_demos_records(tab: Page) -> None:
    found = Store(DEMO).look().records
    layers = [
        record for record in found if record.kind == "kernels" and record.context["artifact"] == "binary-packed.onnx"
    ]
    most = max(layers[-1].context["layers"], key=lambda layer: layer["ms"])
    with dashboard(DEMO) as address:
        tab.goto(f"{address}/model?name=demo-binary&part=Layers")
        tab.get_by_text(f"{most['name']} costs most").wait_for()
        first = grid(tab, "Layers")[0]
        assert (first["Layer"], float(first["ms"])) == (most["name"], most["ms"])
        times = [row for row in found if row.kind == "latency" and row.context["artifact"] == "binary-packed.onnx"]
        file = "demo-binary, binary-packed.onnx, onnxruntime, packed for avx512, 1 thread, AMD EPYC"
        tab.goto(f"{address}/history?file={file}")
        shown = [float(row["Median ms"]) for row in grid(tab, "Measurements")]
        assert shown == [record.values["median_ms"] for record in reversed(times)]
