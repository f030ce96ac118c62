"""Formats text for a terminal."""

from collections.abc import Sequence


def columns(rows: Sequence[Sequence[str]], align: str) -> str:
    """Returns rows as lines of aligned columns, two spaces apart.

    Args:
        rows: the cells. Every row has as many cells as `align` has letters.
        align: one letter per column: "l" aligns left, for words, and "r" aligns right, for figures.
    """
    widths = [max(map(len, cells)) for cells in zip(*rows)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if side == "l" else cell.rjust(width) for cell, width, side in zip(row, widths, align)
        ).rstrip()
        for row in rows
    )


def printable(text: str) -> str:
    """Returns a text of unknown origin in one line. Unprintable characters become Python escapes."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
