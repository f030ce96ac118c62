"""What one record speaks of, and which of several records counts."""

import math
import os
from collections.abc import Iterable, Sequence

from edgebnn.records import Kind, Record

from .text import words

COMPARED = "linear, frozen features"
"""The protocol by which models are compared, where one was evaluated under several (docs/reference/evaluations.md)."""

SUBJECT: dict[Kind, tuple[str, ...]] = {
    "accuracy": ("protocol", "data", "artifact"),
    "map": ("protocol", "data"),
    "latency": ("artifact", "runtime", "threads", "isa", "machine"),
    "ops": ("resolution",),
    "size": ("artifact",),
    "parity": ("artifact",),
    "kernels": ("artifact", "isa", "threads", "machine"),
    "training": ("machine",),
    "check": ("check", "machine"),
}
"""What of the context makes two records of a kind speak of the same (docs/reference/records.md)."""


def subject(record: Record) -> tuple[str, ...]:
    """Returns what a record speaks of. Of two records with the same subject, the newer one counts."""
    special = {"artifact": artifact, "machine": machine}
    said = [
        special[key](record) if key in special else str(record.context.get(key, "")) for key in SUBJECT[record.kind]
    ]
    return (record.kind, record.model, *said)


def artifact(record: Record) -> str:
    """Returns the name of the file that a record speaks of, without its folders; "" for none."""
    given = record.context.get("artifact")
    return os.path.basename(given) if isinstance(given, str) else ""


def content(record: Record) -> tuple[str, str]:
    """Returns the name and the SHA-256 of the file that a record speaks of ("" where it is not known)."""
    return artifact(record), words(record.context.get("sha256"))


def machine(record: Record) -> str:
    """Returns the processor that something was timed on; "" where the record does not say it."""
    described = record.context.get("machine")
    return words(described.get("cpu")) if isinstance(described, dict) else ""


def runtime(record: Record) -> str | None:
    """Returns what ran the file, with the instruction set of a packed file."""
    name, isa = words(record.context.get("runtime")), words(record.context.get("isa"))
    return (f"{name}, packed for {isa}" if isa else name) if name else None


def void(record: Record) -> str:
    """Returns why a time must not be compared; "" if it may be."""
    return words(record.context.get("void"), "; ")


def threads(count: float | None) -> str:
    """Returns a number of threads in words."""
    if count is None or math.isnan(count):
        return "? threads"
    return "1 thread" if count == 1 else f"{count:.0f} threads"


def newest(found: Iterable[Record]) -> list[Record]:
    """Returns the newest record of each subject, oldest first."""
    latest = {subject(record): record for record in sorted(found, key=lambda record: record.created)}
    return sorted(latest.values(), key=lambda record: record.created)


def headline(accuracies: Sequence[Record]) -> Record | None:
    """Returns the accuracy that stands for a model where only one is shown; None of none.

    It is the newest one under strict linear evaluation on the data that the model was trained on. Without one, it is
    the newest strict linear evaluation. Without that, it is the newest accuracy.

    Args:
        accuracies: of one model, oldest first.
    """

    def rank(record: Record) -> tuple[bool, bool]:
        strict = record.context.get("protocol") == COMPARED
        return strict, strict and record.context.get("pretrained_on") in (None, record.context.get("data"))

    # Of equals max takes the first, and the newest should win.
    return max(reversed(accuracies), key=rank, default=None)
