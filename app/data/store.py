"""All records under a folder, read once each.

Looking again reads only the files that are new or have changed. The folder may change while the dashboard runs.
"""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import pandas as pd

from edgebnn import records
from edgebnn.errors import UserError
from edgebnn.records import Record

from .overview import overview
from .text import LONGEST, clean, clean_json, clean_path

LARGEST = 1_000_000
"""Bytes of the largest file that counts as a record. Real ones have a few thousand."""


class Stamp(NamedTuple):
    """What tells one content of a file from the next."""

    modified_ns: int
    bytes: int
    inode: int


@dataclass(frozen=True)
class Snapshot:
    """The records at one moment.

    Attributes:
        root: the folder of the runs.
        found: the sound records with their files' paths, oldest first.
        complaints: a line for every file that is no record.
        number: counts the changes since the dashboard started.
    """

    root: Path
    found: tuple[tuple[Record, str], ...] = ()
    complaints: tuple[str, ...] = ()
    number: int = 0

    @cached_property
    def records(self) -> list[Record]:
        """The records alone, oldest first."""
        return [record for record, _ in self.found]

    @cached_property
    def table(self) -> pd.DataFrame:
        """The overview of all records."""
        return overview(self.records)

    @cached_property
    def models(self) -> list[str]:
        """The names of all models, sorted."""
        return sorted({record.model for record in self.records})

    def folders(self, model: str) -> list[Path]:
        """The run folders that hold records of `model`, sorted."""
        return sorted({Path(path).parents[1] for record, path in self.found if record.model == model})


@dataclass
class Store:
    """The records under `root`.

    Attributes:
        root: the folder of the runs.
        files_read: how many files have been read so far, for tests and timings.
    """

    root: Path
    files_read: int = 0
    _files: dict[str, tuple[Stamp, Record | str]] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)
    _last: Snapshot | None = None
    _looked: float = 0.0

    def look(self, *, age_s: float = 0.0) -> Snapshot:
        """Returns the records as they are now. The same object as before where nothing changed.

        Args:
            age_s: how old the answer may be, in seconds.
        """
        with self._lock:
            if self._last is not None and time.monotonic() < self._looked + age_s:
                return self._last
            self._looked = time.monotonic()
            present = dict(record_files(self.root))
            changed = [path for path, stamp in present.items() if self._files.get(path, (None,))[0] != stamp]
            gone = self._files.keys() - present.keys()
            if self._last is not None and not changed and not gone:
                return self._last
            for path in gone:
                del self._files[path]
            for path in changed:
                self._files[path] = (present[path], read_record(path, present[path].bytes))
            self.files_read += len(changed)
            self._last = self._snapshot()
            return self._last

    def _snapshot(self) -> Snapshot:
        sound, complaints = [], []
        for path, (_, found) in sorted(self._files.items()):
            if isinstance(found, Record):
                sound.append((found, path))
            else:
                complaints.append(found)
        sound.sort(key=lambda pair: pair[0].created)
        number = 1 if self._last is None else self._last.number + 1
        return Snapshot(self.root, tuple(sound), tuple(complaints), number)


def record_files(root: str | Path) -> Iterator[tuple[str, Stamp]]:
    """Yields every `records/*.json` under `root`, with its stamp. Follows no link, so no path leaves the folder."""
    folders = [os.fspath(root)]
    while folders:
        folder = folders.pop()
        holds_records = os.path.basename(folder) == records.FOLDER
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    elif holds_records and entry.name.endswith(".json") and entry.is_file(follow_symlinks=False):
                        status = entry.stat(follow_symlinks=False)
                        yield entry.path, Stamp(status.st_mtime_ns, status.st_size, status.st_ino)
        except OSError:
            continue  # the folder went away, or may not be read


def read_record(path: str, bytes: int) -> Record | str:
    """Returns the record in a file, every text in it cleaned, or a line that says why it is none."""
    if bytes > LARGEST:
        return f"{clean_path(path)} has {bytes / 1e6:.1f} MB, too much for a record; delete it or move it away"
    try:
        with open(path, "rb") as file:
            data = json.loads(file.read())
        if data["version"] == records.VERSION:
            return Record(**{key: clean_json(value) for key, value in data.items()})
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
        pass  # the slower reader below says what is wrong
    try:
        records.read_record(path)
    except UserError as error:
        return clean(str(error), 2 * LONGEST)
    return f"{clean_path(path)} is not a record (it is nested too deeply, or a name in it is cut); delete it"
