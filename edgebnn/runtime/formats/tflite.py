"""Reads a TFLite file's metadata, trusting none of its bytes. No TensorFlow.

A TFLite file is a flatbuffer; the field numbers are those of TensorFlow's `schema.fbs`.
"""

from pathlib import Path

from edgebnn.errors import UserError, check
from edgebnn.runtime.formats.flatbuffer import DamagedError, contents, field, forward, integer, tables, text

MAGIC = b"TFL3"
MODEL_OPERATOR_CODES, MODEL_BUFFERS, MODEL_METADATA = 1, 4, 6
CODE_CUSTOM = 1
METADATA_NAME, METADATA_BUFFER = 0, 1
BUFFER_DATA = 0


def read(path: Path) -> bytes:
    """The whole of a TFLite file. Raises `UserError` if it is none, from its first bytes: it may be huge."""
    with path.open("rb") as file:
        check(file.read(8)[4:] == MAGIC, f"model {path} is no TFLite file; export it again")
        file.seek(0)
        return file.read()


def metadata(data: bytes, name: str, what: str) -> bytes | None:
    """The metadata buffer `name` of a TFLite file, None where it has none of that name.

    Every buffer of the file, weights too, is checked to lie in the file, so that one which was cut off
    while copying is found here and not by the interpreter.

    Args:
        data: the whole file.
        name: the buffer's name.
        what: what the file is, for messages.

    Raises:
        UserError: `data` is no TFLite file, or is cut off or damaged.
    """
    if data[4:8] != MAGIC:
        raise UserError(f"{what} is no TFLite file; export it again")
    try:
        model = forward(data, 0)
        buffers = [contents(data, field(data, table, BUFFER_DATA)) for table in tables(data, model, MODEL_BUFFERS)]
        for entry in tables(data, model, MODEL_METADATA):
            if text(data, contents(data, field(data, entry, METADATA_NAME))) == name.encode():
                return text(data, buffers[integer(data, entry, METADATA_BUFFER, "<I")])
    except (DamagedError, IndexError):
        raise UserError(f"{what} is cut off or damaged; export or copy it again") from None
    return None


def custom_operators(data: bytes, what: str) -> set[str]:
    """Names of the operators of a TFLite file that are not TensorFlow Lite's own. Raises `UserError` as `metadata`."""
    check(data[4:8] == MAGIC, f"{what} is no TFLite file; export it again")
    try:
        codes = tables(data, forward(data, 0), MODEL_OPERATOR_CODES)
        names = {text(data, contents(data, field(data, code, CODE_CUSTOM))) for code in codes}
    except DamagedError:
        raise UserError(f"{what} is cut off or damaged; export or copy it again") from None
    return {name.decode(errors="replace") for name in names if name}
