"""State dicts in the published layouts, and those networks' forward passes written out plainly.

Keys and shapes are those of the public codes at any width. The forward pass reads the state dict
directly, block by block, in the published order, and shares nothing with edgebnn.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

PLAN = (1, 2, 4, 4, 8, 8, 16, 16, 16, 16, 16, 16, 32, 32)


def make_state(layout: str, *, stem: int = 4, classes: int = 6, seed: int = 0) -> dict[str, Tensor]:
    """The encoder's state dict, without wrapper prefixes.

    Args:
        layout: "reactnet", "reactnet-step1", "s2-bnn-pretrained", "s2-bnn-linear", "burn" or "burn-linear".
        stem: channels of the stem.
        classes: outputs of the classifier.
        seed: of the random values.
    """
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {}

    def normal(*shape: int, std: float = 1.0, mean: float = 0.0) -> Tensor:
        return torch.randn(shape, generator=generator) * std + mean

    def norm(name: str, channels: int) -> None:
        state[f"{name}.weight"] = normal(channels, std=0.5)
        state[f"{name}.bias"] = normal(channels, std=0.5)
        state[f"{name}.running_mean"] = normal(channels, std=0.3)
        state[f"{name}.running_var"] = torch.rand(channels, generator=generator) + 0.5
        state[f"{name}.num_batches_tracked"] = torch.tensor(100)

    def conv(name: str, outputs: int, inputs: int, kernel: int) -> None:
        weight = normal(outputs, inputs, kernel, kernel, std=0.05)
        if layout == "reactnet":
            state[f"{name}.weights"] = weight.reshape(-1, 1)
        else:
            state[f"{name}.weight"] = weight

    def linear(name: str, outputs: int, inputs: int) -> None:
        state[f"{name}.weight"] = normal(outputs, inputs, std=0.2)
        state[f"{name}.bias"] = normal(outputs, std=0.2)

    channels = [stem * factor for factor in PLAN]
    state["feature.0.conv1.weight"] = normal(stem, 3, 3, 3, std=0.3)
    norm("feature.0.bn1", stem)
    for block, (inputs, outputs) in enumerate(zip(channels, channels[1:]), start=1):
        name = f"feature.{block}"
        for move, width in (
            ("move11", inputs), ("move12", inputs), ("move13", inputs),
            ("move21", inputs), ("move22", outputs), ("move23", outputs),
        ):  # fmt: skip
            state[f"{name}.{move}.bias"] = normal(1, width, 1, 1, std=0.4)
        state[f"{name}.prelu1.weight"] = normal(inputs, std=0.3, mean=0.2)
        state[f"{name}.prelu2.weight"] = normal(outputs, std=0.3, mean=0.2)
        conv(f"{name}.binary_3x3", inputs, inputs, 3)
        norm(f"{name}.bn1", inputs)
        everything = layout.startswith("s2-bnn")
        if everything or inputs == outputs:
            conv(f"{name}.binary_pw", outputs, inputs, 1)
            norm(f"{name}.bn2", outputs)
        if everything or inputs != outputs:
            for half in ("1", "2"):
                conv(f"{name}.binary_pw_down{half}", inputs, inputs, 1)
                norm(f"{name}.bn2_{half}", inputs)
    features = channels[-1]
    if layout == "s2-bnn-pretrained":
        linear("fc.0", features, features)
        linear("fc.2", 12, features)
    elif layout.startswith("burn"):
        linear("fc.0", features, features)
    else:
        linear("fc", classes, features)
    return state


def make_burn_classifier(inputs: int, classes: int, *, seed: int = 0) -> dict[str, Tensor]:
    """A classifier of BURN's training: a linear layer fc0, a BatchNorm bn0, ReLU, a linear layer fc1."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "fc0.weight": torch.randn(classes, inputs, generator=generator) * 0.2,
        "fc0.bias": torch.randn(classes, generator=generator),
        "bn0.weight": torch.randn(classes, generator=generator),
        "bn0.bias": torch.randn(classes, generator=generator),
        "bn0.running_mean": torch.randn(classes, generator=generator),
        "bn0.running_var": torch.rand(classes, generator=generator) + 0.5,
        "bn0.num_batches_tracked": torch.tensor(100),
        "fc1.weight": torch.randn(classes, classes, generator=generator) * 0.2,
        "fc1.bias": torch.randn(classes, generator=generator),
    }


