"""The wheel, installed outside the clone: every program runs from it, with the configurations that it brings."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.app.server import free_port, running


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder `bin` of an environment with the wheel and the other packages of this one, without the clone."""
    home = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    python = home / "bin/python"
    site = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], capture_output=True, text=True
    ).stdout.strip()
    # Path files within these folders are not read, so this environment's link to the clone is not taken over.
    folders = [folder for folder in sys.path if Path(folder).name == "site-packages"]
    Path(site, "packages.pth").write_text("\n".join(folders) + "\n")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--no-deps", "--force-reinstall", str(wheel)], check=True)
    return home / "bin"


@pytest.fixture(scope="module")
def outside(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the demo's first stage ran, shortened, and the evaluation of an untrained binary network."""
    folder = tmp_path_factory.mktemp("outside")
    few = ("--trainer.max_epochs", 1, "--trainer.limit_train_batches", 2, "--trainer.enable_progress_bar", "false")
    run(installed, folder, "train", "fit", "--config", "demo-moco", "--run", "runs/teacher", *few)
    shape = ("--model.init_args.checkpoint", "null", "--model.init_args.student", "{width: 0.25}")
    run(installed, folder, "train", "fit", "--config", "demo-linear", "--run", "runs/linear", *shape, *few)
    return folder


def run(installed: Path, folder: Path, *arguments: object) -> str:
    """Runs `edgebnn ARGUMENTS` in `folder` and returns what it prints."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [str(installed / "edgebnn"), *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_the_programs_and_neither_tests_nor_sources_of_kernels(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for name in ("py.typed", "train/configs/demo-moco.yaml", "train/recipes/demo.yaml", "export/cli.py", "app/main.py"):
        assert f"edgebnn/{name}" in names
    assert "edgebnn/kernels/libedgebnn.so" in names
    assert [name for name in names if not name.startswith(("edgebnn/", "edgebnn-"))] == []
    assert [name for name in names if name.endswith((".cpp", ".h", ".map", ".pyc"))] == []


def test_nothing_of_the_clone_is_imported(installed: Path, outside: Path) -> None:
    program = (
        "import edgebnn.train.cli as cli, edgebnn.export.fold as fold, sys;"
        "print(cli.__file__, fold.__file__, {'train', 'export', 'app'} & set(sys.modules))"
    )
    done = subprocess.run(
        [installed / "python", "-c", program], cwd=outside, capture_output=True, text=True, check=True
    )
    home = str(installed.parent)
    assert [word.startswith(home) for word in done.stdout.split()[:2]] == [True, True]
    assert done.stdout.split()[2:] == ["set()"]


def test_training_leaves_a_model_that_exports_and_predicts(installed: Path, outside: Path) -> None:
    assert (outside / "runs/teacher/model.safetensors").is_file()
    run(installed, outside, "export", "onnx", "runs/linear/model.safetensors", "packed.onnx", "--packed")
    verified = run(
        installed, outside, "export", "verify", "runs/linear/model.safetensors", "packed.onnx", "--images", 4
    )
    assert verified.splitlines()[-1] == "verified"
    np.save(outside / "image.npy", np.zeros((32, 32, 3), np.uint8))
    assert "%" in run(installed, outside, "predict", "packed.onnx", "image.npy")


def test_the_dashboard_answers(installed: Path, outside: Path) -> None:
    port = free_port()
    with running([installed / "edgebnn", "app", "--port", str(port)], port, outside):
        pass


def test_a_recipe_of_the_wheel_is_found_by_its_name(installed: Path, outside: Path) -> None:
    command = [installed / "edgebnn", "train", "recipe", "evaluate"]
    done = subprocess.run(command, cwd=outside, capture_output=True, text=True)
    assert done.returncode == 2
    assert "recipes/evaluate.yaml leaves ${name} open; give --set name=VALUE" in done.stderr
