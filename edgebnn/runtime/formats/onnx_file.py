"""Reads the operator sets of an ONNX file without the onnx package, and without reading its weights.

An ONNX file is a protocol-buffer message (https://protobuf.dev/programming-guides/encoding): a list of fields. Each
field has a number, a type and its content. The field numbers are those of onnx.proto.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

MODEL_GRAPH, MODEL_OPERATOR_SETS = 7, 8
SET_DOMAIN, SET_VERSION = 1, 2
GRAPH_NODE, GRAPH_INITIALIZER = 1, 5
NODE_DOMAIN, TENSOR_EXTERNAL = 7, 13
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def operator_sets(path: Path) -> dict[str, int]:
    """Returns the version of each operator domain that the nodes of a file use.

    Domains that no node uses are left out, because ONNX Runtime lists every domain it knows in any file it writes. Of a
    damaged file, the part before the damage is read.
    """
    versions: dict[str, int] = {}
    used: set[str] = set()
    with path.open("rb") as file:
        for number, content in spans(file):
            if number == MODEL_OPERATOR_SETS and isinstance(content, range):
                entry = dict(fields(file, content))
                domain, version = entry.get(SET_DOMAIN, b""), entry.get(SET_VERSION, 0)
                if isinstance(domain, bytes) and isinstance(version, int):
                    name = domain.decode(errors="replace")
                    versions[name] = max(version, versions.get(name, version))
            elif number == MODEL_GRAPH and isinstance(content, range):
                used |= set(_domains(file, content))
    return {name: version for name, version in versions.items() if name in used}


def has_external_weights(path: Path) -> bool:
    """Returns whether constants of the file are stored in an external file."""
    with path.open("rb") as file:
        graphs = [content for number, content in spans(file) if number == MODEL_GRAPH]
        tensors = (each for graph in graphs if isinstance(graph, range) for each in spans(file, graph))
        return any(
            place == TENSOR_EXTERNAL
            for number, tensor in tensors
            if number == GRAPH_INITIALIZER and isinstance(tensor, range)
            for place, _ in spans(file, tensor)
        )


def fields(file: BinaryIO, within: range | None = None) -> Iterator[tuple[int, int | bytes]]:
    """Yields the number and the content of each field. Works like `spans`, but reads the bytes."""
    for number, content in spans(file, within):
        yield number, content if isinstance(content, int) else _read(file, content)


def spans(file: BinaryIO, within: range | None = None) -> Iterator[tuple[int, int | range]]:
    """Yields the number of each field, with its whole number or the range of its bytes. Stops at the first bad field.

    Args:
        file: the file. The caller may move its position between two fields.
        within: the range of the file that holds the fields; None for the whole file.
    """
    place, end = (0, file.seek(0, 2)) if within is None else (within.start, within.stop)
    while place < end:
        file.seek(place)
        key = _varint(file)
        # No field has the number 0. Without this check a large file of zeros would be read for minutes.
        if key is None or key >> 3 < 1:
            return
        value = _varint(file) if key & 7 in (VARINT, BYTES) else {FIXED32: 4, FIXED64: 8}.get(key & 7)
        if value is None:
            return
        place = file.tell()
        if key & 7 == VARINT:
            yield key >> 3, value
        elif 0 <= value <= end - place:
            place += value
            yield key >> 3, range(place - value, place)
        else:
            return


def _domains(file: BinaryIO, graph: range) -> Iterator[str]:
    """Yields the operator domain of each node."""
    for number, node in spans(file, graph):
        if number == GRAPH_NODE and isinstance(node, range):
            names = [place for number, place in spans(file, node) if number == NODE_DOMAIN]
            yield "".join(_read(file, place).decode(errors="replace") for place in names if isinstance(place, range))


def _read(file: BinaryIO, place: range) -> bytes:
    file.seek(place.start)
    return file.read(len(place))


def _varint(file: BinaryIO) -> int | None:
    """Reads a signed number, stored in groups of 7 bits with the lowest first. Returns None at the file's end."""
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            return None
        value |= (byte[0] & 127) << shift
        if byte[0] < 128:
            return value - (1 << 64) if value >> 63 else value
    return None
