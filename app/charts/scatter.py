"""Accuracy against a figure, with the Pareto front."""

import altair as alt
import pandas as pd

from ..data.axes import Axis
from ..data.facts import threads
from .style import COLOURS, GREY, MOST_MARKS, SHAPES, settings

SELECTION = "pick"
NAMES = 14
"""From more models on the front on, none has its name beside its point: names would cover each other."""
HEIGHT = 420
LEGEND_ROW = 24
"""Pixels: of the plot with its axes, and of a line of the legend below."""


def scatter(found: pd.DataFrame, axis: Axis, *, log: bool, published: pd.DataFrame | None = None) -> alt.LayerChart:
    """Returns the chart of accuracy against `axis`.

    Args:
        found: `edgebnn.app.data.choose.points`, with the columns `front`, `group` and `picked`.
        axis: the horizontal axis.
        log: whether it is logarithmic.
        published: points from other sources, with the columns model, top1, x and source.
    """
    shown = found.assign(series=series(found), label=names(found))
    columns = ["key", "model", "artifact", "series", "machine", "top1", "x", "front", "picked", "label", "group"]
    shown = shown[columns].assign(
        low=found["p10_ms"] if axis.column == "median_ms" else None,
        high=found["p90_ms"] if axis.column == "median_ms" else None,
        void=found["void"].fillna(""),
    )
    scale = alt.Scale(type="log" if log else "linear", zero=False, nice=False, padding=36)
    x = alt.X("x:Q", title=axis.title, scale=scale, axis=alt.Axis(tickCount=6))
    y = alt.Y("top1:Q", title="Top-1 accuracy (%)", scale=alt.Scale(zero=False, padding=28))
    layers = [_front(shown, x, y), *_bars(shown, axis, x, y), _points(shown, axis, x, y)]
    if shown["picked"].any():
        layers.append(_rings(shown, x, y))
    layers.append(
        alt.Chart(shown[shown["label"] != ""])
        .mark_text(align="center", dy=-15, fontSize=11, color=GREY, aria=False)
        .encode(x=x, y=y, text="label:N")
    )
    if published is not None and len(published):
        layers.append(_published(published, axis, x, y))
    height = HEIGHT + LEGEND_ROW * min(shown["series"].nunique(), 8)
    return alt.layer(*layers).properties(height=height, usermeta=settings(len(shown)))


def series(found: pd.DataFrame) -> pd.Series:
    """Returns what each point's colour and shape stand for: the runtime, and what else differs between points."""
    named = found["runtime"].fillna("not timed")
    if found["threads"].nunique() > 1:
        named = named + ", " + found["threads"].map(threads)
    if found["machine"].nunique() > 1:
        named = named + ", " + found["machine"].fillna("")
    return named


def names(found: pd.DataFrame) -> pd.Series:
    """Returns the text beside each point: a model's name at its first point on the front, unless they are many."""
    best = found[found["front"]].drop_duplicates("model").index
    if len(best) > NAMES:
        best = best[:0]
    return found["model"].where(found.index.isin(best), "").str.slice(0, 28)


def _front(shown: pd.DataFrame, x: alt.X, y: alt.Y) -> alt.Chart:
    line = alt.Chart(shown[shown["front"]]).mark_line(
        interpolate="step-after", strokeWidth=1.5, strokeDash=[5, 4], color=GREY, opacity=0.9, aria=False
    )
    return line.encode(x=x, y=y, detail="group:N")


def _bars(shown: pd.DataFrame, axis: Axis, x: alt.X, y: alt.Y) -> list[alt.Chart]:
    if axis.column != "median_ms" or len(shown) > MOST_MARKS:
        return []
    bars = alt.Chart(shown).mark_rule(strokeWidth=2, opacity=0.55, color=GREY, aria=False)
    return [bars.encode(x=alt.X("low:Q", title=axis.title), x2="high:Q", y=y)]


def _legend() -> alt.Legend:
    return alt.Legend(orient="bottom", columns=1, labelLimit=600, symbolLimit=8, symbolOpacity=1)


def _points(shown: pd.DataFrame, axis: Axis, x: alt.X, y: alt.Y) -> alt.Chart:
    pick = alt.selection_point(name=SELECTION, fields=["key"])
    colour = alt.Color("series:N", title="Runtime", scale=alt.Scale(range=COLOURS), legend=_legend())
    shape = alt.Shape("series:N", title="Runtime", scale=alt.Scale(range=SHAPES), legend=_legend())
    tooltip = [
        alt.Tooltip("model:N", title="Model"),
        alt.Tooltip("artifact:N", title="File"),
        alt.Tooltip("series:N", title="Runtime"),
        alt.Tooltip("machine:N", title="Device"),
        alt.Tooltip("top1:Q", title="Top-1 %", format=".2f"),
        alt.Tooltip("x:Q", title=axis.title, format=axis.pattern),
        alt.Tooltip("void:N", title="Void because"),
    ]
    if axis.column == "median_ms":
        tooltip += [alt.Tooltip("low:Q", title="p10 (ms)", format=".3f")]
        tooltip += [alt.Tooltip("high:Q", title="p90 (ms)", format=".3f")]
    faded = alt.condition(pick, alt.value(0.95), alt.value(0.25))
    marks = alt.Chart(shown, name="points").mark_point(
        filled=True, size=90 if len(shown) <= MOST_MARKS else 40, cursor="pointer"
    )
    return marks.encode(x=x, y=y, color=colour, shape=shape, opacity=faded, tooltip=tooltip).add_params(pick)


def _rings(shown: pd.DataFrame, x: alt.X, y: alt.Y) -> alt.Chart:
    ring = alt.Chart(shown[shown["picked"]]).mark_point(size=320, strokeWidth=2, color=GREY, filled=False, aria=False)
    return ring.encode(x=x, y=y)


def _published(published: pd.DataFrame, axis: Axis, x: alt.X, y: alt.Y) -> alt.Chart:
    tooltip = [
        alt.Tooltip("model:N", title="Published"),
        alt.Tooltip("top1:Q", title="Top-1 %", format=".2f"),
        alt.Tooltip("x:Q", title=axis.title, format=axis.pattern),
        alt.Tooltip("conditions:N", title="Measured on"),
        alt.Tooltip("source:N", title="Source"),
    ]
    marks = alt.Chart(published).mark_point(shape="diamond", filled=False, size=110, strokeWidth=1.5, color=GREY)
    return marks.encode(x=x, y=y, tooltip=tooltip)
