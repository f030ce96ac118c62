"""The files of BURN's public code: what its training writes, and what its tools make of that."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from edgebnn.checkpoint import build_network, layouts
from edgebnn.train.methods.burn import build_classifier
from tests.networks import noise
from tests.published import burn_classifier, forward, make_burn_classifier, make_state
from tests.published_resnet import make_resnet

State = dict[str, Tensor]

IMAGES = torch.from_numpy(noise(0, 2, 32))
BACKBONE = make_state("burn", stem=2)
EXTRACTOR = make_resnet("resnet-50", "none", stem=2)
CLASSIFIER = make_burn_classifier(64, 10, seed=1)
TARGET = make_burn_classifier(256, 10, seed=2)
WHY = "a classifier of BURN's training, from which its stage 2 starts"


def under(prefix: str, state: State) -> State:
    return {prefix + key: value for key, value in state.items()}


def work_dir(prefix: str = "") -> dict[str, object]:
    """A checkpoint of its training: the backbone twice, both classifiers, the ResNet-50."""
    state = under("online_net.0.", BACKBONE) | under("online_net.1.", CLASSIFIER) | under("backbone.", BACKBONE)
    state |= under("diff_branch_net.0.", EXTRACTOR) | under("diff_branch_net.1.", TARGET)
    optimizer = {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": []}
    return {"meta": {"epoch": 200, "iter": 1}, "state_dict": under(prefix, state), "optimizer": optimizer}


def for_stage_2(prefix: str = "") -> dict[str, object]:
    """What tools/extract_weights_for_multi.py writes."""
    parts = {"backbone": BACKBONE, "classifier": CLASSIFIER, "teacher_classifier": TARGET}
    return {**{name: {"state_dict": under(prefix, state)} for name, state in parts.items()}, "author": "OpenSelfSup"}


@pytest.mark.parametrize(
    "file", [work_dir(), work_dir("module."), for_stage_2(), for_stage_2("module."), {"pack": for_stage_2()}]
)
def test_network_and_classifiers_give_the_published_outputs(file: dict[str, object]) -> None:
    found = layouts.read_published(file, "file")
    assert (found.layout, found.config.head, found.config.head_relu, found.assumed[:2]) == (
        ("burn", (64,), True, ("stage 2", "stem stride 2"))
    )
    features = forward(BACKBONE, IMAGES)
    torch.testing.assert_close(build_network(found.config, found.state)(IMAGES), features, rtol=1e-5, atol=1e-5)
    for name, state, inputs in (
        ("classifier", CLASSIFIER, features),
        ("target_classifier", TARGET, F.pad(features, (0, 192))),
    ):
        ours = build_classifier(inputs.shape[1], 10).eval()
        start = f"{name}."
        ours.load_state_dict({k[len(start) :]: v for k, v in found.heads.items() if k.startswith(start)})
        torch.testing.assert_close(ours(inputs), burn_classifier(state, inputs), rtol=1e-4, atol=1e-4)


def test_every_key_of_its_training_is_used_or_named() -> None:
    ignored = layouts.read_published(work_dir("module."), "file").ignored
    assert {why: len([key for key in ignored if ignored[key] == why]) for why in set(ignored.values())} == {
        "the same network under another name": len(BACKBONE),
        WHY: len(CLASSIFIER) + len(TARGET),
        "a teacher": len(EXTRACTOR),
        "state of the optimizer": 1,
    }
    assert ignored["module.online_net.1.bn0.running_var"] == ignored["module.diff_branch_net.1.fc1.bias"] == WHY
    assert layouts.read_published(for_stage_2(), "file").ignored == {"classifier": WHY, "teacher_classifier": WHY}


def test_an_extracted_backbone_has_no_classifier() -> None:
    found = layouts.read_published({"state_dict": BACKBONE, "author": "OpenSelfSup"}, "file")
    assert (found.ignored, found.heads, found.config.head_relu) == ({}, {}, True)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_linear_evaluation_gives_its_logits(prefix: str) -> None:
    head = {"head.fc_cls.weight": torch.randn(6, 64), "head.fc_cls.bias": torch.randn(6)}
    found = layouts.read_published({"state_dict": under(prefix, under("backbone.", BACKBONE) | head)}, "file")
    assert (found.ignored, found.heads, found.config.head) == ({}, {}, (64, 6))
    logits = build_network(found.config, found.state)(IMAGES)
    torch.testing.assert_close(logits, forward(BACKBONE | head, IMAGES), rtol=1e-5, atol=1e-4)
