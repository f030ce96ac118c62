"""The page Choose: which file fits a budget."""

import math

import pandas as pd
import streamlit as st

from edgebnn.runtime.system import machine

from .. import shell
from ..charts.scatter import SELECTION, scatter
from ..charts.style import MOST_MARKS
from ..data.axes import AXES, Axis, wants_log
from ..data.choose import CHOICES, Budget, front, groups, points, unlike, within
from ..data.facts import threads
from ..data.published import published_points
from ..report import in_words
from .choose_table import show_downloads, show_front, show_published_points, show_table

LIMITS: dict[str, tuple[str, int, int]] = {
    "Latency": ("ms", -2, 5),
    "Size": ("MB", -2, 4),
    "OPs": ("million", -1, 5),
    "Memory": ("MB", 0, 5),
}
"""The budgets: unit, and the powers of ten that the slider runs from and to."""

NOUNS = {name: name if name == "OPs" else name.lower() for name in ("Accuracy", *LIMITS)}
STEPS = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
HELP = {
    "device": "The processor that the latency was measured on.",
    "runtime": "The program that ran the file. Packed files name the instruction set.",
    "threads": "Threads that a run may use.",
    "resolution": "Side of the input image in pixels.",
    "data": "The data that the accuracy was measured on.",
    "protocol": "How the accuracy was measured. Compare accuracies of one protocol only.",
}
PUBLISHED_HELP = (
    "Hollow diamonds: figures as their authors published them, on other devices and data. Nobody measured them again. "
    "They are in no Pareto front."
)


def show() -> None:
    """Shows the page."""
    shell.title("Choose")
    found = shell.snapshot()
    with st.sidebar:
        budget = ask_budget(found.table)
    table, lacking = within(found.table, budget)
    timed = int(table["median_ms"].notna().sum())
    st.caption(
        f"{table['model'].nunique()} of {len(found.models)} models, {len(table)} of {len(found.table)} rows, "
        f"{timed} of them timed, from {len(found.found)} records. Each figure is the newest of its kind."
    )
    for name, count in lacking.items():
        rows = f"{count} row{'s' * (count > 1)}"
        shell.note(f"Left out, because no record holds their {NOUNS[name]}: {rows}.", kind="info")
    if table.empty:
        shell.note("Nothing fits this budget. Move a slider to a larger value, or clear a filter.", kind="info")
        return
    show_chart(table)
    show_downloads(table, in_words(budget), len(found.found))


def ask_budget(table: pd.DataFrame) -> Budget:
    """Asks for the budget and the filters."""
    st.header("Budget", anchor=False)
    least = st.slider(
        "Accuracy at least (%)", 0.0, 100.0, 0.0, 0.5, key="top1", bind="query-params", help="Top-1 accuracy."
    )
    most = {name: ask_limit(name, *scale) for name, scale in LIMITS.items()}
    st.header("Filters", anchor=False)
    text = st.text_input("Search", key="q", bind="query-params", placeholder="model, file, runtime or device")
    among: dict[str, list[object]] = {}
    here = machine.describe()["cpu"]
    text_here = "Show only what was timed on this machine's processor."
    timed_here = bool((table["machine"] == here).any())
    if timed_here and st.toggle("Only this machine", key="here", bind="query-params", help=text_here):
        among["device"] = [here]
    for name, column in CHOICES.items():
        values = sorted(table[column].dropna().unique())
        if len(values) > 1 and name not in among:
            among[name] = ask_values(name, values)
    return Budget(least, most, among, text)


def ask_limit(name: str, unit: str, first: int, last: int) -> float:
    """Asks for the largest figure that is allowed; infinite for any."""
    values = [step * 10.0**power for power in range(first, last) for step in STEPS]
    options = [f"{value:g}" for value in values] + ["any"]
    chosen = st.select_slider(
        f"{name} at most ({unit})",
        options,
        "any",
        key=f"max_{name.lower().replace(' ', '_')}",
        bind="query-params",
        help=AXES[name].help,
    )
    return math.inf if chosen == "any" else float(chosen)


def ask_values(name: str, values: list[object]) -> list[object]:
    """Asks which values of a circumstance are wanted."""
    words = {_in_words(name, value): value for value in values}
    picked = st.multiselect(
        name.capitalize(), list(words), key=name, bind="query-params", placeholder="any", help=HELP[name]
    )
    return [words[word] for word in picked]


def _in_words(name: str, value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return threads(value) if name == "threads" else f"{value:g}"


def show_chart(table: pd.DataFrame) -> None:
    """Shows the chart, the front and the table of the rows."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = st.segmented_control(
            "Accuracy against", list(AXES), default="Latency", required=True, key="x", bind="query-params"
        )
        scale = st.segmented_control(
            "Axis", ["auto", "linear", "log"], default="auto", required=True, key="scale", bind="query-params"
        )
        show_published = st.toggle("Published points", key="published", bind="query-params", help=PUBLISHED_HELP)
    axis = AXES[name or "Latency"]
    found = points(table, axis)
    if found.empty:
        shell.note(f"No row has both an accuracy and this figure: {axis.title}. {axis.help}", kind="info")
        show_table(table, None)
        return
    found["front"], found["group"] = front(found, axis), groups(found, axis)
    found["picked"] = found["key"].isin(st.session_state.get("rows", []))
    lines = unlike(found, axis)
    if lines:
        shell.note("These points differ in more than the model. Compare points of one kind only:", lines)
    others = published_points(axis) if show_published else None
    log = scale == "log" or (scale == "auto" and wants_log(found["x"]))
    event = st.altair_chart(
        scatter(found, axis, log=log and bool((found["x"] > 0).all()), published=others),
        key=f"chart_{axis.column}",
        on_select="rerun",
        selection_mode=SELECTION,
        alt=describe(found, axis),
    )
    st.caption(
        f"{len(found)} points. {axis.help} The dashed line is the Pareto front: of the files measured in the same way, "
        "no other one is both better and cheaper. "
        + ("The bars run from the 10th to the 90th percentile. " if axis.column == "median_ms" else "")
        + ("With so many points, the bars are left out. " if len(found) > MOST_MARKS else "")
        + "Click points to keep only them in the table (Shift adds one, a double click clears)."
    )
    picked = {point["key"] for point in event.selection.get(SELECTION, [])}
    if others is not None:
        show_published_points(others, axis)
    show_front(found, axis)
    show_table(table, picked)


def describe(found: pd.DataFrame, axis: Axis) -> str:
    """Returns the chart in words, for those who do not see it."""
    return f"Accuracy against {axis.title}: {len(found)} points, {int(found['front'].sum())} on the Pareto front"
