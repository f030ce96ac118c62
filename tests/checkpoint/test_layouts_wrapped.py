"""Published weights as other programs save them: under other keys, with more in the names, beside other things.

What an unwrapped state dict is read as equals the published forward pass (test_checkpoint.py, test_layouts.py); here a
wrapped one is to be read as the same network, to the bit.
"""

import argparse
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from edgebnn import checkpoint
from edgebnn.checkpoint import layouts
from edgebnn.checkpoint.reasons import PROJECTOR
from edgebnn.checkpoint.source import Published
from edgebnn.errors import UserError
from edgebnn.hints import Hints
from tests.published import make_state
from tests.published_resnet import make_binary, make_resnet

State = dict[str, Tensor]

STATES: dict[str, State] = {
    layout: make_state(layout, stem=1)
    for layout in ("reactnet", "reactnet-step1", "s2-bnn-pretrained", "s2-bnn-linear", "burn")
}
STATES |= {layout: make_binary(layout, stem=1) for layout in ("birealnet-18", "reactnet-18", "reactnet-18-column")}
STATES |= {head: make_resnet("resnet-18", head, stem=1) for head in ("torchvision", "moco-v1", "moco", "swav", "none")}
STATES |= {"resnet-34": make_resnet("resnet-34", "torchvision", stem=1)}
STATES |= {"resnet-50": make_resnet("resnet-50", "simsiam", stem=1)}


def under(prefix: str) -> Callable[[State], State]:
    """Wraps names in `prefix`."""
    return lambda state: {prefix + key: value for key, value in state.items()}


def within(state: State, wrapper: str = "_orig_mod") -> State:
    """As wrapping each module of a list leaves names: behind the second part."""
    return {".".join([*key.split(".")[:2], wrapper, *key.split(".")[2:]]): value for key, value in state.items()}


def profiled(state: State) -> State:
    """With thop's counters in every module."""
    modules = {key.rpartition(".")[0] for key in state} | {""}
    names = [f"{module}.{name}".lstrip(".") for module in modules for name in ("total_ops", "total_params")]
    return {**state, **{name: torch.zeros(1, dtype=torch.float64) for name in names}}


WRAPPERS: dict[str, Callable[[State], Any]] = {
    **{key: lambda state, key=key: {key: state, "epoch": 3} for key in ("state_dict", "model", "model_state_dict")},
    **{key: lambda state, key=key: {key: state, "loss": 0.1} for key in ("net", "network", "student", "weights")},
    **{prefix: under(prefix) for prefix in ("module.", "net.", "network.", "student.", "any_name.", "_orig_mod.")},
    "DataParallel, compiled": under("module._orig_mod."),
    "compiled, DataParallel": under("_orig_mod.module."),
    "Lightning, compiled": under("model._orig_mod.encoder_q."),
    "FSDP": under("_fsdp_wrapped_module.net._fsdp_wrapped_module."),
    "compiled layers": within,
    "FSDP layers": lambda state: within(state, "_fsdp_wrapped_module"),
    "recomputed layers": lambda state: within(state, "_checkpoint_wrapped_module"),
    "profiled": profiled,
    "in a key in a key": lambda state: {"checkpoint": {"model": under("module.")(state)}},
    "Lightning": lambda state: {
        "pytorch-lightning_version": "2.6.0",
        "state_dict": under("network.")(state),
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"params": [0]}]}],
    },
    "reference script": lambda state: {
        "model": state,
        "optimizer": {"state": {0: {"momentum_buffer": torch.zeros(1)}}},
    },
}


def assert_same(found: Published, expected: Published) -> None:
    assert (found.layout, found.config) == (expected.layout, expected.config)
    assert found.state.keys() == expected.state.keys()
    assert [key for key, tensor in found.state.items() if not torch.equal(tensor, expected.state[key])] == []


