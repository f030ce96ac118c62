"""Tables for a terminal."""

from collections.abc import Sequence


def columns(rows: Sequence[Sequence[str]], align: str) -> str:
    """Rows as aligned columns, two spaces apart.

    Args:
        rows: cells; every row as many as `align` has letters.
        align: a letter a column: "l" for words, "r" for figures.
    """
    widths = [max(map(len, cells)) for cells in zip(*rows)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if side == "l" else cell.rjust(width) for cell, width, side in zip(row, widths, align)
        ).rstrip()
        for row in rows
    )


def printable(text: str) -> str:
    """`text` in one line, for names that anyone may have given: what cannot be printed is shown as Python writes it."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
