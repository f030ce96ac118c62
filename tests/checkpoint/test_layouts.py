"""The published layouts of ResNets, real-valued and binary; ReActNet-A's are in test_checkpoint.py."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from edgebnn import checkpoint
from edgebnn.errors import UserError
from edgebnn.nn import BiRealConfig, ResNetConfig
from tests.networks import noise
from tests.published_resnet import binary, make_binary, make_resnet, resnet

IMAGES = torch.from_numpy(noise(0, 2, 64))


def write(path: Path, state: dict[str, Tensor], prefix: str = "", extra: dict[str, Tensor] | None = None) -> Path:
    """A file as its trainer would write it."""
    outer = {prefix + key: value for key, value in state.items()} | (extra or {})
    torch.save({"epoch": 800, "arch": "resnet50", "state_dict": outer, "optimizer": {"state": {}}}, path)
    return path


@pytest.mark.parametrize(
    ("arch", "head", "prefix", "layout", "widths"),
    [
        ("resnet-18", "torchvision", "", "torchvision", (6,)),
        ("resnet-50", "torchvision", "module.", "torchvision", (6,)),
        ("resnet-50", "moco-v1", "module.encoder_q.", "torchvision", (12,)),
        ("resnet-50", "moco", "module.encoder_q.", "moco", (128, 12)),
        ("resnet-18", "moco", "module.encoder_q.", "moco", (32, 12)),
        ("resnet-50", "swav", "module.", "swav", (32, 12)),
    ],
)
def test_a_resnet_gives_the_published_outputs(
    tmp_path: Path, arch: str, head: str, prefix: str, layout: str, widths: tuple[int, ...]
) -> None:
    state = make_resnet(arch, head)
    loaded = checkpoint.load_checkpoint(write(tmp_path / "file.pth.tar", state, prefix))
    assert loaded.layout == layout
    assert loaded.model.config == ResNetConfig(arch=arch, width=1 / 16, head=widths, swav_head=head == "swav")  # type: ignore[arg-type]
    expected = resnet(state, IMAGES)
    assert (expected[0] - expected[1]).abs().max() > 0.01
    torch.testing.assert_close(loaded.model(IMAGES), expected, rtol=1e-4, atol=1e-5)


def test_a_bare_state_dict_of_old_pytorch_loads(tmp_path: Path) -> None:
    # torchvision's oldest files, and SwAV's, are the state dict itself; the former count no batches.
    state = {key: value for key, value in make_resnet("resnet-18", "torchvision").items() if "num_batches" not in key}
    torch.save(state, tmp_path / "resnet18-5c106cde.pth")
    loaded = checkpoint.load_checkpoint(tmp_path / "resnet18-5c106cde.pth")
    torch.testing.assert_close(loaded.model(IMAGES), resnet(state, IMAGES), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("layout", "arch"),
    [
        ("birealnet-18", "birealnet-18"),
        ("reactnet-18", "reactnet-18"),
        ("reactnet-18-column", "reactnet-18"),
    ],
)
@pytest.mark.parametrize("prefix", ["module.", ""])
def test_a_binary_resnet_gives_the_published_logits(tmp_path: Path, layout: str, arch: str, prefix: str) -> None:
    state = make_binary(layout)
    loaded = checkpoint.load_checkpoint(write(tmp_path / "model_best.pth.tar", state, prefix))
    assert (loaded.layout, loaded.ignored) == (arch, {})
    assert loaded.model.config == BiRealConfig(arch=arch, width=1 / 8, head=(6,))  # type: ignore[arg-type]
    expected = binary(state, IMAGES)
    assert expected.std() > 0.1
    torch.testing.assert_close(loaded.model(IMAGES), expected, rtol=1e-4, atol=1e-4)


def test_every_key_of_a_teacher_is_used_or_named(tmp_path: Path) -> None:
    keys = {"module.encoder_k." + key: value for key, value in make_resnet("resnet-18", "moco").items()}
    keys |= {"module.queue": torch.zeros(12, 8), "module.queue_ptr": torch.zeros(1, dtype=torch.long)}
    moco = write(tmp_path / "moco.pth.tar", make_resnet("resnet-18", "moco"), "module.encoder_q.", keys)
    queue = "the memory of contrastive learning"
    follows = "the key encoder, which follows the trained network by momentum"
    assert checkpoint.load_checkpoint(moco).ignored == {key: queue if "queue" in key else follows for key in keys}
    swav = write(tmp_path / "swav.pth.tar", make_resnet("resnet-18", "swav"), "module.")
    assert set(checkpoint.load_checkpoint(swav).ignored) == {"module.prototypes.weight"}


def test_networks_that_only_look_like_these_are_refused(tmp_path: Path) -> None:
    deep = make_resnet("resnet-50", "torchvision")
    shallow = make_resnet("resnet-18", "swav")
    react = make_binary("reactnet-18")
    more = {key.replace("layer4.1", "layer4.2"): value for key, value in shallow.items() if "layer4.1" in key}
    wide = {key: value.repeat(2, *[1] * (value.ndim - 1)) for key, value in deep.items() if ".conv1." in key}
    cases = {
        "resnet34": (shallow | more, r"a ResNet of \[2, 2, 2, 3\] blocks"),
        "wide_resnet50_2": (deep | wide, "does not fit the network of its keys"),
        "squeeze": (deep | {"layer1.0.se.fc.weight": torch.zeros(1)}, "layer1.0.se.fc.weight, which no published"),
        "headless": ({k: v for k, v in shallow.items() if "head.3" not in k}, "lacks projection_head.3.weight"),
        "cut": ({k: v for k, v in deep.items() if k != "layer3.5.bn2.bias"}, "lacks layer3.5.bn2.bias"),
        "reactnet34": (react | {"layer1.4.move0.bias": torch.zeros(1)}, "layer1.4.move0.bias, which no published"),
        "shape": (react | {"layer2.0.downsample.1.weight": torch.zeros(2, 2, 1, 1)}, "has shape"),
        "bias": (
            react | {"layer2.1.move1.bias": torch.zeros(1, 3, 1, 1)},
            "not fit the network of its keys",
        ),
        "stem": (react | {"conv1.weight": torch.zeros(())}, "not fit the network of its keys"),
        "thin": (react | {"conv1.weight": torch.zeros(3, 3, 7, 7)}, "has shape"),
    }
    for name, (state, message) in cases.items():
        path = write(tmp_path / f"{name}.pth", state)
        with pytest.raises(UserError, match=message) as caught:
            checkpoint.load_checkpoint(path, what="teacher")
        assert str(caught.value).startswith(f"teacher {path}")
        assert len(" ".join(str(caught.value).split())) - len(str(path)) < 300