@pytest.mark.parametrize("layout", STATES)
def test_every_layout_is_read_in_every_wrapper(layout: str) -> None:
    expected = layouts.read_published(STATES[layout], "file")
    for wrapper, wrap in WRAPPERS.items():
        found = layouts.read_published(wrap(STATES[layout]), "file")
        assert_same(found, expected)
        assert found.assumed == expected.assumed, wrapper
        listed = [key for key in found.ignored if not key.endswith(("total_ops", "total_params"))]
        assert len(listed) - len(expected.ignored) == (wrapper in ("Lightning", "reference script")), wrapper


def test_the_rest_of_a_training_file_is_listed_with_what_it_is() -> None:
    state = STATES["torchvision"]
    data = {
        "state_dict": under("model.")(state) | {"ema_n.n_averaged": torch.tensor(3), "center": torch.zeros(1, 8)},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(2)}}}],
        "scaler": {"scale": torch.ones(1)},
        "callbacks": {"best": {"score": torch.ones(1)}},
        "best_acc1": torch.tensor(70.0),
        "epoch": 4,
    }
    assert layouts.read_published(data, "file").ignored == {
        "ema_n.n_averaged": "a counter",
        "center": "part of the loss",
        "optimizer_states": "state of the optimizer",
        "scaler": "state of the optimizer",
        "callbacks": "state of the training run",
        "best_acc1": "beside the network's weights",
    }


@pytest.mark.parametrize("layout", ["reactnet", "s2-bnn-linear", "burn", "birealnet-18", "torchvision"])
def test_other_modules_beside_the_networks_own_are_named(layout: str) -> None:
    beside = {
        "aux_head.weight": "a head beside the network",
        "classifier.3.weight": "a head beside the network",
        "projector.0.weight": PROJECTOR,
        "predictor.0.bias": "a predictor, which only training uses",
        "queue_ptr": "the memory of contrastive learning",
        "teacher.stem.weight": "a teacher",
    }
    state, expected = STATES[layout], layouts.read_published(STATES[layout], "file")
    found = layouts.read_published(under("module.")(state | {key: torch.zeros(2) for key in beside}), "file")
    assert_same(found, expected)
    assert {key: found.ignored[f"module.{key}"] for key in beside} == beside
    # Of a binary network without fc, it would be the classifier.
    headless = {key: value for key, value in STATES["reactnet"].items() if not key.startswith("fc.")}
    with pytest.raises(UserError, match="^file contains classifier.weight, which no published layout has"):
        layouts.read_published(headless | {"classifier.weight": torch.zeros(2)}, "file")
    # Within the network, or by a name that says nothing, it may be part of what the network computes.
    within = next(iter(state)).rpartition(".")[0]
    for key in (f"{within}.head.weight", "attention.weight"):
        with pytest.raises(UserError, match=f"^file contains {re.escape(key)}, which no published layout has"):
            layouts.read_published(state | {key: torch.zeros(2)}, "file")


def test_names_are_listed_as_they_are_in_the_file() -> None:
    state = within(under("net.")(STATES["burn"])) | {"queue._orig_mod.keys": torch.zeros(3)}
    assert layouts.read_published(state, "file").ignored == {
        "queue._orig_mod.keys": "the memory of contrastive learning"
    }
    state["net.feature._orig_mod.14.move11.bias"] = torch.zeros(1)
    with pytest.raises(
        UserError, match=r"^file contains net\.feature\._orig_mod\.14\.move11\.bias, which no published"
    ):
        layouts.read_published(state, "file")


def test_files_of_other_programs_give_the_network_and_a_name(tmp_path: Path) -> None:
    expected = layouts.read_published(STATES["torchvision"], "file")
    safetensors.torch.save_file(STATES["torchvision"], tmp_path / "resnet50.a1_in1k.safetensors", {"format": "pt"})
    torch.save(
        {"model": STATES["torchvision"], "args": argparse.Namespace(lr=0.1, data="x")},
        tmp_path / "checkpoint_0199.pth.tar",
    )
    torch.save(STATES["torchvision"], tmp_path / "resnet18.v1.5.PTH")
    (tmp_path / ".pth").write_bytes((tmp_path / "resnet18.v1.5.PTH").read_bytes())
    names = {}
    for path in sorted(tmp_path.iterdir()):
        loaded = checkpoint.load_checkpoint(path)
        assert loaded.layout == "torchvision"
        assert torch.equal(loaded.model.state_dict()["head.0.weight"], expected.state["head.0.weight"])
        names[path.name] = loaded.info.name
    assert names == {
        "resnet50.a1_in1k.safetensors": "resnet50.a1_in1k",
        "checkpoint_0199.pth.tar": "checkpoint_0199",
        ".pth": "model",
        "resnet18.v1.5.PTH": "resnet18.v1.5",
    }


