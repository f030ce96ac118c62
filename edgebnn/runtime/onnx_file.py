"""What an ONNX file says of itself, read without the onnx package and without its weights.

Protocol buffers: a file is a list of fields, each a number and a type, then its content
(https://protobuf.dev/programming-guides/encoding). ModelProto's field 8, `opset_import`, names an operator
domain (field 1) and its version (field 2).
"""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

OPSET_IMPORT, DOMAIN, VERSION = 8, 1, 2
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def operator_sets(path: Path) -> dict[str, int]:
    """The operator domains a file asks for, and their versions; of a damaged file, those before the damage."""
    versions: dict[str, int] = {}
    with path.open("rb") as file:
        for number, content in fields(file, {OPSET_IMPORT}):
            if number == OPSET_IMPORT and isinstance(content, bytes):
                entry = dict(fields(BytesIO(content), {DOMAIN}))
                domain, version = entry.get(DOMAIN, b""), entry.get(VERSION, 0)
                if isinstance(domain, bytes) and isinstance(version, int):
                    name = domain.decode(errors="replace")
                    versions[name] = max(version, versions.get(name, version))
    return versions


def fields(file: BinaryIO, wanted: set[int] | None = None) -> Iterator[tuple[int, int | bytes]]:
    """Number and content of each field, up to the first that cannot be; bytes only of `wanted` fields, else b"".

    `wanted` None wants all.
    """
    while (key := _varint(file)) is not None:
        number, kind = key >> 3, key & 7
        if kind == VARINT and (value := _varint(file)) is not None:
            yield number, value
        elif kind == BYTES and (size := _varint(file)) is not None and 0 <= size < 1 << 31:
            content = file.read(size) if wanted is None or number in wanted else b""
            if wanted is not None and number not in wanted:
                file.seek(size, 1)
            elif len(content) < size:
                return
            yield number, content
        elif kind in (FIXED64, FIXED32):
            file.seek(8 if kind == FIXED64 else 4, 1)
        else:
            return


def _varint(file: BinaryIO) -> int | None:
    """The next number, signed, in groups of 7 bits, the lowest first; None at the end."""
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            return None
        value |= (byte[0] & 127) << shift
        if byte[0] < 128:
            return value - (1 << 64) if value >> 63 else value
    return None
