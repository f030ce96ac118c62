"""A few labelled images of many."""

from pathlib import Path

import numpy as np
import pytest
import torch

from edgebnn.errors import UserError
from edgebnn.train.data.sources import Digits
from edgebnn.train.data.subset import Subset
from tests.train.data.test_data_files import folder, opened

LABELS = np.array([2] * 200 + [0] * 1000 + [1] * 30)


def test_a_share_of_each_class_is_drawn_by_the_seed_alone() -> None:
    kept = Subset(share=0.01).pick(LABELS, (), seed=1)
    assert np.bincount(LABELS[kept]).tolist() == [10, 1, 2]
    assert (np.diff(kept) > 0).all()
    np.testing.assert_array_equal(kept, Subset(share=0.01).pick(LABELS, (), seed=1))
    assert kept.tolist() != Subset(share=0.01).pick(LABELS, (), seed=2).tolist()
    # A tenth holds the hundredth: a larger subset adds images and loses none.
    assert set(kept) <= set(Subset(share=0.1).pick(LABELS, (), seed=1))


def test_so_many_images_of_each_class() -> None:
    kept = Subset(per_class=40).pick(LABELS, (), seed=1)
    assert np.bincount(LABELS[kept]).tolist() == [40, 30, 40]
    assert len(set(kept)) == len(kept)


def test_memory_data_train_on_the_subset_and_are_tested_on_everything() -> None:
    data, whole = Digits(subset=Subset(per_class=3), batch_size=5), Digits()
    data.setup()
    whole.setup()
    ((views, labels), *_) = data.fixed_train_dataloader()
    assert data.parts["train"][1].bincount().tolist() == [3] * 10
    assert len(data.train_dataloader()) == 6
    assert torch.equal(data.parts["val"][1], whole.parts["val"][1])
    assert len(views[0]) == len(labels) == 5


def test_files_named_in_a_list(tmp_path: Path) -> None:
    root = folder(tmp_path, 4)
    names = tmp_path / "1percent.txt"
    names.write_text("b003.png\na001.png\n\n")
    data = opened(root, subset=Subset(file_list=str(names)))
    assert [Path(path).name for path, _ in data.samples["train"]] == ["a001.png", "b003.png"]
    assert len(data.samples["val"]) == 4
    names.write_text("b003.png\ngone.png\n")
    with pytest.raises(UserError, match=r"names 1 files that are not among the training images, such as gone.png"):
        opened(root, subset=Subset(file_list=str(names)))
    names.write_text("\n")
    with pytest.raises(UserError, match="names no file"):
        opened(root, subset=Subset(file_list=str(names)))
    with pytest.raises(UserError, match="subset.file_list .* does not exist"):
        opened(root, subset=Subset(file_list=str(tmp_path / "none.txt")))


@pytest.mark.parametrize(
    ("subset", "named"),
    [
        (Subset(), "one of share, per_class and file_list"),
        (Subset(share=0.1, per_class=3), "one of share, per_class and file_list"),
        (Subset(share=0.0), "share 0.0"),
        (Subset(share=1.5), "share 1.5"),
        (Subset(per_class=0), "per_class 0"),
    ],
)
def test_wrong_subsets_are_refused(subset: Subset, named: str) -> None:
    with pytest.raises(UserError, match=named):
        Digits(subset=subset).check()
