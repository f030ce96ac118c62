"""Measuring through a real ssh server on this machine: what works, and all that can go wrong."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from edgebnn import records
from edgebnn.export.cli import main
from edgebnn.export.fold import fold
from edgebnn.export.onnx import packed
from edgebnn.export.tflite import lce
from edgebnn.files import sha256
from edgebnn.graph import ModelInfo
from edgebnn.nn import ReActNetConfig
from tests.export import sshd
from tests.export.sshd import Sshd, make_key
from tests.export.stand_ins import PRINTED, alive, fails, hang, prints, wait_for, write_program
from tests.needs import needs_lce
from tests.networks import random_network

pytestmark = [
    pytest.mark.skipif(sshd.SERVER is None, reason="no sshd; Debian: apt-get install openssh-server"),
    needs_lce,
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with sshd.running(tmp_path_factory.mktemp("sshd")) as found:
        yield found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tiny network, packed and for LCE."""
    folder = tmp_path_factory.mktemp("files")
    network = random_network(3, ReActNetConfig(width=0.125, head=(3,)))
    graph = fold(network, ModelInfo("tiny", 32))
    (folder / "tiny.onnx").write_bytes(packed.convert_to_packed_onnx(graph))
    (folder / "tiny.tflite").write_bytes(lce.convert_to_lce(graph))
    return folder / "tiny.onnx", folder / "tiny.tflite"


@dataclass(frozen=True)
class Board:
    """A device, and what is measured there.

    Attributes:
        server: its ssh server.
        there: its folder in which private ones are made.
        program: a program in its PATH; a test writes what it does.
        onnx, tflite: a tiny network, on this machine.
    """

    server: Sshd
    there: Path
    program: Path
    onnx: Path
    tflite: Path

    def arguments(self, *more: object) -> list[str]:
        """The command that measures there."""
        return [str(each) for each in ("device", *more, "--target", self.server.target, "--folder", self.there)]

    def left(self) -> list[Path]:
        """What is left there."""
        return list(self.there.iterdir())


