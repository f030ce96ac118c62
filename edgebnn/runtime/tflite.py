"""Reads a TFLite file's metadata, trusting none of its bytes. No TensorFlow.

A TFLite file is a flatbuffer (https://flatbuffers.dev/internals): a table starts with the signed
distance back to its vtable; the vtable's 16-bit entries (its own size, the table's size, then one a
field) say where in the table each field lies, 0 where it is absent; strings, vectors and tables are
held as distances forward. The field numbers are those of TensorFlow's `schema.fbs`.
"""

import struct

from edgebnn.errors import UserError, check

MAGIC = b"TFL3"
MODEL_OPERATOR_CODES, MODEL_BUFFERS, MODEL_METADATA = 1, 4, 6
CODE_CUSTOM = 1
METADATA_NAME, METADATA_BUFFER = 0, 1
BUFFER_DATA = 0


class _DamagedError(Exception):
    """A distance leads out of the file."""


def metadata(data: bytes, name: str, what: str) -> bytes | None:
    """The metadata buffer `name` of a TFLite file, None where it has none of that name.

    Every buffer of the file, weights too, is checked to lie in the file, so that one which was cut off
    while copying is found here and not by the interpreter.

    Args:
        data: the whole file.
        name: the buffer's name.
        what: what the file is, for messages.

    Raises:
        UserError: `data` is no TFLite file, or is cut off or damaged.
    """
    if data[4:8] != MAGIC:
        raise UserError(f"{what} is no TFLite file; export it again")
    try:
        model = _forward(data, 0)
        buffers = [_contents(data, _field(data, table, BUFFER_DATA)) for table in _tables(data, model, MODEL_BUFFERS)]
        for entry in _tables(data, model, MODEL_METADATA):
            if _bytes(data, _contents(data, _field(data, entry, METADATA_NAME))) == name.encode():
                index = _field(data, entry, METADATA_BUFFER)
                # An absent number has the schema's default, 0.
                return _bytes(data, buffers[_number(data, "<I", index) if index is not None else 0])
    except (_DamagedError, IndexError):
        raise UserError(f"{what} is cut off or damaged; export or copy it again") from None
    return None


def custom_operators(data: bytes, what: str) -> set[str]:
    """Names of the operators of a TFLite file that are not TensorFlow Lite's own. Raises `UserError` as `metadata`."""
    check(data[4:8] == MAGIC, f"{what} is no TFLite file; export it again")
    try:
        codes = _tables(data, _forward(data, 0), MODEL_OPERATOR_CODES)
        names = {_bytes(data, _contents(data, _field(data, code, CODE_CUSTOM))) for code in codes}
    except _DamagedError:
        raise UserError(f"{what} is cut off or damaged; export or copy it again") from None
    return {name.decode(errors="replace") for name in names if name}


def _number(data: bytes, code: str, position: int) -> int:
    if not 0 <= position <= len(data) - struct.calcsize(code):
        raise _DamagedError
    return struct.unpack_from(code, data, position)[0]


def _forward(data: bytes, position: int) -> int:
    return position + _number(data, "<I", position)


def _field(data: bytes, table: int, number: int) -> int | None:
    """Where field `number` of a table lies, None where it is absent."""
    vtable = table - _number(data, "<i", table)
    entry = 4 + 2 * number
    if entry + 2 > _number(data, "<H", vtable):
        return None
    offset = _number(data, "<H", vtable + entry)
    return table + offset if offset else None


def _vector(data: bytes, field: int, size: int) -> range:
    """Positions of the items, `size` bytes each, of the vector that a field holds."""
    start = _forward(data, field)
    count = _number(data, "<I", start)
    if start + 4 + count * size > len(data):
        raise _DamagedError
    return range(start + 4, start + 4 + count * size, size)


def _tables(data: bytes, table: int, number: int) -> list[int]:
    field = _field(data, table, number)
    return [] if field is None else [_forward(data, item) for item in _vector(data, field, 4)]


def _contents(data: bytes, field: int | None) -> range:
    """Positions of the bytes of a string or of a buffer; none where the field is absent."""
    return range(0) if field is None else _vector(data, field, 1)


def _bytes(data: bytes, positions: range) -> bytes:
    return data[positions.start : positions.stop]
