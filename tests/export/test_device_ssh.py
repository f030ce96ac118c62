"""Measuring through a real ssh server on this machine: what works, and all that can go wrong."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgebnn import records
from edgebnn.files import sha256
from edgebnn.graph import ModelInfo
from edgebnn.nn import ReActNetConfig
from export import lce, packed
from export.cli import main
from export.fold import fold
from tests.export import sshd
from tests.export.sshd import Sshd, make_key
from tests.export.stand_ins import PRINTED, alive, fails, hang, prints, wait_for, write_program
from tests.networks import random_network

pytestmark = pytest.mark.skipif(sshd.SERVER is None, reason="no sshd; Debian: apt-get install openssh-server")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with sshd.running(tmp_path_factory.mktemp("sshd")) as found:
        yield found


@pytest.fixture
def there(server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the device, in which private ones are made. The client is the test's."""
    monkeypatch.setenv("PATH", f"{server.folder / 'bin'}:{os.environ['PATH']}")
    folder = tmp_path / "device's folder"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tiny network, packed and for LCE."""
    folder = tmp_path_factory.mktemp("files")
    network = random_network(3, ReActNetConfig(width=0.125, head=(3,)))
    graph = fold(network, ModelInfo("tiny", 32))
    (folder / "tiny.onnx").write_bytes(packed.convert(graph))
    (folder / "tiny.tflite").write_bytes(lce.convert(graph))
    return folder / "tiny.onnx", folder / "tiny.tflite"


@pytest.fixture
def program(server: Sshd) -> Iterator[Path]:
    """A program in the device's PATH; a test writes what it does."""
    path = server.programs / "lce_benchmark_model"
    yield path
    path.unlink(missing_ok=True)


def arguments(server: Sshd, there: Path, *more: object) -> list[str]:
    given = ["device", *more, "--target", server.target, "--folder", there]
    return [str(each) for each in given]


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
    server: Sshd,
    there: Path,
    files: tuple[Path, Path],
    program: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen = tmp_path / "seen"
    write_program(program, f'echo "$@" >>{seen}\n{prints(PRINTED)}')
    given = [*files, "--python", sys.executable, "--threads", 2, "--rounds", 2, "--record", tmp_path / "run", "--json"]
    main(arguments(server, there, *given))
    printed = json.loads(capsys.readouterr().out)
    assert printed["results"][0]["ratio"] == 1
    assert not list(there.iterdir())

    found = {(each.kind, each.context["artifact"]): each for each in records.read_all(tmp_path / "run")}
    assert len(found) == 4
    for path in files:
        assert found["size", path.name].values == {"bytes": path.stat().st_size}
        assert found["latency", path.name].context["sha256"] == sha256(path)
        assert {each.model for each in found.values()} == {"tiny"}
    packed_one, lce_one = (found["latency", path.name] for path in files)
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


