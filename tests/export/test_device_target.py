import shlex
import subprocess
from pathlib import Path

import pytest

from edgebnn.errors import UserError
from export.device_session import opened
from export.device_target import Adb, Local, Ssh, parse
from tests.export.stand_ins import wait_for


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
    assert parse(text) == target


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
        parse(text)


def test_passwords_are_refused_unseen() -> None:
    with pytest.raises(UserError, match="holds no password") as error:
        parse("ssh://pi:secret@host")
    assert "secret" not in str(error.value)


def test_ssh_asks_nothing_and_reads_the_host_as_no_option() -> None:
    command = Ssh("host", "pi", 2222).command("echo 'a b'; true", Path("/x/c"))
    assert command[-4:-1] == ["2222", "--", "host"]
    assert shlex.split(command[-1]) == ["sh", "-c", "echo 'a b'; true"]
    options = dict(each.split("=", 1) for before, each in zip(command, command[1:]) if before == "-o")
    assert options["BatchMode"] == "yes"
    assert "StrictHostKeyChecking" not in options
    assert options["ControlMaster"] == "no"


HOSTILE = ["it's", '"', "$(touch hacked)", "`touch hacked`", "a\nb", "-rf", ";", "*", "", "\\", "ü", "!!"]


@pytest.mark.parametrize(
    "shell", [["sh"], ["bash", "--posix"], ["busybox", "sh"], ["mksh"]], ids=lambda shell: shell[0]
)
def test_arguments_pass_through_any_shell(shell: list[str], tmp_path: Path) -> None:
    """A device's login shell reads the line that ssh or adb hands it."""
    if subprocess.run(["which", shell[0]], capture_output=True).returncode:
        pytest.skip(f"no {shell[0]}")
    line = Adb().command(f"printf '[%s]' {shlex.join(HOSTILE)}", tmp_path)[-1]
    done = subprocess.run([*shell, "-c", line], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == "".join(f"[{each}]" for each in HOSTILE)
    assert not list(tmp_path.iterdir())


def test_here(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(range(256)) * 100)
    there = tmp_path / "there"
    there.mkdir()
    with opened(Local(), str(there)) as device:
        (folder,) = there.iterdir()
        assert folder.stat().st_mode & 0o777 == 0o700
        device.push(source, "a0.onnx")
        assert (folder / "a0.onnx").read_bytes() == source.read_bytes()
        done = device.program(["sh", "-c", "pwd; echo $1 >&2; exit 5", "x", "$HOME; it's"], seconds=30, what="it")
        assert (done.code, done.out, done.err) == (5, f"{folder}\n", "$HOME; it's\n")
        assert device.sh('printf %s "$2"', "a", "b c").out == "b c"
        with pytest.raises(UserError, match="did not finish in 1 s"):
            device.program(["sleep", "987"], seconds=1, what="it")
        assert wait_for(lambda: subprocess.run(["pgrep", "-f", "sleep 987"], capture_output=True).returncode == 1)
    assert not list(there.iterdir())


def test_a_keeper_that_is_killed_is_noticed(tmp_path: Path) -> None:
    with opened(Local(), str(tmp_path)) as device:
        device._keeper.kill()
        device._keeper.wait()
        with pytest.raises(UserError, match="the connection to this machine was lost"):
            device.program(["false"], seconds=30, what="it")
