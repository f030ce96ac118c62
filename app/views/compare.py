"""The page Compare: two to four files side by side, and whether one is faster."""

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from edgebnn.records import Record

from .. import shell
from ..charts import ratios as charts
from ..data.compare import Comparison, compare, measured_together, sentence
from ..data.facts import newest
from ..data.overview import key_of, label
from ..data.text import size

MOST = 4
FIGURES: dict[str, tuple[str, str]] = {
    "model": ("Model", ""),
    "artifact": ("File", ""),
    "format": ("Format", ""),
    "runtime": ("Runtime", ""),
    "machine": ("Device", ""),
    "threads": ("Threads", ".0f"),
    "top1": ("Top-1 accuracy (%)", ".2f"),
    "protocol": ("Protocol", ""),
    "data": ("Data", ""),
    "median_ms": ("Median latency (ms)", ".3f"),
    "p10_ms": ("10th percentile (ms)", ".3f"),
    "p90_ms": ("90th percentile (ms)", ".3f"),
    "first_ms": ("First run (ms)", ".2f"),
    "init_ms": ("Loading (ms)", ".2f"),
    "memory_bytes": ("Memory", "size"),
    "bytes": ("File size", "size"),
    "ops": ("OPs", ",.0f"),
    "resolution": ("Resolution (pixels)", ".0f"),
    "parity": ("Verified against the network", ""),
    "void": ("Void because", ""),
    "measured": ("Timed (UTC)", ""),
}


def show() -> None:
    """Shows the page."""
    shell.title("Compare")
    found = shell.snapshot()
    table = found.table
    labels = dict(zip(table.apply(label, axis=1), table.index))
    picked = st.multiselect(
        "Files, the reference first",
        list(labels),
        max_selections=MOST,
        key="files",
        bind="query-params",
        placeholder="Pick two to four files",
        help="All are compared with the first one. Choose opens this page with the rows that are ticked there.",
    )
    if len(picked) < 2:
        shell.note("Pick two to four files: the first is the reference. You can type a part of a name.", kind="info")
        return
    rows = table.loc[[labels[name] for name in picked]].reset_index(drop=True)
    names = short_names(rows)
    show_verdicts(rows, names, found.records)
    st.subheader("Side by side", anchor=False)
    st.dataframe(side_by_side(rows, names), hide_index=True, alt="Side by side", height="content")


def short_names(rows: pd.DataFrame) -> list[str]:
    """Returns a name for each row: its file, with a letter where two are of one name."""
    files = [row["artifact"] or row["model"] for _, row in rows.iterrows()]
    return [file if files.count(file) == 1 else f"{file} ({'ABCD'[place]})" for place, file in enumerate(files)]


def show_verdicts(rows: pd.DataFrame, names: Sequence[str], records: Sequence[Record]) -> None:
    """Shows each file against the first one."""
    timed = {key_of(record): record for record in newest(each for each in records if each.kind == "latency")}
    times = [timed.get(key) for key in rows["key"]]
    reference = times[0]
    st.subheader("Which is faster?", anchor=False)
    if reference is None:
        shell.note(f"No record holds a latency of {names[0]}. Measure it with `edgebnn bench FILE --record RUN`.")
        return
    results: dict[str, Comparison] = {}
    for name, record in list(zip(names, times))[1:]:
        if record is None:
            shell.note(f"No record holds a latency of {name}.")
            continue
        results[name] = compare(*measured_together(records, record, reference))
        shell.note(sentence(name, names[0], results[name]), [results[name].why], kind=_kind(results[name]))
    show_charts(rows, names, results)


def _kind(found: Comparison) -> str:
    return "" if found.verdict == "void" else "info"


def show_charts(rows: pd.DataFrame, names: Sequence[str], results: dict[str, Comparison]) -> None:
    """Shows the latencies, and the ratios of the rounds where there are any."""
    timed = rows.assign(name=list(names)).dropna(subset=["median_ms"])
    columns = ["name", "median_ms", "p10_ms", "p90_ms"]
    st.altair_chart(charts.latencies(timed[columns], names), alt="Latencies")
    st.caption("The bar is the median of the newest measurement, the line runs from the 10th to the 90th percentile.")
    paired = {name: result for name, result in results.items() if result.ratios}
    if not paired:
        return
    dots = pd.DataFrame(
        [
            {"name": name, "round": number, "ratio": ratio}
            for name, result in paired.items()
            for number, ratio in enumerate(result.ratios, start=1)
        ]
    )
    intervals = pd.DataFrame(
        [
            {"name": name, "low": result.interval[0], "median": result.ratio, "high": result.interval[1]}
            for name, result in paired.items()
            if result.interval
        ],
        columns=["name", "low", "median", "high"],
    )
    st.altair_chart(charts.ratios(dots, intervals), alt="Ratios of the rounds")
    st.caption(
        "Each dot is one round: the file's time over the reference's. Under 1 the file is faster. The bar is the 95% "
        "interval of the median ratio. The verdict is faster or slower only if the whole bar is on one side of 1."
    )


def side_by_side(rows: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Returns a row for each figure that any file has, a column for each file, and whether they differ."""
    lines = []
    for column, (title, form) in FIGURES.items():
        cells = [_cell(value, form) for value in rows[column]]
        if any(cells):
            mark = "differs" if len(set(cells)) > 1 else ""
            lines.append([title, *(cell or "\N{EN DASH}" for cell in cells), mark])
    return pd.DataFrame(lines, columns=["Figure", *names, "Differs"])


def _cell(value: object, form: str) -> str:
    if value is None or value != value:
        return ""
    if form == "size":
        return size(float(str(value)))
    return format(value, form) if form else str(value)
