"""Loads damaged packed files; run as a process of its own, since what is looked for may end the process.

    python -m tests.runtime.fuzz FIRST LAST FOLDER

loads the mutants of seeds FIRST to LAST - 1 and prints how often each outcome occurred, as JSON. The seed
at work stands in FOLDER/seed, its file in FOLDER/mutant.onnx.
"""

import json
import os
import random
import resource
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import numpy as np
import onnx

from edgebnn import runtime
from edgebnn.errors import UserError
from tests.runtime import packed_models

MEMORY = 8 << 30
INTEGERS = (
    -(1 << 63),
    -(1 << 31),
    -1,
    0,
    1,
    2,
    3,
    4,
    6,
    7,
    9,
    12,
    1 << 14,
    (1 << 14) + 1,
    1 << 31,
    1 << 40,
    (1 << 63) - 1,
)
TEXTS = (b"", b"zero", b"one", b"identity", b"pool", b"repeat", b"none", b"Zero", b"zero\0", b"\xff", b"x" * 300)
KINDS = (("BinaryUnit", "ai.edgebnn"), ("ImageConv", "ai.edgebnn"), ("Identity", ""), ("BinaryUnit", ""))
TYPES = (0, 1, 2, 3, 7, 8, 9, 10, 11, 16, 17, 99)

Change = Callable[[random.Random, onnx.ModelProto], None]


@lru_cache(maxsize=1)
def whole() -> bytes:
    """The file that is damaged."""
    rng = np.random.default_rng(0)
    return packed_models.make(packed_models.random_units(rng), packed_models.random_stem(rng)).SerializeToString()


def mutant(seed: int) -> bytes:
    """Every third file has bytes changed, the others fields."""
    rng = random.Random(seed)
    if seed % 3 == 0:
        return _bytes(rng, bytearray(whole()))
    model = onnx.ModelProto.FromString(whole())
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        with suppress(IndexError, ValueError):  # an earlier change may have taken away what this one wants
            rng.choice(CHANGES)(rng, model)
    return model.SerializeToString()


def _bytes(rng: random.Random, data: bytearray) -> bytes:
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(data))
        kind = rng.randrange(5)
        if kind == 0:
            data[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[place] = rng.randrange(256)
        elif kind == 2:
            del data[place : place + rng.randint(1, 8)]
        elif kind == 3:
            data[place:place] = rng.randbytes(rng.randint(1, 8))
        elif rng.random() < 0.1:
            del data[place:]
        if not data:
            break
    return bytes(data)


def _sizes(rng: random.Random, model: onnx.ModelProto) -> None:
    """Another shape; often with as many values as it wants, so that only the operator can object."""
    tensor = rng.choice(model.graph.initializer)
    kind = rng.randrange(4)
    if kind == 0:
        del tensor.dims[rng.randrange(len(tensor.dims))]
    elif kind == 1:
        tensor.dims.insert(rng.randint(0, len(tensor.dims)), rng.choice(INTEGERS))
    elif kind == 2:
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(INTEGERS)
    else:
        tensor.dims[rng.randrange(len(tensor.dims))] += rng.choice((-1, 1))
    count = int(np.prod(tensor.dims, dtype=object))
    if rng.random() < 0.8 and 0 <= count < 1 << 16:
        tensor.raw_data = rng.randbytes(count * (1 if tensor.data_type == 2 else 4))


def _values(rng: random.Random, model: onnx.ModelProto) -> None:
    tensor = rng.choice(model.graph.initializer)
    kind = rng.randrange(3)
    if kind == 0:
        tensor.data_type = rng.choice(TYPES)
    elif kind == 1:
        tensor.raw_data = rng.randbytes(len(tensor.raw_data))
    else:
        tensor.raw_data = rng.randbytes(rng.randint(0, 2 * len(tensor.raw_data)))


def _attribute(rng: random.Random, model: onnx.ModelProto) -> None:
    node = rng.choice(model.graph.node)
    attribute = rng.choice(node.attribute)
    kind = rng.randrange(5)
    if kind == 0:
        node.attribute.remove(attribute)
    elif kind == 1:
        attribute.name = rng.choice(("stride", "padding", "shortcut", ""))
    elif attribute.HasField("i") or kind == 2:
        attribute.i, attribute.type = rng.choice(INTEGERS), onnx.AttributeProto.INT
    else:
        attribute.s, attribute.type = rng.choice(TEXTS), onnx.AttributeProto.STRING


def _inputs(rng: random.Random, model: onnx.ModelProto) -> None:
    node = rng.choice(model.graph.node)
    names = rng.choice((node.input, node.input, node.output))
    place = rng.randrange(len(names))
    known = [
        "",
        *(tensor.name for tensor in model.graph.initializer),
        *(n for node in model.graph.node for n in node.output),
    ]
    kind = rng.randrange(5)
    if kind == 0:
        del names[place]
    elif kind == 1:
        del names[place:]
    elif kind == 2:
        names[place] = ""
    elif kind == 3:
        names[place] = rng.choice(known)
    else:
        names.insert(place, rng.choice(known))


def _nodes(rng: random.Random, model: onnx.ModelProto) -> None:
    graph = model.graph
    kind = rng.randrange(5)
    if kind == 0:
        graph.node.remove(rng.choice(graph.node))
    elif kind == 1:
        graph.initializer.remove(rng.choice(graph.initializer))
    elif kind == 2:  # a constant that the caller may replace
        tensor = rng.choice(graph.initializer)
        graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    elif kind == 3:
        node = rng.choice(graph.node)
        node.op_type, node.domain = rng.choice(KINDS)
    else:
        next(entry for entry in model.opset_import if entry.domain).version = rng.choice(INTEGERS)


def _image(rng: random.Random, model: onnx.ModelProto) -> None:
    value = rng.choice((model.graph.input, model.graph.output))[0]
    sizes = value.type.tensor_type.shape.dim
    kind = rng.randrange(4)
    if kind == 0:
        del sizes[rng.randrange(len(sizes))]
    elif kind == 1:
        value.type.tensor_type.elem_type = rng.choice(TYPES)
    else:
        # A side that fits no metadata is refused before it reaches the operator, so it is left free too.
        place = rng.randrange(len(sizes))
        sizes[place].ClearField("dim_value")
        if kind == 2:
            sizes[place].dim_value = rng.choice(INTEGERS)


CHANGES: tuple[Change, ...] = (_sizes, _sizes, _values, _attribute, _attribute, _inputs, _inputs, _nodes, _image)


def main(first: int, last: int, folder: Path) -> None:
    if "ASAN_OPTIONS" not in os.environ:  # the sanitizer maps terabytes, and has a limit of its own
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    outcomes: Counter[str] = Counter()
    for seed in range(first, last):
        (folder / "seed").write_text(str(seed))
        path = folder / "mutant.onnx"
        path.write_bytes(mutant(seed))
        try:
            model = runtime.load_model(path)
            outcomes["loaded" if model.isa else "other"] += 1
        except UserError as error:
            who = next((name for name, domain in KINDS if domain and f"{name} '" in str(error)), "")
            outcomes[f"refused by {who}" if who else "refused"] += 1
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
