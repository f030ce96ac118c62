"""Image files: crops of them, broken ones, and the processes that load them."""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from PIL import Image
from torchvision.transforms.v2 import functional as TF

from edgebnn.errors import UserError
from edgebnn.ssl.augment import augment
from edgebnn.ssl.philox import uniforms
from edgebnn.ssl.views import NUMBERS, Augmentation, crop_boxes, draw_views, fixed_view
from edgebnn.train.data.datasets import FileImages, ViewSpec, random_crops
from edgebnn.train.data.sources import ImageFolder

STILL = Augmentation(jitter_probability=0, gray_probability=0, blur_probability=0, flip_probability=0.5)


def smooth(height: int, width: int, number: int = 0) -> Image.Image:
    """A picture that stands being resized."""
    down, across = np.mgrid[:height, :width] / 60
    waves = [np.sin(down + channel + number) * np.cos(across - number) for channel in range(3)]
    return Image.fromarray((127.5 + 120 * np.stack(waves, axis=2)).astype(np.uint8))


def folder(root: Path, train: int, val: int = 2) -> Path:
    """So many images of each of two classes; those of training are numbered through in their sizes."""
    for part, count in (("train", train), ("val", val)):
        for name in "ab":
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                smooth(40 + number, 50, number).save(root / part / name / f"{name}{number:03d}.png")
    return root


def opened(root: Path, **options: Any) -> ImageFolder:
    data = ImageFolder(str(root), **{"resolution": 16, "batch_size": 4, "workers": 0, **options})
    data.setup()
    return data


def batches(data: ImageFolder) -> list[tuple[list[torch.Tensor], torch.Tensor]]:
    return [data.on_after_batch_transfer(batch, 0) for batch in data.train_dataloader()]


def test_views_of_files_are_torchvisions_crops(tmp_path: Path) -> None:
    paths = []
    for number in range(6):
        paths.append(str(tmp_path / f"{number}.png"))
        smooth(60, 50 + number, number).save(paths[-1])
    views = [ViewSpec(STILL, (0.2, 1.0), 24), ViewSpec(STILL, (0.05, 0.14), 10)]
    loaded = FileImages([(path, 7) for path in paths]).drawn([4, 1], views, seed=3, epoch=2)
    assert loaded.batch is not None
    assert loaded.broken == []
    assert loaded.batch.labels.tolist() == [7, 7]
    flips = 0
    for number, view in enumerate(views):
        numbers = uniforms(3, 2, np.array([4, 1]), number, NUMBERS)
        draws = draw_views(STILL, numbers, None)
        for row, index in enumerate((4, 1)):
            box = crop_boxes(numbers[row : row + 1], 60, 50 + index, view.area)[0].tolist()
            with Image.open(paths[index]) as image:
                crop = TF.resized_crop(image, *box, [view.resolution] * 2)
            flips += draws.flip[row]
            expected = TF.pil_to_tensor(TF.horizontal_flip(crop) if draws.flip[row] else crop)
            torch.testing.assert_close(loaded.batch.images[number][row], expected, rtol=0, atol=0)
    assert 0 < flips < 4


