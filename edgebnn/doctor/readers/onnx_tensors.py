"""Reads the constants of an ONNX file. They lie in the file, or in an external file (as torch.onnx writes them).

The field numbers are those of TensorProto in onnx.proto.
"""

from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from edgebnn.doctor.file_graph import Tensor
from edgebnn.doctor.readers.protobuf import Message, whole_numbers

DIMS, DATA_TYPE, FLOAT_DATA, INT32_DATA, INT64_DATA, NAME, RAW_DATA, EXTERNAL_DATA = 1, 2, 4, 5, 7, 8, 9, 13
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


@dataclass(frozen=True)
class _TensorMessage:
    """A TensorProto.

    Attributes:
        name: the tensor's name.
        shape: its sizes.
        dtype: the type of its values, or None for a type that the doctor does not read.
        values: the fields that hold values, each with its number. A sound tensor has at most one.
        external: the entries of `external_data`, such as "location" and "offset"; empty if the values are in the file.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype | None
    values: list[tuple[int, bytes]]
    external: dict[str, str]

    @property
    def count(self) -> int:
        """Number of values."""
        return int(np.prod(self.shape, dtype=object))


def read_tensor(content: bytes, folder: Path | None) -> Tensor:
    """Reads a TensorProto.

    Args:
        content: the bytes of the message.
        folder: the folder of the external files; None to leave external files unread.

    Raises:
        ValueError, OverflowError, OSError: the message is damaged, or an external file is missing or too short.
    """
    message = _decode(content)
    stored = sum(len(part) for _, part in message.values)
    if message.dtype is None:
        return Tensor(message.name, message.shape, None, stored, object())
    if message.external and folder is not None:
        return _read_external(message, message.dtype, folder)
    values = _parse_values(*message.values[0], message.dtype, message.count) if len(message.values) == 1 else None
    return Tensor(
        message.name, message.shape, None if values is None else values.reshape(message.shape), stored, object()
    )


def _decode(content: bytes) -> _TensorMessage:
    message = Message(content)
    shape = tuple(message.integers(DIMS))
    if any(size < 0 for size in shape):
        raise ValueError("a size is negative")
    data_type = message.integer(DATA_TYPE)
    entries = [Message(part) for part in message.parts(EXTERNAL_DATA)]
    entries = [entry for entry in entries if entry.parts(ENTRY_KEY) and entry.parts(ENTRY_VALUE)]
    return _TensorMessage(
        name=message.text(NAME),
        shape=shape,
        dtype=np.dtype(TYPES[data_type]) if data_type in TYPES else None,
        values=[
            (field, part) for field in (FLOAT_DATA, INT32_DATA, INT64_DATA, RAW_DATA) for part in message.parts(field)
        ],
        external={entry.text(ENTRY_KEY): entry.text(ENTRY_VALUE) for entry in entries},
    )


def _read_external(message: _TensorMessage, dtype: np.dtype, folder: Path) -> Tensor:
    """Maps the values from an external file into memory, without reading them."""
    name, offset = message.external.get("location", ""), int(message.external.get("offset", 0))
    if PurePath(name).is_absolute() or ".." in PurePath(name).parts:
        raise ValueError("the external file lies outside the model's folder")
    count = message.count
    values = np.memmap(folder / name, dtype, "r", offset, (count,)) if count else np.zeros(0, dtype)
    return Tensor(message.name, message.shape, values.reshape(message.shape), count * dtype.itemsize, (name, offset))


def _parse_values(field: int, part: bytes, dtype: np.dtype, count: int) -> np.ndarray | None:
    """Returns the values of a field, or None for a form that the doctor does not read (half floats as integers)."""
    if field == RAW_DATA or (field == FLOAT_DATA and dtype == np.float32):
        if count * dtype.itemsize != len(part):
            return None
        return np.frombuffer(part, dtype) if part else np.zeros(0, dtype)
    if dtype.kind in "iub":
        values = whole_numbers(part)
        return np.array(values).astype(dtype) if len(values) == count else None
    return None