def burn_classifier(state: dict[str, Tensor], features: Tensor) -> Tensor:
    """The outputs of such a classifier for features (N, inputs), its BatchNorm in eval."""
    x = F.linear(features, state["fc0.weight"], state["fc0.bias"])
    x = (x - state["bn0.running_mean"]) / (state["bn0.running_var"] + 1e-5).sqrt()
    x = (x * state["bn0.weight"] + state["bn0.bias"]).relu()
    return F.linear(x, state["fc1.weight"], state["fc1.bias"])


def forward(state: dict[str, Tensor], images: Tensor, *, real_weights: bool = False, stem_stride: int = 2) -> Tensor:
    """The published network's output, from the encoder's state dict without prefixes."""

    def norm(name: str, x: Tensor) -> Tensor:
        parts = [state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *parts, training=False, eps=1e-5)

    def conv(name: str, x: Tensor, kernel: int, stride: int = 1) -> Tensor:
        weight = state.get(f"{name}.weight")
        if weight is None:
            flat = state[f"{name}.weights"]
            weight = flat.reshape(-1, x.shape[1], kernel, kernel)
        if not real_weights:
            weight = weight.abs().mean(3, keepdim=True).mean(2, keepdim=True).mean(1, keepdim=True) * weight.sign()
        return F.conv2d(x, weight, stride=stride, padding=kernel // 2)

    def move(name: str, x: Tensor) -> Tensor:
        return x + state[f"{name}.bias"].expand_as(x)

    if stem_stride == 1:
        x = norm("feature.0.bn1", F.conv2d(images, state["feature.0.conv1.weight"], padding=1))
    else:
        x = norm("feature.0.bn1", F.conv2d(images, state["feature.0.conv1.weight"], stride=2, padding=1))
    for block in range(1, 14):
        name = f"feature.{block}"
        expands = PLAN[block] != PLAN[block - 1]
        stride = 2 if expands and block > 1 else 1
        out1 = norm(f"{name}.bn1", conv(f"{name}.binary_3x3", move(f"{name}.move11", x).sign(), 3, stride))
        out1 = (F.avg_pool2d(x, 2) if stride == 2 else x) + out1
        out1 = move(f"{name}.move13", F.prelu(move(f"{name}.move12", out1), state[f"{name}.prelu1.weight"]))
        out2 = move(f"{name}.move21", out1).sign()
        if expands:
            halves = [norm(f"{name}.bn2_{half}", conv(f"{name}.binary_pw_down{half}", out2, 1)) + out1 for half in "12"]
            out2 = torch.cat(halves, dim=1)
        else:
            out2 = norm(f"{name}.bn2", conv(f"{name}.binary_pw", out2, 1)) + out1
        x = move(f"{name}.move23", F.prelu(move(f"{name}.move22", out2), state[f"{name}.prelu2.weight"]))
    x = F.adaptive_avg_pool2d(x, 1).flatten(1)
    if "fc.weight" in state:
        return F.linear(x, state["fc.weight"], state["fc.bias"])
    x = F.linear(x, state["fc.0.weight"], state["fc.0.bias"]).relu()
    if "fc.2.weight" in state:
        return F.linear(x, state["fc.2.weight"], state["fc.2.bias"])
    if "head.fc_cls.weight" in state:
        return F.linear(x, state["head.fc_cls.weight"], state["head.fc_cls.bias"])
    return x
