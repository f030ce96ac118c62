"""Text and numbers of records, made fit to be shown. A record may hold anything, and a page must survive it."""

import os
from collections.abc import Mapping
from typing import Any

LONGEST = 300
"""Characters of one text that are kept. A longer text would freeze a browser's tab."""

MOST = 10_000
"""Entries of one list or table of a record that are kept."""


def clean(text: str, longest: int = LONGEST) -> str:
    """Returns `text` in one line of at most `longest` characters.

    Characters that cannot be printed or encoded (lone surrogates, control characters, marks that turn the writing
    direction) become U+FFFD.
    """
    if len(text) > longest:
        text = text[: longest - 1] + "\N{HORIZONTAL ELLIPSIS}"
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else " " if each.isspace() else "\N{REPLACEMENT CHARACTER}" for each in text
    )


def clean_path(path: str | os.PathLike[str], longest: int = LONGEST) -> str:
    """Returns a path to show. Bytes of a file name that are not UTF-8 become U+FFFD."""
    return clean(os.fsencode(path).decode("utf-8", "replace"), longest)


def clean_json(value: Any) -> Any:
    """Returns plain JSON with every text cleaned, and with long lists and tables cut."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [clean_json(each) for each in value[:MOST]]
    if isinstance(value, dict):
        return {clean(str(key)): clean_json(each) for key, each in list(value.items())[:MOST]}
    return value


def words(value: object, between: str = ", ") -> str:
    """Returns any value of a context in words; "" for none."""
    if value is None or value == "" or value == [] or value == {}:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return clean(between.join(words(each, " ") for each in value))
    if isinstance(value, dict):
        return clean(between.join(f"{key} {words(each, ' ')}" for key, each in value.items() if words(each)))
    return clean(str(value))


def number(context: Mapping[str, Any], key: str) -> float | None:
    """Returns the number under `key`, None where there is none."""
    value = context.get(key)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def size(count: float | None) -> str:
    """Returns bytes in the unit that suits them (decimal units), "" for none."""
    if count is None or count != count:
        return ""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.2f} {unit}"
    return f"{count:.0f} bytes"
