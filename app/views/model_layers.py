"""The layers on the page Model: which one costs most."""

import streamlit as st

from edgebnn.records import Record

from .. import shell
from ..charts.lines import SELECTION, layer_costs
from ..data.facts import artifact, machine
from ..data.layers import layers, measured_layers
from ..data.text import words

FIGURES = {
    "Time": ("ms", "Time (ms)", ".3f", "ms"),
    "OPs": ("ops", "OPs", "~s", "OPs"),
    "Bytes": ("bytes", "Bytes of weights", "~s", "bytes"),
}
"""By name: the column, the axis's title, D3's format, and the unit."""


def show_layers(records: list[Record]) -> None:
    """Shows the cost of each layer as a chart and as a table that follows the chart."""
    st.subheader("Cost of the layers", anchor=False)
    measured = measured_layers(records)
    if not measured:
        shell.note("No record holds times of single layers. This measures them:", kind="info")
        st.code("python -m edgebnn.export.bench.layers FILE.onnx --record runs/bench", language="bash", wrap_lines=True)
        return
    names = {_label(record): record for record in reversed(measured)}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        options = list(reversed(names))
        chosen = str(st.selectbox("File", options, key="layer_file", bind="query-params"))
        shown = st.segmented_control(
            "Show", list(FIGURES), default="Time", required=True, key="cost", bind="query-params"
        )
    table = layers(names[chosen])
    column, title, form, unit = FIGURES[shown or "Time"]
    if table[column].isna().all():
        shell.note("This record holds the times only.", kind="info")
        return
    most = table.sort_values(column, ascending=False).iloc[0]
    total = table[column].sum()
    shell.note(
        f"{most['layer']} costs most: {most[column]:,.4g} of {total:,.4g} {unit}, {100 * most[column] / total:.1f} %.",
        kind="info",
    )
    event = st.altair_chart(
        layer_costs(table, column, title, form),
        key=f"layers_{column}",
        on_select="rerun",
        selection_mode=SELECTION,
        alt="Cost of the layers",
    )
    record = names[chosen]
    st.caption(
        f"The layers in the order they run, on one thread. Whole runs took {record.values['median_ms']:.3f} ms. The "
        "grey tick is the roofline: the least time for the multiply-accumulates alone on one core. Click bars to keep "
        "only them in the table."
    )
    picked = {point["layer"] for point in event.selection.get(SELECTION, [])}
    rows = table[table["layer"].isin(picked)] if picked else table.sort_values(column, ascending=False)
    number = st.column_config.NumberColumn
    st.dataframe(
        rows,
        hide_index=True,
        alt="Layers",
        placeholder="\N{EN DASH}",
        column_config={
            "layer": "Layer",
            "kind": st.column_config.TextColumn("Kind", help="How the layer multiplies; else the operator's name."),
            "ms": number("ms", format="%.4f", help="Median time on one thread."),
            "share": number("Share %", format="%.1f", help="Part of the time of all layers."),
            "ops": number("OPs", format="localized", help="FLOPs + BOPs / 64. Of layers that only add or move: 0."),
            "bytes": number("Bytes", format="localized", help="Bytes of the weights."),
            "least_ms": number("Roofline ms", format="%.4f", help="The least time for the multiply-accumulates."),
        },
    )


def _label(record: Record) -> str:
    isa = words(record.context.get("isa"))
    return ", ".join(part for part in (artifact(record), isa, machine(record)) if part)
