"""The page Choose in Chromium: what it shows against the records."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from edgebnn.records import Record, write_record
from tests.app.reading import grid, points, settle
from tests.app.sample import RECORDS, write_all
from tests.app.server import dashboard

ABSENT = "\N{EN DASH}"


@pytest.fixture
def wide(browser: Browser) -> Iterator[Page]:
    """A window in which every column of the table is drawn."""
    context = browser.new_context(viewport={"width": 2600, "height": 1400})
    context.set_default_timeout(60_000)
    yield context.new_page()
    context.close()


def test_the_table_shows_the_records(wide: Page, address: str) -> None:
    wide.goto(address)
    rows = grid(wide, "Rows")
    shown = (
        "Model",
        "Top-1 %",
        "File",
        "Runtime",
        "Threads",
        "Median ms",
        "p10 ms",
        "p90 ms",
        "Size MB",
        "OPs, millions",
    )
    assert [tuple(row[head] for head in shown) for row in rows] == [
        ("large & slow", "72.5", "large.onnx", "onnxruntime", "2", "40", "36", "48", "", ""),
        ("small", "61.25", "small.onnx", "onnxruntime", "2", "2.5", "2.25", "3", "0.812345", "4.7100005"),
        ("small", "61.25", "small.tflite", "lce", "2", "8", "7.2", "9.6", "2.123456", "4.7100005"),
        ("untimed", "", "untimed.onnx", "", "", "", "", "", "0.000077", ""),
    ]
    assert [row["Verified"] for row in rows] == ["", "passed", "FAILED", ""]
    assert [row["Device"] for row in rows] == ["Server 9", "Server 9", "Board 4", ""]
    text = wide.locator("body").inner_text()
    assert f"3 of 3 models, 4 of 4 rows, 3 of them timed, from {len(RECORDS)} records" in text
    assert "2 devices: Server 9; Board 4" in text


def test_the_charts_points_are_the_tables(tab: Page, address: str) -> None:
    tab.goto(address)
    assert {
        (point["Model"], float(point["Top-1 %"]), float(point["Median latency (ms)"]), point["Device"])
        for point in points(tab)
    } == {
        ("large & slow", 72.5, 40.0, "Server 9"),
        ("small", 61.25, 2.5, "Server 9"),
        ("small", 61.25, 8.0, "Board 4"),
    }


def test_an_address_holds_the_budget_and_the_axis(tab: Page, address: str) -> None:
    tab.goto(f"{address}/?max_size=1&x=Size")
    assert [row["File"] for row in grid(tab, "Rows")] == ["small.onnx", "untimed.onnx"]
    assert "Left out, because no record holds their size: 1 row" in tab.locator("body").inner_text()
    assert [float(point["File size (MB)"]) for point in points(tab)] == [0.812345]
    # What is chosen on the page goes into the address.
    tab.get_by_test_id("stButtonGroup").first.get_by_text("OPs", exact=True).click()
    tab.wait_for_url("**x=OPs**")
    assert "max_size=1" in tab.url


def test_a_click_on_a_point_leaves_its_row_in_the_table(tab: Page, address: str) -> None:
    tab.goto(address)
    settle(tab)
    mark = tab.locator("svg.marks [aria-roledescription=point][aria-label*='large & slow']")
    mark.click(force=True)
    tab.get_by_text("1 picked rows").wait_for()
    # The table follows the sentence.
    for _ in range(60):
        if len(grid(tab, "Rows")) == 1:
            break
        tab.wait_for_timeout(500)
    assert [row["Model"] for row in grid(tab, "Rows")] == ["large & slow"]


def test_nothing_sticks_out_of_a_narrow_page(tab: Page, address: str) -> None:
    tab.set_viewport_size({"width": 390, "height": 800})
    tab.goto(address)
    tab.locator("svg.marks").first.wait_for()
    settle(tab)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    for element in (tab.locator("[data-testid=stDataFrame]"), tab.locator("svg.marks")):
        box = element.last.bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= 390


def test_broken_files_are_named_and_new_records_appear_by_themselves(tab: Page, tmp_path: Path) -> None:
    runs = tmp_path / "new"
    with dashboard(runs) as address:
        tab.goto(address)
        tab.get_by_text("make demo").wait_for()
        assert tab.locator("[data-testid=stDataFrame]").count() == 0

        write_all(runs)
        (runs / "run0" / "records" / "bad_one.json").write_text('{"version": 1, "kind"')
        # Without a reload.
        tab.get_by_text("3 of 3 models").wait_for()
        tab.get_by_text("1 file skipped").click()
        tab.get_by_text("bad_one.json is not a record").wait_for()
        write_record(Record("accuracy", "fourth", {"top1": 99.0}), runs / "run9")
        tab.get_by_text("4 of 4 models").wait_for()
