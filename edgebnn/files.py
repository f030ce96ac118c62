"""Reads and writes files. A written file is either complete or absent."""

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgebnn.errors import UserError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""The error numbers of the system for a full disk, and for a limit on written bytes."""


MEMORY = "/dev/shm"  # noqa: S108
"""Linux's folder in memory, which containers can write even if the rest is read-only."""


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`, and renames it to `path` if the block succeeds.

    So `path` always has either its old content or the complete new content.

    Raises:
        UserError: the folder cannot be made, or the file cannot be written there.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise UserError(f"{path} is a folder; give the path of a file")
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.", suffix=".part")
        os.close(handle)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; choose a path that you may write to") from None
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes the file private. It gets the permissions of an ordinary new file.
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
    """Yields a new folder for temporary files, and deletes it afterwards.

    On a device with a read-only file system, it lies in memory (`MEMORY`) if the system allows that.

    Raises:
        UserError: the folder cannot be made, or the disk is full.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix="edgebnn-", dir=_temporary_place())
    except OSError as error:
        raise no_temporary_files(error) from None
    with folder as path:
        try:
            yield Path(path)
        except UserError:
            raise
        except Exception as error:  # TensorFlow's exceptions are no OSError
            if any(os.strerror(number) in str(error) for number in NO_ROOM):
                raise no_temporary_files(OSError(errno.ENOSPC, "no room left")) from None
            raise


def _temporary_place() -> str:
    """Returns the folder for temporary files. Raises `OSError` if there is none."""
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:
        if os.access(MEMORY, os.W_OK):
            return MEMORY
        raise OSError(errno.EROFS, "no folder for them can be written") from None


def no_temporary_files(error: OSError) -> UserError:
    """Returns the error of a program that cannot write its temporary files."""
    return UserError(f"cannot write temporary files ({error.strerror}); set TMPDIR to a folder with free space")


def write_bytes(path: str | Path, data: bytes) -> None:
    """Writes bytes to a file, whole or not at all. Raises `UserError` as `atomic_path` does."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def sha256(path: str | Path) -> str:
    """Returns a file's SHA-256 in hexadecimal. It distinguishes a file from a later file of the same name."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def existing_file(path: str | Path, what: str) -> Path:
    """Returns the path if it is a file that is not empty.

    Args:
        path: the file.
        what: the role of the file in messages, such as "teacher" or "checkpoint".

    Raises:
        UserError: the file does not exist, cannot be read, or is empty.
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
        raise UserError(f"{what} {path} is empty; perhaps it was cut off while it was copied, so fetch it again")
    return path