@pytest.mark.parametrize("module", ["core", "_core"])
def test_numbers_of_numpy_beside_the_weights_do_no_harm(tmp_path: Path, module: str) -> None:
    numbers = {"best_acc1": np.float64(70.5), "loss": np.float32(1), "epoch": np.int64(3), "done": np.bool_(True)}
    torch.save({"state_dict": STATES["torchvision"], **numbers}, tmp_path / "file.pth")
    # NumPy 1 and 2 call the module otherwise in a file.
    with zipfile.ZipFile(tmp_path / "file.pth") as file, zipfile.ZipFile(tmp_path / "other.pth", "w") as other:
        for name in file.namelist():
            other.writestr(name, re.sub(rb"numpy\._?core\.", b"numpy.%s." % module.encode(), file.read(name)))
    assert checkpoint.load_checkpoint(tmp_path / "other.pth").layout == "torchvision"
    torch.save({"state_dict": STATES["torchvision"], "names": np.array(["a"], dtype=object)}, tmp_path / "file.pth")
    with pytest.raises(UserError, match=r"contains Python objects besides tensors \(numpy"):
        checkpoint.load_checkpoint(tmp_path / "file.pth")


def test_python_objects_are_refused_by_name(tmp_path: Path) -> None:
    torch.save({"state_dict": STATES["torchvision"], "path": Path("x")}, tmp_path / "file.pth")
    with pytest.raises(UserError, match=r"Python objects besides tensors \(pathlib\.(_local\.)?PosixPath\), which"):
        checkpoint.load_checkpoint(tmp_path / "file.pth")


AVERAGED: dict[str, Callable[[State, State], Any]] = {
    "state_dict_ema": lambda state, ema: {"state_dict": state, "state_dict_ema": ema},
    "model_ema": lambda state, ema: {"model": state, "model_ema": under("module.")(ema)},
    "ema": lambda state, ema: {"net": state, "ema": ema},
    "ema_state_dict": lambda state, ema: {"ema_state_dict": ema, "state_dict": state},
    "EMA": lambda state, ema: {"model": state, "EMA": ema},
    "swa": lambda state, ema: {"state_dict": state, "swa": {"model": ema}},
    "avg_model": lambda state, ema: under("net.")(state) | under("avg_model.module.")(ema),
    "averaged": lambda state, ema: {"model": state, "averaged": ema},
    "shadow": lambda state, ema: {"model": state, "shadow": ema},
    "ema_model": lambda state, ema: {"state_dict": under("model.")(state) | under("ema_model.module.")(ema)},
    "ema within": lambda state, ema: state | under("ema.")(ema) | {"ema.n_averaged": torch.tensor(3)},
    "teacher": lambda state, ema: {"teacher": under("backbone.")(ema), "student": under("module.backbone.")(state)},
}


@pytest.mark.parametrize("kind", AVERAGED)
@pytest.mark.parametrize("layout", ["s2-bnn-linear", "reactnet-18", "swav"])
def test_averaged_weights_are_read_when_they_are_asked_for(kind: str, layout: str) -> None:
    state = STATES[layout]
    ema = {key: value * 2 for key, value in state.items()}
    data = AVERAGED[kind](state, ema)
    trained, averaged = layouts.read_published(data, "file"), layouts.read_published(data, "file", Hints(ema=True))
    assert_same(trained, layouts.read_published(state, "file"))
    assert_same(averaged, layouts.read_published(ema, "file"))
    assert [
        note for note in trained.assumed if note.startswith("the trained weights, not the averaged ones (EMA) under ")
    ]
    assert not [note for note in averaged.assumed if "weights" in note]
    names = ("ema", "EMA", "swa", "avg_model.", "averaged", "shadow", "teacher")
    left = {why for key, why in trained.ignored.items() if key.startswith(names) or "_ema" in key}
    assert left <= {"averaged weights (EMA)", "a teacher", "a counter"}
    assert left


