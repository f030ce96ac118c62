"""`edgebnn train|export|app` where what they need is not installed, and the files that they find by name."""

import subprocess
import sys
from pathlib import Path

import pytest

from edgebnn import cli
from edgebnn.programs import PROGRAMS
from edgebnn.train.shipped import HOME, config_paths, find_shipped, shipped_names, with_shipped_configs

NEEDS = {
    "torch": [["train", "fit", "--config", "demo-moco"], ["export", "onnx", __file__, "out.onnx"]],
    "streamlit": [["app"]],
}


@pytest.mark.parametrize(("package", "command"), [(name, each) for name, all_ in NEEDS.items() for each in all_])
def test_a_program_without_its_packages_says_how_to_get_them(package: str, command: list[str]) -> None:
    # What a device has: importing anything heavy fails as where it is not installed.
    program = f"import sys; sys.modules[{package!r}] = None; from edgebnn.cli import main; main({command!r})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    name = command[0]
    assert done.stderr == f"error: `edgebnn {name}` needs {package}; pip install 'edgebnn[{name}]'\n"


@pytest.mark.parametrize(
    "command",
    [
        *(["train", "fit", "--help"], ["train", "recipe", "--help"], ["train", "evaluate", "--help"]),
        *(["train", "fit", "--config", "missing.yaml"], ["train", "recipe", "missing"], ["train", "recipe", "--odd"]),
        *(["train", "evaluate", "missing", "--data", "digits"], ["export", "--help"], ["export", "onnx", "--odd"]),
        *(["export", "onnx", "missing", "out.onnx"], ["export", "verify", "missing", "out.onnx"]),
    ],
    ids=" ".join,
)
def test_help_and_mistakes_wait_for_nothing_heavy(command: list[str]) -> None:
    program = (
        "import sys; from edgebnn.cli import main\n"
        f"try: main({command!r})\n"
        "except SystemExit as end: print(end.code or 0)\n"
        "print(sorted({'torch', 'torchvision', 'onnxruntime', 'onnx', 'lightning'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    *_, code, heavy = ["0", *done.stdout.splitlines()]
    assert heavy == "[]"
    assert ("--help" in command) == (code != "2")


def test_the_help_names_every_program(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    for name, program in PROGRAMS.items():
        assert f"{name} {program.text}" in text


def test_a_name_is_a_file_that_comes_with_edgebnn_and_a_path_is_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_shipped("demo", "recipes") == str(HOME / "recipes/demo.yaml")
    assert find_shipped("no-such-name", "recipes") == "no-such-name"
    assert find_shipped("folder/demo", "recipes") == "folder/demo"
    Path("demo").touch()
    assert find_shipped("demo", "recipes") == "demo"
    assert "demo-moco" in shipped_names("configs")
    shipped = str(HOME / "configs/knn.yaml")
    given = ["--config", "knn", "--config=knn", "--name", "knn"]
    assert config_paths(given) == ["knn", "knn"]
    assert with_shipped_configs(given) == ["--config", shipped, f"--config={shipped}", "--name", "knn"]
