"""Small model files written by hand, whose answers a line of NumPy gives."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import flatbuffers
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgebnn.graph import ModelInfo
from edgebnn.runtime import Model

SIDE = 8
CLASSES = 3
INFO = ModelInfo(
    name="hand", resolution=SIDE, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), labels=("red", "green", "blue")
)
WEIGHT = np.array([[4, -1, -1], [-1, 4, -1], [-1, -1, 4]], np.float32)
BIAS = np.array([0.1, 0.2, 0.3], np.float32)


def logits(images: np.ndarray) -> np.ndarray:
    """What the model gives for images (N, 3, H, W)."""
    return images.mean(axis=(2, 3)) @ WEIGHT.T + BIAS


def assert_threads_agree(model: Model) -> None:
    """Four threads, each with its own image, get from one model what one thread gets."""
    images = np.random.default_rng(3).standard_normal((4, 1, *model.image_shape), np.float32)
    alone = [model.run(image) for image in images]
    with ThreadPoolExecutor(4) as threads:
        for found in threads.map(lambda number: model.run(images[number % 4]), range(200)):
            expected = alone.pop(0)
            alone.append(expected)
            np.testing.assert_array_equal(found, expected)


def write_onnx(
    path: Path, *, info: str | None = None, batch: object = "batch", side: object = SIDE, kind: int = TensorProto.FLOAT
) -> Path:
    """Global average pool and a linear layer: image (batch, 3, side, side) -> logits."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
        helper.make_node("Gemm", ["features", "weight", "bias"], ["logits"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "hand",
        [helper.make_tensor_value_info("image", kind, [batch, 3, side, side])],
        [helper.make_tensor_value_info("logits", kind, [batch, CLASSES])],
        [numpy_helper.from_array(WEIGHT, "weight"), numpy_helper.from_array(BIAS, "bias")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if info is not None:
        helper.set_model_props(model, {"edgebnn": info})
    onnx.save(model, path)
    return path


def tflite_bytes(entries: dict[str, bytes]) -> bytes:
    """The frame of a TFLite file that holds `entries` as metadata, made by the flatbuffers package."""
    builder = flatbuffers.Builder(64)

    def table(fields: int, slots: dict[int, int]) -> int:
        builder.StartObject(fields)
        for slot, offset in slots.items():
            builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
        return int(builder.EndObject())

    def vector(offsets: list[int]) -> int:
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return int(builder.EndVector())

    # A flatbuffer is built from its end, so these bytes lie last in the file.
    contents = [builder.CreateByteVector(data) for data in entries.values()]
    buffers = [table(1, {}), *(table(1, {0: content}) for content in contents)]
    metadata = []
    for number, name in enumerate(entries, start=1):
        text = builder.CreateString(name)
        builder.StartObject(2)
        builder.PrependUOffsetTRelativeSlot(0, text, 0)
        builder.PrependUint32Slot(1, number, 0)
        metadata.append(builder.EndObject())
    root = table(7, {4: vector(buffers), 6: vector(metadata)})
    builder.Finish(root, file_identifier=b"TFL3")
    return bytes(builder.Output())