def test_the_table(
    server: Sshd, there: Path, files: tuple[Path, Path], program: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_program(program, prints(PRINTED))
    main(arguments(server, there, files[1], "--rounds", 1))
    header, row, where, moments, *_ = capsys.readouterr().out.splitlines()
    assert header.split("  ")[0] == "artifact"
    assert " ".join(row.split()) == "tiny.tflite lce_benchmark_model 32.000 31.200-32.800 41.71 1.50 +8.9 1.00"
    assert where.startswith("1 thread, 3 runs each in 1 round, on ")
    assert moments.startswith("before: ")


def test_a_program_from_here(
    server: Sshd, there: Path, files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = tmp_path / "lce_benchmark_model_aarch64"
    write_program(ours, prints(PRINTED))
    main(arguments(server, there, files[1], "--rounds", 1, "--push-runner", ours))
    assert "32.000" in capsys.readouterr().out
    assert not list(there.iterdir())


def test_odd_names_mean_nothing(
    server: Sshd, there: Path, files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["a b", "it's", '"', "-rf", "; touch hacked", "$(touch hacked)", "two\nlines", "`touch hacked`", "*", "ü"]
    here, folder = tmp_path / "here", there / " ".join(name for name in names if name.isprintable())
    here.mkdir()
    folder.mkdir()
    monkeypatch.chdir(here)
    for name in names:
        shutil.copy(files[1], here / f"{name}.tflite")
    ours = here / "".join(names) / "lce_benchmark_model"
    ours.parent.mkdir()
    write_program(ours, prints(PRINTED))
    given = ["--target", server.target, "--folder", str(folder), "--rounds", "1", "--runner", str(ours)]
    main(["device", *(f"./{name}.tflite" for name in names), *given, "--record", str(tmp_path / "run")])
    measured = [each for each in records.read_all(tmp_path / "run") if each.kind == "latency"]
    assert {each.context["artifact"] for each in measured} == {f"{name}.tflite" for name in names}
    left = {path.name for path in [*tmp_path.rglob("*"), *Path.home().glob("hacked"), *Path("/").glob("hacked")]}
    assert "hacked" not in left
    assert not list(folder.iterdir())


def test_a_folder_of_two_lines_is_refused(
    server: Sshd, there: Path, files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    line = fails(capsys, arguments(server, Path(f"{there}/two\nlines"), files[1]))
    assert "is no name for a folder" in line


def test_a_missing_program_is_told_with_where_to_get_it(
    server: Sshd, there: Path, files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    line = fails(capsys, arguments(server, there, files[1]))
    assert "no lce_benchmark_model in the PATH" in line
    assert "https://github.com/larq/compute-engine/releases" in line
    assert "no program '/nowhere/x'" in fails(capsys, arguments(server, there, files[1], "--runner", "/nowhere/x"))
    assert not list(there.iterdir())


def test_a_python_without_edgebnn(
    server: Sshd, there: Path, files: tuple[Path, Path], program: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_program(program, "echo No module named edgebnn >&2; exit 1")
    line = fails(capsys, arguments(server, there, files[0], "--python", program))
    assert "has no edgebnn (No module named edgebnn); pip install its wheel there" in line
    assert "no Python 'python9'" in fails(capsys, arguments(server, there, files[0], "--python", "python9"))


@pytest.mark.parametrize(
    ("does", "says"),
    [
        ("echo ERROR: cannot >&2; exit 3", "failed on 127.0.0.1 with status 3: ERROR: cannot"),
        ("kill -ILL $$", "illegal instruction: it was made for a newer processor"),
        ("echo hello", "the program printed no times, but 'hello'"),
        ("echo Encountered unresolved custom op: LceBconv2d; exit 1", "does not know an operator of the file"),
        ("head -c 20000000 /dev/zero", "printed over 8 MB"),
    ],
)
def test_a_failing_program(
    server: Sshd,
    there: Path,
    files: tuple[Path, Path],
    program: Path,
    capsys: pytest.CaptureFixture[str],
    does: str,
    says: str,
) -> None:
    write_program(program, does)
    assert says in fails(capsys, arguments(server, there, files[1]))
    assert not list(there.iterdir())


def test_a_hanging_program_is_killed_there(
    server: Sshd,
    there: Path,
    files: tuple[Path, Path],
    program: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    marker = tmp_path / "marker"
    write_program(program, hang(marker))
    line = fails(capsys, arguments(server, there, files[1], "--limit", 2))
    assert "lce_benchmark_model did not finish in 2 s on 127.0.0.1, and was stopped" in line
    assert wait_for(lambda: not alive(marker), 5)
    assert not list(there.iterdir())


def test_a_lost_connection_is_told_and_the_device_cleans_up(
    server: Sshd, there: Path, files: tuple[Path, Path], program: Path, tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    write_program(program, hang(marker))
    process = start(arguments(server, there, files[1]), tmp_path)
    assert wait_for(marker.exists, 60), process.communicate()
    assert list(there.iterdir())
    server.cut()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "error: the connection to 127.0.0.1 was lost" in said
    assert wait_for(lambda: not alive(marker) and not list(there.iterdir()))


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL], ids=lambda sent: sent.name)
def test_an_interrupted_measurement_leaves_nothing(
    server: Sshd, there: Path, files: tuple[Path, Path], program: Path, tmp_path: Path, sent: signal.Signals
) -> None:
    marker = tmp_path / "marker"
    write_program(program, hang(marker))
    process = start(arguments(server, there, files[1]), tmp_path)
    assert wait_for(marker.exists, 60), process.communicate()
    # As a terminal does it: to the whole process group.
    os.killpg(process.pid, sent)
    _, said = process.communicate(timeout=60)
    if sent == signal.SIGINT:
        assert (process.returncode, said.splitlines()[-1]) == (130, "interrupted")
        # All is done when the command ends.
        assert not list(there.iterdir())
    assert wait_for(lambda: not alive(marker) and not list(there.iterdir()))


def test_a_full_disk(
    server: Sshd, there: Path, files: tuple[Path, Path], program: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_program(program, prints(PRINTED))
    small = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(there)]
    mounted = os.getuid() == 0 and subprocess.run(small, capture_output=True).returncode == 0
    before = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    if not mounted:
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (16384, before[1]))
    try:
        line = fails(capsys, arguments(server, there, files[1]))
        assert "'tiny.tflite' (0." in line
        assert "free space there, or name another folder with --folder" in line
        assert not list(there.iterdir())
    finally:
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, before)
        if mounted:
            subprocess.run(["umount", str(there)], check=True)
    line = fails(capsys, arguments(server, there / "none", files[1]))
    assert "no folder can be made on 127.0.0.1" in line


def test_host_keys_are_not_waved_through(
    server: Sshd, there: Path, files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    right = server.known_hosts.read_text()
    try:
        server.known_hosts.write_text(f"[127.0.0.1]:{server.port} {make_key(tmp_path / 'other')}\n")
        line = fails(capsys, arguments(server, there, files[1]))
        assert f"forget the old key with ssh-keygen -R '[127.0.0.1]:{server.port}'" in line
        server.known_hosts.write_text("")
        line = fails(capsys, arguments(server, there, files[1]))
        assert f"ssh does not know 127.0.0.1 yet; check its host key once with ssh -p {server.port} 127.0.0.1" in line
        assert server.known_hosts.read_text() == ""
    finally:
        server.known_hosts.write_text(right)


def test_no_key_and_no_server(
    server: Sshd, there: Path, files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    authorized = server.folder / "authorized"
    right = authorized.read_text()
    try:
        authorized.write_text("")
        begin = time.monotonic()
        assert "ssh-copy-id" in fails(capsys, arguments(server, there, files[1]))
        # Nobody was asked for a password.
        assert time.monotonic() - begin < 30
    finally:
        authorized.write_text(right)
    nobody = ["device", str(files[1]), "--target", "ssh://127.0.0.1:1"]
    assert "refuses ssh" in fails(capsys, nobody)