@pytest.mark.parametrize(("area", "scale"), [((0.9, 1.0), 4), ((0.03, 0.05), 1)])
def test_a_jpeg_is_decoded_no_smaller_than_its_crops(
    tmp_path: Path, area: tuple[float, float], scale: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "large.jpg")
    smooth(401, 603).save(path, quality=95)
    sizes = []
    convert = Image.Image.convert
    monkeypatch.setattr(
        Image.Image, "convert", lambda image, mode: sizes.append((image.load(), image.size)) or convert(image, mode)
    )
    views = [ViewSpec(STILL, area, 64), ViewSpec(STILL, (0.9, 1.0), 16)]
    numbers = uniforms(0, 0, np.array([5]), 0, NUMBERS).repeat(2, axis=0)
    crop, _ = random_crops(path, views, numbers)
    assert sizes[0][1] == (-(-603 // scale), -(-401 // scale))
    top, left, tall, wide = crop_boxes(numbers[:1], 401, 603, area)[0]
    assert min(tall, wide) / 64 >= scale
    whole = smooth(401, 603).crop((left, top, left + wide, top + tall)).resize((64, 64), Image.Resampling.BILINEAR)
    # Two ways of making an image small, and JPEG's losses: two levels of 255 on average.
    assert np.abs(crop.astype(int) - np.asarray(whole).astype(int)).mean() < 2


def test_number_of_workers_changes_no_view(tmp_path: Path) -> None:
    root = folder(tmp_path, 6)
    alone, helped = (batches(opened(root, workers=workers, augmentation=Augmentation())) for workers in (0, 2))
    assert len(alone) == 3
    for (views, labels), (other_views, other_labels) in zip(alone, helped):
        torch.testing.assert_close(views, other_views, rtol=0, atol=0)
        assert torch.equal(labels, other_labels)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_training_image_is_replaced_by_the_next_and_counted(tmp_path: Path, workers: int) -> None:
    root = folder(tmp_path, 8)
    before = batches(opened(root, workers=workers))
    broken = [root / "train/a/a007.png", root / "train/a/a003.png"]
    broken[0].write_bytes(b"no image")
    broken[1].write_bytes(broken[1].read_bytes()[:200])
    data = opened(root, workers=workers)
    after = batches(data)
    assert data.skipped() == sorted(map(str, broken))
    counts = torch.cat([labels for _, labels in after]).bincount().tolist()
    # The image after the last of class a is the first of class b.
    assert counts == [7, 9]
    changed = [
        not torch.equal(view, other)
        for (views, _), (others, _) in zip(before, after)
        for view, other in zip(views[0], others[0])
    ]
    assert sum(changed) == 2


def test_a_broken_image_is_left_out_of_an_evaluation(tmp_path: Path) -> None:
    root = folder(tmp_path, 2, val=5)
    for name in ("a001", "a003"):
        (root / f"val/a/{name}.png").write_bytes(b"")
    data = opened(root, batch_size=2)
    views, labels = zip(*data.val_dataloader())
    assert torch.cat(labels).tolist() == [0] * 3 + [1] * 5
    with Image.open(root / "val/b/b004.png") as image:
        expected = fixed_view(16, data.mean, data.std)(image)
    torch.testing.assert_close(views[-1][0][-1], expected, rtol=0, atol=0)
    assert [Path(path).name for path in data.skipped()] == ["a001.png", "a003.png"]


def test_many_broken_images_end_the_run(tmp_path: Path) -> None:
    root = folder(tmp_path, 12)
    for number in range(9):
        (root / f"train/a/a{number:03d}.png").write_bytes(b"")
    loader = opened(root, batch_size=24).fixed_train_dataloader()
    ((_, labels),) = loader
    assert len(labels) == 15
    (root / "train/b/b004.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"10 of 24 images cannot be read \(.*b004.png is one\); fetch"):
        list(loader)


def test_a_few_broken_images_in_a_row_do_not_end_a_long_pass(tmp_path: Path) -> None:
    data = opened(folder(tmp_path, 2), batch_size=20)
    (good, bad, *_) = data.samples["val"]
    Path(bad[0]).write_bytes(b"")
    data.samples["val"] = [bad] * 11 + [good] * 1089
    assert sum(len(labels) for _, labels in data.val_dataloader()) == 1089
    # One more is over a hundredth of the pass, and the first batch tells.
    data.samples["val"][11] = bad
    with pytest.raises(UserError, match=r"12 of 20 images cannot be read"):
        next(iter(data.val_dataloader()))


def test_nothing_but_broken_images_is_refused(tmp_path: Path) -> None:
    root = folder(tmp_path, 2)
    for path in (root / "train").rglob("*.png"):
        path.write_bytes(b"")
    for workers in (0, 1):
        with pytest.raises(UserError, match=r"^cannot read the image .*, nor the 3 before it; fetch the data again$"):
            batches(opened(root, workers=workers))


def test_a_killed_worker_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr("edgebnn.train.data.datasets.read_rgb", killed)
    with pytest.raises(UserError, match=r"a process that loads images died .*; lower data.workers .*memory"):
        list(opened(folder(tmp_path, 2), workers=1).val_dataloader())


class Asking(LightningModule):
    """Keeps the shapes of the views it asks for."""

    def __init__(self, views: int, small_views: int) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.views, self.small_views, self.seen = views, small_views, []

    def training_step(self, batch: Any) -> torch.Tensor:
        self.seen.append(batch[0])
        return self.layer(torch.ones(1, 1)).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(module: Asking, data: ImageFolder) -> None:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "limit_val_batches": 0}
    Trainer(max_epochs=1, accelerator="cpu", enable_model_summary=False, **quiet).fit(module, datamodule=data)


def test_a_method_gets_small_views_and_a_second_augmentation(tmp_path: Path) -> None:
    root = folder(tmp_path, 2)
    second = Augmentation(gray_probability=1, jitter_probability=0)
    plain = Augmentation(gray_probability=0, jitter_probability=0, solarize_probability=0)
    data = opened(root, augmentation=plain, second_augmentation=second, small_resolution=8)
    module = Asking(views=3, small_views=2)
    fit(module, data)
    (views,) = module.seen
    assert [view.shape[2] for view in views] == [16, 16, 16, 8, 8]
    raw = [view * torch.tensor(data.std)[:, None, None] + torch.tensor(data.mean)[:, None, None] for view in views]
    assert [bool((view.amax(1) - view.amin(1) < 1e-5).all()) for view in raw] == [False, True, False, False, False]
    assert not torch.equal(views[0], views[2])
    data.check(small_views=2)
    with pytest.raises(UserError, match="the method asks for 2 small views; give data.small_resolution"):
        opened(root).check(small_views=2)


def test_float_views_of_files_are_those_of_the_same_crops(tmp_path: Path) -> None:
    data = opened(folder(tmp_path, 2))
    (drawn,) = data.train_dataloader()
    ((views, labels),) = batches(data)
    expected = augment(drawn.images[0], drawn.draws[0], 16, data.mean, data.std)
    torch.testing.assert_close(views, [expected], rtol=0, atol=0)
    assert torch.equal(labels, drawn.labels)
