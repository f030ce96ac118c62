"""State dicts of real-valued and binary ResNets in the published layouts, and their forward passes written out.

Keys and shapes are those of torchvision, MoCo, SwAV, Bi-Real-Net and ReActNet's resnet folder, at any
width. The forward passes read the state dicts directly and share nothing with edgebnn or torchvision.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

COUNTS = {
    "resnet-18": (2, 2, 2, 2),
    "resnet-34": (3, 4, 6, 3),
    "resnet-50": (3, 4, 6, 3),
    "binary": (4, 4, 4, 4),
}


class _Maker:
    """Draws the tensors of a state dict, none of them at an initial value."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.state: dict[str, Tensor] = {}

    def normal(self, name: str, *shape: int, std: float, mean: float = 0.0) -> None:
        self.state[name] = torch.randn(shape, generator=self.generator) * std + mean

    def conv(self, name: str, outputs: int, inputs: int, kernel: int) -> None:
        self.normal(name, outputs, inputs, kernel, kernel, std=(2 / (inputs * kernel * kernel)) ** 0.5)

    def norm(self, name: str, channels: int) -> None:
        self.normal(f"{name}.weight", channels, std=0.3, mean=0.5)
        self.normal(f"{name}.bias", channels, std=0.3)
        self.normal(f"{name}.running_mean", channels, std=0.3)
        self.state[f"{name}.running_var"] = torch.rand(channels, generator=self.generator) + 0.5
        self.state[f"{name}.num_batches_tracked"] = torch.tensor(100)

    def linear(self, name: str, outputs: int, inputs: int) -> None:
        self.normal(f"{name}.weight", outputs, inputs, std=(2 / inputs) ** 0.5)
        self.normal(f"{name}.bias", outputs, std=0.2)

    def mlp(self, name: str, *widths: int, bias: bool = True) -> None:
        """Linear layers, each followed by a BatchNorm, and by a ReLU but for the last."""
        for number, (inputs, outputs) in enumerate(zip(widths, widths[1:])):
            self.linear(f"{name}.{3 * number}", outputs, inputs)
            self.norm(f"{name}.{3 * number + 1}", outputs)
            if not bias:
                del self.state[f"{name}.{3 * number}.bias"]

    def stem(self, channels: int, kernel: int = 7) -> None:
        self.conv("conv1.weight", channels, 3, kernel)
        self.norm("bn1", channels)


def make_resnet(arch: str, head: str, *, stem: int = 4, seed: int = 0, kernel: int = 7) -> dict[str, Tensor]:
    """The encoder's state dict, without wrapper prefixes.

    Args:
        arch: "resnet-18", "resnet-34" or "resnet-50".
        head: "torchvision", "moco", "moco-v1", "swav", "simsiam", "moco-v3" or "none".
        stem: channels of the stem, 64 as published, 256 for RN50-w4.
        seed: of the random values.
        kernel: of the stem's convolution, 3 in ResNets for small images.
    """
    make = _Maker(seed)
    make.stem(stem, kernel)
    inputs = stem
    for stage, count in enumerate(COUNTS[arch]):
        inner = stem * 2**stage
        for block in range(count):
            name = f"layer{stage + 1}.{block}"
            if arch != "resnet-50":
                outputs, kernels = inner, ((inner, inputs, 3), (inner, inner, 3))
            else:
                outputs, kernels = 4 * inner, ((inner, inputs, 1), (inner, inner, 3), (4 * inner, inner, 1))  # type: ignore[assignment]
            for number, (ours, theirs, kernel) in enumerate(kernels, start=1):
                make.conv(f"{name}.conv{number}.weight", ours, theirs, kernel)
                make.norm(f"{name}.bn{number}", ours)
            if block == 0 and (stage > 0 or inputs != outputs):
                make.conv(f"{name}.downsample.0.weight", outputs, inputs, 1)
                make.norm(f"{name}.downsample.1", outputs)
            inputs = outputs
    if head == "torchvision":
        make.linear("fc", 6, inputs)
    elif head == "moco-v1":
        make.linear("fc", 12, inputs)
    elif head == "moco":
        make.linear("fc.0", inputs, inputs)
        make.linear("fc.2", 12, inputs)
    elif head == "simsiam":
        make.mlp("fc", inputs, inputs, inputs, 16)
    elif head == "moco-v3":
        make.mlp("fc", inputs, 32, 16, bias=False)
    elif head == "swav":
        make.linear("projection_head.0", 32, inputs)
        make.norm("projection_head.1", 32)
        make.linear("projection_head.3", 12, 32)
        make.normal("prototypes.weight", 30, 12, std=0.3)
    return make.state


