"""The page Runs: runs in progress, several of them overlaid."""

from datetime import datetime, timezone

import pandas as pd
import streamlit as st

from .. import shell
from ..data.curves import curves
from ..data.watch import Run, duration, runs
from .model_training import show_curves

AGAIN_S = 10
OVERLAID = 4


def show() -> None:
    """Shows the page, again every few seconds."""
    shell.title("Runs")
    follow()


@st.fragment(run_every=AGAIN_S)
def follow() -> None:
    """Shows the runs and their curves as they are now."""
    found = runs(shell.options().runs)
    if not found:
        shell.note(f"No run under {shell.options().runs} has a configuration. This starts one:", kind="info")
        st.code("edgebnn train recipe demo", language="bash", wrap_lines=True)
        return
    table = pd.DataFrame([_row(run) for run in found])
    st.dataframe(table, hide_index=True, alt="Runs", placeholder="\N{EN DASH}")
    st.caption(f"Read again every {AGAIN_S} seconds. The time left assumes that the epochs to come take as long.")
    names = [run.stage.name for run in found]
    picked = st.multiselect("Overlay", names, names[:OVERLAID], key="overlay", help="Runs whose curves are drawn.")
    parts = [curves(run.stage.folder, run.stage.name) for run in found if run.stage.name in picked]
    drawn = pd.concat(parts) if parts else pd.DataFrame()
    if drawn.empty:
        shell.note("The picked runs have no training log yet.", kind="info")
    else:
        show_curves(drawn, picked, ask=False)


def _row(run: Run) -> dict[str, object]:
    wrote = datetime.fromtimestamp(run.changed, timezone.utc).isoformat(sep=" ", timespec="minutes")[:16]
    return {
        "Run": run.stage.name,
        "State": run.state,
        "Epoch": _epoch(run),
        "Step": run.step,
        "Time left": None if run.left_s is None else duration(run.left_s),
        "Method": run.stage.method,
        "Model": run.stage.model,
        "Wrote last (UTC)": wrote,
    }


def _epoch(run: Run) -> str | None:
    """Returns the epoch of a run in words. The evaluation behind the last epoch is logged as one epoch more."""
    if run.epoch is None:
        return None
    epochs = run.stage.epochs
    return f"{min(run.epoch + 1, int(epochs))} of {epochs}" if epochs.isdecimal() else str(run.epoch + 1)
