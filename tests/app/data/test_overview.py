import json
import math
from pathlib import Path

import pandas as pd
import pytest

from edgebnn.app import main, page, summary, tables
from edgebnn.records import NEEDED, Kind, Record
from edgebnn.train.evaluation.linear import LinearEvaluation
from tests.app.sample import BOARD, RECORDS, SERVER, SUPERSEDED, accuracy, date, latency, write_all


def test_every_row_is_what_the_records_say(tmp_path: Path) -> None:
    write_all(tmp_path)
    found, complaints = tables.read_runs(tmp_path)
    assert complaints == []
    assert len(found) == len(RECORDS)
    assert all(record in found for record in RECORDS)
    table = tables.overview(found)
    rows = [
        (r.model, r.top1, r.artifact, r.runtime, r.median_ms, r.machine, r.bytes, r.ops, r.parity)
        for r in table.astype(object).where(table.notna(), None).itertuples()
    ]
    assert rows == [
        ("large & slow", 72.5, "large.onnx", "onnxruntime", 40.0, "Server 9", None, None, None),
        ("small", 61.25, "small.onnx", "onnxruntime", 2.5, "Server 9", 812345, 4710000.5, "passed"),
        ("small", 61.25, "small.tflite", "lce", 8.0, "Board 4", 2123456, 4710000.5, "FAILED"),
        ("untimed", None, "untimed.onnx", None, None, None, 77, None, None),
    ]
    assert table.p10_ms[1] == 2.5 * 0.9
    assert table.p90_ms[1] == 2.5 * 1.2
    assert list(tables.points(table).median_ms) == [40.0, 2.5, 8.0]


def test_newest_wins_only_over_the_same_subject() -> None:
    assert len(tables.newest(RECORDS)) == len(RECORDS) - SUPERSEDED
    old, same = latency("m", "a.onnx", "onnxruntime", 5, 1, SERVER), latency("m", "a.onnx", "onnxruntime", 4, 2, SERVER)
    others = [
        latency("m", "a.onnx", "onnxruntime", 5, 1, BOARD),
        latency("m", "b.onnx", "onnxruntime", 5, 1, SERVER),
        latency("n", "a.onnx", "onnxruntime", 5, 1, SERVER),
        latency("m", "a.onnx", "lce", 5, 1, SERVER),
    ]
    # The order in which they are read must not matter.
    for pair in ([old, same], [same, old]):
        kept = tables.newest([*pair, *others])
        assert old not in kept
        assert all(record in kept for record in [same, *others])


def counted(file: str, digest: str, top1: float, day: int, data: str = "digits <test>") -> Record:
    context = {"protocol": "own classifier", "data": data, "artifact": file, "sha256": digest}
    return Record("accuracy", "small", {"top1": top1}, context, created=date(day))


def test_a_file_shows_the_accuracy_that_was_measured_on_it() -> None:
    timed = [latency("small", f"{name}.onnx", "onnxruntime", 2, 1, SERVER) for name in "abcd"]
    for record, digest in zip(timed, ("1", "2", "3", "4")):
        record.context["sha256"] = digest
    # a and e: the very file; b: its content has changed since; c: on other data; d: never.
    files = [("a", "1", 60.0, "digits <test>"), ("b", "9", 59.0, "digits <test>"), ("c", "3", 12.0, "other")]
    files.append(("e", "5", 58.0, "digits <test>"))
    own = [counted(f"{name}.onnx", digest, top1, 5, data) for name, digest, top1, data in files]
    model = accuracy("small", 61.25, 3)
    table = tables.overview([*timed, model, *own])
    shown = {row.artifact: (row.top1, row.protocol) for row in table.itertuples()}
    assert shown == {
        "a.onnx": (60.0, "own classifier"),
        "b.onnx": (61.25, "linear"),
        "c.onnx": (61.25, "linear"),
        "d.onnx": (61.25, "linear"),
        "e.onnx": (58.0, "own classifier"),
    }
    # An accuracy of one file is none of another file's, nor of the model's.
    alone = tables.overview([*timed, own[0]])
    assert dict(zip(alone.artifact, alone.top1.notna())) == {
        "a.onnx": True,
        **dict.fromkeys(["b.onnx", "c.onnx", "d.onnx"], False),
    }


def test_accuracies_of_two_files_do_not_replace_each_other() -> None:
    older, newer, other = counted("a.onnx", "1", 60, 1), counted("a.onnx", "1", 61, 2), counted("b.onnx", "2", 62, 1)
    assert tables.newest([older, newer, other]) == [other, newer]


def test_a_packed_file_stands_once_for_each_instruction_set() -> None:
    found = [latency("m", "a.onnx", "onnxruntime", 5, day, SERVER) for day in (1, 2, 3)]
    for record, isa in zip(found, ("avx2", "avx512", "avx2")):
        record.context["isa"] = isa
    table = tables.overview(found)
    assert sorted(table.runtime) == ["onnxruntime, packed for avx2", "onnxruntime, packed for avx512"]


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
    sound = {"kind": "accuracy", "model": "m", "values": {"top1": 1.0}, "context": {}, "created": "2026", "version": 1}
    (tmp_path / "run0" / "records" / "bad.json").write_text(json.dumps(sound | change))
    found, complaints = tables.read_runs(tmp_path)
    assert len(found) == len(RECORDS)
    assert len(complaints) == 1
    assert "bad.json is" in complaints[0]


