"""Reads the metadata of a TFLite file without TensorFlow. Every offset is checked.

A TFLite file is a flatbuffer. The field numbers are those of TensorFlow's `schema.fbs`.
"""

from pathlib import Path

from edgebnn.errors import UserError, check
from edgebnn.runtime.formats.flatbuffer import DamagedError, contents, field, forward, integer, tables, text

MAGIC = b"TFL3"
MODEL_OPERATOR_CODES, MODEL_BUFFERS, MODEL_METADATA = 1, 4, 6
CODE_CUSTOM = 1
METADATA_NAME, METADATA_BUFFER = 0, 1
BUFFER_DATA = 0


def read_tflite_file(path: Path) -> bytes:
    """Returns the content of a TFLite file. The first bytes are checked first, because another file may be huge.

    Raises:
        UserError: the file is no TFLite file.
    """
    with path.open("rb") as file:
        check(file.read(8)[4:] == MAGIC, f"model {path} is no TFLite file; export it again")
        file.seek(0)
        return file.read()


def read_metadata(data: bytes, name: str, what: str) -> bytes | None:
    """Returns the metadata buffer with a name, or None if the file has no such buffer.

    Every buffer of the file, weights included, is checked to lie within the file. So this function, and not the
    interpreter, finds a file that was cut off while it was copied.

    Args:
        data: the whole TFLite file.
        name: the buffer's name.
        what: the name of the file in messages.

    Raises:
        UserError: `data` is no TFLite file, or it is cut off or damaged.
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
    """Returns the names of a TFLite file's custom operators. Its arguments are those of `read_metadata`.

    Raises:
        UserError: `data` is no TFLite file, or it is cut off or damaged.
    """
    check(data[4:8] == MAGIC, f"{what} is no TFLite file; export it again")
    try:
        codes = tables(data, forward(data, 0), MODEL_OPERATOR_CODES)
        names = {text(data, contents(data, field(data, code, CODE_CUSTOM))) for code in codes}
    except DamagedError:
        raise UserError(f"{what} is cut off or damaged; export or copy it again") from None
    return {name.decode(errors="replace") for name in names if name}
