"""The training curves on the page Model."""

import pandas as pd
import streamlit as st

from .. import shell
from ..charts.lines import curves as chart
from ..data.curves import HELP, curves
from ..data.lineage import stages
from ..data.store import Snapshot

FIRST = "Loss"


def show_training(found: Snapshot, model: str) -> None:
    """Shows the curves of all stages behind a model."""
    st.subheader("Training curves", anchor=False)
    trained = stages(found, model)
    table = pd.concat([curves(stage.folder, stage.name) for stage in trained]) if trained else pd.DataFrame()
    if table.empty:
        shell.note("The folder of the records holds no training log. It may have been trained elsewhere.", kind="info")
        return
    show_curves(table, [stage.name for stage in trained])


def show_curves(table: pd.DataFrame, names: list[str], *, ask: bool = True) -> None:
    """Shows one metric of several stages or runs.

    Args:
        table: the curves of all.
        names: the stages in order.
        ask: whether to ask which of them to show.
    """
    metrics = sorted(table["metric"].unique(), key=lambda name: (name != FIRST, name))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        metric = str(st.selectbox("Curve", metrics, key="metric", bind="query-params", help="What training logged."))
    shown = table[table["metric"] == metric]
    order = [name for name in names if name in set(shown["stage"])]
    picked = ask and st.multiselect("Only these", order, key="stages", bind="query-params", placeholder="all")
    if picked:
        shown, order = shown[shown["stage"].isin(picked)], picked
    st.altair_chart(chart(shown, metric, order), alt=f"{metric} over optimizer steps")
    last = shown.groupby("stage", sort=False).tail(1)[["stage", "step", "value"]]
    st.caption(f"{HELP.get(metric, 'As training logged it.')} The table holds the last value of each stage.")
    heads = {"stage": "Stage", "step": "Last step", "value": f"Last {metric[0].lower()}{metric[1:]}"}
    st.dataframe(last, hide_index=True, column_config=heads, alt="Last values")