def test_records_without_context_still_make_a_table() -> None:
    bare = [Record("latency", "m", {"median_ms": 1, "p10_ms": 1, "p90_ms": 1}), Record("size", "n", {"bytes": 5})]
    table = tables.overview(bare)
    assert list(table.model) == ["m", "n"]
    assert table.threads.isna().all()
    assert tables.threads(table.threads[0]) == "? threads"
    assert tables.overview([]).empty


def test_log_axis_where_the_span_warrants() -> None:
    assert tables.wants_log(pd.Series([1.0, 5.0]))
    assert not tables.wants_log(pd.Series([1.0, 4.9]))
    assert not tables.wants_log(pd.Series([0.0, 4.9]))
    assert not tables.wants_log(pd.Series([3.0]))


def test_cells_are_text_and_never_markup() -> None:
    evil = "<img src=x onerror=alert(1)>"
    for cell in (
        page.text(evil),
        page.small(evil),
        page.link(evil),
        page.circumstances({evil: evil, "m": {"a": evil}}),
    ):
        assert "<img" not in cell
        assert "&lt;img" in cell
    assert page.link('a"b&c/d') == '<a href="?model=a%22b%26c%2Fd" target="_self">a&quot;b&amp;c/d</a>'


def test_figures() -> None:
    assert [page.size(n) for n in (12, 1500, 7805856, math.nan, None)] == [
        "12 bytes",
        "1.50 kB",
        "7.81 MB",
        page.ABSENT,
        page.ABSENT,
    ]
    assert [page.number(n) for n in (87126016, 0.0123456789, 5.0, None)] == [
        "87,126,016",
        "0.0123457",
        "5",
        page.ABSENT,
    ]
    assert page.figure(61.255, ".1f") == "61.3"
    assert [page.text(value) for value in (None, "", math.nan, 0)] == [page.ABSENT, page.ABSENT, page.ABSENT, "0"]


def test_strict_linear_evaluation_stands_for_a_model() -> None:
    def accuracy(day: int, top1: float, protocol: str, data: str = "A", pretrained_on: str | None = "A") -> Record:
        context = {"protocol": protocol, "data": data, "pretrained_on": pretrained_on}
        return Record("accuracy", "m", {"top1": top1}, context, created=f"2026-01-{day:02d}T00:00:00+00:00")

    def shown(*found: Record) -> tuple[str, float]:
        (row,) = tables.overview(found).to_dict("records")
        return row["protocol"], row["top1"]

    assert LinearEvaluation.protocol == tables.COMPARED
    knn, svm = accuracy(2, 80.0, "kNN, k = 20"), accuracy(3, 70.0, "low-shot SVM, 4 a class")
    linear, transfer = accuracy(1, 60.0, tables.COMPARED), accuracy(4, 90.0, tables.COMPARED, data="B")
    assert shown(knn, svm) == ("low-shot SVM, 4 a class", 70.0)
    assert shown(linear, knn, svm, transfer) == (tables.COMPARED, 60.0)
    assert shown(knn, transfer) == (tables.COMPARED, 90.0)
    assert shown(linear, accuracy(5, 61.0, tables.COMPARED, pretrained_on=None)) == (tables.COMPARED, 61.0)


def test_a_void_time_says_so() -> None:
    context = {"artifact": "m.onnx", "runtime": "onnxruntime", "threads": 1, "void": ["the device throttled"]}
    time = Record("latency", "m", {"median_ms": 1.0, "p10_ms": 1.0, "p90_ms": 1.0}, context)
    assert tables.overview([time]).loc[0, "runtime"] == "onnxruntime (VOID)"
    assert [row["median ms"] for row in summary.rows([time])] == ["1.00 (VOID)"]
    sound = latency("n", "n.onnx", "onnxruntime", 2, 1, SERVER)
    untimed = Record("size", "u", {"bytes": 5}, {"artifact": "u.onnx"})
    assert [row["median ms"] for row in summary.rows([time, sound, untimed])] == ["1.00 (VOID)", "2.00", "-"]


def test_circumstances_in_words() -> None:
    context = {"artifact": "a", "threads": 1, "throttled": None, "void": [], "isa": "neon", "machine": {"cores": 4}}
    assert page.circumstances(context) == "threads 1, isa neon<small>machine: cores 4</small>"
    assert page.circumstances({"throttled": False, "void": ["a: b", "c"]}) == "throttled False, void a: b; c"


def test_a_file_exported_anew_is_not_verified() -> None:
    def record(kind: Kind, day: int, digest: str, **values: float) -> Record:
        context = {"artifact": "m.onnx", "sha256": digest, "runtime": "onnxruntime", "threads": 1}
        return Record(kind, "m", values, context, created=f"2026-01-{day:02d}T00:00:00+00:00")

    time = {"median_ms": 1.0, "p10_ms": 1.0, "p90_ms": 1.0}
    first = [record("parity", 1, "old", ok=1), record("size", 1, "old", bytes=5), record("latency", 1, "old", **time)]
    assert tables.overview(first).loc[0, ["parity", "bytes"]].tolist() == ["passed", 5]
    # The size and the time are of the new content, the verification is not.
    second = [*first, record("size", 2, "new", bytes=6), record("latency", 2, "new", **time)]
    (row,) = tables.overview(second).to_dict("records")
    assert row["bytes"] == 6
    assert pd.isna(row["parity"])


@pytest.mark.parametrize("kind", NEEDED)
def test_records_of_every_kind_are_shown(kind: Kind) -> None:
    record = Record(kind, "m", dict.fromkeys(NEEDED[kind], 50.0), {"protocol": "any", "artifact": "a.onnx"})
    assert tables.newest([record, record]) == [record]
    assert len(tables.overview([record])) == 1
    assert main.TITLES[kind]
