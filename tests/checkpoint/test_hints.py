"""What a published file does not say: taken from its weights, from the user, or assumed and named."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from edgebnn import checkpoint, runtime
from edgebnn.checkpoint.report import unused_keys
from edgebnn.errors import UserError
from edgebnn.export.fold import fold
from edgebnn.export.onnx import portable
from edgebnn.graph import ModelInfo
from edgebnn.hints import Hints
from edgebnn.nn import ReActNetConfig
from tests.networks import noise, random_network
from tests.published import forward, make_state
from tests.published_resnet import binary, make_binary, make_resnet

IMAGES = noise(0, 2, 32)
LAYOUTS = {
    # The layout's name, and what the file is assumed to be where neither it nor the user says.
    "reactnet-step1": (forward, "reactnet", "stage 1"),
    "s2-bnn-pretrained": (forward, "s2-bnn", "stage 2"),
    "s2-bnn-linear": (forward, "s2-bnn", "stage 2"),
    "burn": (forward, "burn", "stage 2"),
    "reactnet-18": (binary, "reactnet-18", "stage 2"),
}
Forward = Callable[..., Tensor]


def make(layout: str) -> dict[str, Tensor]:
    return make_state(layout) if LAYOUTS[layout][0] is forward else make_binary(layout)


def write(path: Path, state: dict[str, Tensor]) -> Path:
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, path)
    return path


def assert_exports(path: Path, hints: Hints, expected: Tensor) -> checkpoint.Checkpoint:
    """Network and exported file give the published logits."""
    loaded = checkpoint.load_checkpoint(path, hints=hints)
    assert expected.std() > 0.1
    torch.testing.assert_close(loaded.model(torch.from_numpy(IMAGES)), expected, rtol=1e-4, atol=1e-4)
    out = path.with_suffix(".onnx")
    out.write_bytes(portable.convert_to_onnx(fold(loaded.model, loaded.info)))
    # A bit at a threshold may flip between runtimes; the other stage or stride differs by more than ten times this.
    limit = 0.005 * float(expected.abs().max())
    np.testing.assert_allclose(runtime.load_model(out).run(IMAGES), expected.numpy(), atol=limit, rtol=0)
    return loaded


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_exports_as_of_the_stage_the_user_says(tmp_path: Path, layout: str, stage: int) -> None:
    state, (published, name, usual) = make(layout), LAYOUTS[layout]
    path = write(tmp_path / "file.pth.tar", state)
    expected, other = (
        published(state, torch.from_numpy(IMAGES), real_weights=real) for real in (stage == 1, stage > 1)
    )
    assert (expected - other).abs().max() > 0.08 * expected.abs().max()
    loaded = assert_exports(path, Hints(stage=stage, resolution=32), expected)  # type: ignore[arg-type]
    assert loaded.layout == name
    assert loaded.model.config.binary_activations
    assert loaded.model.config.binary_weights == (stage == 2)
    assert not any("stage" in words for words in loaded.assumed)
    assert usual in checkpoint.load_checkpoint(path).assumed


@pytest.mark.parametrize("layout", ["reactnet", "reactnet-step1", "s2-bnn-linear", "burn"])
def test_the_stem_stride_is_what_the_user_says(tmp_path: Path, layout: str) -> None:
    state = make_state(layout)
    path = write(tmp_path / "file.pth.tar", state)
    real = layout == "reactnet-step1"
    expected, other = (
        forward(state, torch.from_numpy(IMAGES), real_weights=real, stem_stride=stride) for stride in (1, 2)
    )
    assert (expected - other).abs().max() > 0.08 * expected.abs().max()
    loaded = assert_exports(path, Hints(stem_stride=1, resolution=32), expected)
    assert not any("stem" in words for words in loaded.assumed)
    assumed = checkpoint.load_checkpoint(path, hints=Hints(resolution=32))
    assert "stem stride 2" in assumed.assumed
    assert assumed.model.config.stem_stride == 2


@pytest.mark.parametrize(
    ("layout", "size"),
    # A column does not show which weights are of one output channel.
    [*itertools.product(LAYOUTS, ["1", "one per output channel", "whole numbers"]), ("reactnet", "1")],
)
def test_weights_that_are_signs_already_are_binary_by_their_values(tmp_path: Path, layout: str, size: str) -> None:
    def signs(weight: Tensor) -> Tensor:
        sizes = weight.abs().amax(dim=tuple(range(1, weight.ndim)), keepdim=True) if "channel" in size else 1
        return (weight.sign() * sizes).to(torch.int8 if size == "whole numbers" else torch.float32)

    state = make_state(layout) if layout == "reactnet" else make(layout)
    stored = {key: signs(value) if ".binary_" in key else value for key, value in state.items()}
    floats = {key: value.float() for key, value in stored.items()}
    path = write(tmp_path / "file.pth", stored)
    published = binary if layout == "reactnet-18" else forward
    loaded = assert_exports(path, Hints(resolution=32), published(floats, torch.from_numpy(IMAGES)))
    assert fold(loaded.model, loaded.info).binary
    assert not any("stage" in words for words in loaded.assumed)
    with pytest.raises(UserError, match="leave stage 1 out"):
        checkpoint.load_checkpoint(path, hints=Hints(stage=1))


def test_one_layer_that_holds_no_signs_makes_all_latent(tmp_path: Path) -> None:
    state = {key: value.sign() if ".binary_" in key else value for key, value in make_state("reactnet-step1").items()}
    state["feature.9.binary_pw.weight"][3, 2] = 0.5
    loaded = checkpoint.load_checkpoint(write(tmp_path / "file.pth", state))
    assert "stage 1" in loaded.assumed
    assert not loaded.model.config.binary_weights


def test_images_are_what_the_user_says_or_assumed(tmp_path: Path) -> None:
    path = write(tmp_path / "file.pth", make_state("reactnet"))
    loaded = checkpoint.load_checkpoint(path)
    assert loaded.assumed == ("stem stride 2", "resolution 224", "ImageNet's normalisation")
    said = Hints(stem_stride=1, resolution=64, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    loaded = checkpoint.load_checkpoint(path, hints=said)
    assert loaded.assumed == ()
    assert (loaded.info.resolution, loaded.info.mean, loaded.info.std) == (64, said.mean, said.std)


def test_what_contradicts_the_file_is_refused_in_one_line(tmp_path: Path) -> None:
    ours = tmp_path / "ours.safetensors"
    checkpoint.save_checkpoint(
        ours, random_network(1, ReActNetConfig(width=0.125, head=(4,))), ModelInfo(resolution=32)
    )
    column = write(tmp_path / "column.pth", make_state("reactnet"))
    bireal = write(tmp_path / "bireal.pth", make_binary("birealnet-18"))
    teacher = write(tmp_path / "teacher.pth", make_resnet("resnet-18", "torchvision"))
    cases: list[tuple[Path, Hints, str]] = [
        (ours, Hints(stage=2), "states its stage; leave the stage out"),
        (ours, Hints(stem_stride=2), "states its stem stride"),
        (ours, Hints(mean=(0.5,) * 3, std=(0.5,) * 3), "states its normalisation"),
        (ours, Hints(ema=True), "has no averaged weights"),
        (column, Hints(stage=1), r"in one column \(N, 1\), which only stage 2 does; leave stage 1 out"),
        (bireal, Hints(stage=1), "in one column"),
        (bireal, Hints(stem_stride=1), "shape means stem stride 2, not 1; leave the stem stride out"),
        (teacher, Hints(stage=1), "a real-valued resnet-18, which has no stage"),
        (teacher, Hints(stem_stride=1), "shape means stem stride 2, not 1"),
    ]
    for path, hints, message in cases:
        with pytest.raises(UserError, match=message) as caught:
            checkpoint.load_checkpoint(path, hints=hints)
        assert str(caught.value).startswith(f"checkpoint {path} ")
        assert "\n" not in str(caught.value)
    # Said in agreement with the file, the same is no contradiction; and ours takes another resolution.
    assert checkpoint.load_checkpoint(column, hints=Hints(stage=2)).model.config.binary_weights
    assert checkpoint.load_checkpoint(bireal, hints=Hints(stem_stride=2)).model.config.stem_stride == 2
    assert checkpoint.load_checkpoint(ours, hints=Hints(resolution=64)).info.resolution == 64


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stage": 3}, "stage 3 does not exist"),
        ({"stem_stride": 4}, "stem stride 4"),
        ({"mean": (0.5,) * 3}, "a mean and a std; give both"),
        ({"mean": (0.5,) * 3, "std": (0.5, 0, 0.5)}, "std above 0"),
        ({"mean": (float("nan"),) * 3, "std": (0.5,) * 3}, "are no normalisation"),
        ({"mean": (0.5,), "std": (0.5,)}, "three numbers each"),
    ],
)
def test_hints_that_make_no_sense_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Hints(**values).check()  # type: ignore[arg-type]
    with pytest.raises(UserError, match=message):
        checkpoint.load_checkpoint("any", hints=Hints(**values))  # type: ignore[arg-type]


def test_unused_keys_are_all_listed_under_their_reasons() -> None:
    ignored = {f"module.k.{block}.bn.{part}": "another encoder" for block in (1, 2, 13) for part in ("weight", "bias")}
    ignored |= {"module.k.3.bn.weight": "another encoder", "queue": "negatives", "module.k.1.2.x": "another encoder"}
    assert unused_keys(ignored) == [
        "unused, another encoder (8):",
        "  module.k.{1,2,13}.bn.{weight,bias}",
        "  module.k.3.bn.weight",
        "  module.k.1.2.x",
        "unused, negatives (1):",
        "  queue",
    ]
    assert unused_keys({}) == []
