"""Classifies an image with an exported file, and measures the file's latency. Needs no torch.

    python examples/run_packed.py packed.onnx IMAGE

IMAGE is an image file (needs Pillow), or an .npy file with uint8 pixels (resolution, resolution, 3).
"""

import argparse

import numpy as np

from edgebnn import runtime
from edgebnn.errors import exit_on_user_error
from edgebnn.runtime import preprocess


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", help="an .onnx file, portable or packed, or a .tflite file")
    parser.add_argument("image", help="an image file, or an .npy file")
    chosen = parser.parse_args()

    # The file knows its resolution, its normalisation and its class names (model.info).
    model = runtime.load_model(chosen.model, threads=1)
    image = preprocess.load_image(chosen.image, model.info)  # float32 (1, 3, resolution, resolution), normalised
    logits = model.run(image)[0]  # any batch size: (N, 3, H, W) in, (N, classes) out

    best = int(np.argmax(logits))
    name = model.info.labels[best] if model.info.labels else str(best)
    print(f"class {name}, logit {logits[best]:.2f} of {len(logits)} classes")

    (latency,) = runtime.measure_latency([model], runs=20)
    print(f"{latency.median_ms:.2f} ms median, {latency.p10_ms:.2f} to {latency.p90_ms:.2f} ms (p10 to p90)")
    print(f"{model.runtime} {model.runtime_version}" + (f", kernels for {model.isa}" if model.isa else ""))


if __name__ == "__main__":
    with exit_on_user_error():
        main()
