"""Processes that a launcher starts: where each is, which device it takes, who speaks, and what is left behind."""

import os
import re
import signal
import tempfile
from pathlib import Path

import pytest

from edgebnn.errors import UserError
from edgebnn.train.engine.failures import one_line_errors
from edgebnn.train.parallel import launch
from edgebnn.train.parallel.launch import OtherProcessError, ProcessPlace, print_error_once, process_place
from edgebnn.train.parallel.processes import devices_and_nodes

TORCHRUN = {"TORCHELASTIC_RUN_ID": "r", "RANK": "5", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}
SRUN = {"SLURM_STEP_ID": "0", "SLURM_NTASKS": "6", "SLURM_NNODES": "3", "SLURM_PROCID": "5"}


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*TORCHRUN, *SRUN, "TORCHELASTIC_USE_AGENT_STORE"):
        monkeypatch.delenv(name, raising=False)


def started(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        (TORCHRUN, ProcessPlace(5, 8, 4, 2, "torchrun")),
        (SRUN, ProcessPlace(5, 6, 2, 3, "srun")),
        # A batch script that starts Python itself, and an interactive step of one task.
        ({key: value for key, value in SRUN.items() if key != "SLURM_STEP_ID"}, None),
        (SRUN | {"SLURM_NTASKS": "1", "SLURM_NNODES": "1"}, None),
    ],
)
def test_a_launcher_says_where_a_process_is(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: ProcessPlace | None
) -> None:
    started(monkeypatch, environment)
    assert process_place() == expected


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        (TORCHRUN | {"WORLD_SIZE": "6"}, "6 processes do not divide evenly"),
        # Three tasks on each of two machines and two on the third.
        (SRUN | {"SLURM_NTASKS": "8"}, "8 processes do not divide evenly"),
        (SRUN | {"SLURM_NTASKS": "2"}, "2 processes do not divide evenly"),
        (TORCHRUN | {"RANK": "x"}, "is incomplete"),
        ({key: value for key, value in SRUN.items() if key != "SLURM_PROCID"}, "is incomplete"),
    ],
)
def test_a_launcher_that_contradicts_itself_is_refused(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], named: str
) -> None:
    started(monkeypatch, environment)
    with pytest.raises(UserError, match=named):
        process_place()


def test_devices_that_were_chosen_by_name_stay_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert devices_and_nodes([2, 3], 1) == ([2, 3], 1)
    started(monkeypatch, TORCHRUN | {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"})
    for devices in ([2, 3], "2,3"):
        assert devices_and_nodes(devices, 1) == (devices, 1)
    for devices in ("auto", "-1", -1, 2, "2"):
        assert devices_and_nodes(devices, 1) == (2, 1)
    for wrong in ([1, 2, 3], "3,", 4, "1"):
        with pytest.raises(UserError, match="torchrun started 2 processes on each of 1 machines"):
            devices_and_nodes(wrong, 1)


def test_of_several_processes_one_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "WAIT_SECONDS", 0.0)
    with pytest.raises(UserError, match="^no such file$"), print_error_once():
        raise UserError("no such file")
    started(monkeypatch, SRUN)
    with pytest.raises(UserError, match="^process 5: no such file$"), print_error_once():
        raise UserError("no such file")
    with pytest.raises(OtherProcessError, match="^it says why$"), print_error_once():
        raise OtherProcessError("it says why")
    with (
        pytest.raises(OtherProcessError, match=r"cannot be reached \(NCCL error: no route\); if no other line"),
        one_line_errors(),
    ):
        raise RuntimeError("NCCL error: no route\nin some file")
    monkeypatch.setattr(launch, "_is_first", lambda here: False)
    for error, code in ((UserError("again"), 2), (KeyError("again"), 1), (KeyboardInterrupt(), 130)):
        with pytest.raises(SystemExit) as exit_, print_error_once():
            raise error
        assert exit_.value.code == code


def test_the_launcher_shares_cores_out_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(launch, "usable_cores", lambda: 7)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("OMP_DISPLAY_ENV", "TRUE")  # OpenMP then tells its settings when torch loads it
    before = [signal.getsignal(number) for number in launch.SIGNALS]
    launch.start_processes(2, ["fit", "--help=all"])  # short help does not load torch
    told = capfd.readouterr()
    assert told.out.count("usage:") == 2
    assert set(re.findall(r"OMP_NUM_THREADS = '(\d+)'", told.err)) == {"3"}
    assert "OMP_NUM_THREADS" not in os.environ
    with pytest.raises(SystemExit) as exit_:
        launch.start_processes(2, ["nonsense"])
    assert exit_.value.code == 2
    assert capfd.readouterr().err.count("unknown command 'nonsense'") == 1
    assert list(tmp_path.iterdir()) == []
    # Between the stages of a recipe Ctrl+C is an ordinary one again.
    assert [signal.getsignal(number) for number in launch.SIGNALS] == before
