"""Reads the whole numbers in a flexbuffer's map, in which LCE keeps its operators' settings.

A flexbuffer is read from its end (https://flatbuffers.dev/flexbuffers and flexbuffers.h): the last byte is the width
of the root, the one before its type, and before that lies the root, a distance backwards to the map's values. Before
the values stand the distance to the keys, the width of those, and the number of both; after them a byte a value for
its type. The low two bits of a type are the logarithm of a width, the rest the kind.
"""

MAP, INT, UINT, BOOL = 9, 1, 2, 26
MOST = 1024
"""Entries; LCE's operators have nine."""


def read_map(data: bytes) -> dict[str, int]:
    """The map's entries that are whole numbers; none of what is damaged or no map."""
    try:
        return _map(data)
    except (IndexError, ValueError):
        return {}


def _map(data: bytes) -> dict[str, int]:
    width, kind = data[-1], data[-2]
    if kind >> 2 != MAP:
        return {}
    root = len(data) - 2 - width
    values = root - _number(data, root, width)
    width = 1 << (kind & 3)
    count = _number(data, values - width, width)
    key_width = _number(data, values - 2 * width, width)
    keys = values - 3 * width - _number(data, values - 3 * width, width)
    if not 0 <= count <= MOST:
        return {}
    found = {}
    for index in range(count):
        place = keys + index * key_width
        start = place - _number(data, place, key_width)
        key = data[_inside(data, start) : data.index(0, start)].decode(errors="replace")
        kind = data[_inside(data, values + count * width + index)]
        if kind >> 2 in (INT, UINT, BOOL):
            found[key] = _number(data, values + index * width, width, signed=kind >> 2 == INT)
    return found


def _number(data: bytes, place: int, width: int, *, signed: bool = False) -> int:
    if width not in (1, 2, 4, 8):
        raise ValueError
    _inside(data, place + width - 1)
    return int.from_bytes(data[_inside(data, place) : place + width], "little", signed=signed)


def _inside(data: bytes, place: int) -> int:
    if not 0 <= place < len(data):
        raise IndexError
    return place
