import pandas as pd
import pytest

from edgebnn.app import summary
from edgebnn.app.data.axes import wants_log
from edgebnn.app.data.facts import COMPARED, newest, threads
from edgebnn.app.data.overview import label, overview
from edgebnn.app.data.text import number, size, words
from edgebnn.records import NEEDED, Kind, Record
from edgebnn.train.evaluation.linear import LinearEvaluation
from tests.app.sample import BOARD, RECORDS, SERVER, SUPERSEDED, accuracy, date, latency


def test_every_row_is_what_the_records_say() -> None:
    table = overview(RECORDS)
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
    assert label(table.loc[2]) == "small, small.tflite, lce, 2 threads, Board 4"


def test_newest_wins_only_over_the_same_subject() -> None:
    assert len(newest(RECORDS)) == len(RECORDS) - SUPERSEDED
    old, same = latency("m", "a.onnx", "onnxruntime", 5, 1, SERVER), latency("m", "a.onnx", "onnxruntime", 4, 2, SERVER)
    others = [
        latency("m", "a.onnx", "onnxruntime", 5, 1, BOARD),
        latency("m", "b.onnx", "onnxruntime", 5, 1, SERVER),
        latency("n", "a.onnx", "onnxruntime", 5, 1, SERVER),
        latency("m", "a.onnx", "lce", 5, 1, SERVER),
    ]
    # The order in which they are read must not matter.
    for pair in ([old, same], [same, old]):
        kept = newest([*pair, *others])
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
    table = overview([*timed, model, *own])
    shown = {row.artifact: (row.top1, row.protocol) for row in table.itertuples()}
    assert shown == {
        "a.onnx": (60.0, "own classifier"),
        "b.onnx": (61.25, "linear"),
        "c.onnx": (61.25, "linear"),
        "d.onnx": (61.25, "linear"),
        "e.onnx": (58.0, "own classifier"),
    }
    # An accuracy of one file is none of another file's, nor of the model's.
    alone = overview([*timed, own[0]])
    assert dict(zip(alone.artifact, alone.top1.notna())) == {
        "a.onnx": True,
        **dict.fromkeys(["b.onnx", "c.onnx", "d.onnx"], False),
    }


def test_accuracies_of_two_files_do_not_replace_each_other() -> None:
    older, newer, other = counted("a.onnx", "1", 60, 1), counted("a.onnx", "1", 61, 2), counted("b.onnx", "2", 62, 1)
    assert newest([older, newer, other]) == [other, newer]


def test_a_packed_file_stands_once_for_each_instruction_set() -> None:
    found = [latency("m", "a.onnx", "onnxruntime", 5, day, SERVER) for day in (1, 2, 3)]
    for record, isa in zip(found, ("avx2", "avx512", "avx2")):
        record.context["isa"] = isa
    table = overview(found)
    assert sorted(table.runtime) == ["onnxruntime, packed for avx2", "onnxruntime, packed for avx512"]


def test_records_without_context_still_make_a_table() -> None:
    bare = [Record("latency", "m", {"median_ms": 1, "p10_ms": 1, "p90_ms": 1}), Record("size", "n", {"bytes": 5})]
    table = overview(bare)
    assert list(table.model) == ["m", "n"]
    assert table.threads.isna().all()
    assert threads(table.threads[0]) == "? threads"
    assert overview([]).empty


def test_log_axis_where_the_span_warrants() -> None:
    assert wants_log(pd.Series([1.0, 5.0]))
    assert not wants_log(pd.Series([1.0, 4.9]))
    assert not wants_log(pd.Series([0.0, 4.9]))
    assert not wants_log(pd.Series([3.0]))


def test_figures_in_words() -> None:
    assert [size(n) for n in (12, 1500, 7805856, 2.5e9, float("nan"), None)] == [
        *("12 bytes", "1.50 kB", "7.81 MB", "2.50 GB", "", "")
    ]
    assert words({"a": [1, "b"], "none": None, "c": 0.5}) == "a 1 b, c 0.5"
    assert [words(value) for value in (None, "", [], True, 3)] == ["", "", "", "yes", "3"]
    assert [number({"n": value}, "n") for value in (3, "3", True, None)] == [3.0, None, None, None]


def test_strict_linear_evaluation_stands_for_a_model() -> None:
    def accuracy(day: int, top1: float, protocol: str, data: str = "A", pretrained_on: str | None = "A") -> Record:
        context = {"protocol": protocol, "data": data, "pretrained_on": pretrained_on}
        return Record("accuracy", "m", {"top1": top1}, context, created=f"2026-01-{day:02d}T00:00:00+00:00")

    def shown(*found: Record) -> tuple[str, float]:
        (row,) = overview(found).to_dict("records")
        return row["protocol"], row["top1"]

    assert LinearEvaluation.protocol == COMPARED
    knn, svm = accuracy(2, 80.0, "kNN, k = 20"), accuracy(3, 70.0, "low-shot SVM, 4 a class")
    linear, transfer = accuracy(1, 60.0, COMPARED), accuracy(4, 90.0, COMPARED, data="B")
    assert shown(knn, svm) == ("low-shot SVM, 4 a class", 70.0)
    assert shown(linear, knn, svm, transfer) == (COMPARED, 60.0)
    assert shown(knn, transfer) == (COMPARED, 90.0)
    assert shown(linear, accuracy(5, 61.0, COMPARED, pretrained_on=None)) == (COMPARED, 61.0)


def test_a_void_time_says_so() -> None:
    context = {"artifact": "m.onnx", "runtime": "onnxruntime", "threads": 1, "void": ["the device throttled"]}
    time = Record("latency", "m", {"median_ms": 1.0, "p10_ms": 1.0, "p90_ms": 1.0}, context)
    assert overview([time]).loc[0, "void"] == "the device throttled"
    assert [row["median ms"] for row in summary.rows([time])] == ["1.00 (VOID)"]
    sound = latency("n", "n.onnx", "onnxruntime", 2, 1, SERVER)
    untimed = Record("size", "u", {"bytes": 5}, {"artifact": "u.onnx"})
    assert [row["median ms"] for row in summary.rows([time, sound, untimed])] == ["1.00 (VOID)", "2.00", "-"]


def test_a_file_exported_anew_is_not_verified() -> None:
    def record(kind: Kind, day: int, digest: str, **values: float) -> Record:
        context = {"artifact": "m.onnx", "sha256": digest, "runtime": "onnxruntime", "threads": 1}
        return Record(kind, "m", values, context, created=f"2026-01-{day:02d}T00:00:00+00:00")

    time = {"median_ms": 1.0, "p10_ms": 1.0, "p90_ms": 1.0}
    first = [record("parity", 1, "old", ok=1), record("size", 1, "old", bytes=5), record("latency", 1, "old", **time)]
    assert overview(first).loc[0, ["parity", "bytes"]].tolist() == ["passed", 5]
    # The size and the time are of the new content, the verification is not.
    second = [*first, record("size", 2, "new", bytes=6), record("latency", 2, "new", **time)]
    (row,) = overview(second).to_dict("records")
    assert row["bytes"] == 6
    assert pd.isna(row["parity"])


@pytest.mark.parametrize("kind", NEEDED)
def test_records_of_every_kind_are_shown(kind: Kind) -> None:
    record = Record(kind, "m", dict.fromkeys(NEEDED[kind], 50.0), {"protocol": "any", "artifact": "a.onnx"})
    assert newest([record, record]) == [record]
    assert len(overview([record])) == 1
