"""Reads a flatbuffer and checks every offset (https://flatbuffers.dev/internals).

A table starts with the signed distance back to its vtable. The vtable has 16-bit entries: its own size, the table's
size, then one per field. A field's entry is the offset of the field in the table, or 0 if the field is absent. Strings,
vectors and tables are stored elsewhere, and the field holds the distance forward to them.
"""

import struct


class DamagedError(Exception):
    """An offset leads out of the file."""


def number(data: bytes, code: str, position: int) -> int:
    """Returns the number at a position. `code` is the format code of its type in Python's `struct`."""
    if not 0 <= position <= len(data) - struct.calcsize(code):
        raise DamagedError
    return struct.unpack_from(code, data, position)[0]


def forward(data: bytes, position: int) -> int:
    """Returns the position to which the distance at a position leads."""
    return position + number(data, "<I", position)


def field(data: bytes, table: int, index: int) -> int | None:
    """Returns the position of field `index` of a table, or None if the field is absent."""
    vtable = table - number(data, "<i", table)
    entry = 4 + 2 * index
    if entry + 2 > number(data, "<H", vtable):
        return None
    offset = number(data, "<H", vtable + entry)
    return table + offset if offset else None


def vector(data: bytes, position: int, size: int) -> range:
    """Returns the positions of a vector's items, `size` bytes each. `position` is that of the vector's field."""
    start = forward(data, position)
    count = number(data, "<I", start)
    if start + 4 + count * size > len(data):
        raise DamagedError
    return range(start + 4, start + 4 + count * size, size)


def tables(data: bytes, table: int, index: int) -> list[int]:
    """Returns the positions of the tables in a field that holds a vector of tables."""
    position = field(data, table, index)
    return [] if position is None else [forward(data, item) for item in vector(data, position, 4)]


def contents(data: bytes, position: int | None) -> range:
    """Returns the positions of the bytes of a string or buffer. The range is empty if the field is absent (None)."""
    return range(0) if position is None else vector(data, position, 1)


def text(data: bytes, positions: range) -> bytes:
    """Returns the bytes at a range of positions."""
    return data[positions.start : positions.stop]


def integer(data: bytes, table: int, index: int, code: str, default: int = 0) -> int:
    """Returns the number in field `index` of a table, or the schema's default if the field is absent."""
    position = field(data, table, index)
    return default if position is None else number(data, code, position)


def integers(data: bytes, table: int, index: int) -> list[int]:
    """Returns the 32-bit numbers in a field that holds a vector of them."""
    position = field(data, table, index)
    return [] if position is None else [number(data, "<i", item) for item in vector(data, position, 4)]