def make_binary(layout: str, *, stem: int = 8, seed: int = 0, kernel: int = 7) -> dict[str, Tensor]:
    """The state dict of a binary ResNet-18, without wrapper prefixes.

    Args:
        layout: "birealnet-18", "reactnet-18", or "reactnet-18-column" with weights in one column.
        stem: channels of the stem, 64 as published.
        seed: of the random values.
        kernel: of the stem's convolution, 3 in networks for small images.
    """
    make = _Maker(seed)
    make.stem(stem, kernel)
    inputs = stem
    for stage, count in enumerate(COUNTS["binary"]):
        outputs = stem * 2**stage
        for block in range(count):
            name = f"layer{stage + 1}.{block}"
            if layout == "reactnet-18":
                make.conv(f"{name}.binary_conv.weight", outputs, inputs, 3)
            else:
                make.normal(f"{name}.binary_conv.weights", outputs * inputs * 9, 1, std=0.1)
            make.norm(f"{name}.bn1", outputs)
            if layout.startswith("reactnet"):
                make.normal(f"{name}.move0.bias", 1, inputs, 1, 1, std=0.4)
                make.normal(f"{name}.move1.bias", 1, outputs, 1, 1, std=0.4)
                make.normal(f"{name}.prelu.weight", outputs, std=0.3, mean=0.2)
                make.normal(f"{name}.move2.bias", 1, outputs, 1, 1, std=0.4)
            if block == 0 and stage > 0:
                make.conv(f"{name}.downsample.1.weight", outputs, inputs, 1)
                make.norm(f"{name}.downsample.2", outputs)
            inputs = outputs
    make.linear("fc", 6, inputs)
    return make.state


def _norm(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    parts = [state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
    return F.batch_norm(x, *parts, training=False, eps=1e-5)


def resnet(state: dict[str, Tensor], images: Tensor) -> Tensor:
    """The published network's output: logits, MoCo's projection, or SwAV's embedding, of length 1."""
    x = resnet_features(state, images)
    if "fc.weight" in state:
        return F.linear(x, state["fc.weight"], state["fc.bias"])
    if "fc.0.weight" in state:
        x = F.linear(x, state["fc.0.weight"], state["fc.0.bias"]).relu()
        return F.linear(x, state["fc.2.weight"], state["fc.2.bias"])
    x = F.linear(x, state["projection_head.0.weight"], state["projection_head.0.bias"])
    x = _norm(state, "projection_head.1", x).relu()
    x = F.linear(x, state["projection_head.3.weight"], state["projection_head.3.bias"])
    return x / x.norm(dim=1, keepdim=True)


def resnet_features(state: dict[str, Tensor], images: Tensor) -> Tensor:
    """The published network's pooled features."""
    if state["conv1.weight"].shape[-1] == 3:
        x = _norm(state, "bn1", F.conv2d(images, state["conv1.weight"], padding=1)).relu()
    else:
        x = _norm(state, "bn1", F.conv2d(images, state["conv1.weight"], stride=2, padding=3)).relu()
        x = F.max_pool2d(x, 3, stride=2, padding=1)
    deep = "layer1.0.conv3.weight" in state
    for stage in range(1, 5):
        for block in range(6):
            name = f"layer{stage}.{block}"
            if f"{name}.conv1.weight" not in state:
                break
            stride = 2 if block == 0 and stage > 1 else 1
            shortcut = x
            if f"{name}.downsample.0.weight" in state:
                shortcut = F.conv2d(x, state[f"{name}.downsample.0.weight"], stride=stride)
                shortcut = _norm(state, f"{name}.downsample.1", shortcut)
            if deep:
                out = F.conv2d(x, state[f"{name}.conv1.weight"])
                out = F.conv2d(_norm(state, f"{name}.bn1", out).relu(), state[f"{name}.conv2.weight"], None, stride, 1)
                out = F.conv2d(_norm(state, f"{name}.bn2", out).relu(), state[f"{name}.conv3.weight"])
                out = _norm(state, f"{name}.bn3", out)
            else:
                out = F.conv2d(x, state[f"{name}.conv1.weight"], None, stride, 1)
                out = F.conv2d(_norm(state, f"{name}.bn1", out).relu(), state[f"{name}.conv2.weight"], None, 1, 1)
                out = _norm(state, f"{name}.bn2", out)
            x = (out + shortcut).relu()
    return F.adaptive_avg_pool2d(x, 1).flatten(1)


def binary(state: dict[str, Tensor], images: Tensor, *, real_weights: bool = False) -> Tensor:
    """The logits of a published binary ResNet-18."""
    if state["conv1.weight"].shape[-1] == 3:
        x = _norm(state, "bn1", F.conv2d(images, state["conv1.weight"], padding=1))
    else:
        x = _norm(state, "bn1", F.conv2d(images, state["conv1.weight"], stride=2, padding=3))
        x = F.max_pool2d(x, 3, stride=2, padding=1)
    for stage in range(1, 5):
        for block in range(4):
            name = f"layer{stage}.{block}"
            stride = 2 if block == 0 and stage > 1 else 1
            reacts = f"{name}.move0.bias" in state
            shortcut = x
            if stride == 2:
                shortcut = F.conv2d(F.avg_pool2d(x, 2, 2), state[f"{name}.downsample.1.weight"])
                shortcut = _norm(state, f"{name}.downsample.2", shortcut)
            signs = (x + state[f"{name}.move0.bias"] if reacts else x).sign()
            weight = state.get(f"{name}.binary_conv.weight")
            if weight is None:
                weight = state[f"{name}.binary_conv.weights"].reshape(-1, x.shape[1], 3, 3)
            if not real_weights:
                alpha = weight.abs().mean(3, keepdim=True).mean(2, keepdim=True).mean(1, keepdim=True)
                weight = alpha * weight.sign()
            out = F.conv2d(signs, weight, stride=stride, padding=1)
            x = _norm(state, f"{name}.bn1", out) + shortcut
            if reacts:
                x = F.prelu(x + state[f"{name}.move1.bias"], state[f"{name}.prelu.weight"])
                x = x + state[f"{name}.move2.bias"]
    return F.linear(x.mean((2, 3)), state["fc.weight"], state["fc.bias"])
