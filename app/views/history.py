"""The page History: whether a file became slower."""

import pandas as pd
import streamlit as st

from .. import shell
from ..charts.history import history as chart
from ..data.history import changes, measured_again
from ..data.overview import label

MOST = 200
"""Measurements that are shown, the newest ones."""


def show() -> None:
    """Shows the page."""
    shell.title("History")
    found = shell.snapshot()
    timed = measured_again(found.records)
    table = found.table[found.table["key"].isin(list(timed))]
    if table.empty:
        shell.note("No record holds a latency. `edgebnn bench FILE --record RUN` measures it.", kind="info")
        return
    latest = {key: changes(records) for key, records in timed.items() if len(records) > 1}
    show_regressions(table, latest)
    labels = dict(zip(table.apply(label, axis=1), table["key"]))
    order = sorted(labels, key=lambda name: -len(timed[labels[name]]))
    chosen = str(st.selectbox("File", order, key="file", bind="query-params", help="Those measured most often first."))
    shown = changes(timed[labels[chosen]])
    shown.insert(0, "number", range(1, len(shown) + 1))
    shown = shown.tail(MOST)
    st.altair_chart(chart(shown), alt="Latency of each measurement")
    st.caption(
        "The bar runs from the 10th to the 90th percentile. A regression is a measurement whose whole bar lies above "
        "the whole bar of the last sound one, an improvement the reverse. The load of the machine changes times too."
    )
    number = st.column_config.NumberColumn
    st.dataframe(
        shown.iloc[::-1],
        hide_index=True,
        alt="Measurements",
        placeholder="\N{EN DASH}",
        column_order=[name for name in shown.columns if name != "artifact"],
        column_config={
            "number": "No.",
            "created": "Measured (UTC)",
            "median_ms": number("Median ms", format="%.3f"),
            "p10_ms": number("p10 ms", format="%.3f"),
            "p90_ms": number("p90 ms", format="%.3f"),
            "change": "Change",
            "ratio": number("Ratio", format="%.3f", help="Its median over the median of the last sound measurement."),
            "content": st.column_config.TextColumn("SHA-256", help="The file's content: its first 12 digits."),
            "version": "Runtime's version",
            "void": "Void because",
        },
    )


def show_regressions(table: pd.DataFrame, latest: dict[str, pd.DataFrame]) -> None:
    """Names the files whose newest measurement is a regression."""
    slower = [key for key, rows in latest.items() if rows["change"].iloc[-1] == "regression"]
    names = [label(row) for _, row in table[table["key"].isin(slower)].iterrows()]
    if names:
        more = [f"and {len(names) - shell.NAMED} more"] if len(names) > shell.NAMED else []
        shell.note("The newest measurement of these files is a regression:", [*names[: shell.NAMED], *more])
    else:
        shell.note("The newest measurement of no file is a regression.", kind="info")
