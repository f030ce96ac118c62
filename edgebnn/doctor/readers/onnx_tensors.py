"""The constants of an ONNX file, which lie in it or in a file beside it (as torch.onnx writes them)."""

from io import BytesIO
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from edgebnn.doctor.network import Tensor
from edgebnn.runtime.formats.onnx_file import fields

DIMS, TYPE, FLOATS, INT32, INT64, NAME, RAW, ELSEWHERE = 1, 2, 4, 5, 7, 8, 9, 13
ENTRY_KEY, ENTRY_VALUE = 1, 2

TYPES: dict[int, Any] = {
    1: np.float32,
    2: np.uint8,
    3: np.int8,
    4: np.uint16,
    5: np.int16,
    6: np.int32,
    7: np.int64,
    9: np.bool_,
    10: np.float16,
    11: np.float64,
    12: np.uint32,
    13: np.uint64,
}


def read(content: bytes, folder: Path | None) -> Tensor:
    """A TensorProto.

    Args:
        content: its bytes.
        folder: where files that it names lie; None to leave them alone.

    Raises:
        ValueError, OverflowError, OSError: it is damaged, or such a file is missing or too short.
    """
    shape: list[int] = []
    kind, name = 0, ""
    held: list[tuple[int, bytes]] = []
    elsewhere: dict[str, str] = {}
    for number, part in fields(BytesIO(content)):
        if number == DIMS:
            shape += whole_numbers(part)
        elif number == TYPE and isinstance(part, int):
            kind = part
        elif number == NAME and isinstance(part, bytes):
            name = part.decode(errors="replace")
        elif number in (FLOATS, INT32, INT64, RAW) and isinstance(part, bytes):
            held.append((number, part))
        elif number == ELSEWHERE and isinstance(part, bytes):
            entry = dict(fields(BytesIO(part)))
            key, value = (entry.get(place) for place in (ENTRY_KEY, ENTRY_VALUE))
            if isinstance(key, bytes) and isinstance(value, bytes):
                elsewhere[key.decode(errors="replace")] = value.decode(errors="replace")
    if any(size < 0 for size in shape):
        raise ValueError("a size is negative")
    count = int(np.prod(shape, dtype=object))
    dtype = np.dtype(TYPES[kind]) if kind in TYPES else None
    array, stored, buffer = None, sum(len(part) for _, part in held), object()
    if elsewhere and folder is not None and dtype is not None:
        place = (elsewhere.get("location", ""), int(elsewhere.get("offset", 0)))
        array, stored, buffer = _beside(folder, *place, dtype, count), count * dtype.itemsize, place
    elif dtype is not None and len(held) == 1:
        array = _array(*held[0], dtype, count)
    return Tensor(name, tuple(shape), None if array is None else array.reshape(shape), stored, buffer)


def whole_numbers(part: int | bytes) -> list[int]:
    """Whole numbers, given one by one or packed, each in groups of 7 bits."""
    if isinstance(part, int):
        return [part]
    values, value, shift = [], 0, 0
    for byte in part:
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            values.append(value - (1 << 64) if value >> 63 else value)
            value = shift = 0
        elif shift > 63:
            raise ValueError("a number of more than 64 bits")
    return values


def _beside(folder: Path, name: str, offset: int, dtype: np.dtype, count: int) -> np.ndarray:
    """Values in a file beside the model, mapped, not read."""
    if PurePath(name).is_absolute() or ".." in PurePath(name).parts:
        raise ValueError("the file lies elsewhere")
    return np.memmap(folder / name, dtype, "r", offset, (count,)) if count else np.zeros(0, dtype)


def _array(place: int, part: bytes, dtype: np.dtype, count: int) -> np.ndarray | None:
    """A constant's values; None for a form that is read nowhere here (half floats as integers)."""
    if place == RAW or (place == FLOATS and dtype == np.float32):
        if count * dtype.itemsize != len(part):
            return None
        return np.frombuffer(part, dtype) if part else np.zeros(0, dtype)
    if dtype.kind in "iub":
        values = whole_numbers(part)
        return np.array(values).astype(dtype) if len(values) == count else None
    return None
