import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgebnn.errors import UserError
from edgebnn.export.device import process as device_process
from edgebnn.export.device.session import open_device
from edgebnn.export.device.target import Adb, Local, Ssh, in_sh, parse_target
from edgebnn.runtime.system import facts, machine
from tests.export.stand_ins import alive, hang, wait_for, write_program


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("local", Local()),
        ("ssh://pi", Ssh("pi")),
        ("ssh://pi@raspberrypi.local", Ssh("raspberrypi.local", "pi")),
        ("ssh://pi@10.0.0.2:2222", Ssh("10.0.0.2", "pi", 2222)),
        ("ssh://pi@[fe80::1%eth0]:22/", Ssh("fe80::1%eth0", "pi", 22)),
        ("ssh://MyBoard", Ssh("MyBoard")),
        ("adb", Adb()),
        ("adb://R58M12ABCDE", Adb("R58M12ABCDE")),
        ("adb://192.168.1.5:5555", Adb("192.168.1.5:5555")),
    ],
)
def test_targets(text: str, target: object) -> None:
    assert parse_target(text) == target


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pi@host",
        "ssh://",
        "ssh://-oProxyCommand=touch hacked",
        "ssh://-l@host",
        "ssh://user@-host",
        "ssh://host;touch",
        "ssh://host$(touch)",
        "ssh://a b",
        "ssh://host:port",
        "ssh://host:0",
        "ssh://host:99999",
        "ssh://host/folder",
        "ssh://host?x=1",
        "adb://",
        "adb://-s",
        "adb://x; reboot",
        "telnet://host",
    ],
)
def test_other_targets_are_refused(text: str) -> None:
    with pytest.raises(UserError):
        parse_target(text)


def test_passwords_are_refused_unseen() -> None:
    with pytest.raises(UserError, match="must not contain a password") as error:
        parse_target("ssh://pi:secret@host")
    assert "secret" not in str(error.value)


def test_ssh_asks_nothing_and_reads_the_host_as_no_option() -> None:
    command = Ssh("host", "pi", 2222).command("echo 'a b'; true", Path("/x/c"))
    assert command[-4:-1] == ["2222", "--", "host"]
    assert shlex.split(command[-1]) == ["sh", "-c", "echo 'a b'; true"]
    options = dict(each.split("=", 1) for before, each in zip(command, command[1:]) if before == "-o")
    assert options["BatchMode"] == "yes"
    assert "StrictHostKeyChecking" not in options
    assert options["ControlMaster"] == "no"


HOSTILE = ["it's", '"', "$(touch hacked)", "`touch hacked`", "a\nb", "-rf", ";", "*", "", "\\", "\\'; touch hacked; '"]
HOSTILE += ["\\n", "ü", "!!"]


@pytest.mark.parametrize(
    "shell", [["sh"], ["bash", "--posix"], ["busybox", "sh"], ["mksh"], ["fish"]], ids=lambda shell: shell[0]
)
def test_arguments_pass_through_any_shell(shell: list[str], tmp_path: Path) -> None:
    """A device's login shell reads the line that ssh or adb hands it."""
    if subprocess.run(["which", shell[0]], capture_output=True).returncode:
        pytest.skip(f"no {shell[0]}")
    line = Adb().command(f"printf '[%s]' {shlex.join(HOSTILE)}", tmp_path)[-1]
    done = subprocess.run([*shell, "-c", line], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == "".join(f"[{each}]" for each in HOSTILE)
    assert not list(tmp_path.iterdir())


def test_no_backslash_stands_within_single_quotes() -> None:
    """There fish would take it for an escape, and sh for itself."""
    line = in_sh(shlex.join(HOSTILE))
    assert shlex.split(line) == ["sh", "-c", shlex.join(HOSTILE)]
    quoted = line.replace("""'"'"'""", "").split("'")[1::2]
    assert "-rf" in "".join(quoted)
    assert not any("\\" in each for each in quoted)


def test_sshs_socket_has_a_plain_and_short_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for odd in ("with space", "100%h", "long" * 30):
        (tmp_path / odd).mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / odd))
        with open_device(Local(), str(tmp_path)) as device:
            assert not device._link.is_relative_to(tmp_path / odd)
            assert len(str(device._link)) < 80
            assert " " not in str(device._link)
    assert not list(tmp_path.glob("edgebnn*"))


