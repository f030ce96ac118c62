"""Published files as teachers, starts and subjects of evaluation: what a configuration says of them."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from edgebnn import records
from edgebnn.errors import UserError
from edgebnn.graph.info import IMAGENET_MEAN, IMAGENET_STD
from edgebnn.hints import Hints
from edgebnn.train.cli import ConfigReader, fit
from edgebnn.train.data.sources import Digits
from edgebnn.train.evaluation.finetune import FineTune
from edgebnn.train.evaluation.knn import KNN
from edgebnn.train.evaluation.linear import BurnLinearEvaluation, LinearEvaluation
from edgebnn.train.evaluation.svm import LowShotSVM
from edgebnn.train.methods.burn import BURN
from edgebnn.train.methods.byol import BYOL
from edgebnn.train.methods.distill import Distill
from edgebnn.train.methods.moco import MoCoV2
from edgebnn.train.methods.moco_distill import MoCoV2Distill
from edgebnn.train.methods.student import Student
from edgebnn.train.methods.supervised import Supervised
from edgebnn.train.methods.swav import SwAV
from tests.networks import noise
from tests.published import forward, make_state
from tests.published_resnet import make_resnet
from tests.train.conftest import BINARY

IMAGES = torch.from_numpy(noise(0, 2, 32))
STAGE1 = Hints(stage=1, stem_stride=1)
STUDENT = Student(width=1 / 8, stem_stride=1, binary_weights=False)


@pytest.fixture
def data() -> Digits:
    """Digits whose configuration gives no normalisation."""
    found = Digits(batch_size=32, resolution=32)
    found.setup("fit")
    return found


def write(path: Path, state: dict[str, Tensor]) -> str:
    torch.save(state, path)
    return str(path)


@pytest.mark.parametrize("kind", [LinearEvaluation, BurnLinearEvaluation, KNN, FineTune, LowShotSVM])
def test_every_evaluation_takes_hints(kind: type, data: Digits, tmp_path: Path) -> None:
    state = make_state("burn")
    path = write(tmp_path / "burn.pth", state)
    options = {"k": 20} if kind is KNN else {"shots": (1,)} if kind is LowShotSVM else {}
    method = kind(checkpoint=path, checkpoint_hints=STAGE1, **options)
    method.prepare(data)
    assert method.found.assumed == ("ImageNet's normalisation",)
    # All of them keep the backbone: features are what comes before the head.
    features = forward({k: v for k, v in state.items() if "fc" not in k} | IDENTITY, IMAGES, **PLAIN)
    torch.testing.assert_close(method.network.eval().features(IMAGES).relu(), features, rtol=1e-4, atol=1e-4)


PLAIN = {"real_weights": True, "stem_stride": 1}
IDENTITY = {"fc.0.weight": torch.eye(128), "fc.0.bias": torch.zeros(128)}
"""BURN's layer after pooling, as one that only takes the ReLU."""


def test_every_method_with_a_teacher_takes_hints(data: Digits, tmp_path: Path) -> None:
    state = make_state("s2-bnn-pretrained")
    path = write(tmp_path / "teacher.pth", state)
    expected = forward(state, IMAGES, **PLAIN)  # type: ignore[arg-type]
    student = Student(width=1 / 16)
    for method in (
        Distill(student, path, teacher_hints=STAGE1),
        MoCoV2Distill(student, path, queue_size=64, teacher_hints=STAGE1),
        BURN(student, path, classifier_dim=8, teacher_hints=STAGE1),
    ):
        method.prepare(data)
        found = method.extractor if isinstance(method, BURN) else method.teacher
        torch.testing.assert_close(found(IMAGES), expected, rtol=1e-3, atol=1e-3)
    state = make_state("s2-bnn-linear", classes=10)
    supervised = Supervised(student, write(tmp_path / "classifier.pth", state), teacher_hints=STAGE1)
    supervised.prepare(data)
    expected = forward(state, IMAGES, **PLAIN)  # type: ignore[arg-type]
    torch.testing.assert_close(supervised.teacher(IMAGES), expected, rtol=1e-3, atol=1e-3)


