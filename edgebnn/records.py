"""Records: each measured fact is one small versioned JSON file under `runs/`.

A record has the measured figures (`values`), the name of the model, and the circumstances (`context`: protocol, data,
epochs, machine, artifact). A record is written once and never changed. A new measurement makes a new record.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal, get_args
from uuid import uuid4

from edgebnn.errors import UserError, check
from edgebnn.files import write_bytes

Kind = Literal["accuracy", "map", "parity", "latency", "ops", "size", "kernels", "training", "check"]
VERSION = 1
FOLDER = "records"

NEEDED: dict[Kind, tuple[str, ...]] = {
    "accuracy": ("top1",),
    "map": ("map",),
    "latency": ("median_ms", "p10_ms", "p90_ms"),
    "ops": ("ops",),
    "size": ("bytes",),
    "parity": ("ok",),
    "kernels": ("median_ms", "ceiling_ms"),
    "training": ("images_per_s", "baseline_images_per_s"),
    "check": ("ok",),
}
"""The values that a record of each kind must have."""


@dataclass(frozen=True)
class Record:
    """One measured fact.

    Attributes:
        kind: the kind of fact. docs/reference/records.md lists the values of each kind.
        model: the model's name, equal in all records of the model.
        values: the figures. Each name contains the unit ("median_ms", "bytes", "top1").
        context: the circumstances, as JSON data.
        created: time of the measurement, ISO 8601 in UTC.
        version: version of this format.

    Raises:
        UserError: on creation, if the kind is unknown, or a value is missing or no finite number.
    """

    kind: Kind
    model: str
    values: Mapping[str, float]
    context: dict[str, Any] = field(default_factory=dict)
    created: str = field(default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="microseconds"))
    version: int = VERSION

    def __post_init__(self) -> None:
        if not isinstance(self.kind, str) or self.kind not in get_args(Kind):
            raise UserError(f"unknown record kind '{self.kind}'. Valid kinds are {', '.join(get_args(Kind))}")
        check(self.model and isinstance(self.model, str), "a record needs the name of its model")
        check(isinstance(self.created, str), f"a record's date must be text, not {self.created!r}")
        tables = isinstance(self.values, dict) and isinstance(self.context, dict)
        check(tables, f"the values and the context of a record of {self.model} must be tables")
        for name in {*self.values, *NEEDED[self.kind]}:
            value = self.values.get(name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
            check(number, f"{name} in a record of kind {self.kind} is {value}, not a number")


def new_session() -> str:
    """Returns a new name for a measurement. Files with the same name took turns, so their rounds can be paired."""
    return uuid4().hex[:16]


def write_record(record: Record, run: str | Path) -> Path:
    """Writes a record into the folder `records/` of a run folder, and returns the path of the file.

    Raises:
        UserError: the file cannot be written.
    """
    text = json.dumps(asdict(record), indent=1, sort_keys=True, allow_nan=False)
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", record.model)[:60]
    digest = hashlib.sha256(text.encode()).hexdigest()[:10]
    path = Path(run) / FOLDER / f"{record.kind}-{slug}-{digest}.json"
    write_bytes(path, text.encode() + b"\n")
    return path


def read_record(path: str | Path) -> Record:
    """Reads one record.

    Raises:
        UserError: the file is no record, or its version is newer than this program.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        version = data["version"]
        if version == VERSION:
            return Record(**data)
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise UserError(f"{path} is not a record ({error}); delete it or measure again") from None
    raise UserError(f"{path} is a record of version {version}, but this edgebnn reads {VERSION}; update edgebnn")


def read_records(root: str | Path) -> list[Record]:
    """Returns all records of all runs under a folder, oldest first. Raises `UserError` as `read_record` does."""
    paths = Path(root).rglob(f"{FOLDER}/*.json")
    return sorted((read_record(path) for path in paths), key=lambda record: record.created)
