import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.runtime import fuzz

ROOT = Path(__file__).parents[2]
BLOCK = 1_500


def load(first: int, last: int, folder: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tests.runtime.fuzz", str(first), str(last), str(folder)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, errors="replace")


@pytest.mark.parametrize("blocks", [range(1), pytest.param(range(1, 7), marks=pytest.mark.long)], ids=["first", "rest"])
def test_no_damaged_packed_file_ends_the_process(tmp_path: Path, blocks: range) -> None:
    """Each of 10,500 is loaded, and then runs, or is refused with a `UserError`."""
    outcomes: Counter[str] = Counter()
    for first in (BLOCK * block for block in blocks):
        done = load(first, first + BLOCK, tmp_path)
        seed = (tmp_path / "seed").read_text()
        assert done.returncode == 0, f"seed {seed}: exit code {done.returncode}\n{done.stderr[-2000:]}"
        outcomes += Counter(json.loads(done.stdout))
    assert sum(outcomes.values()) == BLOCK * len(blocks)
    # Most damage is found by ONNX Runtime; what reaches the operators must be enough to mean something.
    assert outcomes["refused by BinaryUnit"] > 143 * len(blocks)
    assert outcomes["refused by ImageConv"] > 29 * len(blocks)
    assert outcomes["loaded"] > 72 * len(blocks)


def test_that_test_can_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEBNN_LIBRARY", str(tmp_path))
    done = load(0, 30, tmp_path)
    assert json.loads(done.stdout).keys() <= {"other", "refused"}
    (tmp_path / "mutant.onnx").unlink()
    (tmp_path / "mutant.onnx").mkdir()
    assert load(7, 8, tmp_path).returncode != 0
    assert (tmp_path / "seed").read_text() == "7"


def test_mutants_follow_from_their_seeds() -> None:
    assert [fuzz.mutant(seed) for seed in range(30)] == [fuzz.mutant(seed) for seed in range(30)]
    assert len({fuzz.mutant(seed) for seed in range(300)}) > 250
