"""What an ONNX file says of itself, read without the onnx package and without its weights.

Protocol buffers: a file is a list of fields, each a number and a type, then its content
(https://protobuf.dev/programming-guides/encoding). The numbers are those of onnx.proto.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

MODEL_GRAPH, MODEL_OPERATOR_SETS = 7, 8
SET_DOMAIN, SET_VERSION = 1, 2
GRAPH_NODE, GRAPH_INITIALIZER = 1, 5
NODE_DOMAIN, TENSOR_ELSEWHERE = 7, 13
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def operator_sets(path: Path) -> dict[str, int]:
    """The operator domains that a file's nodes are of, and the versions it asks for; of a damaged file, what is left.

    What no node is of is left out: into any file that it writes, ONNX Runtime puts every domain it knows at the time.
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


def keeps_weights_elsewhere(path: Path) -> bool:
    """Whether constants of the file lie in another one."""
    with path.open("rb") as file:
        graphs = [content for number, content in spans(file) if number == MODEL_GRAPH]
        tensors = (each for graph in graphs if isinstance(graph, range) for each in spans(file, graph))
        return any(
            place == TENSOR_ELSEWHERE
            for number, tensor in tensors
            if number == GRAPH_INITIALIZER and isinstance(tensor, range)
            for place, _ in spans(file, tensor)
        )


def fields(file: BinaryIO, within: range | None = None) -> Iterator[tuple[int, int | bytes]]:
    """Number and content of each field, up to the first that cannot be; as `spans`, but read."""
    for number, content in spans(file, within):
        yield number, content if isinstance(content, int) else _read(file, content)


def spans(file: BinaryIO, within: range | None = None) -> Iterator[tuple[int, int | range]]:
    """Number of each field and its whole number, or where its bytes lie, up to the first that cannot be.

    Args:
        file: the file, read wherever one likes between two fields.
        within: where in it the fields lie; None for all of it.
    """
    place, end = (0, file.seek(0, 2)) if within is None else (within.start, within.stop)
    while place < end:
        file.seek(place)
        key = _varint(file)
        # No field has the number 0, and a file of zeros would be read for minutes.
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
    """The domain of each node's operator."""
    for number, node in spans(file, graph):
        if number == GRAPH_NODE and isinstance(node, range):
            names = [place for number, place in spans(file, node) if number == NODE_DOMAIN]
            yield "".join(_read(file, place).decode(errors="replace") for place in names if isinstance(place, range))


def _read(file: BinaryIO, place: range) -> bytes:
    file.seek(place.start)
    return file.read(len(place))


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
