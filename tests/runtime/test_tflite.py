from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgebnn.errors import UserError
from edgebnn.runtime.formats import tflite
from tests.runtime.models import tflite_bytes

names = st.text(st.characters(min_codepoint=33, max_codepoint=1000), min_size=1, max_size=12)
FILE = tflite_bytes({"min_runtime_version": b"1.5.0", "edgebnn": b'{"name": "tiny"}', "other": bytes(range(40))})


@given(st.dictionaries(names, st.binary(max_size=60), max_size=5))
@settings(max_examples=100, deadline=None)
def test_every_entry_is_read_back(entries: dict[str, bytes]) -> None:
    data = tflite_bytes(entries)
    for name, value in entries.items():
        assert tflite.read_metadata(data, name, "file") == value
    assert tflite.read_metadata(data, "none of these names", "file") is None


def test_a_cut_off_file_never_gives_a_wrong_value() -> None:
    refused = 0
    for length in range(len(FILE)):
        try:
            assert tflite.read_metadata(FILE[:length], "edgebnn", "file") == b'{"name": "tiny"}'
        except UserError:
            refused += 1
    # The frame's last bytes are alignment or the last table; nearly every cut must be noticed.
    assert refused > 0.9 * len(FILE)


def test_weights_that_are_cut_off_are_noticed() -> None:
    data = tflite_bytes({"weights": bytes(1000), "edgebnn": b"{}"})
    assert tflite.read_metadata(data, "edgebnn", "file") == b"{}"
    with pytest.raises(UserError, match="file is cut off or damaged"):
        tflite.read_metadata(data[:-500], "edgebnn", "file")


@given(st.lists(st.tuples(st.integers(0, len(FILE) - 1), st.integers(0, 255)), min_size=1, max_size=6))
@settings(max_examples=400, deadline=None)
def test_damaged_bytes_give_a_user_error_or_a_value(changes: list[tuple[int, int]]) -> None:
    data = bytearray(FILE)
    for position, value in changes:
        data[position] = value
    try:
        value_read = tflite.read_metadata(bytes(data), "edgebnn", "file")
    except UserError:
        return
    assert value_read is None or len(value_read) <= len(FILE)


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_garbage_behind_the_magic_gives_a_user_error_or_a_value(garbage: bytes) -> None:
    with suppress(UserError):
        assert tflite.read_metadata(garbage[:4].ljust(4, b"\0") + b"TFL3" + garbage, "edgebnn", "file") is None


def test_another_kind_of_file_is_named() -> None:
    with pytest.raises(UserError, match=r"^model x\.tflite is no TFLite file; "):
        tflite.read_metadata(b"PK\x03\x04 some zip archive", "edgebnn", "model x.tflite")


def test_operators_that_are_not_tensorflows_own() -> None:
    flatbuffers = pytest.importorskip("flatbuffers")
    builder = flatbuffers.Builder(256)
    codes = []
    for name in (b"LceBconv2d", None, b"LceQuantize"):
        text = None if name is None else builder.CreateString(name)
        builder.StartObject(4)
        if text is not None:
            builder.PrependUOffsetTRelativeSlot(tflite.CODE_CUSTOM, text, 0)
        codes.append(builder.EndObject())
    builder.StartVector(4, len(codes), 4)
    for code in reversed(codes):
        builder.PrependUOffsetTRelative(code)
    vector = builder.EndVector()
    builder.StartObject(7)
    builder.PrependUOffsetTRelativeSlot(tflite.MODEL_OPERATOR_CODES, vector, 0)
    builder.Finish(builder.EndObject(), file_identifier=tflite.MAGIC)
    data = bytes(builder.Output())
    assert tflite.custom_operators(data, "it") == {"LceBconv2d", "LceQuantize"}
    with pytest.raises(UserError, match="it is no TFLite file"):
        tflite.custom_operators(b"x" * 100, "it")
    for size in range(8, len(data), 3):
        with suppress(UserError):
            tflite.custom_operators(data[:size], "it")
