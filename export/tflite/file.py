"""Reads and changes TFLite files: their operators, their metadata, their outputs.

TFLite's generated schema reads and writes the flatbuffer. LiteRT's package has it, and is imported only inside
functions, so that `export` can be imported without it.
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
"""Bytes 4 to 8 of every TFLite file."""

ALIGNMENT = 16
"""The alignment of weights and metadata in the file, in bytes."""

STEM_SCOPE = "stem"
UNIT_SCOPE = "unit_"
"""Prefixes of tensor names. `export.tflite.network` sets them, and `expose_units` finds the parts by them."""


@dataclass(frozen=True)
class Operator:
    """One operator of a file.

    Attributes:
        kind: its name in TFLite's schema ("CONV_2D"), or the name of a custom operator ("LceBconv2d").
        scope: the part of the network that it belongs to: "stem", "unit_07", or "" for other parts.
        output: index of its first output tensor.
    """

    kind: str
    scope: str
    output: int


def read_operators(data: bytes) -> list[Operator]:
    """Returns the operators of a TFLite file in the order in which they run.

    Raises:
        UserError: the data is no TFLite file, or it is damaged.
    """
    model = unpack(data)
    graph = model.subgraphs[0]
    return [
        Operator(kind, _scope(graph.tensors[operator.outputs[0]].name), operator.outputs[0])
        for kind, operator in zip(operator_kinds(model), graph.operators)
    ]


def operator_kinds(model: Any) -> list[str]:
    """Returns the kind of every operator (`Operator.kind`) of an unpacked file, in the order in which they run."""
    codes = [code.customCode.decode() if code.customCode else _builtin(code) for code in model.operatorCodes]
    return [codes[operator.opcodeIndex] for operator in model.subgraphs[0].operators]


def constants(model: Any) -> dict[int, np.ndarray]:
    """Returns the float32 and int32 constants of an unpacked file, by the number of the tensor."""
    types = {schema().TensorType.FLOAT32: np.float32, schema().TensorType.INT32: np.int32}
    found = {}
    for number, tensor in enumerate(model.subgraphs[0].tensors):
        data = model.buffers[tensor.buffer].data
        if data is not None and len(data) and tensor.type in types:
            found[number] = np.frombuffer(bytes(data), types[tensor.type]).reshape(tensor.shape)
    return found


def count_operators(data: bytes) -> Counter[str]:
    """Returns the number of operators of each kind in a TFLite file. Raises `UserError` as `read_operators` does."""
    return Counter(operator.kind for operator in read_operators(data))


def read_metadata(data: bytes, key: str) -> str:
    """Returns the metadata text with a key.

    Raises:
        UserError: the data is no TFLite file, it is damaged, or it lacks the key.
    """
    model = unpack(data)
    for entry in model.metadata or []:
        if entry.name == key.encode():
            return bytes(model.buffers[entry.buffer].data).decode()
    raise UserError(f"the TFLite file has no metadata '{key}'; export it again with `python -m export lce`")


def add_metadata(data: bytes, key: str, text: str) -> bytes:
    """Returns the file with a metadata text. A text that already has this key is replaced."""
    model = unpack(data)
    buffer, entry = schema().BufferT(), schema().MetadataT()
    buffer.data = np.frombuffer(text.encode(), np.uint8)
    entry.name, entry.buffer = key, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [old for old in model.metadata or [] if old.name != key.encode()] + [entry]
    return pack(model)


def expose_units(data: bytes) -> bytes:
    """Returns the file with further outputs: the stem's output, then the output of every unit.

    A unit's input is the previous output, so these outputs suffice to check every unit. Only the list of outputs
    changes.

    Raises:
        UserError: the data is no TFLite file of `export`.
    """
    last = {operator.scope: operator.output for operator in read_operators(data) if operator.scope}
    check(STEM_SCOPE in last, "the TFLite file has no stem; export it again with `python -m export lce`")
    model = unpack(data)
    graph = model.subgraphs[0]
    units = sorted(last.keys() - {STEM_SCOPE}, key=lambda scope: int(scope.removeprefix(UNIT_SCOPE)))
    expected = [f"{UNIT_SCOPE}{number:02d}" for number in range(len(units))]
    check(
        units == expected,
        "the numbers of the TFLite file's units have gaps; export it again with `python -m export lce`",
    )
    graph.outputs = [*graph.outputs, last[STEM_SCOPE], *(last[unit] for unit in units)]
    # Signatures list the outputs by name, so they would be wrong now.
    model.signatureDefs = None
    return pack(model)


@contextmanager
def quietly() -> Iterator[None]:
    """Hides what TensorFlow and LCE print from C++. If the block fails, the text is shown.

    After a `UserError` it stays hidden, because the error message is enough.
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
    """Returns the module of TFLite's generated schema.

    Raises:
        UserError: LiteRT is not installed.
    """
    require("reading and writing .tflite files", LITERT_PACKAGE)
    from ai_edge_litert import schema_py_generated

    return schema_py_generated


def load_triton() -> None:
    """Loads Triton before TensorFlow is loaded.

    torchvision loads Triton too. Both packages contain an LLVM, and in the other order the process ends.
    """
    with suppress(ImportError):
        import triton  # noqa: F401


def unpack(data: bytes) -> Any:
    """Returns a file as objects of the schema (`schema().ModelT`).

    Raises:
        UserError: the data is no TFLite file, or it is damaged.
    """
    check(data[4:8] == IDENTIFIER, "not a TFLite file; give one written by `python -m export lce`")
    damaged = "the TFLite file is damaged or cut off; export or copy it again"
    try:
        model = schema().ModelT.InitFromPackedBuf(data, 0)
    except (struct.error, ValueError, IndexError, TypeError):
        # The generated reader does not check offsets. In a file that was cut off, it fails at any of them.
        raise UserError(damaged) from None
    parts = (model.operatorCodes, model.buffers, model.subgraphs)
    check(all(parts) and model.subgraphs[0].operators and model.subgraphs[0].tensors, damaged)
    return model


def pack(model: Any) -> bytes:
    """Returns the bytes of a file that is given as objects of the schema (`schema().ModelT`)."""
    import flatbuffers

    class Aligned(flatbuffers.Builder):
        """Aligns arrays to 16 bytes. TFLite's schema requires this, but Python's builder does not do it."""

        def CreateNumpyVector(self, x: np.ndarray) -> int:  # noqa: N802
            self.Prep(ALIGNMENT, x.nbytes)
            return int(super().CreateNumpyVector(x))

    builder = Aligned(1 << 20)
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def _builtin(code: Any) -> str:
    """Returns the name of a built-in operator. Files older than schema 3a store its number in the deprecated field."""
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    return next(name for name, value in vars(schema().BuiltinOperator).items() if value == number)


def _scope(name: bytes) -> str:
    """Returns the part of the network to which a tensor belongs, "" if to neither stem nor unit."""
    found = re.match(rf"({STEM_SCOPE}|{UNIT_SCOPE}\d+)/", name.decode())
    return found[1] if found else ""
