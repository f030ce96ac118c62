import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgebnn import records
from edgebnn.errors import UserError
from edgebnn.records import Record

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=80)


@given(
    kind=st.sampled_from(["accuracy", "parity", "latency", "ops", "size", "kernels"]),
    model=texts,
    values=st.dictionaries(texts, st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53)),
    context=st.dictionaries(st.text(st.characters(codec="utf-8")), plain, max_size=4),
)
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, kind: records.Kind, model: str, values: dict[str, float], context: dict
) -> None:
    run = tmp_path_factory.mktemp("run")
    record = Record(kind, model, values | dict.fromkeys(records.NEEDED[kind], 1.5), context)
    path = records.write_record(record, run)
    assert path.parent == run / "records"
    assert records.read_record(path) == record
    assert records.read_records(run) == [record]


def test_records_of_all_runs_come_oldest_first(tmp_path: Path) -> None:
    dates = ["2026-03-01T00:00:00+00:00", "2024-01-01T00:00:00+00:00", "2025-02-01T00:00:00+00:00"]
    for run, date in zip(("a", "b/c", "a"), dates):
        records.write_record(Record("size", "m", {"bytes": 1}, created=date), tmp_path / run)
    assert [record.created for record in records.read_records(tmp_path)] == sorted(dates)


def test_the_same_record_is_kept_once_and_another_beside_it(tmp_path: Path) -> None:
    record = Record("size", "a/b: c", {"bytes": 1})
    assert records.write_record(record, tmp_path) == records.write_record(record, tmp_path)
    records.write_record(Record("size", "a/b: c", {"bytes": 2}), tmp_path)
    assert len(list((tmp_path / "records").iterdir())) == 2


def test_records_made_one_after_the_other_are_in_that_order() -> None:
    dates = [Record("size", "m", {"bytes": 1}).created for _ in range(50)]
    assert dates == sorted(dates)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        "{}",
        '{"version": 1}',
        '{"version": 1, "kind": "speed", "model": "m", "values": {}}',
        "\xff",
        '{"version": 1, "kind": "size", "model": "m", "values": {"bytes": "many"}}',
        '{"version": 1, "kind": "size", "model": "m", "values": [1]}',
        '{"version": 1, "kind": "size", "model": "m", "values": {"bytes": 1}, "created": 7}',
        '{"version": 1, "kind": "size", "model": 5, "values": {"bytes": 1}}',
        '{"version": 1, "kind": ["size"], "model": "m", "values": {"bytes": 1}}',
    ],
)
def test_what_is_no_record_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "records" / "x.json"
    path.parent.mkdir()
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"x\.json is not a record .*; delete it or measure again"):
        records.read_records(tmp_path)


def test_a_record_of_a_newer_version_is_not_guessed_at(tmp_path: Path) -> None:
    path = records.write_record(Record("size", "m", {"bytes": 1}), tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 2, "more": []}))
    with pytest.raises(UserError, match="version 2, but this edgebnn reads 1; update edgebnn"):
        records.read_record(path)


def test_a_record_needs_a_kind_a_model_and_finite_values() -> None:
    with pytest.raises(UserError, match="unknown record kind 'speed'"):
        Record("speed", "m", {})  # type: ignore[arg-type]
    with pytest.raises(UserError, match="name of its model"):
        Record("size", "", {"bytes": 1})
    with pytest.raises(UserError, match="bytes in a record of kind size is nan, not a number"):
        Record("size", "m", {"bytes": float("nan")})
    with pytest.raises(UserError, match="p10_ms in a record of kind latency is None"):
        Record("latency", "m", {"median_ms": 1.0, "p90_ms": 1.0})
