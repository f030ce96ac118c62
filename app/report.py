"""The current selection as one HTML file that opens without network: `edgebnn app report OUT.html`."""

import argparse
import html
import json
import math
from collections.abc import Sequence
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd

from edgebnn.errors import UserError, check
from edgebnn.files import write_bytes

from .charts.scatter import scatter
from .data.axes import AXES, wants_log
from .data.choose import Budget, front, groups, points, unlike, within
from .data.facts import threads
from .data.store import Store
from .data.text import size

ABSENT = "\N{EN DASH}"
STYLE = """
:root {color-scheme: light dark; --line: #8884;}
body {font: 15px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 2rem auto; padding: 0 1rem;}
.table {overflow-x: auto;} table {border-collapse: collapse; font-variant-numeric: tabular-nums;}
th, td {padding: .35rem .7rem; border-bottom: 1px solid var(--line); text-align: left; white-space: nowrap;}
.number {text-align: right;} .chart {width: 100%; min-height: 480px;} ul {overflow-wrap: anywhere;}
"""
# Vega's own menu saves the chart as SVG or PNG. Its theme follows the reader's light or dark mode.
SCRIPT = """
const dark = matchMedia('(prefers-color-scheme: dark)').matches;
const config = {axis: {gridColor: '#8883'}};
const menu = {export: true, source: false, compiled: false, editor: false};
for (const place of document.querySelectorAll('.chart')) {
  const spec = JSON.parse(document.getElementById(place.dataset.spec).textContent);
  vegaEmbed(place, spec, {renderer: 'svg', actions: menu, theme: dark ? 'dark' : undefined, config});
}
"""
COLUMNS = (
    *("Model", "Top-1 %", "Protocol", "Data", "File", "Runtime", "Threads", "Median ms", "p10 to p90 ms"),
    *("Size", "OPs, millions", "Memory", "Verified", "Device", "Void because"),
)
NUMBERS = ("Top-1 %", "Median ms", "p10 to p90 ms", "Size", "OPs, millions", "Memory")


def report(table: pd.DataFrame, budget: str, files: int) -> str:
    """Returns the HTML text of a report.

    Args:
        table: the rows that are selected, of the overview.
        budget: the selection in words.
        files: the number of records behind it.
    """
    parts = [f"<h1>edgebnn: {len(table)} files compared</h1>"]
    made = datetime.now(timezone.utc).isoformat(sep=" ", timespec="minutes")[:16]
    parts.append(f"<p>Made on {made} UTC from {files} records. {html.escape(budget)}</p>")
    specs = []
    for name, axis in AXES.items():
        found = points(table, axis)
        if found.empty:
            continue
        found = found.assign(front=front(found, axis), group=groups(found, axis), picked=False)
        log = wants_log(found["x"])
        chart = scatter(found, axis, log=log).properties(width="container", background="transparent")
        specs.append(_json(chart))
        number = len(specs)
        parts.append(f"<h2>Accuracy against {html.escape(name.lower() if name != 'OPs' else name)}</h2>")
        lines = unlike(found, axis)
        if lines:
            items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
            parts.append(f"<p>These points differ in more than the model:</p><ul>{items}</ul>")
        parts.append(
            f'<div class="chart" role="img" aria-label="Accuracy against {name}" data-spec="spec{number}"></div>'
        )
        parts.append(f"<p>{html.escape(axis.help.replace('`', ''))} The dashed line is the Pareto front.</p>")
    parts.append(f'<h2>All rows</h2><div class="table">{_table(cells(table))}</div>')
    data = "".join(
        f'<script type="application/json" id="spec{number}">{spec}</script>' for number, spec in enumerate(specs, 1)
    )
    scripts = f"<script>{_library()}</script>{data}<script>{SCRIPT}</script>" if specs else ""
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    # Nothing is fetched, and nothing that a record says could fetch anything.
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline' 'unsafe-eval'; img-src data: blob:"
    )
    head += f'<meta http-equiv="Content-Security-Policy" content="{policy}"><title>edgebnn</title>'
    return (
        f'<!doctype html><html lang="en"><head>{head}<style>{STYLE}</style></head><body><main>{"".join(parts)}</main>'
        f"{scripts}</body></html>"
    )


def _json(chart: alt.LayerChart) -> str:
    # JSON has no NaN. Within a script, only "<" could end it.
    return json.dumps(_finite(chart.to_dict()), allow_nan=False).replace("<", "\\u003c")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@cache
def _library() -> str:
    """Returns Vega, Vega-Lite and Vega-Embed as one script."""
    try:
        import vl_convert
    except ImportError:
        raise UserError("a report needs vl-convert-python; pip install 'edgebnn[app]'") from None
    version = ".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2])
    bundle: Any = vl_convert.javascript_bundle
    return str(bundle(None, vl_version=version)).replace("</script", "<\\/script")


