"""Stage 2 of BURN's methods from the files of its public code, and published teachers of methods that project."""

from pathlib import Path

import pytest
import torch

from edgebnn.errors import UserError
from edgebnn.train.data.sources import Digits
from edgebnn.train.methods.burn import BURN
from edgebnn.train.methods.burn_code import BURNCode
from edgebnn.train.methods.byol import BYOL
from edgebnn.train.methods.student import Student
from edgebnn.train.methods.teacher import load_teacher
from tests.published import make_burn_classifier, make_state
from tests.published_resnet import make_resnet
from tests.train.conftest import moved, snapshot, train_one_step

STUDENT = Student(width=1 / 16, activation_gradient="polynomial")
CLASSES = 20
BACKBONE = make_state("burn", stem=2)


@pytest.fixture
def images() -> Digits:
    """Normalised as the published networks expect."""
    data = Digits(batch_size=32, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    data.setup("fit")
    return data


def write_teacher(folder: Path, *, features: int, head: str = "none") -> str:
    """BURN's moco_v2_800ep.pth: a ResNet under `state_dict`."""
    path = folder / "moco_v2_800ep.pth"
    torch.save({"state_dict": make_resnet("resnet-18", head, stem=features // 8)}, path)
    return str(path)


def write_stage_1(folder: Path, *, target_features: int, kind: str = "extracted") -> str:
    online, target = make_burn_classifier(64, CLASSES, seed=1), make_burn_classifier(target_features, CLASSES, seed=2)
    path = folder / "burn_stage1_ep_200.pth"
    if kind == "extracted":
        parts = {"backbone": BACKBONE, "classifier": online, "teacher_classifier": target}
        torch.save({name: {"state_dict": state} for name, state in parts.items()} | {"author": "x"}, path)
    else:
        parts = {"backbone": BACKBONE, "online_net.0": BACKBONE, "online_net.1": online, "diff_branch_net.1": target}
        state = {f"module.{part}.{key}": value for part, tensors in parts.items() for key, value in tensors.items()}
        torch.save({"meta": {"epoch": 200}, "state_dict": state, "optimizer": {"state": {}}}, path)
    return str(path)


@pytest.mark.parametrize("kind", ["extracted", "work-dir"])
@pytest.mark.parametrize("method", [BURN, BURNCode])
@pytest.mark.parametrize("target_features", [64, 96])
def test_stage_2_starts_from_a_published_stage_1(
    method: type[BURN],
    kind: str,
    target_features: int,
    images: Digits,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    init = write_stage_1(tmp_path, target_features=target_features, kind=kind)
    second = method(
        STUDENT, write_teacher(tmp_path, features=target_features), init_checkpoint=init, classifier_dim=CLASSES
    )
    second.prepare(images)
    assert torch.equal(second.network.units[0].sign.shift, BACKBONE["feature.1.move11.bias"].flatten())
    assert torch.equal(second.network.head[0].weight, BACKBONE["fc.0.weight"])
    for ours, inputs, seed in ((second.classifier, 64, 1), (second.target_classifier, target_features, 2)):
        for number, part in enumerate(("fc0", "bn0", None, "fc1")):
            for key, tensor in ours[number].state_dict().items():
                assert torch.equal(tensor, make_burn_classifier(inputs, CLASSES, seed=seed)[f"{part}.{key}"])
    note = f"note: initial checkpoint {init} holds no match, which starts at random\n"
    stem, *notes = capsys.readouterr().err.splitlines(keepends=True)
    assert "stem stride 2 (model.init_args.init_checkpoint_hints says otherwise)" in stem
    assert notes == ([note] if method is BURN and target_features == 96 else [])
    before = snapshot(second)
    train_one_step(second, images)
    assert {"network.stem.weight", "classifier.0.weight"} <= moved(second, before)


def test_what_does_not_fit_is_refused_in_one_line(images: Digits, tmp_path: Path) -> None:
    teacher = write_teacher(tmp_path, features=64)
    init = write_stage_1(tmp_path, target_features=72)
    with pytest.raises(UserError, match=r"target_classifier\.0\.weight is \(20, 72\), this stage expects \(20, 64\)"):
        BURN(STUDENT, teacher, init_checkpoint=init, classifier_dim=CLASSES).prepare(images)
    backbone = tmp_path / "backbone.pth"
    torch.save({"state_dict": BACKBONE, "author": "x"}, backbone)
    with pytest.raises(UserError, match="backbone.pth holds no classifier and no target_classifier; give model.safe"):
        BURNCode(STUDENT, teacher, init_checkpoint=str(backbone), classifier_dim=CLASSES).prepare(images)
    evaluated = tmp_path / "evaluated.pth"
    head = {"head.fc_cls.weight": torch.zeros(6, 64), "head.fc_cls.bias": torch.zeros(6)}
    torch.save({"state_dict": {f"backbone.{key}": value for key, value in BACKBONE.items()} | head}, evaluated)
    with pytest.raises(UserError, match=r"evaluated.pth holds .*head=\(64, 6\).*, the student is"):
        BURN(STUDENT, teacher, init_checkpoint=str(evaluated), classifier_dim=CLASSES).prepare(images)
    plain = tmp_path / "plain.pth"
    torch.save({key: value for key, value in make_state("reactnet", stem=2).items() if not key.startswith("fc")}, plain)
    with pytest.raises(UserError, match="plain.pth holds no projector and no predictor; give model.safetensors"):
        BYOL(STUDENT, init_checkpoint=str(plain), hidden_dim=8, dim=4).prepare(images)


def test_a_projector_of_another_kind_is_named(images: Digits, tmp_path: Path) -> None:
    simsiam = write_teacher(tmp_path, features=64, head="simsiam")
    assert load_teacher(simsiam, images).num_features == 64
    with pytest.raises(
        UserError, match=r"no projection head that this method can use: fc\.0\.weight belongs to a proj"
    ):
        load_teacher(simsiam, images, projection=True)
    swav = write_teacher(tmp_path, features=64, head="swav")
    assert load_teacher(swav, images, projection=True).outputs == 12


def test_a_runs_last_ckpt_is_refused_with_the_file_to_give(images: Digits, tmp_path: Path) -> None:
    method = BYOL(Student(arch="resnet-18", width=1 / 16, stem_stride=1), hidden_dim=8, dim=4)
    method.prepare(images)
    path = tmp_path / "last.ckpt"
    config = {"config": "seed_everything: 0\n"}
    torch.save({"pytorch-lightning_version": "2.6", "state_dict": method.state_dict()} | config, path)
    with pytest.raises(
        UserError, match=f"^teacher {path} is the last.ckpt of a run, .*; give model.safetensors beside it$"
    ):
        load_teacher(str(path), images)
    with pytest.raises(UserError, match=f"^initial checkpoint {path} is the last.ckpt of a run"):
        BYOL(STUDENT, init_checkpoint=str(path), hidden_dim=8, dim=4).prepare(images)
