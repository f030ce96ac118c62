"""VOC's layout and its SVMs on a tiny tree of real JPEGs, against the benchmark written out."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.model_selection import cross_val_score
from sklearn.svm import LinearSVC

from edgebnn.errors import UserError
from edgebnn.train.data.sources import Digits
from edgebnn.train.data.subset import Subset
from edgebnn.train.data.voc import Voc2007
from edgebnn.train.evaluation import voc_svm
from edgebnn.train.evaluation.knn import KNN
from edgebnn.train.evaluation.linear import LinearEvaluation
from edgebnn.train.evaluation.svm import LowShotSVM
from edgebnn.train.evaluation.voc_svm import VocSVM, check_examples, draw_examples, interpolated_precision
from edgebnn.train.methods.supervised import Supervised
from tests.train.conftest import REAL
from tests.train.evaluation.test_knn import measured

CLASSES = ("bird", "cat", "dog")
COSTS = (1.0, 100.0, 0.01)


def picture(rng: np.random.Generator, row: np.ndarray, shape: tuple[int, int]) -> Image.Image:
    """Noise, and brighter in the channel of every class that is shown, difficult or not."""
    pixels = rng.integers(0, 140, (*shape, 3)) + 35 * (row >= 0)
    return Image.fromarray(pixels.astype(np.uint8))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """30 trainval and 24 test images with any of three classes, some difficult, some with none."""
    rng = np.random.default_rng(1)
    voc = tmp_path / "VOCdevkit/VOC2007"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (voc / folder).mkdir(parents=True)
    for split, first, count in (("trainval", 1, 30), ("test", 101, 24)):
        targets = rng.choice([1, 0, -1], (count, 3), p=[0.4, 0.15, 0.45])
        targets[0] = -1
        for number, row in enumerate(targets):
            shape = (36 + number % 5, 50)
            picture(rng, row, shape).save(voc / f"JPEGImages/{first + number:06d}.jpg", quality=95)
        for column, name in enumerate(CLASSES):
            lines = [f"{first + number:06d} {row[column]:2d}" for number, row in enumerate(targets)]
            (voc / f"ImageSets/Main/{name}_{split}.txt").write_text("\n".join(lines) + "\n")
        (voc / f"ImageSets/Main/{split}.txt").write_text("\n".join(line.split()[0] for line in lines))
    return tmp_path


def opened(root: Path, resolution: int = 32) -> Voc2007:
    data = Voc2007(str(root), resolution=resolution, batch_size=7, workers=0, mean=(0.4,) * 3, std=(0.2,) * 3)
    data.setup()
    return data


def test_layout_is_read_as_it_stands(root: Path) -> None:
    main = root / "VOCdevkit/VOC2007/ImageSets/Main"
    data = opened(root)
    assert data.labels == CLASSES
    assert (data.count("train"), data.count("val")) == (30, 24)
    for part, split in (("train", "trainval"), ("val", "test")):
        assert [Path(path).stem for path in data.files[part]] == (main / f"{split}.txt").read_text().split()
        for column, name in enumerate(CLASSES):
            lines = [line.split() for line in (main / f"{name}_{split}.txt").read_text().splitlines()]
            assert data.targets[part][:, column].tolist() == [int(target) for _, target in lines]
        assert data.targets[part][0].tolist() == [-1, -1, -1]
        assert (data.targets[part] == 0).any()


def test_what_editors_and_macos_leave_in_the_folder_does_no_harm(root: Path) -> None:
    main, before = root / "VOCdevkit/VOC2007/ImageSets/Main", opened(root)
    path = main / "bird_trainval.txt"
    path.write_text(path.read_text(), encoding="utf-8-sig")
    (main / "._cat_trainval.txt").write_bytes(b"\x00\x05\x16\x07\xff")
    after = opened(root)
    assert (after.labels, after.files) == (before.labels, before.files)
    assert (after.targets["train"] == before.targets["train"]).all()


def test_the_whole_image_is_seen_its_shape_lost(root: Path) -> None:
    data = opened(root, resolution=64)
    ((view,), numbers) = next(iter(data.val_dataloader()))
    assert numbers.tolist() == list(range(7))
    with Image.open(data.files["val"][0]) as image:
        assert image.size == (50, 36)
        # The short side to 64 * 256 / 224, then both to 64.
        plain = image.resize((int(50 * 73 / 36), 73), Image.Resampling.BILINEAR).resize(
            (64, 64), Image.Resampling.BILINEAR
        )
    expected = (torch.from_numpy(np.array(plain)).permute(2, 0, 1) / 255 - 0.4) / 0.2
    # Each resize rounds to one of 255 levels, of 0.02 here.
    torch.testing.assert_close(view[0], expected, rtol=0, atol=0.041)


@torch.no_grad()
def features(method: VocSVM, data: Voc2007) -> tuple[np.ndarray, np.ndarray]:
    found = []
    for loader in (data.fixed_train_dataloader(), data.val_dataloader()):
        rows = torch.cat([method.network.features(images) for (images,), _ in loader]).double()
        found.append((rows / rows.norm(dim=1, keepdim=True)).numpy())
    return found[0], found[1]


def slow_ap(ranked: list[bool], *, raised: bool = False) -> float:
    """Average precision of answers, the best first: the mean over right ones of the precision up to there."""
    precision = [sum(ranked[: place + 1]) / (place + 1) for place in range(len(ranked))]
    if raised:
        precision = [max(precision[place:]) for place in range(len(ranked))]
    return sum(value for value, right in zip(precision, ranked) if right) / sum(ranked)


def plain_svm(cost: float) -> LinearSVC:
    return LinearSVC(C=cost, class_weight={-1: 1, 1: 2}, loss="squared_hinge", max_iter=2000, random_state=0)


def ranked(rows: np.ndarray, signs: np.ndarray, test: np.ndarray, shown: np.ndarray, cost: float) -> list[bool]:
    """Whether test images show the class, in the order of an SVM's scores."""
    scores = plain_svm(cost).fit(rows, signs).decision_function(test)
    return [bool(shown[place] == 1) for place in np.argsort(-scores)]


