"""Latency over time."""

import altair as alt
import pandas as pd

from .style import COLOURS, GREY, settings

CHANGES = ["first", "no change shown", "improvement", "regression", "void"]


def history(found: pd.DataFrame) -> alt.LayerChart:
    """Returns a point for each measurement, its spread as a bar, and its change as colour and shape.

    Args:
        found: `edgebnn.app.data.history.changes`, with the column `number`.
    """
    base = alt.Chart(found)
    x = alt.X("number:O", title="Measurement", axis=alt.Axis(labelAngle=0))
    y = alt.Y("median_ms:Q", title="Median latency (ms)", scale=alt.Scale(zero=False, padding=20))
    legend = alt.Legend(orient="bottom", columns=2)
    colours = [GREY, COLOURS[0], COLOURS[2], "#d64545", COLOURS[5]]
    shapes = ["circle", "circle", "triangle-down", "triangle-up", "cross"]
    tooltip = [
        alt.Tooltip("created:N", title="Measured (UTC)"),
        alt.Tooltip("median_ms:Q", title="Median ms", format=".3f"),
        alt.Tooltip("change:N", title="Change"),
        alt.Tooltip("ratio:Q", title="Time over the one before", format=".3f"),
        alt.Tooltip("content:N", title="File's SHA-256"),
        alt.Tooltip("version:N", title="Runtime's version"),
    ]
    line = base.mark_line(color=GREY, strokeWidth=1, aria=False).encode(x=x, y=y)
    bars = base.mark_rule(color=GREY, strokeWidth=2, aria=False).encode(x=x, y=alt.Y("p10_ms:Q"), y2="p90_ms:Q")
    dots = base.mark_point(filled=True, size=120).encode(
        x=x,
        y=y,
        color=alt.Color("change:N", title="Change", legend=legend, scale=alt.Scale(domain=CHANGES, range=colours)),
        shape=alt.Shape("change:N", title="Change", legend=legend, scale=alt.Scale(domain=CHANGES, range=shapes)),
        tooltip=tooltip,
    )
    return alt.layer(line, bars, dots).properties(height=360, usermeta=settings(len(found)))