def test_averages_that_are_not_there_are_refused_with_what_is() -> None:
    moco = under("module.encoder_q.")(STATES["moco"]) | under("module.encoder_k.")(STATES["moco"])
    with pytest.raises(UserError, match="only state_dict.module.encoder_q, state_dict.module.encoder_k; leave ema out"):
        layouts.read_published({"state_dict": moco}, "file", Hints(ema=True))
    with pytest.raises(UserError, match=r"file has no averaged weights \(EMA\) .* only the file itself; leave"):
        layouts.read_published(STATES["burn"], "file", Hints(ema=True))
    # A teacher of another shape is no average of the student.
    data = {"student": STATES["none"], "teacher": STATES["resnet-34"]}
    assert_same(layouts.read_published(data, "file"), layouts.read_published(STATES["none"], "file"))
    with pytest.raises(UserError, match="only student, teacher; leave ema out"):
        layouts.read_published(data, "file", Hints(ema=True))


def test_the_usual_letters_tell_student_teacher_and_key_encoder() -> None:
    state, other = STATES["reactnet-18"], {key: value * 2 for key, value in STATES["reactnet-18"].items()}
    for data in (
        {"model_s": state, "model_t": other},
        under("module.encoder_q.")(state) | under("module.encoder_t.")(other),
        under("module.net_k.")(other) | under("module.net_q.")(state),
    ):
        found = layouts.read_published(data, "file")
        assert_same(found, layouts.read_published(state, "file"))
        assert not [note for note in found.assumed if "network" in note]


def test_averages_alone_are_read() -> None:
    for data in ({"ema": STATES["moco"]}, under("teacher.backbone.")(STATES["moco"])):
        assert_same(layouts.read_published(data, "file"), layouts.read_published(STATES["moco"], "file"))


def test_several_networks_are_refused_unless_they_are_one() -> None:
    one, other = STATES["none"], {key: value * 2 for key, value in STATES["none"].items()}
    with pytest.raises(UserError, match=r"contains several networks \(net_a, net_b\); save the right one"):
        layouts.read_published({"net_a": one, "net_b": other}, "file")
    with pytest.raises(UserError, match=r"several networks \(state_dict.left, state_dict.right\)"):
        layouts.read_published({"state_dict": under("left.")(one) | under("right.")(other)}, "file")
    twice = under("compiled._orig_mod.")(one) | under("plain.")(one)
    found = layouts.read_published(twice, "file")
    assert_same(found, layouts.read_published(one, "file"))
    assert set(found.ignored.values()) == {"the same network under another name"}
    # A usual name counts more than another.
    found = layouts.read_published({"a_copy": other, "model": one}, "file")
    assert_same(found, layouts.read_published(one, "file"))
    assert found.assumed == ("the network under model, not the one under a_copy",)


def test_the_trained_network_is_read_whatever_its_teacher_is() -> None:
    real, binary = STATES["resnet-34"], STATES["reactnet-18"]
    for data, expected in (
        ({"student": real, "teacher": binary}, real),
        ({"student": binary, "teacher": real}, binary),
        (under("student.")(real) | under("teacher_net.")(binary), real),
        ({"state_dict": real, "binary": binary}, real),
    ):
        assert_same(layouts.read_published(data, "file"), layouts.read_published(expected, "file"))


def test_a_mapping_within_itself_does_no_harm() -> None:
    data: dict[str, Any] = {"model": STATES["none"]}
    data |= {f"again{number}": data for number in range(50)}
    assert_same(layouts.read_published(data, "file"), layouts.read_published(STATES["none"], "file"))
