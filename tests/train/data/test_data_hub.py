"""Hugging Face data sets: real Parquet files and saved data sets, read row by row."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from edgebnn.errors import UserError
from edgebnn.train.data.hugging_face import HuggingFace
from edgebnn.train.data.subset import Subset
from edgebnn.train.evaluation.base import images_of_classes
from edgebnn.train.methods.measured import data_name

NAMES = ["ant", "bee", "cat"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library keeps what it reads under the home folder otherwise."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def pixels(count: int, side: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def png(image: np.ndarray) -> bytes:
    file = BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def plain(images: list[bytes], labels: list[int]) -> datasets.Dataset:
    """Bytes and whole numbers, as anyone's Parquet file has them."""
    return datasets.Dataset.from_dict({"image": images, "label": labels})


def described(images: list[bytes], labels: list[int]) -> datasets.Dataset:
    """The hub's own features, the class names among them."""
    features = datasets.Features({"img": datasets.Image(), "id": datasets.Value("string"),
                                  "label": datasets.ClassLabel(names=NAMES)})  # fmt: skip
    rows = {"img": [{"bytes": image, "path": None} for image in images], "id": ["x"] * len(labels), "label": labels}
    return datasets.Dataset.from_dict(rows, features=features)


def write(
    folder: Path, train: np.ndarray, val: np.ndarray, make: Callable[..., datasets.Dataset] = plain, saved: bool = False
) -> Path:
    """A data set of images whose class numbers are their row numbers modulo 3."""
    parts = {
        part: make([png(image) for image in images], [number % 3 for number in range(len(images))])
        for part, images in (("train", train), ("test", val))
    }
    if saved:
        datasets.DatasetDict(parts).save_to_disk(str(folder))
        return folder
    folder.mkdir()
    for part, table in parts.items():
        table.to_parquet(str(folder / f"{part}.parquet"))
    return folder


def opened(folder: Path, **options: Any) -> HuggingFace:
    chosen = {"resolution": 16, "batch_size": 4, "workers": 0, "mean": (0, 0, 0), "std": (1, 1, 1), **options}
    data = HuggingFace(str(folder), **chosen)
    data.setup()
    return data


def held_out(data: HuggingFace) -> tuple[np.ndarray, list[int]]:
    """All images of the held-out part, 0 to 255, channels last, and their class numbers."""
    batches = [data.on_after_batch_transfer(batch, 0) for batch in data.val_dataloader()]
    views = torch.cat([views[0] for views, _ in batches]) * 255
    return views.permute(0, 2, 3, 1).numpy(), torch.cat([labels for _, labels in batches]).tolist()


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize(("make", "saved"), [(plain, False), (described, False), (described, True)])
def test_images_and_classes_are_the_files(
    tmp_path: Path, make: Callable[..., datasets.Dataset], saved: bool, in_memory: bool
) -> None:
    train, val = pixels(9, 16), pixels(5, 16, seed=1)
    data = opened(write(tmp_path / "set", train, val, make, saved), in_memory=in_memory)
    found, labels = held_out(data)
    np.testing.assert_allclose(found, val, atol=1e-4)
    assert labels == [0, 1, 2, 0, 1]
    assert data.labels == (tuple(NAMES) if make is described else ("0", "1", "2"))
    assert images_of_classes(data).tolist() == [3, 3, 3]
    assert data_name(data) == "HuggingFace set"


def test_slices_of_a_split_hold_out_training_images(tmp_path: Path) -> None:
    train = pixels(9, 16)
    for saved in (False, True):
        folder = write(tmp_path / str(saved), train, pixels(2, 16), described, saved)
        data = opened(folder, train_split="train[:6]", val_split="train[6:]")
        assert (data.count("train"), data.count("val")) == (6, 3)
        np.testing.assert_allclose(held_out(data)[0], train[6:], atol=1e-4)


def test_small_images_are_held_in_memory_and_large_ones_are_not(tmp_path: Path) -> None:
    small = opened(write(tmp_path / "small", pixels(4, 64), pixels(2, 64)))
    large = opened(write(tmp_path / "large", pixels(4, 65), pixels(2, 65)))
    assert [type(data.images("train")).__name__ for data in (small, large)] == ["MemoryImages", "RowImages"]


@pytest.mark.parametrize("in_memory", [True, False])
def test_views_follow_the_seed_and_the_image_whatever_the_order_or_the_workers(tmp_path: Path, in_memory: bool) -> None:
    folder = write(tmp_path / "set", pixels(12, 24), pixels(2, 24))

    def epoch(**options: Any) -> list[torch.Tensor]:
        data = opened(folder, in_memory=in_memory, **options)
        return [data.on_after_batch_transfer(batch, 0)[0][0] for batch in data.train_dataloader()]

    here, elsewhere, other = epoch(), epoch(workers=2), epoch(seed=1)
    assert len(here) == 3
    torch.testing.assert_close(here, elsewhere, rtol=0, atol=0)
    assert not torch.equal(torch.cat(here), torch.cat(other))


def test_a_subset_is_of_the_training_part(tmp_path: Path) -> None:
    data = opened(write(tmp_path / "set", pixels(12, 16), pixels(5, 16)), subset=Subset(per_class=2))
    assert (images_of_classes(data).tolist(), data.count("val")) == ([2, 2, 2], 5)


def test_an_image_that_cannot_be_read_is_replaced_in_training_and_left_out_in_evaluation(tmp_path: Path) -> None:
    images = [png(image) for image in pixels(8, 80)]
    images[3] = b"no image"
    table = plain(images, [0, 1] * 4)
    (tmp_path / "set").mkdir()
    for part in ("train", "test"):
        table.to_parquet(str(tmp_path / f"set/{part}.parquet"))
    data = opened(tmp_path / "set")
    assert len(held_out(data)[1]) == 7
    assert sum(len(batch.labels) for batch in data.train_dataloader()) == 8
    assert data.skipped() == [f"row 3 of {tmp_path}/set, {part}" for part in ("test", "train")]
    with pytest.raises(UserError, match=r"row 3 of .*/set, train cannot be read .*set data.in_memory false"):
        opened(tmp_path / "set", in_memory=True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"val_split": "validation"},
            r'Unknown split "validation".*check data.path, data.train_split and data.val_split',
        ),
        ({"image_column": "picture"}, "has no column 'picture'; its columns are image, label"),
        (
            {"class_names": ["one", "two"]},
            "class numbers from 0 to 2 and 2 class names; give data.class_names that fit",
        ),
        ({"val_split": "test[5:]"}, r"test\[5:\].*corresponds to no data.*check data.path"),
        ({"in_memory": True}, "is 20x20, the first image is 16x16; set data.in_memory false"),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    images = [png(image) for image in [*pixels(5, 16), *pixels(1, 20)]]
    (tmp_path / "set").mkdir()
    plain(images, [0, 1, 2] * 2).to_parquet(str(tmp_path / "set/train.parquet"))
    plain(images[:5], [0, 1, 2, 0, 1]).to_parquet(str(tmp_path / "set/test.parquet"))
    with pytest.raises(UserError, match=said) as error:
        opened(tmp_path / "set", **options)
    assert "\n" not in str(error.value)


def test_columns_that_are_not_plain_have_to_be_named(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    table = plain([png(image) for image in pixels(6, 16)], [0, 1] * 3).add_column("second", [5] * 6)
    for part in ("train", "test"):
        table.to_parquet(str(tmp_path / f"set/{part}.parquet"))
    with pytest.raises(
        UserError, match="data.label_column is not clear from the columns image, label, second; name one"
    ):
        opened(tmp_path / "set")
    assert held_out(opened(tmp_path / "set", label_column="label"))[1] == [0, 1] * 3


def test_without_network_a_name_of_the_hub_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    # The library's own switch: it looks nothing up, as where there is no network.
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        UserError, match="data set nobody/nothing is no folder here, and .* cannot be reached; give the"
    ):
        HuggingFace("nobody/nothing").setup()
