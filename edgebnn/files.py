"""Files that are either whole or absent."""

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgebnn.errors import UserError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""The system's numbers of the errors of a full disk, and of a limit on what may be written."""


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Gives a temporary path beside `path`; renames it to `path` if the block succeeds.

    Whatever happens, `path` holds either its old content or all of the new one.

    Raises:
        UserError: the folder cannot be made, or the file cannot be written there.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise UserError(f"{path} is a folder; name a file to write")
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.", suffix=".part")
        os.close(handle)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; choose a path you may write to") from None
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes the file private; give it the permissions an ordinary new file would have.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}; free space or choose another path") from None
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Gives a new folder for files of passing use and deletes it afterwards.

    Raises:
        UserError: there is no folder to make it in, or no room in it for what the block writes.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix="edgebnn-")
    except OSError as error:
        raise no_temporary_files(error) from None
    with folder as path:
        try:
            yield Path(path)
        except UserError:
            raise
        except Exception as error:  # TensorFlow's share no base with OSError
            if any(os.strerror(number) in str(error) for number in NO_ROOM):
                raise no_temporary_files(OSError(errno.ENOSPC, "no room left")) from None
            raise


def no_temporary_files(error: OSError) -> UserError:
    """The `UserError` of a program that cannot write its temporary files."""
    return UserError(f"cannot write temporary files ({error.strerror}); set TMPDIR to a folder with room to write to")


def write_bytes(path: str | Path, data: bytes) -> None:
    """Writes `data` to `path`, whole or not at all. Raises `UserError` as `atomic_path` does."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def sha256(path: str | Path) -> str:
    """The file's SHA-256 in hexadecimal: what tells a file from a later one of the same name."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def existing_file(path: str | Path, what: str) -> Path:
    """Gives `path` back if it is a file that holds something.

    Args:
        path: the file.
        what: what the file is to the user ("teacher", "checkpoint", ...).

    Raises:
        UserError: there is no such file, it cannot be read, or it is empty.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except FileNotFoundError:
        raise UserError(f"{what} {path} does not exist; check the path") from None
    except OSError as error:
        raise UserError(f"{what} {path} cannot be read ({error.strerror}); check the path") from None
    if empty:
        raise UserError(f"{what} {path} is empty; it may have been cut off while copying, so fetch it again")
    return path
