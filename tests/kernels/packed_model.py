"""A packed ReActNet-A with what the reference makes of it, for processors where only onnxruntime and NumPy are.

    python -m tests.kernels.packed_model FOLDER

Stem and units give the same bits on every processor.
"""

import sys
from pathlib import Path

import numpy as np

MODEL, ARRAYS = "model.onnx", "arrays.npz"


def make(folder: Path, *, resolution: int = 64) -> Path:
    """Writes the model, images and the outputs of the reference into `folder`; gives that."""
    import onnx
    from onnx import helper

    from edgebnn.export.onnx import packed
    from edgebnn.graph import reference
    from tests.export.random_graph import random_graph

    rng = np.random.default_rng(0)
    graph = random_graph(rng, width=1, resolution=resolution)
    images = rng.standard_normal((2, 3, resolution, resolution), np.float32)

    model = onnx.load_from_string(packed.convert_to_packed_onnx(graph))
    arrays = {"image": images, "stem": reference.stem(graph.stem, images)}
    x = arrays["stem"]
    given = {output for node in model.graph.node for output in node.output}
    for number, unit in enumerate(graph.units):
        x, name = reference.unit(unit, x), f"unit_{number:02d}"
        # A unit whose output is only read as its average gives that alone.
        arrays |= {name: x} if name in given else {f"{name}.average": reference.pool(x)}
    for name in arrays.keys() - {"image"}:
        arrays[name] = arrays[name].transpose(0, 2, 3, 1)
        model.graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    arrays["logits"] = reference.head(graph.head, x)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MODEL).write_bytes(model.SerializeToString())
    np.savez(folder / ARRAYS, **arrays)
    return folder


if __name__ == "__main__":
    make(Path(sys.argv[1]))
