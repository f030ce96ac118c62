"""The walls between the rooms: what a device runs must not need what a trainer needs."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "tensorflow", "larq_compute_engine"}
ABOVE = {"train", "export", "app", "tests"}


def heavy_after(statement: str) -> set[str]:
    """Which heavy packages a fresh interpreter has imported after `statement`."""
    program = f"{statement}\nimport sys; print(*sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


def imported(source: str, package: str = "") -> set[str]:
    """Full names of all that Python source imports, wherever in it.

    The programs are packages of `edgebnn` and folders of the repository: both names of one are the shorter.

    Args:
        source: the text of a module.
        package: the package that it lies in, for relative imports.
    """
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parts, *([node.module] if node.module else [])])
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return {re.sub(r"^edgebnn\.(?=(train|export|app)\b)", "", name) for name in names}


def first_names(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


FLOORS = {
    "train": [
        *("parallel", "data", "engine", "methods", "evaluation", "shipped", "options", "evaluate", "cli"),
        *("pipeline bench", "command", "__main__"),
    ],
    "export": ["fold", "onnx tflite", "verify baselines", "arguments", "device bench", "commands", "cli", "__main__"],
    "app": ["data", "charts", "report summary shell", "views", "main command"],
}
"""The rooms of each program from the ground up; a room imports from lower floors alone."""


def climbs(program: str, module: str, source: str) -> set[str]:
    """Returns what a module imports of its own program from its own floor's other rooms, or from above.

    Args:
        program: a key of `FLOORS`.
        module: its name within the program, such as methods.burn.
        source: its text.
    """
    floor_of = {room: number for number, rooms in enumerate(FLOORS[program]) for room in rooms.split()}
    mine = module.split(".")[0]
    package = ".".join([program, *module.split(".")[:-1]])
    found = {name for name in imported(source, package) if name.startswith(f"{program}.")}
    rooms = {name: name.split(".")[1] for name in found}
    return {name for name, room in rooms.items() if room != mine and floor_of[room] >= floor_of[mine]}


@pytest.mark.parametrize(
    "room", ["edgebnn.runtime", "edgebnn.graph.reference", "edgebnn.cli", "edgebnn.records", "edgebnn.doctor"]
)
def test_a_device_needs_neither_torch_nor_tensorflow(room: str) -> None:
    assert heavy_after(f"import {room}") == set()


def test_that_check_can_fail() -> None:
    assert heavy_after("import edgebnn.nn") == {"torch"}


def test_the_library_imports_nothing_above_it() -> None:
    files = list((ROOT / "edgebnn").rglob("*.py"))
    assert ROOT / "edgebnn" / "runtime" / "load.py" in files
    assert {str(file): found for file in files if (found := first_names(imported(file.read_text())) & ABOVE)} == {}


def test_that_check_can_fail_too() -> None:
    source = "def f():\n    from edgebnn.export.tflite.lce import convert\n    import app.tables as t"
    assert first_names(imported(source)) == {"export", "app"}


@pytest.mark.parametrize("program", FLOORS)
def test_a_room_imports_from_lower_floors_alone(program: str) -> None:
    found = {}
    for file in (ROOT / program).rglob("*.py"):
        module = ".".join(file.relative_to(ROOT / program).with_suffix("").parts)
        if module != "__init__":
            found[module] = climbs(program, module, file.read_text())
    assert len(found) > 30
    assert {module: names for module, names in found.items() if names} == {}


def test_that_check_can_fail_as_well() -> None:
    up = (
        "from ..evaluation.base import Evaluation\nfrom .base import Method\nfrom ..engine.optim import OptimizerConfig"
    )
    assert climbs("train", "methods.supervised", up) == {"train.evaluation.base.Evaluation"}
    assert climbs("train", "pipeline.recipe", "from edgebnn.train.bench import step") == {"train.bench.step"}


@pytest.mark.parametrize(("program", "other"), [("train", "export"), ("export", "train")])
def test_training_and_exporting_know_nothing_of_each_other(program: str, other: str) -> None:
    files = list((ROOT / program).rglob("*.py"))
    package = {file: ".".join(file.relative_to(ROOT).parent.parts) for file in files}
    assert [str(f) for f in files if first_names(imported(f.read_text(), package[f])) & {other, "app"}] == []


def test_tensorflow_is_never_imported_by_the_library() -> None:
    files = (ROOT / "edgebnn").rglob("*.py")
    assert [str(file) for file in files if "tensorflow" in first_names(imported(file.read_text()))] == []
