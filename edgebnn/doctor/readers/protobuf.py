"""Decodes protocol-buffer messages (https://protobuf.dev/programming-guides/encoding) without the onnx package.

The content comes from files that nobody vouches for. Decoding stops at the first field that cannot be read.
"""

from io import BytesIO

import numpy as np

from edgebnn.runtime.formats.onnx_file import fields

MOST_BITS = 63
"""The largest shift within a whole number: numbers have at most 64 bits."""


class Message:
    """The fields of one message, by field number. A field that is absent, or of another type, reads as empty."""

    def __init__(self, content: bytes) -> None:
        self._contents: dict[int, list[int | bytes]] = {}
        for number, content_of_field in fields(BytesIO(content)):
            self._contents.setdefault(number, []).append(content_of_field)

    def integer(self, field: int) -> int:
        """Returns the last whole number in a field, or 0 if there is none."""
        return next((each for each in reversed(self._contents.get(field, [])) if isinstance(each, int)), 0)

    def integers(self, field: int) -> list[int]:
        """Returns all whole numbers of a repeated field, packed or not.

        Raises:
            ValueError: a number has more than 64 bits.
        """
        return [number for each in self._contents.get(field, []) for number in whole_numbers(each)]

    def parts(self, field: int) -> list[bytes]:
        """Returns the bytes of each string or message in a field."""
        return [each for each in self._contents.get(field, []) if isinstance(each, bytes)]

    def floats(self, field: int) -> list[float]:
        """Returns all float32 values of a repeated field, packed or not.

        Raises:
            ValueError: the bytes are no whole number of floats.
        """
        return [value for part in self.parts(field) if part for value in np.frombuffer(part, "<f4").tolist()]

    def texts(self, field: int) -> list[str]:
        """Returns each string in a field. Bytes that are not UTF-8 are replaced."""
        return [part.decode(errors="replace") for part in self.parts(field)]

    def text(self, field: int) -> str:
        """Returns the last string in a field, or "" if there is none."""
        return "".join(self.texts(field)[-1:])


def whole_numbers(content: int | bytes) -> list[int]:
    """Returns the whole numbers of a field: one number, or packed numbers in groups of 7 bits, the lowest first.

    Raises:
        ValueError: a number has more than 64 bits.
    """
    if isinstance(content, int):
        return [content]
    values, value, shift = [], 0, 0
    for byte in content:
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            values.append(value - (1 << 64) if value >> 63 else value)
            value = shift = 0
        elif shift > MOST_BITS:
            raise ValueError("a number of more than 64 bits")
    return values
