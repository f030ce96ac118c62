"""Progress in a log file: whole lines, at the latest at the end of every epoch."""

import re
from pathlib import Path

import pytest

from edgebnn import progress
from edgebnn.progress import ProgressLines, duration
from tests.train.conftest import WIDTH
from tests.train.runs import run, write_config


@pytest.mark.parametrize("seconds", [1e-3, 1e6])
def test_a_run_without_a_terminal_prints_lines(tmp_path: Path, seconds: float) -> None:
    trainer = {"enable_progress_bar": None}
    config = write_config(tmp_path / "knn.yaml", "MoCoV2", trainer, student={"width": WIDTH}, dim=16, queue_size=64)
    found = run("fit", "--config", config, "--progress_seconds", seconds)
    assert found.returncode == 0, found.stderr
    # Two epochs of four batches. The first step and the end of an epoch always have a line.
    expected = [
        f"epoch {epoch} of 2, step {4 * epoch - 4 + batch}: batch {batch}" for epoch in (1, 2) for batch in (1, 2, 3, 4)
    ]
    kept = expected if seconds < 1 else expected[:1]
    lines = found.stderr.splitlines()
    assert [line.partition(" of 4")[0] for line in lines if "batch" in line] == kept
    assert all(re.search(r"loss \d+\.\d+, \d+ s$", line) for line in lines if "batch" in line)
    done = [line for line in lines if "done" in line]
    assert [line.partition(", train/loss")[0] for line in done] == [
        f"epoch {n} of 2, step {4 * n}: done" for n in (1, 2)
    ]
    assert len(lines) == len(kept) + 2


def test_no_progress_where_it_is_turned_off(tmp_path: Path) -> None:
    config = write_config(tmp_path / "moco.yaml", "MoCoV2", student={"width": WIDTH}, dim=16, queue_size=64)
    found = run("fit", "--config", config, "--progress_seconds", 1e-3)
    assert (found.returncode, found.stderr) == (0, "")


def test_a_loop_prints_a_line_a_minute(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with ProgressLines(50, "verifying", "image") as bar:
        for _ in range(5):
            now[0] += 25
            bar.set_postfix_str("top-1\n50")
            bar.update(10)
    assert capsys.readouterr().err == ("verifying: 30 of 50 images, top-1\\n50, 1 min 15 s\n")


def test_a_long_step_prints_lines_too(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.01)
    seen = ""
    with ProgressLines(3, "export", "step", beat=True) as bar:
        bar.update()
        bar.set_postfix_str("converting")
        while "\n" not in seen:
            seen += capfd.readouterr().err
    assert re.match(r"export: [01] of 3 steps", seen)


@pytest.mark.parametrize(
    ("seconds", "words"), [(59.4, "59 s"), (60, "1 min 0 s"), (3599, "59 min 59 s"), (7500, "2 h 5 min")]
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words
