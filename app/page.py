"""HTML of the dashboard: tables that screen readers, keyboards and tests can read, links that can be shared."""

import html
from collections.abc import Iterable
from urllib.parse import quote

import pandas as pd

STYLE = """<style>
.block-container {max-width: 1180px; padding-top: 4rem;}
.stAppDeployButton {display: none;}
.bnn-scroll {overflow-x: auto; margin-bottom: .4rem;}
.bnn {border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums;}
.bnn th {font-weight: 600; color: #5b6470; text-align: left; border-bottom: 1px solid #c9ced6;}
.bnn th, .bnn td {padding: .42rem .7rem; vertical-align: top; white-space: nowrap;}
.bnn td {border-bottom: 1px solid #e9ecf0;}
.bnn th {white-space: normal;}
.bnn .figure {text-align: right;}
.bnn .long {white-space: normal; min-width: 9rem; overflow-wrap: anywhere;}
.bnn small {color: #5b6470; font-size: .8rem; display: block;}
.bnn .passed {color: #1a7f37;} .bnn .FAILED {color: #b42318; font-weight: 600;}
</style>"""

ABSENT = "\N{EN DASH}"


def text(value: object) -> str:
    """`value` as HTML text; a dash where there is none."""
    return html.escape(str(value)) if _present(value) else ABSENT


def figure(value: float | None, pattern: str) -> str:
    """A number in the given format; a dash where there is none."""
    return ABSENT if value is None or pd.isna(value) else format(value, pattern)


def number(value: float | None) -> str:
    """A number as its record has it: whole ones in full, others to six digits."""
    return figure(value, ",.0f" if value is not None and value == int(value) else ".6g")


def size(count: float | None) -> str:
    """Bytes in the unit that suits them (decimal units)."""
    if count is None or pd.isna(count):
        return ABSENT
    for unit, factor in (("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.2f} {unit}"
    return f"{count:.0f} bytes"


def small(value: object) -> str:
    """A second line in a cell; nothing where there is no value."""
    return f"<small>{html.escape(str(value))}</small>" if _present(value) else ""


def verdict(parity: str | None) -> str:
    """The verdict, `passed` or `FAILED`, in its colour."""
    return f'<span class="{text(parity)}">{text(parity)}</span>' if _present(parity) else ABSENT


def _present(value: object) -> bool:
    # NaN, which pandas puts where nothing was, is the one value unequal to itself.
    return value is not None and value != "" and value == value


def link(model: str) -> str:
    """A link to a model's page."""
    return f'<a href="?model={quote(model, safe="")}" target="_self">{html.escape(model)}</a>'


def circumstances(context: dict[str, object]) -> str:
    """A record's context but for its artifact: first what is short, then each table (the machine) in small print."""
    parts = {
        key: value
        for key, value in context.items()
        if key not in ("artifact", "sha256") and not isinstance(value, dict) and value not in (None, [])
    }
    lines = [", ".join(f"{key} {_plain(value, '; ')}" for key, value in parts.items())]
    for key, value in context.items():
        if isinstance(value, dict):
            lines.append(f"{key}: " + ", ".join(f"{name} {_plain(entry)}" for name, entry in value.items() if entry))
    return text(lines[0]) + "".join(small(line) for line in lines[1:])


def _plain(value: object, between: str = " ") -> str:
    return between.join(map(str, value)) if isinstance(value, list) else str(value)


def table(header: Iterable[str], rows: Iterable[Iterable[str]], *, kinds: Iterable[str], name: str) -> str:
    """A table of cells that are HTML already.

    Args:
        header: the columns' heads.
        rows: the cells.
        kinds: a class a column: "" or "figure" (to the right) or "long" (may wrap).
        name: what the table is, for those who do not see it.
    """
    kinds = list(kinds)
    heads = "".join(f'<th scope="col" class="{kind}">{head}</th>' for head, kind in zip(header, kinds))
    body = "".join(
        "<tr>" + "".join(f'<td class="{kind}">{cell}</td>' for cell, kind in zip(row, kinds)) + "</tr>" for row in rows
    )
    return (
        f'<div class="bnn-scroll"><table class="bnn" aria-label="{html.escape(name)}">'
        f"<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )
