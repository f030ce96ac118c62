"""Images without labels: pretraining takes them, and an evaluation says in one line what it lacks."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgebnn.checkpoint import load_checkpoint
from edgebnn.errors import UserError
from edgebnn.train.__main__ import main
from edgebnn.train.data.sources import ImageFolder
from tests.train.conftest import WIDTH
from tests.train.runs import last, write_config


def write(root: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (40, 40, 3), np.uint8)
        Image.fromarray(pixels).save(path, format="png")
    return root


LAYOUTS = {
    "files in root": [f"{number}.png" for number in range(4)],
    "files in train": [f"train/{number}.PNG" for number in range(4)],
    "files in train and below": ["train/0.png", "train/1.png", "train/x/y/2.png", "train/x/3.png"],
    "no val": [f"train/all/{number}.png" for number in range(4)],
    "labels, no val": [f"train/{'ab'[number % 2]}/{number}.png" for number in range(4)],
    "files in train, classes in val": [*(f"train/{number}.png" for number in range(4)), "val/a/0.png", "val/b/1.png"],
}


def opened(root: Path) -> ImageFolder:
    data = ImageFolder(str(root), resolution=32, batch_size=2, workers=0)
    data.setup("fit")
    return data


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_is_read(tmp_path: Path, layout: str) -> None:
    data = opened(write(tmp_path, *LAYOUTS[layout], ".hidden/9.png", ".9.png"))
    found = sorted(Path(path).relative_to(tmp_path).as_posix() for path, _ in data.samples["train"])
    if layout == "files in train and below":
        # Class folders win over files beside them, as in torchvision.
        assert found == ["train/x/3.png", "train/x/y/2.png"]
        assert data.labels == ("x",)
    else:
        assert found == sorted(name for name in LAYOUTS[layout] if not name.startswith("val/"))
        expected = {"no val": ("all",), "labels, no val": ("a", "b")}
        assert data.labels == expected.get(layout, ())
    with pytest.raises(UserError, match="without class folders|holds no images in class folders"):
        data.check_held_out()


def test_empty_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "train/all").mkdir(parents=True)
    with pytest.raises(UserError, match="holds no images in class folders"):
        opened(tmp_path)


METHODS = {
    "MoCoV2": {"dim": 16, "queue_size": 16, "key_groups": 2},
    "BYOL": {},
    "SwAV": {},
}


@pytest.mark.parametrize("method", METHODS)
def test_methods_train_on_them(tmp_path: Path, method: str) -> None:
    root = write(tmp_path / "data", *(f"{number}.png" for number in range(8)))
    config = write_config(tmp_path / "run.yaml", method, {"max_epochs": 1}, student={"width": WIDTH}, **METHODS[method])
    data = ["--data", "ImageFolder", "--data.root", str(root), "--data.resolution", "32", "--data.batch_size", "4"]
    data += ["--data.workers", "0", "--data.small_resolution", "32"]
    main(["fit", "--config", str(config), *data])
    assert last(tmp_path / "run")["global_step"] == 2
    assert load_checkpoint(tmp_path / "run/model.safetensors").info.labels == ()


@pytest.mark.parametrize("method", ["LinearEvaluation", "KNN", "Supervised"])
def test_an_evaluation_says_what_it_lacks(tmp_path: Path, method: str) -> None:
    root = write(tmp_path / "data", *(f"train/{number}.png" for number in range(8)))
    config = write_config(tmp_path / "run.yaml", method, student={"width": WIDTH})
    with pytest.raises(UserError, match="holds images without class folders, which only pretraining can use"):
        main(["fit", "--config", str(config), "--data", "ImageFolder", "--data.root", str(root)])
    assert not (tmp_path / "run").exists()
