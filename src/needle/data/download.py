"""The four files of MNIST: found where they are, or downloaded with their checksums verified."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from collections.abc import Callable, Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from .. import config
from ..errors import DataError
from ..files import path_of, write_file
from .mnist import MNISTDataset

# SHA-256 of what the gzipped files hold: mirrors compress differently.
MNIST_FILES = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
_MOST_CONTENT = 1 << 26  # bytes; the largest of the files holds 47 million


def load_mnist(
    directory: str | os.PathLike[str] | None = None,
    transforms: Iterable[Callable[[Any], Any]] | None = None,
    *,
    download: bool = True,
) -> tuple[MNISTDataset, MNISTDataset]:
    """The training and the test set of a folder with MNIST's files, or files named like them.

    Args:
        directory: the folder; by default `NEEDLE_DATA`, else `data` in the working directory.
        transforms: of the training set.
        download: fetch MNIST into the folder when none of the files is there (needs the extra
            `data`).

    Raises:
        DataError: files that are missing and could not be downloaded, or are damaged.

    Example:
        >>> import needle as ndl
        >>> train, test = ndl.data.load_mnist()
        >>> len(train), len(test)
        (60000, 10000)
    """
    try:
        folder = path_of(config.data_dir() or "data" if directory is None else directory)
        misnamed = folder.exists() and not folder.is_dir()
    except OSError as error:
        raise DataError(
            f"{directory}: cannot be read ({error}). Name the folder that holds the IDX files"
        ) from error
    if misnamed:
        raise DataError(f"{folder} is not a folder. Name the one that holds the IDX files")
    found = {name: _find(folder, name) for name in MNIST_FILES}
    if download and not any(found.values()):
        _download(folder)
        found = {name: _find(folder, name) for name in MNIST_FILES}
    if missing := [name for name, path in found.items() if path is None]:
        raise _missing(folder, missing, "")
    train_x, train_y, test_x, test_y = (path for path in found.values() if path is not None)
    return MNISTDataset(train_x, train_y, transforms), MNISTDataset(test_x, test_y)


def _find(folder: Path, name: str) -> Path | None:
    candidates = (folder / f"{name}.gz", folder / name)
    return next((path for path in candidates if path.is_file()), None)


def _download(folder: Path) -> None:
    """Fetch all files, and write them once the checksum of each agrees: four, or none."""
    try:
        import pooch
    except ImportError as error:
        reason = 'and cannot be downloaded: pip install "needle-dl[data]" makes that possible'
        raise _missing(folder, list(MNIST_FILES), reason) from error
    fetch = pooch.HTTPDownloader(progressbar=False)
    contents = {name: _fetched(fetch, folder, name) for name in MNIST_FILES}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            write_file(folder / f"{name}.gz", content)
    except OSError as error:
        reason = f"and cannot be written ({error.strerror})"
        raise _missing(folder, list(MNIST_FILES), reason) from error


def _fetched(fetch: Callable[..., object], folder: Path, name: str) -> bytes:
    failures: list[str] = []
    for mirror in MNIST_MIRRORS:
        url, content = f"{mirror}{name}.gz", BytesIO()
        try:
            fetch(url, content, None)
            _verify(content.getvalue(), MNIST_FILES[name])
            return content.getvalue()
        except (OSError, ValueError) as error:  # those of requests are OSErrors
            failures.append(f"{url}: {error}")
    raise _missing(folder, [name], "and could not be downloaded (" + "; ".join(failures) + ")")


def _verify(content: bytes, expected: str) -> None:
    try:
        with gzip.open(BytesIO(content)) as file:
            found = hashlib.sha256(file.read(_MOST_CONTENT)).hexdigest()
    except (EOFError, zlib.error) as error:
        raise ValueError(f"damaged gzip file: {error}") from error
    if found != expected:
        raise ValueError(f"SHA-256 of the content is {found}, not {expected}")


def _missing(folder: Path, names: Sequence[str], reason: str) -> DataError:
    files, all_files = (", ".join(f"{name}.gz" for name in group) for group in (names, MNIST_FILES))
    wanted = "them" if files == all_files else all_files
    return DataError(
        f"{folder.absolute()}: {files} not there{' ' if reason else ''}{reason}. Put "
        f"{wanted} into that folder (from {MNIST_MIRRORS[0]}), or name the folder that has them "
        "by argument or NEEDLE_DATA"
    )
