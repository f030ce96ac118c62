"""Colours, shapes and settings that all charts share. Every colour is readable on white and on black."""

from typing import Any

COLOURS = ["#3b7ddd", "#d9772b", "#3f9c6b", "#a06bd6", "#d2527f", "#8a7a1f", "#0d98a5", "#b5651d"]
SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-left", "triangle-right"]
"""A series has a colour and a shape, so that nobody needs to tell colours apart."""

GREY = "#808791"
MOST_MARKS = 500
"""From more marks on, a chart is drawn as pixels: a browser is slow with more elements."""


def settings(marks: int = 0) -> dict[str, Any]:
    """Returns Vega-Lite's `usermeta` of a chart: drawn as elements, which screen readers and tests can read."""
    return {"embedOptions": {"renderer": "svg" if marks <= MOST_MARKS else "canvas"}}
