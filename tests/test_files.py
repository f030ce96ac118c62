import resource
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from edgebnn.errors import UserError, exit_on_user_error
from edgebnn.files import atomic_path, existing_file, temporary_folder, write_bytes


def test_an_interrupted_write_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    write_bytes(path, b"old")

    def interrupted() -> None:
        with atomic_path(path) as temporary:
            temporary.write_bytes(b"half of the ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_there_before_the_write_ends(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "model.onnx"
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"all of it")
        assert not path.exists()
        assert temporary.parent == path.parent
    assert path.read_bytes() == b"all of it"
    assert list(path.parent.iterdir()) == [path]


def test_the_file_has_the_permissions_of_an_ordinary_one(tmp_path: Path) -> None:
    (tmp_path / "ordinary").touch()
    write_bytes(tmp_path / "ours", b"x")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_where_nothing_can_be_written_the_path_is_named(tmp_path: Path) -> None:
    # Root may write anywhere, but nobody below a file, over a folder, or under an endless name.
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "model.onnx", tmp_path, tmp_path / ("n" * 300)):
        with pytest.raises(UserError) as caught:
            write_bytes(path, b"x")
        assert str(path) in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_file_to_read_must_hold_something(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(UserError, match=r"teacher .*empty is empty"):
        existing_file(tmp_path / "empty", "teacher")
    with pytest.raises(UserError, match=r"teacher .*absent does not exist"):
        existing_file(tmp_path / "absent", "teacher")
    for path in (tmp_path, tmp_path / ("n" * 300)):
        with pytest.raises(UserError, match=r"teacher .* cannot be read \("):
            existing_file(path, "teacher")


def test_a_reader_that_leaves_ends_the_command_quietly() -> None:
    code = "from edgebnn.errors import exit_on_user_error\nwith exit_on_user_error():\n print('x' * 10**6)"
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(code)} | head -c 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("x141\n", "")


def test_a_user_error_ends_the_command_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught, exit_on_user_error():
        raise UserError("a thing\nof two lines; a remedy")
    assert caught.value.code == 2
    assert capsys.readouterr().err == "error: a thing of two lines; a remedy\n"


def test_without_room_for_temporary_files_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(tmp_path / "absent"))
        message = r"cannot write temporary files \(No such file.*set TMPDIR to a folder"
        with pytest.raises(UserError, match=message), temporary_folder():
            pass
    with temporary_folder() as folder:
        (folder / "some").write_bytes(b"1")
    assert not folder.exists()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
        message = r"cannot write temporary files \(no room left\); set TMPDIR"
        with pytest.raises(UserError, match=message), temporary_folder() as folder:
            (folder / "large").write_bytes(bytes(1000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not folder.exists()
    # What has nothing to do with the disk is not called that.
    with pytest.raises(FileNotFoundError), temporary_folder() as folder:
        (folder / "absent").read_bytes()


def test_without_a_place_for_temporary_files_memory_is_used_or_one_line_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr("edgebnn.files.tempfile.gettempdir", nowhere)
    monkeypatch.setattr("edgebnn.files.MEMORY", str(tmp_path))
    with temporary_folder() as folder:
        assert folder.parent == tmp_path
    monkeypatch.setattr("edgebnn.files.MEMORY", str(tmp_path / "absent"))
    with pytest.raises(UserError, match=r"no folder for them can be written\); set TMPDIR"), temporary_folder():
        pass