@pytest.mark.parametrize("difficult", ["ignored", "negative"])
def test_map_is_that_of_svms_fitted_and_ranked_one_by_one(root: Path, difficult: str) -> None:
    data = opened(root)
    method = VocSVM(student=REAL, costs=COSTS, difficult=difficult)  # type: ignore[arg-type]
    (record,) = measured(method, data)  # type: ignore[arg-type]
    rows, test = features(method, data)
    plain, raised, costs = {}, {}, []
    for number, name in enumerate(CLASSES):
        targets, shown = data.targets["train"][:, number].astype(int), data.targets["val"][:, number]
        kept = targets != 0 if difficult == "ignored" else targets < 2
        few, signs = rows[kept], np.where(targets[kept] == 1, 1, -1)
        scoring = {"cv": 3, "scoring": "average_precision"}
        found = [cross_val_score(plain_svm(cost), few, signs, **scoring).mean() for cost in COSTS]
        costs.append(COSTS[int(np.argmax(found))])
        scored = shown != 0
        answers = ranked(few, signs, test[scored], shown[scored], costs[-1])
        plain[name], raised[name] = 100 * slow_ap(answers), 100 * slow_ap(answers, raised=True)
    assert record.kind == "map"
    assert record.values["map"] == pytest.approx(np.mean(list(plain.values())), abs=1e-3)
    assert record.values["map_interpolated"] == pytest.approx(np.mean(list(raised.values())), abs=1e-3)
    assert record.context["ap"] == pytest.approx(plain, abs=1e-3)
    assert record.context["cost_chosen"] == {str(cost): costs.count(cost) for cost in COSTS if cost in costs}
    assert (record.context["protocol"], record.context["difficult"]) == ("VOC07 SVM", difficult)
    assert (record.context["images"], record.context["trained_on"], record.context["data"]) == (24, 30, "Voc2007")
    assert record.values["map_interpolated"] >= record.values["map"] > 50


