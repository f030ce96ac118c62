"""`edgebnn train|export|app` where what they need is not installed, and the files that they find by name."""

import subprocess
import sys
from pathlib import Path

import pytest
from edgebnn.train.shipped import HOME, find_shipped, with_shipped_configs

from edgebnn import cli
from edgebnn.programs import PROGRAMS


@pytest.mark.parametrize(("program", "package"), [("train", "torch"), ("export", "torch"), ("app", "streamlit")])
def test_a_program_without_its_packages_says_how_to_get_them(program: str, package: str) -> None:
    # What a device has: importing anything heavy fails as where it is not installed.
    blocked = f"import sys; sys.modules[{package!r}] = None; from edgebnn.cli import main; main([{program!r}, 'fit'])"
    if program == "app":
        blocked = blocked.replace("'fit'", "")
    done = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert done.stderr == f"error: `edgebnn {program}` needs {package}; pip install 'edgebnn[{program}]'\n"


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
    shipped = str(HOME / "configs/knn.yaml")
    given = ["--config", "knn", "--config=knn", "--name", "knn"]
    assert with_shipped_configs(given) == ["--config", shipped, f"--config={shipped}", "--name", "knn"]
