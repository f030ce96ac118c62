"""ResNets as the codes that pretrain them save them: the backbone's features, and what is said of the rest."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from edgebnn.checkpoint import build_network, layouts
from edgebnn.checkpoint.reasons import PROJECTOR
from edgebnn.errors import UserError
from edgebnn.hints import Hints
from edgebnn.nn import BiRealConfig, ResNetConfig
from tests.networks import noise
from tests.published_resnet import binary, make_binary, make_resnet, resnet, resnet_features

State = dict[str, Tensor]

IMAGES = torch.from_numpy(noise(0, 2, 64))
SMALL_IMAGES = torch.from_numpy(noise(0, 2, 32))

FOLLOWS = "a network that follows the trained one by momentum"
PREDICTOR = "a predictor, which only training uses"
HEAD = "a head beside the network"


def under(prefix: str, state: State) -> State:
    return {prefix + key: value for key, value in state.items()}


def zeros(*names: str) -> State:
    return {name: torch.zeros(2) for name in names}


def numbered(state: State, stages: int) -> State:
    """As the children of an nn.Sequential, of which the first stage has the number `stages`."""
    numbers = {"conv1": 0, "bn1": 1} | {f"layer{stage}": stages + stage - 1 for stage in (1, 2, 3, 4)}
    return {f"{numbers[key.split('.')[0]]}.{key.split('.', 1)[1]}": value for key, value in state.items()}


def simsiam(state: State) -> Any:
    return {"arch": "resnet50", "state_dict": under("module.encoder.", state) | zeros("module.predictor.0.weight")}


def moco_v3(state: State) -> Any:
    momentum = under("module.momentum_encoder.", state)
    return {"state_dict": under("module.base_encoder.", state) | momentum | zeros("module.predictor.0.weight")}


def dino(state: State) -> Any:
    head = zeros("module.head.mlp.0.weight")
    teacher = under("backbone.", {key: value * 0.5 for key, value in state.items()}) | zeros("head.mlp.0.weight")
    student = under("module.backbone.", state) | head
    return {"student": student, "teacher": teacher, "dino_loss": zeros("center"), "fp16_scaler": zeros("scale")}


def barlow_twins(state: State) -> Any:
    return {"model": under("module.backbone.", state) | zeros("module.projector.0.weight", "module.bn.running_mean")}


def byol_pytorch(state: State) -> Any:
    target = under("target_encoder.net.", state) | zeros("target_encoder.projector.net.0.weight")
    return under("online_encoder.net.", state) | target | zeros("online_predictor.net.0.weight")


def openselfsup_byol(state: State) -> Any:
    online = under("backbone.", state) | under("online_net.0.", state) | zeros("online_net.1.fc0.weight")
    return {"state_dict": online | under("target_net.0.", state) | zeros("head.predictor.fc0.weight")}


def solo_learn(state: State) -> Any:
    rest = zeros("projector.0.weight", "classifier.weight", "momentum_projector.0.weight", "queue")
    return {
        "pytorch-lightning_version": "1.6.4",
        "state_dict": under("backbone.", state) | under("momentum_backbone.", state) | rest,
    }


def lightly(state: State) -> Any:
    heads = zeros("projection_head.layers.0.weight", "prediction_head.layers.0.weight")
    momentum = under("backbone_momentum.", numbered(state, 4))
    return {"state_dict": under("backbone.", numbered(state, 4)) | momentum | heads}


def sthalles_byol(state: State) -> Any:
    online = under("encoder.", numbered(state, 4)) | zeros("projetion.net.0.weight")
    target = under("encoder.", numbered(state, 4)) | zeros("projetion.net.0.weight")
    return {"online_network_state_dict": online, "target_network_state_dict": target}


CASES: list[tuple[Callable[[State], Any], str, str, dict[str, str]]] = [
    (
        simsiam,
        "resnet-50",
        "simsiam",
        {"module.encoder.fc.3.weight": PROJECTOR, "module.predictor.0.weight": PREDICTOR},
    ),
    (moco_v3, "resnet-50", "moco-v3", {"module.momentum_encoder.conv1.weight": FOLLOWS}),
    (moco_v3, "resnet-50", "moco-v3", {"module.base_encoder.fc.1.running_var": PROJECTOR}),
    (dino, "resnet-50", "none", {"teacher": "a teacher", "dino_loss": "part of the loss"}),
    (dino, "resnet-50", "none", {"module.head.mlp.0.weight": PROJECTOR, "fp16_scaler": "state of the optimizer"}),
    (barlow_twins, "resnet-50", "none", {"module.projector.0.weight": PROJECTOR}),
    (barlow_twins, "resnet-50", "none", {"module.bn.running_mean": "outside the network"}),
    (byol_pytorch, "resnet-50", "none", {"target_encoder.net.conv1.weight": FOLLOWS}),
    (byol_pytorch, "resnet-50", "none", {"online_predictor.net.0.weight": PREDICTOR}),
    (openselfsup_byol, "resnet-18", "none", {"online_net.0.bn1.bias": "the same network under another name"}),
    (openselfsup_byol, "resnet-18", "none", {"head.predictor.fc0.weight": PREDICTOR}),
    (solo_learn, "resnet-18", "none", {"momentum_backbone.bn1.bias": FOLLOWS, "classifier.weight": HEAD}),
    (lightly, "resnet-18", "none", {"backbone_momentum.0.weight": FOLLOWS}),
    (lightly, "resnet-50", "none", {"projection_head.layers.0.weight": PROJECTOR}),
    (lightly, "resnet-50", "none", {"prediction_head.layers.0.weight": PREDICTOR}),
    (sthalles_byol, "resnet-18", "none", {"target_network_state_dict": FOLLOWS, "projetion.net.0.weight": PROJECTOR}),
    (lambda state: numbered(state, 2), "resnet-34", "none", {}),
    (lambda state: state, "resnet-34", "torchvision", {}),
    (lambda state: state, "resnet-50", "none", {}),
]


@pytest.mark.parametrize(("save", "arch", "head", "some"), CASES)
def test_a_backbone_gives_its_features_and_the_rest_is_listed(
    save: Callable[[State], Any], arch: str, head: str, some: dict[str, str]
) -> None:
    state = make_resnet(arch, head, stem=2)
    found = layouts.read_published(save(state), "file")
    assert found.config.arch == arch
    expected = resnet_features(state, IMAGES)
    assert (expected[0] - expected[1]).abs().max() > 0.01
    torch.testing.assert_close(
        build_network(found.config, found.state).features(IMAGES), expected, rtol=1e-4, atol=1e-5
    )
    assert some.items() <= found.ignored.items()


def test_dinos_teacher_is_its_average() -> None:
    state = make_resnet("resnet-50", "none", stem=2)
    trained = layouts.read_published(dino(state), "file")
    assert trained.assumed == ("the trained weights, not the averaged ones (EMA) under teacher.backbone",)
    found = layouts.read_published(dino(state), "file", Hints(ema=True))
    assert found.assumed == ()
    assert torch.equal(found.state["layer1.0.conv1.weight"], state["layer1.0.conv1.weight"] * 0.5)


@pytest.mark.parametrize("arch", ["resnet-18", "resnet-34", "resnet-50"])
@pytest.mark.parametrize("names", ["torchvision", "pytorch-cifar"])
def test_a_3x3_stem_has_stride_1_and_no_pool(arch: str, names: str) -> None:
    state = make_resnet(arch, "torchvision", stem=2, kernel=3)
    saved = {key.replace("downsample", "shortcut").replace("fc.", "linear."): value for key, value in state.items()}
    found = layouts.read_published(saved if names == "pytorch-cifar" else state, "file")
    assert found.config == ResNetConfig(arch=arch, width=1 / 32, stem_stride=1, head=(6,))  # type: ignore[arg-type]
    assert found.assumed == ("its 3x3 conv1 has stride 1 and padding 1, and no max pool follows",)
    model = build_network(found.config, found.state)
    torch.testing.assert_close(model(SMALL_IMAGES), resnet(state, SMALL_IMAGES), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layout", ["birealnet-18", "reactnet-18", "reactnet-18-column"])
def test_a_3x3_stem_of_a_binary_resnet_has_stride_1_and_no_pool(layout: str) -> None:
    state = make_binary(layout, stem=4, kernel=3)
    found = layouts.read_published({"state_dict": under("module.", state)}, "file")
    arch = "birealnet-18" if layout.startswith("bireal") else "reactnet-18"
    assert found.config == BiRealConfig(arch=arch, width=1 / 16, stem_stride=1, head=(6,))  # type: ignore[arg-type]
    expected = binary(state, SMALL_IMAGES)
    assert expected.std() > 0.1
    torch.testing.assert_close(build_network(found.config, found.state)(SMALL_IMAGES), expected, rtol=1e-4, atol=1e-4)


def test_other_resnets_are_refused_with_the_key_at_fault() -> None:
    plain = make_resnet("resnet-50", "torchvision", stem=2)
    rest = {key: value for key, value in plain.items() if key != "conv1.weight"}
    deeper = {key.replace("layer3.5", "layer3.6"): value for key, value in plain.items() if "layer3.5" in key}
    averages = {key.replace("downsample.1", "downsample.2").replace("downsample.0", "downsample.1"): value
                for key, value in plain.items()}  # fmt: skip
    cases: dict[str, State] = {
        r"contains conv1\.0\.weight: its stem is several 3x3": rest | zeros("conv1.0.weight"),
        r"contains conv2\.weight: its stem is several 3x3": plain | zeros("conv2.weight"),
        r"contains stem\.0\.weight: its stem is several 3x3": rest | zeros("stem.0.weight"),
        r"conv1\.weight has shape \(2, 3, 5, 5\); known are 7x7 and 3x3": rest
        | {"conv1.weight": torch.zeros(2, 3, 5, 5)},
        r"contains layer1\.0\.downsample\.1\.weight, which no": averages,
        r"ResNet of \[3, 4, 7, 3\] bottleneck blocks; give a ResNet-18, ResNet-34 or ResNet-50": plain | deeper,
        r"contains layer1\.0\.se\.fc\.weight, which no": plain | zeros("layer1.0.se.fc.weight"),
        r"lacks fc\.weight": {key: value for key, value in plain.items() if key != "fc.weight"},
        r"unknown layout \(it contains module\.linear\.weight\)": zeros("module.linear.weight", "module.linear.bias"),
        r"unknown layout \(it contains 0\.weight\)": {
            key: value for key, value in numbered(make_resnet("resnet-18", "none", stem=2), 4).items() if key[0] != "7"
        },
    }
    for message, state in cases.items():
        with pytest.raises(UserError, match=f"^file:? ?.*{message}") as caught:
            layouts.read_published(state, "file")
        assert len(str(caught.value)) < 300
