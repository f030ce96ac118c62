"""The dashboard: what was measured, read from the records under `runs/`.

    edgebnn app [--runs FOLDER]                     streamlit run app/main.py [-- --runs FOLDER]

`?model=NAME` is the page of one model. No figure is shown that is not in a record.
"""

import argparse
from pathlib import Path

import altair as alt
import pandas as pd
import streamlit as st

# Streamlit runs this file as a script, so it names its own package in full.
from edgebnn.app import page, tables
from edgebnn.records import Record

COLOURS = ["#2f6fde", "#d9772b", "#4b9b6a", "#8b5fbf"]


def main() -> None:
    st.set_page_config("edgebnn", layout="wide", initial_sidebar_state="collapsed")
    parser = argparse.ArgumentParser(prog="streamlit run app/main.py --")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs (default runs)")
    root = parser.parse_args().runs
    st.html(page.STYLE)
    found, complaints = tables.read_runs(root)
    for complaint in complaints:
        st.warning(complaint.replace("_", "\\_"), icon=":material/broken_image:")
    model = st.query_params.get("model")
    if model is not None:
        show_model(model, found)
    elif found:
        show_overview(found, root)
    else:
        show_empty(root)


def show_empty(root: Path) -> None:
    """Tells what to run where there are no records."""
    st.title("edgebnn")
    st.info(f"No records under `{root}` yet. This runs the whole path on bundled data and fills this page:")
    st.code("make demo", language="bash")
    st.write("Or time model files you have, and keep the result:")
    st.code(f"edgebnn bench model.onnx model.tflite --record {root}/bench", language="bash")


def show_overview(found: list[Record], root: Path) -> None:
    """All models: the table, then the chart."""
    st.title("edgebnn")
    table = tables.overview(found)
    current = len(tables.newest(found))
    old = f" {len(found) - current} older records of the same facts are left out." if len(found) > current else ""
    st.caption(
        f"{table.model.nunique()} models from {len(found)} records under `{root}`. "
        f"Each figure is the newest of its kind.{old}"
    )
    st.html(overview_html(table))
    points = tables.points(table)
    if len(points):
        st.subheader("Accuracy against latency")
        st.altair_chart(chart(points), width="stretch", theme=None)
        st.caption("Each point is one artifact on one runtime, at its median latency. The bar runs from p10 to p90.")
    else:
        st.info("The chart needs a model with both an accuracy and a latency record.")


def overview_html(table: pd.DataFrame) -> str:
    """The overview as an HTML table."""
    header = ("Model", "Top-1 %", "Protocol", "Artifact", "Runtime", "Median ms", "OPs, millions", "Size", "Parity")
    kinds = ("", "figure", "", "", "", "figure", "figure", "figure", "")
    rows = []
    for row in table.to_dict("records"):
        timed = pd.notna(row["median_ms"])
        spread = "\N{EN DASH}".join(page.figure(row[end], ".2f") for end in ("p10_ms", "p90_ms"))
        where = f"{tables.threads(row['threads'])}, {row['machine']}"
        rows.append(
            (
                page.link(row["model"]),
                page.figure(row["top1"], ".2f"),
                page.text(row["protocol"]) + page.small(row["data"]),
                page.text(row["artifact"]),
                page.text(row["runtime"]) + page.small(where if timed else ""),
                page.figure(row["median_ms"], ".2f") + page.small(spread if timed else ""),
                page.figure(row["ops"] / 1e6, ".2f"),
                page.size(row["bytes"]),
                page.verdict(row["parity"]),
            )
        )
    return page.table(header, rows, kinds=kinds, name="Models")


def chart(points: pd.DataFrame) -> alt.LayerChart:
    """Accuracy against median latency; a point's area is its OPs, its colour the runtime."""
    # A "nice" logarithmic axis would end at powers of ten and leave most of the width empty.
    scale = alt.Scale(
        type="log" if tables.wants_log(points.median_ms) else "linear", zero=False, nice=False, padding=40
    )
    series = points.runtime.fillna("unknown") + ", " + points.threads.map(tables.threads)
    if points.machine.nunique() > 1:
        series += ", " + points.machine
    # All points of a model lie at one height, so its name stands once, at its fastest.
    first = ~points.sort_values("median_ms").duplicated("model").sort_index()
    points = points.assign(mops=points.ops / 1e6, series=series, label=points.model.where(first, ""))
    x = alt.X("median_ms:Q", title="Median latency (ms, one image)", scale=scale, axis=alt.Axis(tickCount=6))
    y = alt.Y("top1:Q", title="Top-1 (%)", scale=alt.Scale(zero=False, padding=24))
    legend = alt.Legend(columns=1, labelLimit=420)
    colour = alt.Color("series:N", title="Runtime", scale=alt.Scale(range=COLOURS), legend=legend)
    tooltip = [
        alt.Tooltip("model:N", title="Model"),
        alt.Tooltip("artifact:N", title="Artifact"),
        alt.Tooltip("series:N", title="Runtime"),
        alt.Tooltip("machine:N", title="Machine"),
        alt.Tooltip("top1:Q", title="Top-1 %", format=".2f"),
        alt.Tooltip("median_ms:Q", title="Median ms", format=".3f"),
        alt.Tooltip("p10_ms:Q", title="p10 ms", format=".3f"),
        alt.Tooltip("p90_ms:Q", title="p90 ms", format=".3f"),
        alt.Tooltip("mops:Q", title="OPs (M)", format=".2f"),
    ]
    base = alt.Chart(points)
    bars = base.mark_rule(strokeWidth=2, opacity=0.5).encode(x=alt.X("p10_ms:Q", scale=scale), x2="p90_ms:Q", y=y)
    dots = base.mark_circle(opacity=0.85, stroke="white", strokeWidth=1)
    counted = dots.transform_filter("isValid(datum.mops)").encode(
        x, y, colour, alt.Size("mops:Q", title="OPs (M)", scale=alt.Scale(range=[60, 700])), tooltip=tooltip
    )
    # Without an OPs record a point has no size to show; it is drawn small and hollow.
    uncounted = (
        base.transform_filter("!isValid(datum.mops)")
        .mark_point(size=60, strokeWidth=2)
        .encode(x, y, colour, tooltip=tooltip)
    )
    names = base.mark_text(align="center", dy=-20, fontSize=11, color="#3b424c").encode(x=x, y=y, text="label:N")
    return (
        alt.layer(bars.encode(colour), counted, uncounted, names)
        .properties(height=380, usermeta={"embedOptions": {"renderer": "svg"}})
        .configure_axis(gridColor="#eef0f3", domainColor="#c9ced6", labelFontSize=12, titleFontSize=12)
        .configure_legend(orient="bottom", labelFontSize=12, titleFontSize=12)
        .configure_view(stroke=None)
    )


def show_model(model: str, found: list[Record]) -> None:
    """One model: all its records with their circumstances, the newest first."""
    st.html('<a href="?" target="_self">All models</a>')
    mine = [record for record in found if record.model == model]
    if not mine:
        st.error("There are no records of this model. It may have been renamed, or its run deleted.")
        return
    st.title(model, anchor=False)
    st.caption(
        f"{len(mine)} records, the newest first. Those marked older have been measured again since, "
        "and do not count on the first page."
    )
    current = {id(record) for record in tables.newest(mine)}
    for kind, title in TITLES.items():
        records = [record for record in reversed(mine) if record.kind == kind]
        if records:
            st.subheader(title, anchor=False)
            st.html(records_html(records, current, title))


TITLES = {
    "accuracy": "Accuracy",
    "map": "Mean average precision",
    "latency": "Latency",
    "kernels": "Kernels",
    "parity": "Parity",
    "ops": "Operations",
    "size": "Size",
    "training": "Training speed",
    "check": "Checks",
}


def records_html(records: list[Record], current: set[int], title: str) -> str:
    """Records of one kind: values, circumstances, date."""
    names = list(dict.fromkeys(name for record in records for name in record.values))
    header = ["Artifact", *(page.text(name.replace("_", " ")) for name in names), "Circumstances", "Measured (UTC)"]
    kinds = ["", *["figure"] * len(names), "long", ""]
    rows = []
    for record in records:
        values = [page.number(record.values.get(name)) for name in names]
        when = page.text(record.created[:16].replace("T", " "))
        age = "" if id(record) in current else page.small("older")
        rows.append([page.text(tables.artifact(record)), *values, page.circumstances(record.context), when + age])
    if not any(tables.artifact(record) for record in records):
        header, kinds, rows = header[1:], kinds[1:], [row[1:] for row in rows]
    return page.table(header, rows, kinds=kinds, name=title)


if __name__ == "__main__":
    main()