@pytest.fixture
def board(server: Sshd, files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Board]:
    # The test's own client.
    monkeypatch.setenv("PATH", f"{server.folder / 'bin'}:{os.environ['PATH']}")
    there, program = tmp_path / "device's folder", server.programs / "lce_benchmark_model"
    there.mkdir()
    yield Board(server, there, program, *files)
    program.unlink(missing_ok=True)


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose path leaves room for ssh's socket: pytest's own paths are too long in several processes."""
    with tempfile.TemporaryDirectory(prefix="e-", dir="/tmp") as folder:
        yield Path(folder)


def start(given: list[str], temporary: Path) -> "subprocess.Popen[str]":
    """The command as a process of its own, as in a terminal."""
    return subprocess.Popen(
        [sys.executable, "-m", "export", *given],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # What a killed process leaves here.
        env=os.environ | {"TMPDIR": str(temporary)},
    )


def test_both_runners_bring_back_records_and_leave_nothing(
    board: Board, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = tmp_path / "seen"
    write_program(board.program, f'echo "$@" >>{seen}\n{prints(PRINTED)}')
    given = ["--python", sys.executable, "--threads", 2, "--rounds", 2, "--record", tmp_path / "run", "--json"]
    main(board.arguments(board.onnx, board.tflite, *given))
    printed = json.loads(capsys.readouterr().out)
    assert printed["results"][0]["ratio"] == 1
    assert not board.left()

    found = {(each.kind, each.context["artifact"]): each for each in records.read_records(tmp_path / "run")}
    assert len(found) == 4
    for path in (board.onnx, board.tflite):
        assert found["size", path.name].values == {"bytes": path.stat().st_size}
        assert found["latency", path.name].context["sha256"] == sha256(path)
        assert {each.model for each in found.values()} == {"tiny"}
    packed_one, lce_one = (found["latency", path.name] for path in (board.onnx, board.tflite))
    # The stand-in's runs: 31, 32 and 33 ms in both rounds.
    assert lce_one.values["median_ms"] == 32
    assert (lce_one.values["min_ms"], lce_one.values["first_ms"], lce_one.values["init_ms"]) == (31, 41.707, 1.5)
    assert lce_one.values["growth_memory_bytes"] == 8.5 * 2**20
    assert lce_one.context["runtime"] == "lce_benchmark_model"
    assert lce_one.context["runs"] == packed_one.context["runs"] == 6
    assert 0 < packed_one.values["min_ms"] <= packed_one.values["median_ms"] < packed_one.values["init_ms"]
    assert packed_one.values["peak_memory_bytes"] > 20e6
    assert packed_one.context["runtime"] == "onnxruntime"
    assert packed_one.context["machine"]["bits"] == 64
    assert (packed_one.context["target"], packed_one.context["threads"]) == ("ssh", 2)
    assert "temperature_c" in packed_one.context["before"]
    # What the program was asked for: our name for the file, three runs, and once to watch its memory.
    calls = seen.read_text().splitlines()
    assert len(calls) == 3
    assert all("/a1.tflite --num_threads=2 --num_runs=3 --min_secs=0" in call for call in calls)
    assert ["--report_peak_memory_footprint=true" in call for call in calls] == [True, False, False]


def test_the_table(board: Board, capsys: pytest.CaptureFixture[str]) -> None:
    write_program(board.program, prints(PRINTED))
    main(board.arguments(board.tflite, "--rounds", 1))
    header, row, where, moments, *_ = capsys.readouterr().out.splitlines()
    assert header.split("  ")[0] == "artifact"
    assert " ".join(row.split()) == "tiny.tflite lce_benchmark_model 32.000 31.200-32.800 41.71 1.50 +8.9 1.00"
    assert where.startswith("1 thread, 3 runs each in 1 round, on ")
    assert moments.startswith("before: ")


def test_a_program_from_here(board: Board, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours = tmp_path / "lce_benchmark_model_aarch64"
    write_program(ours, prints(PRINTED))
    main(board.arguments(board.tflite, "--rounds", 1, "--push-runner", ours))
    assert "32.000" in capsys.readouterr().out
    assert not board.left()


def test_odd_names_mean_nothing(board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["a b", "it's", '"', "-rf", "; touch hacked", "$(touch hacked)", "two\nlines", "`touch hacked`", "*", "ü"]
    here, folder = tmp_path / "here", board.there / " ".join(name for name in names if name.isprintable())
    here.mkdir()
    folder.mkdir()
    monkeypatch.chdir(here)
    for name in names:
        shutil.copy(board.tflite, here / f"{name}.tflite")
    ours = here / "".join(names) / "lce_benchmark_model"
    ours.parent.mkdir()
    write_program(ours, prints(PRINTED))
    given = ["--target", board.server.target, "--folder", str(folder), "--rounds", "1", "--runner", str(ours)]
    main(["device", *(f"./{name}.tflite" for name in names), *given, "--record", str(tmp_path / "run")])
    measured = [each for each in records.read_records(tmp_path / "run") if each.kind == "latency"]
    assert {each.context["artifact"] for each in measured} == {f"{name}.tflite" for name in names}
    left = {path.name for path in [*tmp_path.rglob("*"), *Path.home().glob("hacked"), *Path("/").glob("hacked")]}
    assert "hacked" not in left
    assert not list(folder.iterdir())


def test_a_folder_of_two_lines_is_refused(board: Board, capsys: pytest.CaptureFixture[str]) -> None:
    odd = replace(board, there=Path(f"{board.there}/two\nlines"))
    line = fails(capsys, odd.arguments(board.tflite))
    assert "is no valid folder name" in line


def test_a_missing_program_is_told_with_where_to_get_it(board: Board, capsys: pytest.CaptureFixture[str]) -> None:
    line = fails(capsys, board.arguments(board.tflite))
    assert "no lce_benchmark_model in the PATH" in line
    assert "https://github.com/larq/compute-engine/releases" in line
    assert "no program '/nowhere/x'" in fails(capsys, board.arguments(board.tflite, "--runner", "/nowhere/x"))
    assert not board.left()


def test_a_python_without_edgebnn(board: Board, capsys: pytest.CaptureFixture[str]) -> None:
    write_program(board.program, "echo No module named edgebnn >&2; exit 1")
    line = fails(capsys, board.arguments(board.onnx, "--python", board.program))
    assert "has no edgebnn (No module named edgebnn); pip install its wheel there" in line
    assert "no Python 'python9'" in fails(capsys, board.arguments(board.onnx, "--python", "python9"))


@pytest.mark.parametrize(
    ("does", "says"),
    [
        ("echo ERROR: cannot >&2; exit 3", "failed on 127.0.0.1 with status 3: ERROR: cannot; run it there by hand"),
        # Of ssh's own errors this is the status; the connection is sound.
        ("echo Permission denied >&2; exit 255", "failed on 127.0.0.1 with status 255: Permission denied"),
        ("printf 'a\\033]0;title\\007b' >&2; exit 3", r"with status 3: a\x1b]0;title\x07b"),
        ("kill -ILL $$", "illegal instruction: it was built for a newer processor"),
        ("echo hello", "the program printed no times, but 'hello'"),
        ("echo Encountered unresolved custom op: LceBconv2d; exit 1", "does not know an operator of the file"),
        ("head -c 20000000 /dev/zero", "printed over 8 MB"),
    ],
)
def test_a_failing_program(board: Board, capsys: pytest.CaptureFixture[str], does: str, says: str) -> None:
    write_program(board.program, does)
    assert says in fails(capsys, board.arguments(board.tflite))
    assert not board.left()


def test_a_hanging_program_is_killed_there(board: Board, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    marker = tmp_path / "marker"
    write_program(board.program, hang(marker))
    line = fails(capsys, board.arguments(board.tflite, "--limit", 2))
    assert "lce_benchmark_model did not finish in 2 s on 127.0.0.1, and was stopped" in line
    assert wait_for(lambda: not alive(marker), 5)
    assert not board.left()


def test_a_lost_connection_is_told_and_the_device_cleans_up(board: Board, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    write_program(board.program, hang(marker))
    process = start(board.arguments(board.tflite), tmp_path)
    assert wait_for(marker.exists, 60), process.communicate()
    assert board.left()
    board.server.cut()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "error: the connection to 127.0.0.1 was lost" in said
    assert wait_for(lambda: not alive(marker) and not board.left())


def test_a_hanging_python_is_killed_there(board: Board, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is measured, too."""
    marker = tmp_path / "marker"
    write_program(board.program, hang(marker))
    line = fails(capsys, board.arguments(board.onnx, "--python", board.program, "--limit", 2))
    assert "did not finish in 2 s on 127.0.0.1, and was stopped; check whether it hangs, or raise --limit" in line
    assert wait_for(lambda: not alive(marker), 5)
    assert not board.left()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda sent: sent.name)
