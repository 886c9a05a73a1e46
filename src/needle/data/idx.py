"""IDX files (the format of MNIST), gzipped or not, read without believing what they say.

http://yann.lecun.com/exdb/mnist/ : two zero bytes, a byte for the element type, a byte for the
number of axes, the size of each axis as a big-endian 32-bit integer, then the elements, big-endian.
"""

from __future__ import annotations

import gzip
import math
import mmap
import os
import stat
import sys
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ..errors import DataError
from ..files import path_of

Array = npt.NDArray[Any]
Reader = BinaryIO | gzip.GzipFile

_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP_MAGIC = b"\x1f\x8b"
_MOST_AXES = 32
_PIECE = 1 << 20  # bytes read at a time
_MOST_DEFLATED = 1032  # bytes that one byte of deflate can stand for (zlib's technical notes)
_AGAIN = "Get the file again"


def read_idx(path: str | os.PathLike[str]) -> Array:
    """The array in an IDX file.

    Args:
        path: the file; gzip is recognised by its content.

    Returns:
        An array of the shape and element type that the header names, in native byte order.

    Raises:
        DataError: a file that is missing, truncated, damaged, not IDX, or whose header does not
            agree with what follows. Nothing is read beyond what the header allows, save one
            buffer.

    Example:
        >>> import needle as ndl
        >>> ndl.data.read_idx("data/t10k-labels-idx1-ubyte.gz")[:5]
        array([7, 2, 1, 0, 4], dtype=uint8)
    """
    try:
        path = path_of(path)
        size = _size_of_regular_file(path)
        with path.open("rb") as file:
            zipped = file.read(2) == _GZIP_MAGIC
            file.seek(0)
            if not zipped:
                return _read(path, file, size)
            with gzip.GzipFile(fileobj=file) as unzipped:
                return _read(path, unzipped, size * _MOST_DEFLATED)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file. Check the path") from error
    except EOFError as error:
        raise DataError(f"{path}: the gzip stream is cut short. {_AGAIN}") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: the gzip stream is damaged ({error}). {_AGAIN}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error}). Check the path") from error


def _size_of_regular_file(path: Path) -> int:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{path}: not a regular file. Give the path of an IDX file")
    if status.st_size == 0:
        raise DataError(f"{path}: the file is empty. {_AGAIN}")
    return status.st_size


def _read(path: Path, file: Reader, most: int) -> Array:
    """Header and elements; `most` is how many bytes the file can hold at all."""
    dtype, shape = _read_header(path, file)
    expected = math.prod(shape) * dtype.itemsize
    promise = f"the header promises {shape} {dtype.name}, {expected:,} bytes"
    if expected > most:
        raise DataError(f"{path}: {promise}, more than the file can hold. {_AGAIN}")
    if math.prod(size or 1 for size in shape) * dtype.itemsize > sys.maxsize:
        raise DataError(f"{path}: {promise} along axes too long for an array. {_AGAIN}")
    # The system gives this memory where something is written: promises alone cost nothing.
    content = mmap.mmap(-1, max(expected, 1), access=mmap.ACCESS_COPY)
    found = _read_into(file, memoryview(content)[:expected])
    if found < expected:
        raise DataError(f"{path}: {promise}, but {found:,} follow. {_AGAIN}")
    if file.read(1):
        raise DataError(f"{path}: {promise}, but more follow. {_AGAIN}, or correct its header")
    array = np.frombuffer(content, dtype, math.prod(shape)).reshape(shape)
    return array.astype(dtype.newbyteorder("="), copy=False)


def _read_into(file: Any, memory: memoryview) -> int:
    """Fill memory with what a file holds; the number of bytes that there were."""
    found = 0
    while count := file.readinto(memory[found : found + _PIECE]):
        found += count
    return found


def _read_header(path: Path, file: Reader) -> tuple[np.dtype[Any], tuple[int, ...]]:
    magic = _read_up_to(file, 4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _DTYPES:
        raise DataError(
            f"{path}: not an IDX file: begins with bytes {magic.hex(' ')}, not 00 00, an element "
            "type (08 for bytes) and the number of axes. Give an IDX file, plain or gzipped"
        )
    if magic[3] > _MOST_AXES:
        raise DataError(f"{path}: {magic[3]} axes, more than {_MOST_AXES}. {_AGAIN}")
    sizes = _read_up_to(file, 4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise DataError(f"{path}: ends within its header. {_AGAIN}")
    return np.dtype(_DTYPES[magic[2]]), tuple(np.frombuffer(sizes, ">u4").tolist())


def _read_up_to(file: Reader, size: int) -> bytearray:
    content = bytearray()
    while piece := file.read(size - len(content)):
        content += piece
    return content
