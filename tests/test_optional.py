"""Packages that are not published for every Python: what commands say without them, and that no skip hides a test."""

import platform
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from torch import nn

from edgebnn import optional, runtime
from edgebnn.errors import UserError
from edgebnn.export.baselines import tflite as baselines_tflite
from edgebnn.export.tflite import converter, lce, plain
from edgebnn.export.tflite import file as tflite_file
from edgebnn.export.verify import rounding
from edgebnn.export.verify.trace import open_trace
from edgebnn.graph import InferenceGraph, reference
from edgebnn.graph.shapes import UnitShape
from edgebnn.optional import LCE_PACKAGE, LITERT_PACKAGE, TENSORFLOW_PACKAGE, Package
from tests.export.random_graph import graph_of
from tests.needs import needs_lce, needs_tensorflow

ROOT = Path(__file__).parents[1]
PYTHONS = [(3, minor) for minor in range(10, 15)]
PLATFORMS = [("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"), ("darwin", "x86_64"), ("win32", "AMD64")]


@pytest.fixture(scope="module")
def graph() -> InferenceGraph:
    shapes = (UnitShape(8, 8, 3, 1, "identity"),)
    return graph_of(np.random.default_rng(0), shapes, channels=8, resolution=8)


def published(package: Package) -> set[tuple[tuple[int, int], str, str]]:
    every = {(python, *where) for python in PYTHONS for where in PLATFORMS}
    return {each for each in every if not package.unpublished(*each)}


def test_where_the_packages_are_published() -> None:
    """As the index lists the wheels of larq-compute-engine 0.16.0, tensorflow 2.21.0 and ai-edge-litert 2.3.0."""
    old = [(3, 10), (3, 11), (3, 12)]
    assert published(LCE_PACKAGE) == {(p, *where) for p in old for where in PLATFORMS if where != ("linux", "aarch64")}
    assert published(TENSORFLOW_PACKAGE) == {(p, *where) for p in [*old, (3, 13)] for where in PLATFORMS}
    assert published(LITERT_PACKAGE) == {(p, *w) for p in PYTHONS for w in PLATFORMS if w != ("darwin", "x86_64")}


@pytest.mark.parametrize("package", optional.PACKAGES.values(), ids=optional.PACKAGES)
def test_pip_is_told_the_same(package: Package) -> None:
    lines = re.findall(rf'"({package.name}[^"]*)"', (ROOT / "pyproject.toml").read_text())
    assert lines
    for line in lines:
        marker = Requirement(line).marker
        assert marker is not None
        asked = {
            (python, system, machine)
            for python in PYTHONS
            for system, machine in PLATFORMS
            if marker.evaluate(
                {
                    **default_environment(),
                    "python_version": "{}.{}".format(*python),
                    "sys_platform": system,
                    "platform_machine": machine,
                }
            )
        }
        assert asked == published(package)


@pytest.mark.skipif(
    sys.version_info >= (3, 13) or (sys.platform == "linux" and platform.machine() != "x86_64"),
    reason="larq-compute-engine has a package for Python 3.10 to 3.12 alone, and none for Linux on ARM",
)
def test_below_python_3_13_no_test_is_skipped_for_a_package() -> None:
    assert [mark.args for mark in (needs_lce, needs_tensorflow)] == [(False,), (False,)]
    assert [package.missing() for package in optional.PACKAGES.values()] == ["", "", ""]


def test_a_package_that_is_not_installed_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    package = Package("a-name", "no_such_module", newest=(3, 99), arm_linux=True, pythons="Python 3.10 to 3.99")
    assert package.missing() == "a-name is not installed"
    with pytest.raises(UserError, match=r"^x needs a-name; pip install 'edgebnn\[export\]'$"):
        optional.require("x", package)
    old = Package("a-name", "no_such_module", newest=(3, 9), arm_linux=True, pythons="Python 3.8 or 3.9")
    says = "^x needs a-name, but a-name has no package for Python {}.{}; use Python 3.8 or 3.9$"
    with pytest.raises(UserError, match=says.format(*sys.version_info)):
        optional.require("x", old)
    # One that is installed all the same, from its source, is used.
    optional.require("x", Package("pytest", "pytest", newest=(3, 9), arm_linux=True, pythons=""))


def load_lce(graph: InferenceGraph, folder: Path) -> object:
    (folder / "model.tflite").write_bytes(lce.convert_to_lce(graph))
    return runtime.load_model(folder / "model.tflite")


@pytest.mark.parametrize(
    ("run", "module", "what"),
    [
        (
            lambda graph, folder: lce.convert_to_lce(graph),
            "ai_edge_litert",
            r"reading and writing \.tflite files needs ai-edge-litert",
        ),
        (
            lambda graph, folder: plain.convert_to_tflite(graph),
            "ai_edge_litert",
            r"reading and writing \.tflite files needs ai-edge-litert",
        ),
        (
            lambda graph, folder: converter.convert_with_lce(graph),
            "larq_compute_engine",
            "LCE's converter needs larq-compute-engine",
        ),
        (
            lambda graph, folder: converter.convert_with_tensorflow(graph),
            "tensorflow",
            "TensorFlow's converter needs tensorflow",
        ),
        (load_lce, "larq_compute_engine", r"a \.tflite file needs larq-compute-engine"),
        (
            lambda graph, folder: baselines_tflite.convert_module_to_tflite(nn.Flatten(), "m", 8),
            "tensorflow",
            "a TFLite baseline needs tensorflow",
        ),
    ],
)
def test_a_command_without_its_package_says_what_to_do(
    run: Callable[[InferenceGraph, Path], Any],
    module: str,
    what: str,
    graph: InferenceGraph,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Python treats a module that is None here as one that is not installed.
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, runtime.lce.EXTENSION, raising=False)
    tflite_file.schema.cache_clear()
    with pytest.raises(UserError, match=rf"^{what}[^\n]*; (pip install|use Python)"):
        run(graph, tmp_path)


@pytest.mark.parametrize("name", optional.PACKAGES)
def test_make_asks_why_a_package_is_missing(name: str) -> None:
    command = [sys.executable, "-m", "edgebnn.optional"]
    done = subprocess.run([*command, name], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == optional.PACKAGES[name].missing()
    assert subprocess.run([*command, "numpy"], capture_output=True).returncode == 2


def test_without_lce_its_files_are_written_and_verified(
    graph: InferenceGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the NumPy model of its arithmetic, which says so; a wrong weight is found."""
    monkeypatch.setitem(sys.modules, "larq_compute_engine", None)
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    tflite_file.schema.cache_clear()
    path = tmp_path / "model.tflite"
    path.write_bytes(lce.convert_to_lce(graph))
    trace = open_trace(path, graph)
    assert (trace.format, trace.runtime) == ("lce", "numpy")
    images = np.random.default_rng(1).normal(size=(3, 3, 8, 8)).astype(np.float32)
    run = trace.run(images)
    unit = graph.units[0]
    bound = rounding.unit_bound(unit, run.stem.values)
    assert (np.abs(run.units[0].values - reference.unit(unit, run.stem.values)) <= bound).all()
    flipped = unit.weight.copy()
    flipped[0, 0, 1, 1] *= -1
    path.write_bytes(lce.convert_to_lce(replace(graph, units=(replace(unit, weight=flipped),))))
    wrong = open_trace(path, graph).run(images)
    assert (np.abs(wrong.units[0].values - reference.unit(unit, run.stem.values)) > bound).any()
