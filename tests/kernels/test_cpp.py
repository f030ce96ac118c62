"""The kernels' C++ unit tests (tests/kernels/cpp), for what Python cannot reach: memory, plans, the edges of tiles.

EDGEBNN_UNIT_TESTS names a program that was built elsewhere: with sanitizers, or for another processor.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PROGRAM = "edgebnn_unit_tests"


@pytest.fixture(scope="module")
def program() -> Path:
    """EDGEBNN_UNIT_TESTS, or the program built in build/cpp, where a second build takes a second."""
    built = os.environ.get("EDGEBNN_UNIT_TESTS")
    if built:
        return Path(built)
    folder = REPOSITORY / "build" / "cpp"
    cmake = shutil.which("cmake", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert cmake, "cmake is missing; run 'make setup'"
    for command in (
        [cmake, "-S", REPOSITORY / "edgebnn" / "kernels", "-B", folder, "-DEDGEBNN_TESTS=ON"],
        [cmake, "--build", folder, "--target", PROGRAM, "--parallel", "2"],
    ):
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stdout + run.stderr
    return folder / "cpp" / PROGRAM


def run(program: Path, *names: str) -> subprocess.CompletedProcess[str]:
    command = [*os.environ.get("EDGEBNN_EMULATOR", "").split(), program, *names]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.timeout(900)  # the first build takes minutes on a busy machine
def test_all_unit_tests_pass(program: Path) -> None:
    done = run(program)
    assert done.returncode == 0, done.stdout + done.stderr
    count = re.fullmatch(r"(\d+) tests, 0 failed\n", done.stdout)
    assert count, done.stdout
    sources = Path(__file__).with_name("cpp").glob("test_*.cpp")
    assert int(count[1]) == sum(source.read_text().count("\nTEST(") for source in sources)


def test_a_failing_check_fails_the_program(program: Path) -> None:
    done = run(program, "a_failing_check")
    assert done.returncode == 1
    assert "1 + 1 is 2, wanted 3" in done.stdout
    assert "FAILED a_failing_check" in done.stdout


def test_a_name_that_runs_no_test_fails_the_program(program: Path) -> None:
    done = run(program, "no_such_test")
    assert done.returncode == 1
    assert done.stdout == "0 tests, 0 failed\n"
