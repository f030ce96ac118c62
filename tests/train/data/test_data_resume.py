"""Lightning's own trainer asks for batches: stopped in the middle of an epoch, it goes on where it was."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer

from edgebnn.train.data.sources import Digits
from edgebnn.train.data.subset import Subset


class Watched(LightningModule):
    """Keeps the batches it sees and, at batch `stop`, a checkpoint, after which it fails as a killed run does."""

    views = 2

    def __init__(self, stop: int | None = None, path: Path | None = None) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.stop, self.path, self.seen = stop, path, []

    def training_step(self, batch: Any) -> torch.Tensor:
        self.seen.append(batch)
        return self.layer(torch.ones(1, 1)).sum()

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        if len(self.seen) == self.stop:
            self.trainer.save_checkpoint(self.path)
            raise InterruptedError

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def seen(
    module: Watched,
    ckpt_path: Path | None = None,
    workers: int = 0,
    batch_size: int = 8,
    drop_last: bool = True,
    **trainer: Any,
) -> list[Any]:
    """What `module` saw of two epochs, five steps each."""
    options = {"max_epochs": 2, "accelerator": "cpu", "logger": False, "enable_checkpointing": False}
    options |= {"enable_progress_bar": False, "enable_model_summary": False, "limit_val_batches": 0}
    data = Digits(
        batch_size=batch_size, resolution=8, subset=Subset(per_class=4), workers=workers, drop_last=drop_last, seed=5
    )
    Trainer(**{**options, **trainer}).fit(module, datamodule=data, ckpt_path=ckpt_path)
    return module.seen


def assert_same(found: list[Any], expected: list[Any]) -> None:
    assert len(found) == len(expected)
    for (views, labels), (other_views, other_labels) in zip(found, expected):
        torch.testing.assert_close(labels, other_labels, rtol=0, atol=0)
        torch.testing.assert_close(views, other_views, rtol=0, atol=0)


@pytest.mark.parametrize(("stop", "accumulate"), [(3, 1), (7, 1), (14, 2)])
@pytest.mark.parametrize("reload", [0, 1])
def test_a_resumed_run_sees_what_is_left(tmp_path: Path, stop: int, accumulate: int, reload: int) -> None:
    how = {"accumulate_grad_batches": accumulate, "reload_dataloaders_every_n_epochs": reload}
    whole = seen(Watched(), **how)
    assert len(whole) == 10 * accumulate
    assert not torch.equal(whole[0][1], whole[5 * accumulate][1])
    first = Watched(stop, tmp_path / "middle.ckpt")
    with pytest.raises(InterruptedError):
        seen(first, **how)
    assert_same(first.seen, whole[:stop])
    # A fresh process would begin with other random numbers.
    torch.manual_seed(stop)
    assert_same(seen(Watched(), first.path, **how), whole[stop:])


class Weighed(Watched):
    """Keeps the weights of the images besides."""

    def training_step(self, batch: Any) -> torch.Tensor:
        weights = self.trainer.datamodule.weights()  # type: ignore[attr-defined]
        return super().training_step((*batch, weights))


@pytest.mark.parametrize(("stop", "accumulate"), [(5, 1), (6, 1), (8, 1), (14, 2)])
def test_a_resumed_run_has_the_last_step_of_what_is_left(tmp_path: Path, stop: int, accumulate: int) -> None:
    # 40 images: three steps of 12 and one of 4.
    how = {"accumulate_grad_batches": accumulate, "batch_size": 12, "drop_last": False}
    run = seen(Weighed(), **how)
    assert len(run) == 8 * accumulate
    sizes = [len(labels) for _, labels, _ in run]
    assert sizes == ([12 // accumulate] * 3 * accumulate + [4 // accumulate] * accumulate) * 2
    for number, (_, _, weights) in enumerate(run):
        if number // accumulate % 4 < 3:
            assert weights is None
        else:
            assert weights.tolist() == [1.0] * (4 // accumulate)
    first = Weighed(stop, tmp_path / "middle.ckpt")
    with pytest.raises(InterruptedError):
        seen(first, **how)
    rest = seen(Weighed(), first.path, **how)
    assert_same([one[:2] for one in rest], [one[:2] for one in run[stop:]])
    assert [one[2] is None for one in rest] == [one[2] is None for one in run[stop:]]


def test_every_epoch_shows_every_image_anew() -> None:
    epochs = seen(Watched(), batch_size=40)
    assert len(epochs) == 2
    (first, labels), (second, other_labels) = epochs
    assert torch.equal(labels.sort().values, other_labels.sort().values)
    assert not torch.equal(labels, other_labels)
    shown = torch.cat([*first, *second]).flatten(1)
    assert len(shown.unique(dim=0)) == 4 * 40


def test_workers_and_accumulation_change_no_view() -> None:
    whole = seen(Watched(), max_epochs=1)
    assert_same(seen(Watched(), workers=2, max_epochs=1), whole)
    halves = seen(Watched(), max_epochs=1, accumulate_grad_batches=2)
    joined = [
        ([torch.cat(parts) for parts in zip(views, more_views)], torch.cat([labels, more_labels]))
        for (views, labels), (more_views, more_labels) in zip(halves[::2], halves[1::2])
    ]
    assert_same(joined, whole)
