import json
import math
import os
from pathlib import Path

import pytest

from edgebnn.app.data import store as stores
from edgebnn.app.data.store import Store, record_files
from edgebnn.records import Record, write_record
from tests.app.sample import RECORDS, write_all
from tests.app.synthetic import write_many

SOUND = {"kind": "accuracy", "model": "m", "values": {"top1": 1.0}, "context": {}, "created": "2026", "version": 1}


def test_all_records_are_read_oldest_first(tmp_path: Path) -> None:
    write_all(tmp_path)
    found = Store(tmp_path).look()
    assert found.complaints == ()
    assert len(found.records) == len(RECORDS)
    assert all(record in found.records for record in RECORDS)
    assert [record.created for record in found.records] == sorted(record.created for record in RECORDS)


def test_only_new_and_changed_files_are_read(tmp_path: Path) -> None:
    write_many(tmp_path, models=10, records=200)
    store = Store(tmp_path)
    first = store.look()
    assert (store.files_read, len(first.found)) == (200, 200)
    assert store.look() is first
    assert store.files_read == 200

    path = write_record(Record("size", "new", {"bytes": 5}), tmp_path / "another")
    second = store.look()
    assert (store.files_read, len(second.found), second.number) == (201, 201, first.number + 1)

    path.write_text(json.dumps(SOUND))
    assert "new" not in store.look().models
    assert store.files_read == 202
    path.unlink()
    assert (store.look().records, store.files_read) == (first.records, 202)


def test_an_answer_may_be_as_old_as_asked(tmp_path: Path) -> None:
    store = Store(tmp_path)
    empty = store.look()
    write_all(tmp_path)
    assert store.look(age_s=60) is empty
    assert len(store.look().found) == len(RECORDS)


@pytest.mark.parametrize(
    "change",
    [
        {"values": {"top1": "high"}},
        {"values": {"top1": True}},
        {"values": {"top5": 99.0}},
        {"values": [1]},
        {"values": {"top1": math.inf}},
        {"context": None},
        {"created": 5},
        {"model": ["m"]},
        {"kind": "speed"},
        {"version": 9},
        {"extra": 1},
    ],
)
def test_a_damaged_record_is_named_and_the_others_stay(tmp_path: Path, change: dict[str, object]) -> None:
    write_all(tmp_path)
    (tmp_path / "run0" / "records" / "bad.json").write_text(json.dumps(SOUND | change))
    found = Store(tmp_path).look()
    assert len(found.found) == len(RECORDS)
    assert len(found.complaints) == 1
    assert "bad.json is" in found.complaints[0]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe\x00",
        b'{"version": 1, "kind"',
        b"[" * 100_000,
        b'{"version": 1, "values": {"a": 1' + b"0" * 400 + b"}}",
        json.dumps(SOUND | {"context": {"long": "x" * stores.LARGEST}}).encode(),
    ],
)
def test_a_file_that_is_no_json_is_named(tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / "run" / "records"
    folder.mkdir(parents=True)
    (folder / "bad.json").write_bytes(content)
    found = Store(tmp_path).look()
    assert found.found == ()
    assert len(found.complaints) == 1
    assert "bad.json" in found.complaints[0]


def test_text_that_cannot_be_shown_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "records"
    folder.mkdir(parents=True)
    evil = {
        "model": "a\ud800b",
        "context": {"artifact": "\u202eexe.onnx\n", "data": "x" * 5000, "l\udfff": ["\x1b[1m"]},
    }
    (folder / "evil.json").write_text(json.dumps(SOUND | evil))
    (folder / os.fsdecode(b"\xff\xfe.json")).write_text("{")
    found = Store(tmp_path).look()
    (record,) = found.records
    everything = json.dumps([record.model, record.context, found.complaints], ensure_ascii=False)
    everything.encode()  # raises on a lone surrogate
    assert everything.isprintable()
    assert record.model == "a\N{REPLACEMENT CHARACTER}b"
    assert record.context["artifact"] == "\N{REPLACEMENT CHARACTER}exe.onnx "
    assert len(record.context["data"]) == 300
    assert "\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}.json" in found.complaints[0]


def test_no_path_leaves_the_folder(tmp_path: Path) -> None:
    inside, outside = tmp_path / "runs", tmp_path / "elsewhere"
    write_all(outside)
    (inside / "records").mkdir(parents=True)
    (inside / "link").symlink_to(outside, target_is_directory=True)
    (inside / "records" / "link.json").symlink_to(next((outside / "run0" / "records").iterdir()))
    assert list(record_files(inside)) == []
    assert len(list(record_files(outside))) == len(RECORDS)
