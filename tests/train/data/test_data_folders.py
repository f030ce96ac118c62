"""Which class an image file is of: by the order of folders, or by a list."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets

from edgebnn import checkpoint
from edgebnn.errors import UserError
from edgebnn.graph import ModelInfo
from edgebnn.train.data.colours import one_colour_warning
from edgebnn.train.data.datasets import FileImages, MemoryImages
from edgebnn.train.data.sources import ImageFolder
from edgebnn.train.data.subset import Subset
from edgebnn.train.methods.base import check_class_order
from edgebnn.train.methods.supervised import Supervised
from tests.train.conftest import REAL


def write(root: Path, *files: str) -> Path:
    """A small image at each of the paths."""
    for number, file in enumerate(files):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), (number, 0, 0)).save(root / file)
    return root


def opened(root: Path, **options: object) -> ImageFolder:
    data = ImageFolder(str(root), resolution=32, batch_size=1, workers=0, **options)  # type: ignore[arg-type]
    data.setup()
    return data


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (["10", "9", "0", "2"], ["0", "2", "9", "10"]),
        (["001", "010", "002"], ["001", "002", "010"]),
        (["1", "01", "2"], ["01", "1", "2"]),
        (["10", "9", "cat"], ["10", "9", "cat"]),
        (["n02", "n10", "n1"], ["n02", "n1", "n10"]),
        (["-1", "10", "9"], ["-1", "10", "9"]),
        (["\u0661", "10", "9"], ["10", "9", "\u0661"]),
    ],
)
def test_folders_named_by_numbers_are_in_the_numbers_order_and_others_in_torchvisions(
    tmp_path: Path, names: list[str], order: list[str]
) -> None:
    write(tmp_path, *(f"{part}/{name}/{name}.png" for part in ("train", "val") for name in names))
    data = opened(tmp_path)
    assert data.labels == tuple(order)
    for part in ("train", "val"):
        found = {(Path(path).stem, number) for path, number in data.samples[part]}
        assert found == {(name, order.index(name)) for name in names}
    theirs = datasets.ImageFolder(str(tmp_path / "train"))
    if not all(name.isascii() and name.isdecimal() for name in names):
        assert theirs.classes == order


def test_gif_files_count_and_hidden_files_do_not(tmp_path: Path) -> None:
    shown = {"a/0.png", "a/1.GIF", "a/deep/2.jpg", "b/3.gif"}
    hidden = {"a/._0.png", "a/.deep/4.png", ".ipynb_checkpoints/5.png"}
    root = write(tmp_path / ".cache", *(f"{part}/{name}" for part in ("train", "val") for name in shown | hidden))
    data = opened(root)
    assert data.labels == ("a", "b")
    for part in ("train", "val"):
        assert {str(Path(path).relative_to(root / part)) for path, _ in data.samples[part]} == shown
    assert len(list(data.val_dataloader())) == 4
    assert data.skipped() == []


def test_images_of_nearly_one_colour_are_warned_of(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    paths = [str(tmp_path / f"{number}.png") for number in range(10)]
    # The 12 bits of a camera in a file of 16, and then pictures that use the range.
    for path in paths:
        Image.fromarray(rng.integers(0, 4096, (8, 8), np.uint16)).save(path)
    images = FileImages([(path, 0) for path in paths])
    assert "10 of 10 images of these data" in (one_colour_warning(images, "these data") or "")
    for path in paths[:5]:
        Image.fromarray(rng.integers(0, 65536, (8, 8), np.uint16)).save(path)
    assert one_colour_warning(images, "these data") is None
    Path(paths[0]).write_bytes(b"no image")
    assert "5 of 9 images" in (one_colour_warning(images, "these data") or "")
    memory = torch.full((40, 3, 8, 8), 200, dtype=torch.uint8)
    assert "32 of 32" in (one_colour_warning(MemoryImages(memory, torch.zeros(40), 8), "x") or "")


def test_lists_name_files_and_their_class_numbers(tmp_path: Path) -> None:
    root = write(
        tmp_path, "train/0/a.png", "train/0/b c.png", "train/2/d.png", "train/1/e.png", "val/v1.png", "val/v2.png"
    )
    lists = {"train_list": tmp_path / "train.txt", "val_list": tmp_path / "val.txt"}
    lists["train_list"].write_text("2/d.png 2\n0/b c.png\t0\r\n\n1/e.png 1")
    lists["val_list"].write_text("v2.png 1\nv1.png 0\n")
    data = opened(root, **{name: str(path) for name, path in lists.items()})
    assert [(Path(path).name, number) for path, number in data.samples["train"]] == [
        ("d.png", 2),
        ("b c.png", 0),
        ("e.png", 1),
    ]
    assert [(Path(path).name, number) for path, number in data.samples["val"]] == [("v2.png", 1), ("v1.png", 0)]
    assert data.labels == ("0", "1", "2")
    ((_, labels),) = list(data.val_dataloader())[:1]
    assert labels.tolist() == [1]
    one = opened(root, **{name: str(path) for name, path in lists.items()}, subset=Subset(per_class=1))
    assert len(one.samples["train"]) == 3


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    root = write(tmp_path, "train/0/a.png", "train/1/e.png", "val/v.png")
    for name, text in (("train", "0/a.png 0\n1/e.png 1"), ("val", "v.png 1"), ("some", "e.png")):
        (tmp_path / f"{name}.txt").write_text(text, encoding="utf-8-sig")
    lists = {f"{name}_list": str(tmp_path / f"{name}.txt") for name in ("train", "val")}
    assert len(opened(root, **lists).samples["train"]) == 2
    some = opened(root, **lists, subset=Subset(file_list=str(tmp_path / "some.txt")))
    assert [number for _, number in some.samples["train"]] == [1]


def test_classes_of_a_list_are_called_by_folders_of_their_own_else_by_numbers(tmp_path: Path) -> None:
    root = write(tmp_path, "train/n2/a.png", "train/n1/b.png", "val/n2/a.png", "val/n1/b.png")
    path = tmp_path / "list.txt"
    # The list's numbers are the order, and the folders of val/ have another.
    path.write_text("n2/a.png 0\nn1/b.png 1")
    assert opened(root, train_list=str(path), val_list=str(path)).labels == ("n2", "n1")
    with pytest.raises(UserError, match=r"does not number the classes as the folders of .*/val do; give data.val_list"):
        opened(root, train_list=str(path))
    path.write_text("n2/a.png 1\nn1/b.png 0")
    assert opened(root, train_list=str(path)).labels == ("n1", "n2")
    path.write_text("n2/a.png 1\nn1/b.png 1")
    assert opened(root, train_list=str(path), val_list=str(path)).labels == ("0", "1")
    # Class 1 has no file here: an evaluation says so by its name.
    path.write_text("n2/a.png 2\nn1/b.png 0")
    assert opened(root, train_list=str(path), val_list=str(path)).labels == ("n1", "1", "n2")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("0/a.png 0\n\n0/gone.png 0", r"line 3: there is no 0/gone.png under .*/train; check data.root or the list"),
        ("0/a.png 0\n9/a.png 0", r"line 2: there is no 9/a.png under"),
        ("0/a.png", r"line 1: '0/a.png' has no class number; write a file and a number"),
        ("0/a.png 0\n0/a.png one", r"line 2: '0/a.png one' has no class number"),
        ("0/a.png 1_0", r"line 1: '0/a.png 1_0' has no class number"),
        ("0/a.png -1", r"line 1: class number -1 is not from 0 to 1048575; correct the list"),
        ("0/a.png 99999999", r"line 1: class number 99999999 is not from 0"),
        ("\n \n", r"names no file; give a file and its class number per line"),
        ("", r"is empty"),
    ],
)
def test_a_wrong_line_is_told_by_its_number(tmp_path: Path, text: str, named: str) -> None:
    root = write(tmp_path, "train/0/a.png", "val/0/a.png")
    path = tmp_path / "list.txt"
    path.write_text(text)
    with pytest.raises(UserError, match=f"^data.train_list {path}.*{named}"):
        opened(root, train_list=str(path))


def test_held_out_lists_have_no_class_of_their_own_and_lists_are_text(tmp_path: Path) -> None:
    root = write(tmp_path, "train/0/a.png", "train/1/a.png", "val/0/a.png")
    path = tmp_path / "val.txt"
    path.write_text("0/a.png 0\n0/a.png 2")
    with pytest.raises(UserError, match=r"^data.val_list .*, line 2: class number 2 is not from 0 to 1"):
        opened(root, val_list=str(path))
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"^data.val_list .* is not a text file"):
        opened(root, val_list=str(path))
    with pytest.raises(UserError, match=r"^data.val_list .*none.txt does not exist"):
        opened(root, val_list=str(tmp_path / "none.txt"))


def test_a_classifier_of_the_same_classes_in_another_order_is_refused(tmp_path: Path) -> None:
    data = opened(write(tmp_path, *(f"{part}/{name}/a.png" for part in ("train", "val") for name in ("2", "10"))))
    assert data.labels == ("2", "10")
    info = ModelInfo("old", 32, data.mean, data.std, ("10", "2"))
    path = str(tmp_path / "old.safetensors")
    checkpoint.save_checkpoint(path, REAL.with_head((2,)), info)
    for arguments in ({"teacher": path}, {"init_checkpoint": path}):
        with pytest.raises(UserError, match=r"calls class 0 10, the data call it 2: the same classes in another order"):
            Supervised(REAL, **arguments).prepare(data)
    # Other names say nothing of an order, and no names neither; nor does a file that is none of ours, or is not there.
    for labels in (("2", "10"), ("a", "b"), ()):
        checkpoint.save_checkpoint(path, REAL.with_head((2,)), replace(info, labels=labels))
        assert checkpoint.read_labels(path) == labels
        check_class_order(path, data, "any")
    Path(path).write_bytes(b"PK\x03\x04 a published file")
    check_class_order(path, data, "any")
    check_class_order(tmp_path / "none", data, "any")
