"""Charts of a comparison: the ratio of each round, and the latencies side by side."""

from collections.abc import Sequence

import altair as alt
import pandas as pd

from .style import COLOURS, GREY, settings


def ratios(found: pd.DataFrame, intervals: pd.DataFrame) -> alt.LayerChart:
    """Returns each round's ratio as a dot, with the median's interval as a bar and the line where both are equal.

    Args:
        found: columns name, round, ratio.
        intervals: columns name, low, median, high.
    """
    x = alt.X("ratio:Q", title="Ratio of the times of a round", scale=alt.Scale(type="log"))
    y = alt.Y("name:N", title=None, axis=alt.Axis(labelLimit=180))
    dots = alt.Chart(found).mark_point(filled=True, size=30, opacity=0.45, color=COLOURS[0])
    tooltip = [alt.Tooltip("round:Q", title="Round"), alt.Tooltip("ratio:Q", title="Ratio", format=".3f")]
    bars = alt.Chart(intervals).mark_bar(size=10, opacity=0.75, color=COLOURS[1])
    bounds = [
        alt.Tooltip("median:Q", title="Median ratio", format=".3f"),
        alt.Tooltip("low:Q", title="95% interval from", format=".3f"),
        alt.Tooltip("high:Q", title="to", format=".3f"),
    ]
    equal = alt.Chart(pd.DataFrame({"equal": [1.0]})).mark_rule(strokeDash=[5, 4], color=GREY, aria=False)
    return alt.layer(
        dots.encode(x=x, y=y, tooltip=tooltip),
        bars.encode(x=alt.X("low:Q"), x2="high:Q", y=y, tooltip=bounds),
        equal.encode(x="equal:Q"),
    ).properties(height=90 + 50 * found["name"].nunique(), usermeta=settings(len(found)))


def latencies(found: pd.DataFrame, order: Sequence[str]) -> alt.LayerChart:
    """Returns the median latencies as bars, with a line from the 10th to the 90th percentile.

    Args:
        found: columns name, median_ms, p10_ms, p90_ms.
        order: the names from top to bottom.
    """
    y = alt.Y("name:N", title=None, sort=list(order), axis=alt.Axis(labelLimit=180))
    base = alt.Chart(found)
    tooltip = [
        alt.Tooltip("name:N", title="File"),
        alt.Tooltip("median_ms:Q", title="Median ms", format=".3f"),
        alt.Tooltip("p10_ms:Q", title="p10 ms", format=".3f"),
        alt.Tooltip("p90_ms:Q", title="p90 ms", format=".3f"),
    ]
    bars = base.mark_bar(color=COLOURS[0], height=16).encode(
        x=alt.X("median_ms:Q", title="Median latency (ms)", axis=alt.Axis(tickCount=6)), y=y, tooltip=tooltip
    )
    spread = base.mark_rule(strokeWidth=3, color=COLOURS[1], aria=False).encode(x="p10_ms:Q", x2="p90_ms:Q", y=y)
    return alt.layer(bars, spread).properties(height=70 + 40 * len(found), usermeta=settings())
