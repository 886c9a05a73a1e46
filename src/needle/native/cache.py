"""Compiled objects on disk, so that the second process does not compile again.

One file an object, named by the SHA-256 of everything that decides its bytes. A file is a header
(magic, SHA-256 of the name and the object) and the object: what does not match its header, be it
damaged or another's under this name, is removed and made anew. The folder holds code that this
process will run, so it is only used while it belongs to the user and nobody else can write in it.
The oldest files (by time of last use) go before the folder grows beyond `LIMIT`. To count a full
one takes longer than to store: a process counts at its first object, and then once for each
`STRIDE` bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from pathlib import Path

from ..config import cache_dir

LIMIT = 256 * 2**20
STRIDE = LIMIT // 16
MAGIC = b"needle-object-2\n"
SUFFIX = ".o"

_uncounted: dict[Path, int] = {}  # bytes stored in each folder since its files were counted


def key(*parts: str) -> str:
    """Name of the object that follows from `parts` (IR text, CPU, features, versions)."""
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()


def load(name: str) -> bytes | None:
    """The object stored under `name`, or None where there is none that can be trusted."""
    folder = _folder()
    if folder is None:
        return None
    path = folder / (name + SUFFIX)
    try:
        if not path.is_file():  # a pipe would be waited for
            return None
        content = path.read_bytes()
    except OSError:
        return None
    data = content[len(MAGIC) + 32 :]
    if not content.startswith(_header(name, data)):
        with contextlib.suppress(OSError):
            path.unlink()
        return None
    with contextlib.suppress(OSError):
        os.utime(path)
    return data


def store(name: str, data: bytes) -> None:
    """Keep `data` under `name`; a cache that cannot be written is no error."""
    folder = _folder(create=True)
    if folder is None:
        return
    with contextlib.suppress(OSError):
        _write(folder / (name + SUFFIX), _header(name, data) + data)
        _uncounted[folder] = _uncounted.get(folder, STRIDE) + len(data)
        if _uncounted[folder] > STRIDE:
            _uncounted[folder] = 0
            _shrink(folder)


def clear() -> tuple[int, int]:
    """Remove every object; returns how many files and bytes that were."""
    folder = _folder()
    removed, total = 0, 0
    for size, _, path in _files(folder) if folder else ():
        with contextlib.suppress(OSError):
            path.unlink()
            removed, total = removed + 1, total + size
    return removed, total


def refused() -> bool:
    """Whether something stands where the folder should be that cannot be trusted with code."""
    folder = cache_dir()
    return folder is not None and os.path.lexists(folder) and _folder() is None


def _header(name: str, data: bytes) -> bytes:
    return MAGIC + hashlib.sha256(name.encode() + b"\n" + data).digest()


def _folder(*, create: bool = False) -> Path | None:
    """The cache folder if it is there, ours and private."""
    folder = cache_dir()
    if folder is None:
        return None
    try:
        if create and not folder.exists():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()
    except OSError:
        return None
    return folder if _private(status) else None


def _private(status: os.stat_result) -> bool:
    """A real directory (no link) that only its owner, this user, can enter."""
    if not stat.S_ISDIR(status.st_mode):
        return False
    if not hasattr(os, "getuid"):  # Windows: the profile folder has its own access list
        return True
    return status.st_uid == os.getuid() and stat.S_IMODE(status.st_mode) & 0o077 == 0


def _write(path: Path, content: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.stem[:16], suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise


def _files(folder: Path) -> list[tuple[int, float, Path]]:
    """Size, time of last use and path of our files, left-over temporary ones included."""
    found = []
    for path in folder.iterdir():
        if path.suffix in (SUFFIX, ".tmp"):
            with contextlib.suppress(OSError):  # another process may have removed it
                status = path.lstat()
                found.append((status.st_size, status.st_mtime, path))
    return found


def _shrink(folder: Path) -> None:
    """Remove the files used longest ago until there is room for a stride of new ones."""
    files = sorted(_files(folder), key=lambda file: file[1])
    total = sum(size for size, _, _ in files)
    for size, _, path in files:
        if total <= LIMIT - STRIDE:
            return
        with contextlib.suppress(OSError):
            path.unlink()
        total -= size
