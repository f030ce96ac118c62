"""The report in Chromium without network, against the records."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from edgebnn.app.report import escaped, main
from edgebnn.errors import UserError
from edgebnn.records import Record, write_record
from tests.app.sample import write_all


def test_a_report_opens_without_network(browser: Browser, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    write_all(runs)
    evil = "</script><script>document.title = 'evil'</script><img src=http://127.0.0.1:9/x.png>"
    write_record(Record("size", evil, {"bytes": 5}, {"artifact": evil}), runs / "evil")
    write_record(
        Record("accuracy", evil, {"top1": 10.0}, {"protocol": "linear", "data": "digits <test>"}), runs / "evil"
    )
    main([str(tmp_path / "out.html"), "--runs", str(runs)])
    context = browser.new_context(offline=True)
    tab = context.new_page()
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto((tmp_path / "out.html").as_uri())
    tab.locator("svg.marks").nth(2).wait_for()
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert (tab.title(), tab.locator("img").count()) == ("edgebnn", 0)
    heads = tab.locator("thead th").all_inner_texts()
    rows = [dict(zip(heads, row.locator("td").all_inner_texts())) for row in tab.locator("tbody tr").all()]
    assert [(row["Model"], row["Top-1 %"], row["Median ms"], row["Size"]) for row in rows] == [
        ("large & slow", "72.50", "40.000", "\N{EN DASH}"),
        ("small", "61.25", "2.500", "812.35 kB"),
        ("small", "61.25", "8.000", "2.12 MB"),
        (evil, "10.00", "\N{EN DASH}", "5 bytes"),
        ("untimed", "\N{EN DASH}", "\N{EN DASH}", "77 bytes"),
    ]
    # Charts are interactive: a point describes itself, and Vega's menu saves the chart.
    marks = tab.locator(".chart").first.locator("[aria-roledescription=point]")
    labels = [str(mark.get_attribute("aria-label")) for mark in marks.all()]
    assert len(labels) == 3
    assert "Median latency (ms): 40; Top-1 accuracy (%): 72.5;" in labels[0]
    assert tab.get_by_text("Save as SVG").count() == 3
    context.close()


def test_the_markdown_table_keeps_to_the_budget_and_escapes(tmp_path: Path) -> None:
    runs, out = tmp_path / "runs", tmp_path / "out.md"
    write_all(runs)
    main([str(out), "--runs", str(runs), "--max-size", "1", "--top1", "50"])
    lines = out.read_text().splitlines()
    assert len(lines) == 3
    assert lines[2].startswith(
        "| small | 61.25 | linear | digits \\<test\\> | small.onnx | onnxruntime | 2 threads | 2.500"
    )
    assert escaped("a|b [x](y) <i> `c`") == "a\\|b \\[x\\]\\(y\\) \\<i\\> \\`c\\`"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["out.txt"], "neither .html nor .md"),
        (["out.md", "--max-size", "0"], "nothing fits"),
    ],
)
def test_a_mistake_is_told_in_one_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    write_all(tmp_path)
    with pytest.raises(UserError, match=message):
        main([str(tmp_path / arguments[0]), *arguments[1:], "--runs", str(tmp_path)])