def test_low_shot_draws_have_one_cost_for_all_classes(root: Path) -> None:
    data = opened(root)
    method = VocSVM(student=REAL, shots=(1, 3), costs=COSTS, draws=2)
    full, one, three = measured(method, data)  # type: ignore[arg-type]
    assert [record.context["protocol"] for record in (one, three)] == [
        "VOC07 low-shot SVM, 1 a class",
        "VOC07 low-shot SVM, 3 a class",
    ]
    rows, test = features(method, data)
    # Draws, costs: cross-validated, and both measures on the test images.
    found = np.zeros((2, len(COSTS), 3))
    for drawing, number, (place, cost) in product(range(2), range(3), enumerate(COSTS)):
        targets, shown = data.targets["train"][:, number], data.targets["val"][:, number]
        chosen = draw_examples(targets, 3, 3, [0, drawing, 3, number])
        # Three with the class, and three for each of the two others without it; difficult ones are not drawn.
        assert targets[chosen].tolist() == [1] * 3 + [-1] * 6
        assert len(set(chosen)) == 9
        few, signs, scored = rows[chosen], targets[chosen].astype(int), shown != 0
        inside = cross_val_score(plain_svm(cost), few, signs, cv=3, scoring="average_precision").mean()
        answers = ranked(few, signs, test[scored], shown[scored], cost)
        found[drawing, place] += np.array([inside, slow_ap(answers), slow_ap(answers, raised=True)]) / 3
    best = found[:, :, 0].argmax(axis=1)
    picked = 100 * found[np.arange(2), best]
    assert three.values == pytest.approx(
        {
            "map": picked[:, 1].mean(),
            "map_interpolated": picked[:, 2].mean(),
            "map_std": picked[:, 1].std(),
            "map_interpolated_std": picked[:, 2].std(),
        },
        abs=1e-3,
    )
    by_cost = dict(zip(map(str, COSTS), 100 * found[:, :, 2].mean(axis=0)))
    assert three.context["map_interpolated_by_cost"] == pytest.approx(by_cost, abs=1e-3)
    # Of one image a class nothing can be left out.
    assert one.context["cost_chosen"] == {"1.0": 2}
    assert full.values["map"] > one.values["map"]


