"""Charts of training curves, and of the cost of layers."""

from collections.abc import Sequence

import altair as alt
import pandas as pd

from .style import COLOURS, GREY, settings

DASHES = [[1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [4, 4], [10, 4]]
"""A series has a colour and a pattern of dashes, so that nobody needs to tell colours apart."""
SELECTION = "layer"


def curves(found: pd.DataFrame, metric: str, stages: Sequence[str]) -> alt.Chart:
    """Returns the curves of a metric, a line for each stage.

    Args:
        found: columns stage, step, value.
        metric: the title of the vertical axis.
        stages: in order.
    """
    scale = alt.Scale(zero=False)
    legend = alt.Legend(orient="bottom", columns=2, labelLimit=300)
    domain = list(stages)
    colour = alt.Color("stage:N", title="Stage", legend=legend, scale=alt.Scale(domain=domain, range=COLOURS))
    dash = alt.StrokeDash("stage:N", title="Stage", legend=legend, scale=alt.Scale(domain=domain, range=DASHES))
    tooltip = [
        alt.Tooltip("stage:N", title="Stage"),
        alt.Tooltip("step:Q", title="Optimizer step", format=",.0f"),
        alt.Tooltip("value:Q", title=metric, format=".5g"),
    ]
    chart = alt.Chart(found).mark_line(strokeWidth=2, point=len(found) <= 120)
    return chart.encode(
        x=alt.X("step:Q", title="Optimizer step"),
        y=alt.Y("value:Q", title=metric, scale=scale),
        color=colour,
        strokeDash=dash,
        tooltip=tooltip,
    ).properties(height=320, usermeta=settings(len(found)))


def layer_costs(found: pd.DataFrame, column: str, title: str, form: str) -> alt.LayerChart:
    """Returns a bar for each layer in the order they run, with the roofline as a tick where the bars are times.

    Args:
        found: `edgebnn.app.data.layers.layers`.
        column: what the bars show.
        title: of the vertical axis.
        form: D3's format of a figure.
    """
    pick = alt.selection_point(name=SELECTION, fields=["layer"])
    order = list(found["layer"])
    tooltip = [
        alt.Tooltip("layer:N", title="Layer"),
        alt.Tooltip("kind:N", title="Kind"),
        alt.Tooltip("ms:Q", title="ms", format=".4f"),
        alt.Tooltip("share:Q", title="Share of the time (%)", format=".1f"),
        alt.Tooltip("ops:Q", title="OPs", format=",.0f"),
        alt.Tooltip("bytes:Q", title="Bytes of weights", format=",.0f"),
        alt.Tooltip("least_ms:Q", title="Roofline (ms)", format=".4f"),
    ]
    x = alt.X("layer:N", sort=order, title=None, axis=alt.Axis(labelAngle=-90, labelLimit=90, labelOverlap=False))
    y = alt.Y(f"{column}:Q", title=title, axis=alt.Axis(format=form))
    legend = alt.Legend(orient="bottom", columns=4)
    bars = (
        alt.Chart(found, name="layers")
        .mark_bar(cursor="pointer")
        .encode(
            x=x,
            y=y,
            color=alt.Color("kind:N", title="Kind", legend=legend, scale=alt.Scale(range=COLOURS)),
            opacity=alt.condition(pick, alt.value(1), alt.value(0.35)),
            tooltip=tooltip,
        )
        .add_params(pick)
    )
    layers: list[alt.Chart] = [bars]
    if column == "ms" and found["least_ms"].gt(0).any():
        roof = alt.Chart(found[found["least_ms"] > 0]).mark_tick(thickness=3, color=GREY, aria=False)
        layers.append(roof.encode(x=x, y="least_ms:Q"))
    return alt.layer(*layers).properties(height=320, usermeta=settings(len(found)))
