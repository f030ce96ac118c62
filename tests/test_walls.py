"""The walls between the rooms: what a device runs must not need what a trainer needs."""

import ast
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


def imported(source: str) -> set[str]:
    """First names of all modules that Python source imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


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
    assert {str(file): found for file in files if (found := imported(file.read_text()) & ABOVE)} == {}


def test_that_check_can_fail_too() -> None:
    assert imported("def f():\n    from export.lce import convert\n    import app.tables as t") == {"export", "app"}


def test_tensorflow_is_never_imported_by_the_library() -> None:
    files = (ROOT / "edgebnn").rglob("*.py")
    assert [str(file) for file in files if "tensorflow" in imported(file.read_text())] == []
