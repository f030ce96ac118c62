"""The files that a stage learns from: whether they still are what they were."""

import os
from pathlib import Path
from typing import Any

from edgebnn.files import sha256

from ..engine.callbacks import LAST, MODEL

Facts = dict[str, Any]
"""Of a file: `sha256`, and `bytes` and `modified` (ns), which spare the reading of one that was not touched."""


def find(config: dict[str, Any], root: Path) -> dict[str, Path]:
    """Files that a configuration names, by their names: STAGE/FILE in the recipe's folder `root`, else the path.

    Args:
        config: leaves by their dotted keys.
        root: the recipe's folder; what its stages leave counts before it is there.
    """
    found = {}
    for key, value in config.items():
        if not isinstance(value, str) or not key.startswith("model."):
            continue
        path = Path(value)
        if path.parent.parent == root and path.name in (MODEL, LAST):
            found[f"{path.parent.name}/{path.name}"] = path
        elif os.path.isfile(value):  # a value may be too long for a path, at which Path.is_file raises
            found[value] = path
    return found


def facts(path: Path) -> Facts:
    """What tells the file from another."""
    state = path.stat()
    return {"sha256": sha256(path), "bytes": state.st_size, "modified": state.st_mtime_ns}


def changed(was: dict[str, Facts], files: dict[str, Path]) -> list[str]:
    """Names of files that are others than they were. One that is gone is none: the stage may be done with it."""
    return [name for name, path in files.items() if path.is_file() and not _same(was.get(name), path)]


def _same(was: Facts | None, path: Path) -> bool:
    if was is None:
        return False
    state = path.stat()
    if (was["bytes"], was["modified"]) == (state.st_size, state.st_mtime_ns):
        return True
    return was["bytes"] == state.st_size and was["sha256"] == sha256(path)