def test_a_device_that_never_stops_talking(monkeypatch: pytest.MonkeyPatch) -> None:
    """It must not hold a command longer than the time limit, Ctrl-C waiting."""
    for script in ("yes", "yes | tr -d '\\n'"):
        keeper = device_process.start_client(["sh", "-c", script], subprocess.PIPE)
        begin = time.monotonic()
        assert device_process.Lines(keeper).after("never", 1) is None
        with pytest.raises((TimeoutError, device_process.TooMuchError)):
            device_process.collect_output(keeper, time.monotonic() + 1)
        assert time.monotonic() - begin < 5
        monkeypatch.setattr(device_process, "GRACE_SECONDS", 0.1)
        device_process.end_client(keeper)


def test_ctrl_c_before_the_device_has_answered(tmp_path: Path) -> None:
    """The keeper has made its folder and not yet said so."""
    programs, there = tmp_path / "programs", tmp_path / "there"
    programs.mkdir()
    there.mkdir()
    write_program(programs / "mktemp", f'{shutil.which("mktemp")} "$@" && sleep 1')
    code = f"from edgebnn.export.device.session import *; open_device({Local()!r}, {str(there)!r}).__enter__()"
    code = f"from edgebnn.export.device.target import Local; {code}"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "TMPDIR": str(tmp_path)},
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert wait_for(lambda: list(there.iterdir()), 60)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert b"KeyboardInterrupt" in said
    assert not list(there.iterdir())


def test_what_a_program_says_is_no_lost_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Status 255 is ssh's own, and a program's; adb's messages begin as many do."""
    says = {"ssh": "echo Permission denied >&2; exit 255", "adb": "echo error: device offline >&2; exit 1"}
    for target in (Ssh("here"), Adb()):
        monkeypatch.setattr(type(target), "command", lambda self, script, link, *, opening=False: ["sh", "-c", script])
        with open_device(target, str(tmp_path)) as device:
            done = device.program(["sh", "-c", says[target.kind]], seconds=30, what="it")
            assert done.code != 0
            assert target.failure(done.code, done.err) is not None


def test_here(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(range(256)) * 100)
    there = tmp_path / "there"
    there.mkdir()
    with open_device(Local(), str(there)) as device:
        (folder,) = there.iterdir()
        assert folder.stat().st_mode & 0o777 == 0o700
        device.push(source, "a0.onnx")
        assert (folder / "a0.onnx").read_bytes() == source.read_bytes()
        done = device.program(["sh", "-c", "pwd; echo $1 >&2; exit 5", "x", "$HOME; it's"], seconds=30, what="it")
        assert (done.code, done.out, done.err) == (5, f"{folder}\n", "$HOME; it's\n")
        assert device.sh('printf %s "$2"', "a", "b c").out == "b c"
        with pytest.raises(UserError, match="did not finish in 1 s"):
            device.program(["sh", "-c", hang(tmp_path / "marker")], seconds=1, what="it")
        assert wait_for(lambda: not alive(tmp_path / "marker"))
    assert not list(there.iterdir())


def test_a_keeper_that_is_killed_is_noticed(tmp_path: Path) -> None:
    with open_device(Local(), str(tmp_path)) as device:
        device._keeper.kill()
        device._keeper.wait()
        with pytest.raises(UserError, match="the connection to this machine was lost"):
            device.program(["false"], seconds=30, what="it")


@pytest.mark.parametrize(("box", "shell"), [("toybox", "mksh"), ("busybox", "busybox")])
def test_the_scripts_need_no_more_than_a_small_system_has(
    box: str, shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A phone has toybox and mksh, a router BusyBox."""
    programs, there = tmp_path / "programs", tmp_path / "there"
    found, interpreter = shutil.which(box), shutil.which(shell)
    if not (found and interpreter):
        pytest.skip(f"no {box} or no {shell}")
    programs.mkdir()
    there.mkdir()
    needed = "cat chmod head mktemp nproc od rm sed setsid sleep timeout true uname wc"
    for name in needed.split():
        (programs / name).symlink_to(found)
    (programs / "sh").symlink_to(interpreter)
    monkeypatch.setenv("PATH", str(programs))
    marker = tmp_path / "marker"
    with open_device(Local(), str(there)) as device:
        (folder,) = there.iterdir()
        source = tmp_path / "source"
        source.write_text("x" * 1000)
        device.push(source, "a0.tflite", executable=True)
        assert (folder / "a0.tflite").stat().st_size == 1000
        told = facts.parse_facts(device.sh(facts.SCRIPT).out)
        assert told is not None
        assert machine.hardware(told)["bits"] == machine.describe()["bits"]
        with pytest.raises(UserError, match="did not finish"):
            device.program(["sh", "-c", hang(marker)], seconds=1, what="it")
        assert wait_for(lambda: not alive(marker), 5)
    assert not list(there.iterdir())
