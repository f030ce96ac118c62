"""Reads the whole numbers of a flexbuffer's map. LCE stores the settings of its operators in such a map.

A flexbuffer is read from its end (https://flatbuffers.dev/flexbuffers and flexbuffers.h):

    ... keys, values ...   root   type of the root   width of the root

The root is a distance backwards to the map's values. Three numbers stand before the values: the distance to the keys,
the width of the keys, and the number of entries. One byte per value stands after them, for its type. The low two bits
of a type are the logarithm of a width, and the other bits are the kind.
"""

MAP, INT, UINT, BOOL = 9, 1, 2, 26
MOST = 1024
"""The largest number of entries. LCE's operators have nine."""


def read_map(data: bytes) -> dict[str, int]:
    """Returns the entries that are whole numbers. The result is empty if the data is damaged or no map."""
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
        position = keys + index * key_width
        start = position - _number(data, position, key_width)
        key = data[_inside(data, start) : data.index(0, start)].decode(errors="replace")
        kind = data[_inside(data, values + count * width + index)]
        if kind >> 2 in (INT, UINT, BOOL):
            found[key] = _number(data, values + index * width, width, signed=kind >> 2 == INT)
    return found


def _number(data: bytes, position: int, width: int, *, signed: bool = False) -> int:
    if width not in (1, 2, 4, 8):
        raise ValueError
    _inside(data, position + width - 1)
    return int.from_bytes(data[_inside(data, position) : position + width], "little", signed=signed)


def _inside(data: bytes, position: int) -> int:
    if not 0 <= position < len(data):
        raise IndexError
    return position
