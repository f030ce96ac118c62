"""`train evaluate`: right answers against plain loops, for checkpoints and for the files made from them."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from edgebnn import checkpoint, records, runtime
from edgebnn.checkpoint import Checkpoint
from edgebnn.errors import UserError
from edgebnn.export.fold import fold
from edgebnn.export.onnx import packed, portable
from edgebnn.export.tflite import lce, plain
from edgebnn.export.verify.parity import Limits
from edgebnn.graph import ModelInfo
from edgebnn.graph.info import IMAGENET_MEAN, IMAGENET_STD
from edgebnn.hints import Hints
from edgebnn.nn import Network, ReActNetConfig
from edgebnn.nn.packed import torch_convolutions
from edgebnn.records import Record
from edgebnn.runtime import kernels
from edgebnn.train.__main__ import main
from edgebnn.train.data.sources import Digits
from edgebnn.train.evaluation.classifier import classifier_from_checkpoint, classifier_from_export
from tests.needs import needs_lce
from tests.networks import noise, random_network
from tests.published import forward, make_state
from tests.train.data.test_data_files import smooth

NAMES = tuple("0123456789")
MEAN, STD = (0.3, 0.31, 0.32), (0.4, 0.38, 0.36)
"""Not those of the data set: the network's own count."""
INFO = ModelInfo("net", 32, MEAN, STD, NAMES)


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """The command sets torch's threads for its whole process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def pixels() -> tuple[Tensor, Tensor]:
    """The held-out digits, uint8 (359, 3, 8, 8), and their classes."""
    data = Digits()
    data.setup()
    return data.parts["val"]


def prepared(pixels: Tensor, side: int = 32) -> Tensor:
    resized = TF.resize(pixels, [side, side], antialias=True).double() / 255
    return ((resized - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]).float()


@pytest.fixture(scope="module")
def network() -> Network:
    """Random features, and a classifier fitted to the training digits by least squares."""
    model = random_network(0, ReActNetConfig(width=1 / 8, stem_stride=1, head=(10,)))
    data = Digits(mean=MEAN, std=STD, batch_size=64)
    data.setup()
    features, labels = zip(*((model.features(view), labels) for (view,), labels in data.fixed_train_dataloader()))
    weight, bias = fitted(torch.cat(features), torch.cat(labels))
    model.head[0].weight.copy_(weight)
    model.head[0].bias.copy_(bias)
    return model


def fitted(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Weight and bias of a linear classifier by least squares."""
    x = torch.nn.functional.pad(features.double(), (0, 1), value=1.0)
    y = torch.eye(int(labels.max()) + 1, dtype=torch.double)[labels]
    solution = torch.linalg.solve(x.T @ x + 0.1 * torch.eye(x.shape[1]), x.T @ y).float()
    return solution[:-1].T.contiguous(), solution[-1]


