"""The data modules: splits, normalisation, order."""

import torch

from train.data import Digits, Mnist5k, held_out


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
        # Resizing to 32x32 smooths, so the deviation may fall short of that of the original pixels.
        assert abs(images.mean().item() - data.mean[0]) < 0.005
        assert 0.8 * data.std[0] < images.std().item() <= data.std[0] + 0.001


def test_an_epoch_shows_every_image_once_and_depends_on_its_seed_alone() -> None:
    def labels(seed: int) -> torch.Tensor:
        data = Digits(batch_size=1438, group=1438, seed=seed)
        data.setup()
        torch.rand(seed + 1)
        ((views, found),) = data.fixed_train_dataloader()
        assert len(views) == 1
        assert torch.equal(found.bincount(), data.parts["train"][1].bincount())
        return found

    assert torch.equal(labels(3), labels(3))
    assert not torch.equal(labels(3), labels(4))
