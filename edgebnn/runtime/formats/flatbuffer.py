"""Reads a flatbuffer, trusting none of its bytes (https://flatbuffers.dev/internals).

A table starts with the signed distance back to its vtable; the vtable's 16-bit entries (its own size, the table's
size, then one a field) say where in the table each field lies, 0 where it is absent; strings, vectors and tables are
held as distances forward.
"""

import struct


class DamagedError(Exception):
    """A distance leads out of the file."""


def number(data: bytes, code: str, position: int) -> int:
    """The number at a position, in `struct`'s code for its type."""
    if not 0 <= position <= len(data) - struct.calcsize(code):
        raise DamagedError
    return struct.unpack_from(code, data, position)[0]


def forward(data: bytes, position: int) -> int:
    """Where the distance at a position leads."""
    return position + number(data, "<I", position)


def field(data: bytes, table: int, index: int) -> int | None:
    """Where field `index` of a table lies, None where it is absent."""
    vtable = table - number(data, "<i", table)
    entry = 4 + 2 * index
    if entry + 2 > number(data, "<H", vtable):
        return None
    offset = number(data, "<H", vtable + entry)
    return table + offset if offset else None


def vector(data: bytes, place: int, size: int) -> range:
    """Positions of the items, `size` bytes each, of the vector that a field holds."""
    start = forward(data, place)
    count = number(data, "<I", start)
    if start + 4 + count * size > len(data):
        raise DamagedError
    return range(start + 4, start + 4 + count * size, size)


def tables(data: bytes, table: int, index: int) -> list[int]:
    """Positions of the tables in the vector that a field of a table holds."""
    place = field(data, table, index)
    return [] if place is None else [forward(data, item) for item in vector(data, place, 4)]


def contents(data: bytes, place: int | None) -> range:
    """Positions of the bytes of a string or of a buffer; none where the field is absent."""
    return range(0) if place is None else vector(data, place, 1)


def text(data: bytes, positions: range) -> bytes:
    """The bytes at these positions."""
    return data[positions.start : positions.stop]


def integer(data: bytes, table: int, index: int, code: str, default: int = 0) -> int:
    """A number that field `index` of a table holds, the schema's default where it is absent."""
    place = field(data, table, index)
    return default if place is None else number(data, code, place)


def integers(data: bytes, table: int, index: int) -> list[int]:
    """The 32-bit numbers in the vector that a field holds."""
    place = field(data, table, index)
    return [] if place is None else [number(data, "<i", item) for item in vector(data, place, 4)]