@pytest.fixture(scope="module")
def files(network: Network, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The network as a checkpoint and in both forms of ONNX."""
    folder, graph = tmp_path_factory.mktemp("files"), fold(network, INFO)
    made = {"portable.onnx": portable.convert_to_onnx(graph), "packed.onnx": packed.convert_to_packed_onnx(graph)}
    checkpoint.save_checkpoint(folder / "model.safetensors", network, INFO)
    for name, data in made.items():
        (folder / name).write_bytes(data)
    return {name: folder / name for name in ("model.safetensors", *made)}


@pytest.fixture(scope="module")
def tflite_files(network: Network, files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The network as a checkpoint and in both forms of TFLite."""
    folder, graph = tmp_path_factory.mktemp("tflite"), fold(network, INFO)
    (folder / "lce.tflite").write_bytes(lce.convert_to_lce(graph))
    (folder / "plain.tflite").write_bytes(plain.convert_to_tflite(graph))
    first = {"model.safetensors": files["model.safetensors"]}
    return first | {name: folder / name for name in ("lce.tflite", "plain.tflite")}


def evaluated(run: Path, *arguments: object) -> list[Record]:
    """The records that the command writes, in the order of its files."""
    main(["evaluate", *map(str, arguments), "--record", str(run)])
    return sorted(records.read_records(run), key=lambda record: record.created)


def right(scores: Tensor, labels: Tensor, within: int = 1) -> int:
    """Images on which fewer than `within` classes score higher than the right one."""
    rows = zip(scores.tolist(), labels.tolist())
    return sum(sum(score > row[label] for score in row) < within for row, label in rows)


@pytest.mark.parametrize(
    ("kind", "formats"),
    [
        ("files", ["checkpoint", "onnx", "onnx-packed"]),
        pytest.param("tflite_files", ["checkpoint", "lce", "tflite"], marks=needs_lce),
    ],
)
def test_right_answers_are_those_of_plain_loops(
    kind: str,
    formats: list[str],
    request: pytest.FixtureRequest,
    network: Network,
    pixels: tuple[Tensor, Tensor],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    files: dict[str, Path] = request.getfixturevalue(kind)
    images, labels = prepared(pixels[0]), pixels[1]
    scores = torch.cat([network(image[None]) for image in images])
    found = evaluated(tmp_path, *files.values(), "--data", "digits", "--threads", 1)
    assert [record.context["format"] for record in found] == formats
    first = found[0]
    assert first.values == {
        "right": right(scores, labels),
        "right_in_5": right(scores, labels, 5),
        "top1": round(100 * right(scores, labels) / 359, 4),
        "top5": round(100 * right(scores, labels, 5) / 359, 4),
    }
    # Far from chance, or agreement would say little.
    assert first.values["top1"] > 50
    for record, path in zip(found[1:], list(files.values())[1:]):
        model = runtime.load_model(path)
        own = torch.from_numpy(np.concatenate([model.run(image[None].numpy()) for image in images]))
        assert record.values["right"] == right(own, labels)
        same = 100 * (own.argmax(1) == scores.argmax(1)).double().mean().item()
        assert record.context["same_top1"] == round(same, 4)
        assert record.context["compared_with"] == first.context["sha256"]
        assert same >= Limits().top1_agreement
        assert abs(record.values["right"] - first.values["right"]) <= 359 * (100 - Limits().top1_agreement) / 100
    shared = {"protocol": "own classifier", "data": "Digits", "images": 359, "skipped": 0, "threads": 1}
    shared |= {"resolution": 32, "classes_matched_by": "name", "assumed": []}
    for record in found:
        assert record.model == "net"
        assert {key: record.context[key] for key in shared} == shared
    out = capsys.readouterr().out.splitlines()
    assert [line.split()[-5].replace(",", "") for line in out[1:-1]] == [str(each.values["right"]) for each in found]
    assert out[-1].startswith("Digits at 32x32, 10 classes, 1 thread;")


def test_each_file_sees_its_own_resolution(
    network: Network, files: dict[str, Path], pixels: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    small = tmp_path / "small.safetensors"
    checkpoint.save_checkpoint(small, network, ModelInfo("small", 16, MEAN, STD, NAMES))
    found = evaluated(tmp_path, files["packed.onnx"], small, "--data", "digits", "--batch", 100)
    assert [record.context["resolution"] for record in found] == [32, 16]
    for record, side in zip(found, (32, 16)):
        assert record.values["right"] == right(network(prepared(pixels[0], side)), pixels[1])


def test_classes_are_matched_by_name_where_the_names_are_the_datas(
    network: Network, files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    order = torch.tensor([3, 1, 4, 0, 5, 9, 2, 6, 8, 7])
    turned = random_network(0, network.config)
    turned.load_state_dict(network.state_dict())
    turned.head[0].weight.copy_(network.head[0].weight[order])
    turned.head[0].bias.copy_(network.head[0].bias[order])
    labels = {"turned": tuple(NAMES[number] for number in order), "unknown": (), "other": tuple("abcdefghij")}
    for name, theirs in labels.items():
        model = turned if name == "turned" else network
        checkpoint.save_checkpoint(tmp_path / name, model, ModelInfo(name, 32, MEAN, STD, theirs))
    paths = [files["model.safetensors"], *(tmp_path / name for name in labels)]
    found = evaluated(tmp_path, *paths, "--data", "digits")
    assert len({record.values["right"] for record in found}) == 1
    assert [record.context.get("same_top1") for record in found] == [None, 100, 100, 100]
    assert [record.context["classes_matched_by"] for record in found] == ["name", "name", "number", "number"]
    assert capsys.readouterr().err == (
        f"warning: {tmp_path / 'other'} and data digits name the classes differently ('a', '0'); "
        "they are matched by their order\n"
    )


def image_folder(root: Path, classes: int = 6, each: int = 3) -> list[tuple[Path, int]]:
    """Pictures in class folders under `root`/val, and a file in the last class that is no picture."""
    made = []
    for label in range(classes):
        folder = root / "val" / f"n{label}"
        folder.mkdir(parents=True)
        for number in range(each):
            made.append((folder / f"{number}.png", label))
            smooth(70 + 9 * number, 80, 5 * label + number).save(made[-1][0])
    (folder / "broken.png").write_bytes(b"no picture")
    return made


@pytest.mark.parametrize("layout", ["s2-bnn-linear", "reactnet"])
def test_a_published_file_on_a_folder_of_images(
    layout: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = make_state(layout)
    made = image_folder(tmp_path / "pictures")
    labels = torch.tensor([label for _, label in made])
    views = []
    for path, _ in made:
        with Image.open(path) as image:
            short = min(image.size)
            # 256/224: the short side to 256, then the centre.
            resized = image.resize(tuple(256 * side // short for side in image.size), Image.Resampling.BILINEAR)
        left, top = round((resized.width - 224) / 2), round((resized.height - 224) / 2)
        view = np.asarray(resized.crop((left, top, left + 224, top + 224)), np.float32) / 255
        views.append(((view - np.float32(IMAGENET_MEAN)) / np.float32(IMAGENET_STD)).transpose(2, 0, 1))
    images, width = torch.from_numpy(np.stack(views)), state["fc.weight"].shape[1]
    features = forward(state | {"fc.weight": torch.eye(width), "fc.bias": torch.zeros(width)}, images)
    # Taught to be wrong about one picture of each class.
    wanted = torch.where(torch.arange(18) % 3 == 0, (labels + 1) % 6, labels)
    state["fc.weight"], state["fc.bias"] = fitted(features, wanted)
    scores = forward(state, images)
    assert 6 < right(scores, labels) < 15
    path = tmp_path / "checkpoint.pth.tar"
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, path)
    for root in (tmp_path / "pictures", tmp_path / "pictures" / "val"):
        (record,) = evaluated(tmp_path / root.name, path, "--data", root, "--name", "theirs", "--workers", 0)
        assert record.model == "theirs"
        assert record.values["right"] == right(scores, labels)
        assert record.values["right_in_5"] == right(scores, labels, 5)
        expected = {"data": "ImageFolder pictures", "images": 18, "skipped": 1, "resolution": 224}
        expected |= {"layout": layout.removesuffix("-linear")}
        assert {key: record.context[key] for key in expected} == expected
        broken = tmp_path / "pictures/val/n5/broken.png"
        said = capsys.readouterr().err
        assert f"warning: 1 of 19 images cannot be read and are left out: {broken}\n" in said


def test_a_fixed_batch_is_filled_up_and_a_silent_file_takes_imagenets_normalisation(
    network: Network,
    files: dict[str, Path],
    pixels: tuple[Tensor, Tensor],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = onnx.load(str(files["portable.onnx"]))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 8
    onnx.save(model, str(tmp_path / "eights.onnx"))
    del model.metadata_props[:]
    onnx.save(model, str(tmp_path / "silent.onnx"))
    # 359 is no multiple of 8.
    full, silent = evaluated(tmp_path, tmp_path / "eights.onnx", tmp_path / "silent.onnx", "--data", "digits")
    assert full.values["right"] == right(network(prepared(pixels[0])), pixels[1])
    assert full.context["images"] == 359
    resized = TF.resize(pixels[0], [32, 32], antialias=True).float() / 255
    theirs = (resized - torch.tensor(IMAGENET_MEAN)[:, None, None]) / torch.tensor(IMAGENET_STD)[:, None, None]
    assert silent.values["right"] == right(network(theirs), pixels[1])
    assert silent.context["assumed"] == ["ImageNet's normalisation"]
    assert capsys.readouterr().err == f"assumed of {tmp_path / 'silent.onnx'}: ImageNet's normalisation\n"


def test_torch_computes_what_the_kernels_are_compared_with() -> None:
    model = random_network(1, ReActNetConfig(width=1 / 2, head=(10,)))
    images = torch.from_numpy(noise(0, 64, 32)).to(memory_format=torch.channels_last)
    loaded = Checkpoint(model, ModelInfo("any", 32), "edgebnn", {})
    found = classifier_from_checkpoint("any", loaded, device=torch.device("cpu"), threads=1).scores(images)
    with torch.inference_mode():
        by_kernels = model(images)
        with torch_convolutions():
            by_torch = model(images)
    torch.testing.assert_close(found, by_torch, rtol=0, atol=0)
    # Their roundings differ, where there are kernels that are worth it.
    assert torch.equal(found, by_kernels) == (kernels.isa() == "scalar")


def test_json_is_the_records(files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (record,) = evaluated(tmp_path, files["packed.onnx"], "--data", "digits", "--json", "--threads", 2)
    (printed,) = json.loads(capsys.readouterr().out)
    assert Record(**printed) == record
    assert record.context["threads"] == 2
    assert record.context["isa"] == runtime.load_model(files["packed.onnx"]).isa


def test_what_a_silent_export_does_not_say_can_be_said(files: dict[str, Path], tmp_path: Path) -> None:
    model = onnx.load(str(files["portable.onnx"]))
    del model.metadata_props[:]
    onnx.save(model, str(tmp_path / "silent.onnx"))
    hints = Hints(mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    silent = classifier_from_export(runtime.load_model(tmp_path / "silent.onnx"), hints=hints)
    assert (silent.info.mean, silent.info.std) == (hints.mean, hints.std)
    assert silent.described_by["assumed"] == []
    told = runtime.load_model(files["packed.onnx"])
    assert classifier_from_export(told, hints=Hints(mean=MEAN, std=STD, resolution=32)).info == told.info
    with pytest.raises(UserError, match="packed.onnx says that its resolution is 32, not 64; leave out the resolution"):
        classifier_from_export(told, hints=Hints(resolution=64))
