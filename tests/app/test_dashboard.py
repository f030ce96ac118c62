"""The dashboard as a user sees it: Streamlit in a process, Chromium on its pages."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from edgebnn.app.page import ABSENT
from tests.app.sample import RECORDS, SUPERSEDED, write_all
from tests.app.server import free_port, running

ROOT = Path(__file__).parents[2]
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
# CI installs it, so there its absence is a failure.
pytestmark = pytest.mark.skipif(
    not Path(CHROMIUM).exists() and "CI" not in os.environ, reason="no Chromium; Debian: apt-get install chromium"
)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]
PATIENCE_MS = 60_000


@contextmanager
def served(runs: Path) -> Iterator[str]:
    """The address of a dashboard on the records under `runs`."""
    port = free_port()
    options = {"server.port": port, "server.address": "localhost", "server.headless": "true"}
    options |= {"browser.gatherUsageStats": "false", "server.fileWatcherType": "none"}
    command = [sys.executable, "-m", "streamlit", "run", "app/main.py"]
    command += [f"--{name}={value}" for name, value in options.items()] + ["--", "--runs", str(runs)]
    with running(command, port, ROOT) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("dashboard") / "runs"
    write_all(runs)
    return runs


@pytest.fixture(scope="module")
def address(runs: Path) -> Iterator[str]:
    with served(runs) as address:
        yield address


@pytest.fixture
def tab(browser: Browser) -> Iterator[Page]:
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    tab.set_default_timeout(PATIENCE_MS)
    yield tab
    tab.close()


def cells(tab: Page, name: str) -> list[list[str]]:
    """The text of the body of the table of that name, lines within a cell apart by a space."""
    rows = tab.get_by_role("table", name=name, exact=True).locator("tbody tr")
    rows.first.wait_for()
    return [[" ".join(cell.split()) for cell in row.locator("td").all_inner_texts()] for row in rows.all()]


def test_the_table_shows_the_records(tab: Page, address: str) -> None:
    tab.goto(address)
    assert cells(tab, "Models") == [
        [
            *("large & slow", "72.50", "linear digits <test>", "large.onnx"),
            *("onnxruntime 2 threads, Server 9", f"40.00 36.00{ABSENT}48.00", ABSENT, ABSENT, ABSENT),
        ],
        [
            *("small", "61.25", "linear digits <test>", "small.onnx"),
            *("onnxruntime 2 threads, Server 9", f"2.50 2.25{ABSENT}3.00", "4.71", "812.35 kB", "passed"),
        ],
        [
            *("small", "61.25", "linear digits <test>", "small.tflite"),
            *("lce 2 threads, Board 4", f"8.00 7.20{ABSENT}9.60", "4.71", "2.12 MB", "FAILED"),
        ],
        ["untimed", ABSENT, ABSENT, "untimed.onnx", ABSENT, ABSENT, ABSENT, "77 bytes", ABSENT],
    ]
    text = tab.locator("body").inner_text()
    assert f"3 models from {len(RECORDS)} records" in text
    assert f"{SUPERSEDED} older records of the same facts are left out" in text


def test_the_charts_points_are_the_tables(tab: Page, address: str) -> None:
    tab.goto(address)
    tab.locator("svg.marks").first.wait_for()
    # Vega describes every mark to screen readers by its encodings; a point without OPs is a symbol of its own.
    labels = tab.locator("svg.marks [aria-roledescription=circle], svg.marks [aria-roledescription=point]")
    labels.first.wait_for(state="attached")
    points = set()
    for label in (str(mark.get_attribute("aria-label")) for mark in labels.all()):
        fields = dict(part.split(": ", 1) for part in label.split("; "))
        points.add((fields["Model"], float(fields["Top-1 %"]), float(fields["Median ms"]), fields["Machine"]))
    assert points == {
        ("large & slow", 72.5, 40.0, "Server 9"),
        ("small", 61.25, 2.5, "Server 9"),
        ("small", 61.25, 8.0, "Board 4"),
    }


def test_a_model_has_a_page_that_can_be_linked_to(tab: Page, address: str) -> None:
    tab.goto(address)
    tab.get_by_role("link", name="large & slow").first.click()
    tab.get_by_role("heading", name="large & slow").wait_for()
    assert tab.url.endswith("?model=large%20%26%20slow")
    assert cells(tab, "Accuracy") == [["72.5", "data digits <test>, epochs 3, protocol linear", "2026-01-02 10:20"]]
    tab.get_by_role("link", name="All models").click()
    tab.get_by_role("table", name="Models").wait_for()

    tab.goto(f"{address}/?model=small")
    accuracy = cells(tab, "Accuracy")
    assert [(row[0], row[-1]) for row in accuracy] == [
        ("61.25", "2026-01-03 10:20"),
        ("50.5", "2026-01-01 10:20 older"),
    ]
    latency = cells(tab, "Latency")
    assert sorted((row[0], row[1], row[-1].endswith("older")) for row in latency) == [
        ("small.onnx", "2.5", False),
        ("small.onnx", "3.5", True),
        ("small.tflite", "8", False),
    ]
    assert all(re.search("cpu (Board 4|Server 9)", row[-2]) for row in latency)
    parity = tab.get_by_role("table", name="Parity")
    assert parity.locator("thead th").all_inner_texts()[:3] == ["Artifact", "ok", "top1 agreement"]
    assert sorted(row[:3] for row in cells(tab, "Parity")) == [
        ["small.onnx", "1", "99.5"],
        ["small.tflite", "0", "51.5"],
    ]


def test_a_model_without_records_is_said_to_have_none(tab: Page, address: str) -> None:
    tab.goto(f"{address}/?model=nobody")
    tab.get_by_text("There are no records of this model").wait_for()


def test_nothing_sticks_out_of_a_narrow_page(tab: Page, address: str) -> None:
    tab.set_viewport_size({"width": 400, "height": 800})
    tab.goto(address)
    tab.locator("svg.marks").first.wait_for()
    for element in (tab.locator(".bnn-scroll"), tab.locator("svg.marks")):
        box = element.first.bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= 400


def test_damaged_records_are_named_and_an_empty_folder_says_what_to_run(tab: Page, tmp_path: Path) -> None:
    runs = tmp_path / "new"
    with served(runs) as address:
        tab.goto(address)
        tab.get_by_text("make demo").wait_for()
        assert tab.get_by_role("table").count() == 0

        # Records that come later are seen at the next visit, and a damaged one does not hide the others.
        write_all(runs)
        (runs / "run0" / "records" / "bad_one.json").write_text('{"version": 1, "kind"')
        tab.reload()
        assert len(cells(tab, "Models")) == 4
        warning = tab.get_by_role("alert").inner_text()
        assert "bad_one.json is not a record" in warning
