import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from edgebnn import checkpoint
from edgebnn.errors import UserError
from edgebnn.graph import ModelInfo
from edgebnn.nn import BiRealConfig, ReActNetConfig, ResNetConfig
from tests.needs import needs_tensorflow
from tests.networks import noise, random_network
from tests.published import forward, make_state

IMAGES = torch.from_numpy(noise(0, 2, 32))


def save_published(path: Path, layout: str, prefix: str, extra: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Writes a published file as its trainer would and gives the encoder's own state dict."""
    state = make_state(layout)
    outer = {prefix + key: value for key, value in state.items()} | (extra or {})
    torch.save({"epoch": 200, "arch": "reactnet", "state_dict": outer, "optimizer": {"state": {}}}, path)
    return state


class Reading(dict[str, Tensor]):
    """A state dict that notes the keys it is asked for."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__(state)
        self.read: set[str] = set()

    def __getitem__(self, key: str) -> Tensor:
        self.read.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Tensor | None = None) -> Tensor | None:  # type: ignore[override]
        self.read.update({key} & self.keys())
        return super().get(key, default)


@pytest.mark.parametrize(
    "config",
    [
        ReActNetConfig(width=0.125, stem_stride=1, padding="one", head=(9, 4), activation_gradient="clipped"),
        BiRealConfig(arch="birealnet-18", width=1 / 16, head=(4,)),
        ResNetConfig("resnet-18", width=1 / 16, head=(9, 4), swav_head=True),
    ],
)
def test_ours_comes_back_as_it_was(tmp_path: Path, config: ReActNetConfig | BiRealConfig | ResNetConfig) -> None:
    model = random_network(1, config)
    info = ModelInfo("digits, binär", 32, (0.1, 0.2, 0.3), (0.5, 0.6, 0.7), ("a", "b", "c", "d"))
    checkpoint.save_checkpoint(tmp_path / "model.safetensors", model, info)
    loaded = checkpoint.load_checkpoint(tmp_path / "model.safetensors")
    assert (loaded.info, loaded.model.config, loaded.layout, loaded.ignored) == (info, config, "edgebnn", {})
    state = loaded.model.state_dict()
    assert [name for name, tensor in model.state_dict().items() if not torch.equal(tensor, state[name])] == []
    # Not to the bit: where a tensor lies in memory decides how a convolution rounds.
    torch.testing.assert_close(loaded.model(IMAGES), model(IMAGES), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("layout", "prefix", "name", "head"),
    [
        ("reactnet", "module.", "reactnet", (6,)),
        ("reactnet", "", "reactnet", (6,)),
        ("reactnet-step1", "module.", "reactnet", (6,)),
        ("s2-bnn-pretrained", "module.encoder_q.", "s2-bnn", (128, 12)),
        ("s2-bnn-linear", "module.", "s2-bnn", (6,)),
        ("burn", "", "burn", (128,)),
        ("burn", "module.backbone.", "burn", (128,)),
    ],
)
def test_a_published_file_gives_the_published_logits(
    tmp_path: Path, layout: str, prefix: str, name: str, head: tuple[int, ...]
) -> None:
    state = save_published(tmp_path / "file.pth.tar", layout, prefix)
    loaded = checkpoint.load_checkpoint(tmp_path / "file.pth.tar")
    assert (loaded.layout, loaded.model.config.head) == (name, head)
    assert loaded.model.config.binary_weights == (layout != "reactnet-step1")
    expected = forward(state, IMAGES, real_weights=layout == "reactnet-step1")
    assert expected.std() > 0.1
    torch.testing.assert_close(loaded.model(IMAGES), expected, rtol=1e-5, atol=1e-5)


def test_every_key_is_used_or_named(tmp_path: Path) -> None:
    extra = {"module.queue": torch.zeros(128, 8), "module.queue_ptr": torch.zeros(1, dtype=torch.long)}
    extra |= {"module.encoder_k." + key: value for key, value in make_state("s2-bnn-pretrained").items()}
    state = save_published(tmp_path / "file.pth.tar", "s2-bnn-pretrained", "module.encoder_q.", extra)
    ignored = checkpoint.load_checkpoint(tmp_path / "file.pth.tar").ignored
    # Five blocks expand and never run binary_pw and bn2; eight do not and never run the other two pairs.
    dead = {key: why for key, why in ignored.items() if "never runs" in why}
    assert len(dead) == 5 * (1 + 5) + 8 * 2 * (1 + 5)
    assert all(".binary_pw" in key or ".bn2" in key for key in dead)
    assert set(ignored) - set(dead) == set(extra)
    # What the published network reads is exactly what is said to be used.
    reading = Reading(state)
    forward(reading, IMAGES)
    used = {key for key in state if "module.encoder_q." + key not in dead and "num_batches_tracked" not in key}
    assert reading.read == used


def test_burn_after_linear_evaluation_keeps_its_extra_layer(tmp_path: Path) -> None:
    classifier = {"head.fc_cls.weight": torch.randn(6, 128), "head.fc_cls.bias": torch.randn(6)}
    state = save_published(tmp_path / "file.pth", "burn", "backbone.", classifier)
    loaded = checkpoint.load_checkpoint(tmp_path / "file.pth")
    assert loaded.model.config.head == (128, 6)
    assert loaded.ignored == {}
    torch.testing.assert_close(loaded.model(IMAGES), forward(state | classifier, IMAGES), rtol=1e-5, atol=1e-4)


def test_half_precision_files_are_computed_in_single(tmp_path: Path) -> None:
    model = random_network(1, ReActNetConfig(width=0.125, head=(4,)))
    half = {name: value.half() if value.is_floating_point() else value for name, value in model.state_dict().items()}
    model.load_state_dict(half)
    checkpoint.save_checkpoint(tmp_path / "model.safetensors", model.half(), ModelInfo())
    loaded = checkpoint.load_checkpoint(tmp_path / "model.safetensors").model
    assert {value.dtype for value in loaded.state_dict().values()} == {torch.float32, torch.int64}
    assert torch.equal(loaded(IMAGES), model.float()(IMAGES))


@needs_tensorflow
def test_loading_gets_along_with_tensorflow() -> None:
    # Torch's compiler and TensorFlow each bring an LLVM, and the second to be loaded aborts the process.
    code = (
        "import sys, tensorflow; from edgebnn.checkpoint import build_network; from edgebnn.nn import *;"
        "config = ReActNetConfig(width=0.125); build_network(config, ReActNet(config).state_dict());"
        "print('triton' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr[-2000:]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("width", float("inf"), "width inf"),
        ("width", 0.3, "multiple of 1/32"),
        ("stem_stride", 0, "Unknown stem_stride '0'"),
        ("stem_stride", "2", "Unknown stem_stride '2'"),
        ("binary_weights", "no", "Unknown binary_weights 'no'"),
        ("weight_gradient", "ste", "Unknown weight_gradient 'ste'"),
        ("head", [0], "head widths"),
        ("head", [1] * 17, "a head of 17 layers"),
        ("more", 1, "unexpected keyword"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(
    tmp_path: Path, field: str, value: object, message: str
) -> None:
    path = tmp_path / "model.safetensors"
    model = random_network(1, ReActNetConfig(width=0.125, head=(4,)))
    config = asdict(model.config) | {field: value}
    metadata = {"reactnet": json.dumps(config), "edgebnn": ModelInfo().to_json()}
    safetensors.torch.save_file(model.state_dict(), path, metadata)
    with pytest.raises(UserError, match=message):
        checkpoint.load_checkpoint(path)


def test_bad_files_are_refused_in_one_line(tmp_path: Path) -> None:
    whole = tmp_path / "whole.pth"
    state = save_published(whole, "s2-bnn-linear", "module.")
    ours = tmp_path / "ours.safetensors"
    checkpoint.save_checkpoint(ours, random_network(1, ReActNetConfig(width=0.125, head=(4,))), ModelInfo())

    def file(name: str, data: object) -> Path:
        path = tmp_path / name
        if isinstance(data, bytes):
            path.write_bytes(data)
        else:
            torch.save(data, path)
        return path

    safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    metadata = {"edgebnn": ModelInfo().to_json(), "transformer": "{}"}
    safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "newer.safetensors", metadata)
    cases = {
        tmp_path / "newer.safetensors": "is from another version of edgebnn",
        tmp_path / "absent.pth": "does not exist",
        file("empty.pth", b""): "is empty",
        file("text.pth", b"no such checkpoint"): "is no checkpoint, or it is cut off",
        file("half.pth", whole.read_bytes()[: whole.stat().st_size // 2]): "is no checkpoint, or it is cut off",
        file("half.safetensors", ours.read_bytes()[: ours.stat().st_size // 2]): "cut off or damaged",
        tmp_path / "foreign.safetensors": r"unknown layout \(it contains a\)",
        file("number.pth", {"state_dict": 3}): "no state dict",
        file("vgg.pth", {"conv1.weight": torch.zeros(64, 3, 7, 7)}): r"unknown layout \(it contains conv1.weight\)",
        file("lacks.pth", {k: v for k, v in state.items() if k != "feature.7.prelu1.weight"}): "lacks feature.7.prelu1",
        file("more.pth", state | {"feature.14.move11.bias": torch.zeros(1)}): "feature.14.move11.bias, which no",
        file("shape.pth", state | {"feature.3.binary_3x3.weight": torch.zeros(5, 5, 3, 3)}): "has shape",
        file("code.pth", {"state_dict": state, "evil": pytest.raises}): "contains Python objects besides tensors",
        file("norm.pth", state | {"feature.0.bn1.weight": torch.zeros(5)}): "not fit the network of its keys",
        file("scalar.pth", state | {"feature.0.conv1.weight": torch.zeros(())}): "not fit the network of its keys",
    }
    for path, message in cases.items():
        with pytest.raises(UserError, match=message) as caught:
            checkpoint.load_checkpoint(path)
        assert path.name in str(caught.value)
        assert len(" ".join(str(caught.value).split())) < 300