def cells(table: pd.DataFrame) -> list[dict[str, str]]:
    """Returns the rows in words, with the keys `COLUMNS`."""
    rows = []
    for row in table.to_dict("records"):
        timed = not math.isnan(row["median_ms"])
        found = {
            "Model": row["model"],
            "Top-1 %": _number(row["top1"], ".2f"),
            "Protocol": row["protocol"],
            "Data": row["data"],
            "File": row["artifact"],
            "Runtime": row["runtime"],
            "Threads": threads(row["threads"]) if timed else "",
            "Median ms": _number(row["median_ms"], ".3f"),
            "p10 to p90 ms": f"{row['p10_ms']:.3f} to {row['p90_ms']:.3f}" if timed else "",
            "Size": size(row["bytes"]),
            "OPs, millions": _number(row["ops"] / 1e6, ".2f"),
            "Memory": size(row["memory_bytes"]),
            "Verified": row["parity"],
            "Device": row["machine"],
            "Void because": row["void"],
        }
        rows.append({name: str(value) if value else ABSENT for name, value in found.items()})
    return rows


def _number(value: float, form: str) -> str:
    return "" if math.isnan(value) else format(value, form)


def _table(rows: list[dict[str, str]]) -> str:
    shown = [name for name in COLUMNS if any(row[name] != ABSENT for row in rows)]
    kinds = {name: ' class="number"' if name in NUMBERS else "" for name in shown}
    heads = "".join(f'<th scope="col"{kinds[name]}>{name}</th>' for name in shown)
    body = "".join(
        "<tr>" + "".join(f"<td{kinds[name]}>{html.escape(row[name])}</td>" for name in shown) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"


def markdown(table: pd.DataFrame) -> str:
    """Returns the rows as a Markdown table for a README file. Text of records is escaped."""
    rows = cells(table)
    shown = [name for name in COLUMNS if any(row[name] != ABSENT for row in rows)]
    lines = [shown, ["---:" if name in NUMBERS else "---" for name in shown]]
    lines += [[escaped(row[name]) for name in shown] for row in rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def escaped(text: str) -> str:
    """Returns text with every character that Markdown may give a meaning escaped."""
    special = "\\`*_{}[]<>()#+!|~$&:@"
    return "".join(f"\\{each}" if each in special else each for each in text)


def main(arguments: Sequence[str]) -> None:
    """Writes a report. Raises `UserError` if nothing fits or the file cannot be written."""
    parser = argparse.ArgumentParser(prog="edgebnn app report", description="Writes a comparison as one HTML file.")
    parser.add_argument("out", type=Path, metavar="OUT", help="the file: .html, or .md for a Markdown table")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs (default: runs)")
    parser.add_argument("--top1", type=float, default=0.0, help="only files of this accuracy or better, in percent")
    for name in ("latency", "size", "ops", "memory"):
        axis = AXES["OPs" if name == "ops" else name.capitalize()]
        parser.add_argument(f"--max-{name}", type=float, default=math.inf, help=f"the largest: {axis.title}")
    parser.add_argument("--search", default="", help="words that the model, file, runtime or device must contain")
    given = parser.parse_args(arguments)
    check(given.out.suffix in (".html", ".md"), f"{given.out} is neither .html nor .md; name such a file")
    found = Store(given.runs).look()
    check(found.found, f"{given.runs} holds no records; run `make demo`, or export and bench with --record")
    limits = {"Latency": given.max_latency, "Size": given.max_size, "OPs": given.max_ops, "Memory": given.max_memory}
    budget = Budget(given.top1, limits, text=given.search)
    table, _ = within(found.table, budget)
    check(len(table), "nothing fits this budget; allow more")
    text = markdown(table) if given.out.suffix == ".md" else report(table, in_words(budget), len(found.found))
    write_bytes(given.out, text.encode())
    print(f"wrote {given.out}: {len(table)} rows")


def in_words(budget: Budget) -> str:
    """Returns a budget in words; "" for none."""
    parts = [f"accuracy at least {budget.least_top1:g} %"] if budget.least_top1 else []
    for name, limit in budget.most.items():
        if math.isfinite(limit):
            parts.append(f"{AXES[name].title} at most {limit:g}")
    for name, values in budget.among.items():
        if values:
            parts.append(f"{name}: {', '.join(map(str, values))}")
    parts += [f"containing '{budget.text}'"] if budget.text else []
    return f"Selected: {'; '.join(parts)}." if parts else ""