def test_processes_share_classes_and_draws_out(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Tensors in place of what is made of them.
    monkeypatch.setattr(VocSVM, "_full", lambda _, full, labels: ({"map": 0.0}, {"part": full.tolist()}))
    monkeypatch.setattr(VocSVM, "_low_shot", lambda _, drawn: ({"map": 0.0}, {"part": drawn.tolist()}))
    found = {}
    for world, process in ((1, 0), (2, 0), (2, 1)):
        monkeypatch.setattr(voc_svm, "world_size", lambda world=world: world)
        monkeypatch.setattr(voc_svm, "rank", lambda process=process: process)
        torch.manual_seed(0)
        records = measured(VocSVM(student=REAL, shots=(2,), costs=(1.0,), draws=3), opened(root))  # type: ignore[arg-type]
        found[world, process] = [np.array(record.context["part"]) for record in records]
    for whole, first, second in zip(found[1, 0], found[2, 0], found[2, 1]):
        np.testing.assert_array_equal(first + second, whole)
        assert not ((first != 0) & (second != 0)).any()
        assert first.any()
        assert second.any()


def test_unreadable_images_are_left_out_with_what_they_show(root: Path) -> None:
    data = opened(root)
    broken = [4, 11]
    for number in broken:
        Path(data.files["val"][number]).write_bytes(b"no image")
    torch.manual_seed(0)
    (record,) = measured(VocSVM(student=REAL, costs=(1.0,)), data)  # type: ignore[arg-type]
    assert (record.context["images"], record.context["skipped"]) == (22, 2)
    # The same without the images, in the files of the classes too.
    for path in (root / "VOCdevkit/VOC2007/ImageSets/Main").glob("*_test.txt"):
        lines = path.read_text().splitlines()
        path.write_text("\n".join(line for place, line in enumerate(lines) if place not in broken))
    less = opened(root)
    assert less.count("val") == 22
    torch.manual_seed(0)
    (again,) = measured(VocSVM(student=REAL, costs=(1.0,)), less)  # type: ignore[arg-type]
    assert again.values == pytest.approx(record.values, abs=1e-3)


def test_interpolated_precision_is_raised_to_the_best_at_that_recall_or_more() -> None:
    # Right, wrong, wrong, right, right: precisions 1, 2/4, 3/5 at the right ones; the second is raised to 3/5.
    present, scores = np.array([True, False, False, True, True]), np.array([5.0, 4.0, 3.0, 2.0, 1.0])
    assert interpolated_precision(present, scores) == pytest.approx((1 + 3 / 5 + 3 / 5) / 3)
    assert slow_ap(present.tolist(), raised=True) == pytest.approx((1 + 3 / 5 + 3 / 5) / 3)


@pytest.mark.parametrize("line", ["000001 2", "000001", "000001 1 1", "000001 x"])
def test_a_wrong_line_is_told_by_its_number(root: Path, line: str) -> None:
    path = root / "VOCdevkit/VOC2007/ImageSets/Main/cat_trainval.txt"
    path.write_text(f"000001  1\n\n{line}\n")
    with pytest.raises(UserError, match=f"^{path}, line 3: '{line}' is no image and 1, 0 or -1; fetch VOC again"):
        opened(root)


def test_what_is_no_voc_is_refused(root: Path, digits: Digits) -> None:
    main = root / "VOCdevkit/VOC2007/ImageSets/Main"
    (main / "cat_test.txt").rename(main / "cat_old.txt")
    with pytest.raises(UserError, match="lists cat for one of trainval and test only"):
        opened(root)
    with pytest.raises(
        UserError, match=r"none/VOC.*Main has no CLASS_trainval.txt; give the folder that holds VOCdevkit"
    ):
        opened(root / "none")
    data = Voc2007(str(root), subset=Subset(share=0.5))
    with pytest.raises(UserError, match="data.subset needs images of one class"):
        data.setup()
    with pytest.raises(UserError, match="VocSVM works with Voc2007 alone"):
        VocSVM(student=REAL).prepare(digits)
    with pytest.raises(UserError, match="are out of range"):
        VocSVM(student=REAL, costs=()).prepare(digits)


def test_methods_of_one_label_refuse_images_of_several(root: Path) -> None:
    data = opened(root)
    methods = (LinearEvaluation(student=REAL), KNN(student=REAL, k=3), LowShotSVM(student=REAL), Supervised(REAL))
    for method in methods:
        with pytest.raises(UserError, match="images of Voc2007 may have several classes; use VocSVM, or other data"):
            method.prepare(data)


def test_classes_with_too_few_images_are_told(root: Path) -> None:
    targets = np.array([[1, 1], [1, -1], [-1, 0], [-1, -1]])
    check_examples(targets, ("cat", "dog"), 1, 2)
    with pytest.raises(UserError, match="1 images show dog and 2 do not, where 2 and 2 are needed; give smaller"):
        check_examples(targets, ("cat", "dog"), 2, 2)
    with pytest.raises(UserError, match="2 images show cat and 2 do not, where 1 and 3 are needed"):
        check_examples(targets, ("cat", "dog"), 1, 3)
    with pytest.raises(UserError, match=r"images show bird and [0-9]+ do not, where 9 and 18 are needed"):
        VocSVM(student=REAL, shots=(1, 9)).prepare(opened(root))
