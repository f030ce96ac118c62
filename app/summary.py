"""The dashboard's table for a terminal or a Markdown file: `python -m app.summary RUNS`."""

import sys
from pathlib import Path

import pandas as pd

from edgebnn.errors import UserError, check, exit_on_user_error
from edgebnn.records import Record
from edgebnn.text import columns

from .data.overview import overview
from .data.store import Store

MISSING = "-"


def rows(found: list[Record]) -> list[dict[str, str]]:
    """The overview in words, a row for every model and artifact; a figure that no record holds is "-"."""
    return [
        {
            "model": str(row["model"]),
            "top-1": _number(row["top1"], "{:.2f}%"),
            "file": row["artifact"] or MISSING,
            "KB": _number(row["bytes"], "{:,.0f}", 1e-3),
            "million OPs": _number(row["ops"], "{:.2f}", 1e-6),
            "median ms": _number(row["median_ms"], "{:.2f} (VOID)" if row["void"] else "{:.2f}"),
            "p10 to p90": _spread(row),
            "verified": row["parity"] or MISSING,
        }
        for _, row in overview(found).iterrows()
    ]


def text(found: list[Record]) -> str:
    """The rows as aligned columns."""
    table = rows(found)
    return columns([list(table[0]), *([*row.values()] for row in table)], "lrlrrrrl")


def markdown(found: list[Record]) -> str:
    """The rows as a Markdown table."""
    return markdown_table(rows(found))


def markdown_table(table: list[dict[str, str]]) -> str:
    """Rows of the same keys as a Markdown table."""
    lines = [list(table[0]), ["---"] * len(table[0]), *([*row.values()] for row in table)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _number(value: float, form: str, factor: float = 1.0) -> str:
    return MISSING if pd.isna(value) else form.format(value * factor)


def _spread(row: pd.Series) -> str:
    return MISSING if pd.isna(row["p10_ms"]) else f"{row['p10_ms']:.2f} to {row['p90_ms']:.2f}"


def main(arguments: list[str] | None = None) -> None:
    """Prints the table of all records under a folder."""
    with exit_on_user_error():
        arguments = sys.argv[1:] if arguments is None else arguments
        if len(arguments) != 1:
            raise UserError("usage: python -m app.summary RUNS")
        found = Store(Path(arguments[0])).look()
        for complaint in found.complaints:
            print(f"warning: {complaint}", file=sys.stderr)
        check(found.found, f"{arguments[0]} holds no records; run `make demo`, or export and bench with --record")
        print(f"\n{text(found.records)}\n")


if __name__ == "__main__":
    main()
