"""The tables of the page Choose: the Pareto front, and all rows."""

from typing import Any

import pandas as pd
import streamlit as st

from .. import shell
from ..data.axes import AXES, Axis
from ..data.overview import label
from ..report import markdown, report

Column = st.column_config
MOST_COMPARED = 4
ABSENT = "\N{EN DASH}"
"""Stands where no record holds a figure."""

NUMBERS = {
    "top1": ("Top-1 %", "%.2f", "Share of test images whose class is ranked first."),
    "median_ms": ("Median ms", "%.3f", AXES["Latency"].help),
    "p10_ms": ("p10 ms", "%.3f", "A tenth of the runs took less than this."),
    "p90_ms": ("p90 ms", "%.3f", "A tenth of the runs took more than this."),
    "first_ms": ("First run ms", "%.2f", AXES["First run"].help),
    "init_ms": ("Load ms", "%.2f", "Time to load the file. `edgebnn export device` measures it."),
    "memory_mb": ("Memory MB", "%.1f", AXES["Memory"].help),
    "size_mb": ("Size MB", "%.3f", AXES["Size"].help),
    "mops": ("OPs, millions", "%.2f", AXES["OPs"].help),
    "threads": ("Threads", "%d", "Threads that a run may use."),
    "resolution": ("Pixels", "%d", "Side of the input image in pixels."),
}
TEXTS = {
    "model": ("Model", "The name in the records."),
    "artifact": ("File", "The model file that was timed."),
    "runtime": ("Runtime", "The program that ran the file. Packed files name the instruction set."),
    "machine": ("Device", "The processor that the file was timed on."),
    "parity": ("Verified", "Whether `edgebnn export verify` found the file equal to the trained network."),
    "void": ("Void because", "Why the time must not be compared."),
    "protocol": ("Protocol", "How the accuracy was measured."),
    "data": ("Data", "The data that the accuracy was measured on."),
    "measured": ("Timed (UTC)", "When the latency was measured."),
    "group": ("Measured on", "Data, protocol, device and threads. Points are compared within one group only."),
}
ORDER = (
    *("model", "top1", "artifact", "runtime", "threads", "median_ms", "p10_ms", "p90_ms", "size_mb", "mops"),
    *("memory_mb", "first_ms", "init_ms", "parity", "machine", "void", "protocol", "data", "resolution", "measured"),
)


def in_units(table: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows with bytes in megabytes and OPs in millions."""
    return table.assign(size_mb=table["bytes"] / 1e6, memory_mb=table["memory_bytes"] / 1e6, mops=table["ops"] / 1e6)


def columns() -> dict[str, Any]:
    """Returns the headings and explanations of all columns."""
    numbers = {
        name: Column.NumberColumn(title, format=form, help=text) for name, (title, form, text) in NUMBERS.items()
    }
    return numbers | {name: Column.TextColumn(title, help=text) for name, (title, text) in TEXTS.items()}


def show_front(found: pd.DataFrame, axis: Axis) -> None:
    """Lists the points on the Pareto front, the cheapest of each group first."""
    on_front = in_units(found[found["front"]].sort_values(["group", "x"]))
    figure = {"bytes": "size_mb", "ops": "mops", "memory_bytes": "memory_mb"}.get(axis.column, axis.column)
    with st.expander(f"Pareto front: {len(on_front)} points", icon=":material/show_chart:"):
        order = ("model", "top1", figure, "artifact", "runtime", "group")
        st.dataframe(
            on_front,
            hide_index=True,
            column_order=order,
            column_config=columns(),
            alt="Pareto front",
            placeholder=ABSENT,
        )


def show_published_points(others: pd.DataFrame, axis: Axis) -> None:
    """Lists the published points with their sources."""
    with st.expander(f"Published: {len(others)} points with their sources", icon=":material/menu_book:"):
        if others.empty:
            shell.note(f"No published point has a figure of: {axis.title}.", kind="info")
        else:
            heads = {
                "x": axis.title,
                "top1": "Top-1 %",
                "model": "Model",
                "conditions": "Measured on",
                "source": "Source",
            }
            st.dataframe(others, hide_index=True, column_config=heads, alt="Published")


def show_downloads(table: pd.DataFrame, budget: str, files: int) -> None:
    """Offers the rows as files to share."""
    with st.container(horizontal=True):
        st.download_button(
            "Report (HTML)",
            lambda: report(table, budget, files),
            file_name="edgebnn.html",
            mime="text/html",
            icon=":material/download:",
            help="These rows with interactive charts, in one file that opens without network. It takes a few seconds.",
            on_click="ignore",
        )
        st.download_button(
            "Table (Markdown)",
            lambda: markdown(table),
            file_name="edgebnn.md",
            mime="text/markdown",
            icon=":material/download:",
            help="These rows as a table for a README file.",
            on_click="ignore",
        )


def show_table(table: pd.DataFrame, picked: set[str] | None) -> None:
    """Shows the rows, or of them those that were clicked in the chart; rows that are ticked can be opened."""
    shown = table[table["key"].isin(picked)] if picked else table
    shown = in_units(shown).reset_index(drop=True)
    st.subheader(f"{len(shown)} picked rows" if picked else "All rows", anchor=False)
    order = [name for name in ORDER if name in ("model", "top1") or shown[name].notna().any()]
    event = st.dataframe(
        shown,
        hide_index=True,
        column_order=order,
        column_config=columns(),
        on_select="rerun",
        selection_mode="multi-row",
        key="table",
        placeholder=ABSENT,
        alt="Rows",
    )
    ticked = shown.loc[[row for row in event.selection.rows if row < len(shown)]]
    if sorted(ticked["key"]) != sorted(st.session_state.get("rows", [])):
        st.session_state["rows"] = list(ticked["key"])
        st.rerun()
    show_actions(ticked)
    st.caption(
        "Click a heading to sort. The buttons above the table search it, choose columns and download it as CSV. "
        "Tick rows to ring them in the chart."
    )


def show_actions(ticked: pd.DataFrame) -> None:
    """Shows what can be done with the ticked rows."""
    if ticked.empty:
        return
    with st.container(horizontal=True):
        if ticked["model"].nunique() == 1 and st.button("Open the model", icon=":material/deployed_code:"):
            shell.go("model", name=ticked["model"].iloc[0])
        if 2 <= len(ticked) <= MOST_COMPARED and st.button(
            f"Compare {len(ticked)} files", type="primary", icon=":material/balance:"
        ):
            shell.go("compare", files=[label(row) for _, row in ticked.iterrows()])
