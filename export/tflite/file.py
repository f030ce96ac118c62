"""A TFLite file as data: what operators it holds, what it says about itself, what its units give.

TFLite's generated schema, from LiteRT's package, reads and writes the flatbuffer. It is imported inside functions
only, so that `export` can be imported without it.
"""

import os
import re
import struct
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from edgebnn.errors import UserError, check
from edgebnn.files import no_temporary_files
from edgebnn.optional import LITERT_PACKAGE, require

IDENTIFIER = b"TFL3"
"""What stands at bytes 4 to 8 of every TFLite file."""

ALIGNMENT = 16
"""Bytes; of weights and metadata in the file."""

STEM_SCOPE = "stem"
UNIT_SCOPE = "unit_"
"""Tensors' names begin with these: `export.tflite.lce` names them so, `tap_units` finds them by it."""


@dataclass(frozen=True)
class Operator:
    """One operator of a file.

    Attributes:
        kind: its name in TFLite's schema ("CONV_2D"), or a custom operator's own ("LceBconv2d").
        scope: the part of the network it came from: "stem", "unit_07", or "" for the rest.
        output: index of its first output tensor.
    """

    kind: str
    scope: str
    output: int


def operators(data: bytes) -> list[Operator]:
    """The operators of a TFLite file in the order they run. Raises `UserError` if it is not one."""
    model = _unpack(data)
    codes = [code.customCode.decode() if code.customCode else _builtin(code) for code in model.operatorCodes]
    graph = model.subgraphs[0]
    return [
        Operator(codes[operator.opcodeIndex], _scope(graph.tensors[operator.outputs[0]].name), operator.outputs[0])
        for operator in graph.operators
    ]


def count_operators(data: bytes) -> Counter[str]:
    """How many operators of each kind a TFLite file holds. Raises `UserError` if it is not one."""
    return Counter(operator.kind for operator in operators(data))


def read_metadata(data: bytes, key: str) -> str:
    """The text stored under `key`. Raises `UserError` if `data` is no TFLite file or lacks the key."""
    model = _unpack(data)
    for entry in model.metadata or []:
        if entry.name == key.encode():
            return bytes(model.buffers[entry.buffer].data).decode()
    raise UserError(f"the TFLite file has no metadata '{key}'; export it again with `python -m export lce`")


def add_metadata(data: bytes, key: str, text: str) -> bytes:
    """The same file with `text` stored under `key`, in place of what stood there."""
    model = _unpack(data)
    buffer, entry = schema().BufferT(), schema().MetadataT()
    buffer.data = np.frombuffer(text.encode(), np.uint8)
    entry.name, entry.buffer = key, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [old for old in model.metadata or [] if old.name != key.encode()] + [entry]
    return pack(model)


def tap_units(data: bytes) -> bytes:
    """The same file with the stem's output and then every unit's as further outputs.

    Each unit's input is the output before it, so these are all a check of every unit needs; and the
    file that is run differs from the one that ships in nothing but its list of outputs.
    """
    last = {operator.scope: operator.output for operator in operators(data) if operator.scope}
    check(STEM_SCOPE in last, "the TFLite file names no stem; export it again with `python -m export lce`")
    model = _unpack(data)
    graph = model.subgraphs[0]
    units = sorted(last.keys() - {STEM_SCOPE}, key=lambda scope: int(scope.removeprefix(UNIT_SCOPE)))
    expected = [f"{UNIT_SCOPE}{number:02d}" for number in range(len(units))]
    check(units == expected, "the TFLite file's units are not numbered through; export it with `python -m export lce`")
    graph.outputs = [*graph.outputs, last[STEM_SCOPE], *(last[unit] for unit in units)]
    # Signatures list the outputs by name and would now be wrong.
    model.signatureDefs = None
    return pack(model)


@contextmanager
def quietly() -> Iterator[None]:
    """Holds back what TensorFlow and LCE print from C++, and shows it only if the block fails.

    A `UserError` needs no more words than its own.
    """
    try:
        log = tempfile.TemporaryFile()  # noqa: SIM115
    except OSError as error:
        raise no_temporary_files(error) from None
    sys.stderr.flush()
    kept = os.dup(2)
    with log:
        os.dup2(log.fileno(), 2)
        try:
            yield
        except UserError:
            raise
        except BaseException:
            log.seek(0)
            os.write(kept, log.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)


@cache
def schema() -> ModuleType:
    """Returns TFLite's generated schema."""
    require("reading and writing .tflite files", LITERT_PACKAGE)
    from ai_edge_litert import schema_py_generated

    return schema_py_generated


def load_triton() -> None:
    """Loads what torchvision would load after TensorFlow: both bring an LLVM, and in that order it ends the process."""
    with suppress(ImportError):
        import triton  # noqa: F401


def _unpack(data: bytes) -> Any:
    check(data[4:8] == IDENTIFIER, "not a TFLite file; give one written by `python -m export lce`")
    damaged = "the TFLite file is damaged or cut off; export or copy it again"
    try:
        model = schema().ModelT.InitFromPackedBuf(data, 0)
    except (struct.error, ValueError, IndexError, TypeError):
        # The generated reader follows offsets blindly, so a file cut off fails wherever one leads outside.
        raise UserError(damaged) from None
    parts = (model.operatorCodes, model.buffers, model.subgraphs)
    check(all(parts) and model.subgraphs[0].operators and model.subgraphs[0].tensors, damaged)
    return model


def pack(model: Any) -> bytes:
    """Returns the bytes of a file in the schema's objects (`schema().ModelT`)."""
    import flatbuffers

    class Aligned(flatbuffers.Builder):
        """Starts arrays at multiples of 16 bytes, as TFLite's schema demands and Python's builder forgets."""

        def CreateNumpyVector(self, x: np.ndarray) -> int:  # noqa: N802
            self.Prep(ALIGNMENT, x.nbytes)
            return int(super().CreateNumpyVector(x))

    builder = Aligned(1 << 20)
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def _builtin(code: Any) -> str:
    """Name of a built-in operator; files before schema 3a keep its number in the deprecated field."""
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    return next(name for name, value in vars(schema().BuiltinOperator).items() if value == number)


def _scope(name: bytes) -> str:
    found = re.match(rf"({STEM_SCOPE}|{UNIT_SCOPE}\d+)/", name.decode())
    return found[1] if found else ""
