"""Settings that ended in a traceback or hung: each gives a result, or one line before anything is written."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgebnn.errors import UserError
from edgebnn.train.__main__ import main
from edgebnn.train.data.datasets import LONGEST, read_rgb, trim_thin
from tests.train.conftest import WIDTH
from tests.train.runs import command, last, write_config

MOCO = {"student": {"width": WIDTH}, "dim": 16, "queue_size": 64, "key_groups": 1}


@pytest.mark.parametrize(
    ("method", "arguments", "options", "message"),
    [
        ("MoCoV2", MOCO, ["--trainer.limit_train_batches", "0"], "leaves nothing to train"),
        ("KNN", {"student": {"width": WIDTH}}, ["--trainer.limit_val_batches", "0"], "leaves nothing to measure"),
        ("BYOL", {"student": {"width": WIDTH}}, ["--data.batch_size", "1"], "one image at a time, and BatchNorm needs"),
        ("MoCoV2", MOCO, ["--trainer.accumulate_grad_batches", "16"], "one image at a time, and BatchNorm needs"),
        (
            "MoCoV2",
            MOCO,
            ["--trainer.logger", "MLFlowLogger"],
            "MLFlowLogger: .*mlflow.* not met.*; correct its values, or install",
        ),
    ],
    ids=["no training", "nothing to measure", "one image", "one accumulated image", "logger"],
)
def test_one_line_before_anything_is_written(
    tmp_path: Path, method: str, arguments: dict[str, object], options: list[str], message: str
) -> None:
    config = write_config(tmp_path / "run.yaml", method, **arguments)
    with pytest.raises(UserError, match=message):
        main(["fit", "--config", str(config), *options])
    assert not (tmp_path / "run").exists()


def test_training_without_validation(tmp_path: Path) -> None:
    config = write_config(tmp_path / "run.yaml", "Supervised", {"limit_val_batches": 0}, student={"width": WIDTH})
    main(["fit", "--config", str(config)])
    assert last(tmp_path / "run")["global_step"] == 8
    assert not (tmp_path / "run/records").exists()


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "lars"])
def test_clipping_in_mixed_precision(tmp_path: Path, optimizer: str) -> None:
    trainer = {"precision": "bf16-mixed", "gradient_clip_val": 1.0, "max_epochs": 1, "limit_train_batches": 1}
    config = write_config(tmp_path / "run.yaml", "MoCoV2", trainer, **MOCO, optimizer={"name": optimizer})
    main(["fit", "--config", str(config)])
    assert last(tmp_path / "run")["global_step"] == 1


def test_a_thin_image_keeps_its_middle(tmp_path: Path) -> None:
    line = np.arange(100_000, dtype=np.uint32)
    pixels = np.stack([line >> 16, line >> 8 & 255, line & 255], axis=1).astype(np.uint8)
    for name, image, first in (("wide", pixels[None], 0), ("tall", pixels[:, None], 1)):
        Image.fromarray(image).save(tmp_path / f"{name}.png")
        found = read_rgb(str(tmp_path / f"{name}.png"))
        assert sorted(found.size) == [1, LONGEST]
        start = (100_000 - LONGEST) // 2
        np.testing.assert_array_equal(np.asarray(found).reshape(-1, 3), pixels[start : start + LONGEST])
        assert found.size[first] == LONGEST
    usual = Image.new("RGB", (LONGEST, 1))
    assert trim_thin(usual) is usual


def test_small_shared_memory_is_one_line(tmp_path: Path) -> None:
    """As in a container of Docker, whose /dev/shm has 64 MB."""
    unshare = shutil.which("unshare")
    mount = "mount -t tmpfs -o size=256k tmpfs /dev/shm"
    if unshare is None or subprocess.run([unshare, "-rm", "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("this machine allows no mount in a namespace")
    config = write_config(tmp_path / "run.yaml", "MoCoV2", **MOCO)
    # Whole images of 224x224 are sent, 2.4 MB a batch.
    options = ["--data.resolution", 224, "--data.workers", 1]
    script = f'{mount} && exec "$@"'
    arguments = command("fit", "--config", config, *options)
    found = subprocess.run(
        [unshare, "-rm", "sh", "-c", script, "sh", *arguments], capture_output=True, text=True, timeout=240
    )
    assert found.returncode == 2, found.stderr
    (line,) = found.stderr.splitlines()
    assert line.startswith("error: shared memory (/dev/shm, 0 MB) is too small")
    assert "--shm-size=8g or --ipc=host" in line