def test_every_method_with_a_start_takes_hints(data: Digits, tmp_path: Path) -> None:
    state = make_state("s2-bnn-pretrained")
    path = write(tmp_path / "step1.pth", state)
    expected = forward(state, IMAGES, **PLAIN)  # type: ignore[arg-type]
    classifier = make_state("s2-bnn-linear", classes=10)
    methods = (
        MoCoV2(STUDENT, path, dim=12, queue_size=64, init_checkpoint_hints=STAGE1),
        MoCoV2Distill(STUDENT, path, path, queue_size=64, teacher_hints=STAGE1, init_checkpoint_hints=STAGE1),
        Distill(STUDENT, path, path, teacher_hints=STAGE1, init_checkpoint_hints=STAGE1),
    )
    for method in methods:
        method.prepare(data)
        torch.testing.assert_close(method.network.eval()(IMAGES), expected, rtol=1e-4, atol=1e-4)
    init = write(tmp_path / "classifier.pth", classifier)
    supervised = Supervised(STUDENT, init_checkpoint=init, init_checkpoint_hints=STAGE1)
    supervised.prepare(data)
    expected = forward(classifier, IMAGES, **PLAIN)  # type: ignore[arg-type]
    torch.testing.assert_close(supervised.network.eval()(IMAGES), expected, rtol=1e-4, atol=1e-4)
    # The stride decides what student fits, and these read the hints before they look for their heads.
    headless = write(tmp_path / "headless.pth", {k: v for k, v in state.items() if "fc" not in k})
    for kind in (BYOL, SwAV):
        with pytest.raises(UserError, match="stem_stride=2.*the student is .*stem_stride=1"):
            kind(STUDENT, headless).prepare(data)
        with pytest.raises(UserError, match="holds no projector and no p"):
            kind(STUDENT, headless, init_checkpoint_hints=STAGE1).prepare(data)


def test_what_was_assumed_is_said_in_one_line(data: Digits, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "moco.pth", make_resnet("resnet-18", "moco"))
    Distill(BINARY, path).prepare(data)
    key = "model.init_args.teacher_hints"
    line = f"assumed of teacher {path}: ImageNet's normalisation ({key} says otherwise)\n"
    assert capsys.readouterr().err == line
    # By now the data are given that normalisation, which confirms it.
    Distill(BINARY, path).prepare(data)
    assert capsys.readouterr().err == ""
    assert (data.mean, data.std) == (IMAGENET_MEAN, IMAGENET_STD)
    own = Hints(mean=(0.25,) * 3, std=(0.5,) * 3)
    with pytest.raises(UserError, match=r"the teacher expects images normalised by mean \[0.25"):
        Distill(BINARY, path, teacher_hints=own).prepare(data)
    # The line is what leads to the hint where an assumption does not fit the data.
    data.mean, data.std = (0.25,) * 3, (0.5,) * 3
    with pytest.raises(UserError, match="the teacher expects"):
        Distill(BINARY, path).prepare(data)
    assert capsys.readouterr().err == line
    Distill(BINARY, path, teacher_hints=own).prepare(data)
    assert capsys.readouterr().err == ""
    with pytest.raises(UserError, match=f"{key}.resolution: .* set data.init_args.resolution"):
        Distill(BINARY, path, teacher_hints=replace(own, resolution=64)).prepare(data)


def test_a_configuration_gives_hints_and_the_record_has_what_was_assumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "burn.pth", make_state("burn"))
    arguments = ["--run", str(tmp_path / "run"), "--model", "KNN", f"--model.checkpoint={path}", "--model.k=20"]
    arguments += ["--model.checkpoint_hints.stage=1", "--data", "Digits", "--data.batch_size", "100"]
    arguments += ["--trainer.accelerator=cpu", "--trainer.logger=false", "--trainer.enable_progress_bar=false"]
    arguments += ["--trainer.max_epochs=1"]
    fit(arguments)
    (record,) = records.read_records(tmp_path)
    assert record.context["assumed"] == ["stem stride 2", "ImageNet's normalisation"]
    assert "(model.init_args.checkpoint_hints says otherwise)" in capsys.readouterr().err
    # A run's configuration from before there were hints still is the same.
    plain = [argument for argument in arguments if "hints" not in argument]
    assert ConfigReader(plain).resolved()["model"]["init_args"]["checkpoint_hints"] is None
    for wrong, message in (("stage=3", "Literal.1, 2."), ("stages=1", "stages"), ("mean=[1,1,1]", "a mean and a std")):
        with pytest.raises(UserError, match=message):
            fit([*plain, f"--model.checkpoint_hints.{wrong}"])
