"""The input files of a stage, and whether they have changed since it ran."""

import os
from pathlib import Path
from typing import Any

from edgebnn.files import sha256

from ..engine.callbacks import LAST, MODEL

FileFacts = dict[str, Any]
"""A file's `sha256`, `bytes` and `modified` (ns). A file with the same size and time is not read again."""


def find_inputs(config: dict[str, Any], root: Path) -> dict[str, Path]:
    """Returns the files that a configuration names under `model`.

    Args:
        config: values by dotted key.
        root: the recipe's folder. Files that its stages will write are found before they exist.

    Returns:
        The paths by name: STAGE/FILE for files of the recipe's stages, and the path for all others.
    """
    found = {}
    for key, value in config.items():
        if not isinstance(value, str) or not key.startswith("model."):
            continue
        path = Path(value)
        if path.parent.parent == root and path.name in (MODEL, LAST):
            found[f"{path.parent.name}/{path.name}"] = path
        elif os.path.isfile(value):  # Path.is_file raises if a value is too long for a path
            found[value] = path
    return found


def file_facts(path: Path) -> FileFacts:
    """Returns the facts by which a changed file is recognised."""
    state = path.stat()
    return {"sha256": sha256(path), "bytes": state.st_size, "modified": state.st_mtime_ns}


def changed_inputs(was: dict[str, FileFacts], files: dict[str, Path]) -> list[str]:
    """Returns the names of the files that have changed. A missing file has not, because a finished stage needs none.

    Args:
        was: facts of the files when the stage started.
        files: the files now.
    """
    return [name for name, path in files.items() if path.is_file() and not _same(was.get(name), path)]


def _same(was: FileFacts | None, path: Path) -> bool:
    if was is None:
        return False
    state = path.stat()
    if (was["bytes"], was["modified"]) == (state.st_size, state.st_mtime_ns):
        return True
    return was["bytes"] == state.st_size and was["sha256"] == sha256(path)
