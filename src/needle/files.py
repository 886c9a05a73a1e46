"""Files that survive a crash: a temporary name in the same folder, synced, then renamed.

A reader sees the old content or the new, never a part. What a kill leaves behind carries the
prefix `TEMPORARY` and is never read.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Generator
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None

TEMPORARY = ".tmp-"


def temporary_name(path: Path) -> Path:
    """A name beside `path` that nobody else uses, and that is never too long."""
    return path.with_name(f"{TEMPORARY}{os.urandom(8).hex()}")


def path_of(name: str | PathLike[str]) -> Path:
    """The path of a name.

    Raises:
        OSError: no file can have it.
    """
    try:
        path = Path(name)
    except TypeError as error:
        raise OSError(errno.EINVAL, f"A {type(name).__name__} is no path") from error
    if "\0" in str(path):
        raise OSError(errno.EINVAL, "A path cannot hold a null byte")
    return path


def resolved(name: str | PathLike[str]) -> Path:
    """The path of a name with all links followed.

    Raises:
        OSError: no file can have it, or its links lead in a circle.
    """
    path = path_of(name)
    with suppress(RuntimeError):  # at a circle; from Python 3.13 on it stays as it is
        path = path.resolve()
    if path.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(name))
    return path


@contextmanager
def naming(path: Path) -> Generator[None]:
    """Errors of the system name this path: of a full disk they name none, or the temporary one."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        del error.filename2  # None would be shown as a second name
        raise


def read_file(name: str | PathLike[str]) -> bytes:
    """The content of a file; pipes and devices, which need not end, are refused as OSErrors."""
    path = path_of(name)
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # a folder has its own error
        raise OSError(errno.EINVAL, "Not a regular file")
    return path.read_bytes()


def write_synced(path: Path, data: bytes) -> None:
    """Write a new file and wait until the disk has it."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Wait until the disk has the folder's list of names."""
    if os.name == "nt":  # folders cannot be opened there
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish(temporary: Path, path: Path) -> None:
    """Give a finished file or folder its real name, for good."""
    temporary.replace(path)
    sync_folder(path.parent)


def write_file(path: Path, data: bytes) -> None:
    """Replace the content of `path` in one step; who may read it stays as it was."""
    temporary = temporary_name(path)
    with naming(path):
        try:
            write_synced(temporary, data)
            if path.exists():
                shutil.copymode(path, temporary)
            publish(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def write_folder(path: Path, files: dict[str, bytes]) -> None:
    """Replace the folder `path` by one that holds exactly `files`."""
    temporary = temporary_name(path)
    try:
        temporary.mkdir()
        for name, data in files.items():
            write_synced(temporary / name, data)
        sync_folder(temporary)
        if path.exists():  # a folder cannot be renamed over one that holds something
            remove_folder(path)
        publish(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_folder(path: Path) -> None:
    """Delete a folder; a kill on the way leaves no half of it under its name."""
    doomed = temporary_name(path)
    path.rename(doomed)
    shutil.rmtree(doomed)


@contextmanager
def sole_writer(folder: Path) -> Generator[None]:
    """Hold `folder` against other processes that ask for it; a kill lets go of it.

    Where folders cannot be locked, nothing is held.

    Raises:
        BlockingIOError: another process holds it.
    """
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(
                f"another process is writing to {folder}. Wait for its end, or use another folder"
            ) from error
        except OSError:  # a network file system without locks
            pass
        yield
    finally:
        os.close(descriptor)


def remove_leftovers(folder: Path) -> None:
    """Delete what killed processes left in `folder`; only its one writer may."""
    for path in folder.glob(f"{TEMPORARY}*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