def test_an_interrupted_measurement_leaves_nothing(
    board: Board, tmp_path: Path, short_folder: Path, sent: signal.Signals
) -> None:
    marker = tmp_path / "marker"
    write_program(board.program, hang(marker))
    process = start(board.arguments(board.tflite), short_folder)
    assert wait_for(marker.exists, 60), process.communicate()
    assert list(short_folder.glob("edgebnn-*"))
    # As a terminal does it: to the whole process group.
    os.killpg(process.pid, sent)
    _, said = process.communicate(timeout=60)
    if sent == signal.SIGINT:
        assert (process.returncode, said.splitlines()[-1]) == (130, "interrupted")
    if sent != signal.SIGKILL:
        assert process.returncode == 128 + sent
        # All is done when the command ends, here too.
        assert not board.left()
        assert not list(short_folder.glob("edgebnn-*"))
    assert wait_for(lambda: not alive(marker) and not board.left())


def test_a_full_disk(board: Board, capsys: pytest.CaptureFixture[str]) -> None:
    write_program(board.program, prints(PRINTED))
    small = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(board.there)]
    mounted = os.getuid() == 0 and subprocess.run(small, capture_output=True).returncode == 0
    before = resource.prlimit(board.server.process.pid, resource.RLIMIT_FSIZE)
    if not mounted:
        resource.prlimit(board.server.process.pid, resource.RLIMIT_FSIZE, (16384, before[1]))
    try:
        line = fails(capsys, board.arguments(board.tflite))
        assert "'tiny.tflite' (0." in line
        assert "free space there, or name another folder with --folder" in line
        assert not board.left()
    finally:
        resource.prlimit(board.server.process.pid, resource.RLIMIT_FSIZE, before)
        if mounted:
            subprocess.run(["umount", str(board.there)], check=True)
    absent = replace(board, there=board.there / "none")
    line = fails(capsys, absent.arguments(board.tflite))
    assert "no folder can be made on 127.0.0.1" in line


def test_host_keys_are_not_waved_through(board: Board, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    right = board.server.known_hosts.read_text()
    try:
        board.server.known_hosts.write_text(f"[127.0.0.1]:{board.server.port} {make_key(tmp_path / 'other')}\n")
        line = fails(capsys, board.arguments(board.tflite))
        assert f"remove the old key with ssh-keygen -R '[127.0.0.1]:{board.server.port}'" in line
        board.server.known_hosts.write_text("")
        line = fails(capsys, board.arguments(board.tflite))
        assert "ssh does not know 127.0.0.1 yet" in line
        assert f"check its host key once with ssh -p {board.server.port} 127.0.0.1" in line
        assert board.server.known_hosts.read_text() == ""
    finally:
        board.server.known_hosts.write_text(right)


def test_no_key_and_no_server(board: Board, capsys: pytest.CaptureFixture[str]) -> None:
    authorized = board.server.folder / "authorized"
    right = authorized.read_text()
    try:
        authorized.write_text("")
        begin = time.monotonic()
        assert "ssh-copy-id" in fails(capsys, board.arguments(board.tflite))
        # Nobody was asked for a password.
        assert time.monotonic() - begin < 30
    finally:
        authorized.write_text(right)
    nobody = ["device", str(board.tflite), "--target", "ssh://127.0.0.1:1"]
    assert "refuses ssh" in fails(capsys, nobody)
