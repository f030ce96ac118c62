"""What each layer of a file costs, from the records of `edgebnn.export.bench.layers` and of `make bench`."""

from collections.abc import Mapping, Sequence

import pandas as pd

from edgebnn.records import Record

from .text import number, words

COLUMNS = ("layer", "kind", "ms", "share", "ops", "bytes", "least_ms")


def measured_layers(found: Sequence[Record]) -> list[Record]:
    """Returns the newest record with layers of each file and instruction set, the newest first."""
    latest: dict[tuple[str, str], Record] = {}
    for record in found:
        if record.kind == "kernels" and len(layers(record)):
            key = (words(record.context.get("artifact")), words(record.context.get("isa")))
            latest.pop(key, None)
            latest[key] = record
    return list(reversed(latest.values()))


def layers(record: Record) -> pd.DataFrame:
    """Returns a row for each layer, in the order they run, with the columns `COLUMNS`.

    `share` is the layer's part of the time of all layers, in percent. OPs, bytes and the least time are missing in
    records of `make bench`.
    """
    given, nodes = record.context.get("layers"), record.context.get("nodes")
    rows: list[dict[str, object]] = []
    if isinstance(given, list):
        rows = [_row(each) for each in given if isinstance(each, dict)]
    elif isinstance(nodes, dict):
        rows = [_row({"name": name, "ms": time}) for name, time in nodes.items()]
    table = pd.DataFrame([row for row in rows if row["ms"] is not None], columns=list(COLUMNS))
    table = table.astype(dict.fromkeys(("ms", "share", "ops", "bytes", "least_ms"), float))
    return table.assign(share=100 * table["ms"] / table["ms"].sum())


def _row(given: Mapping[str, object]) -> dict[str, object]:
    figures = {key: number(given, key) for key in ("ms", "ops", "bytes", "least_ms")}
    return {"layer": words(given.get("name")), "kind": words(given.get("kind")) or "not known", **figures}
