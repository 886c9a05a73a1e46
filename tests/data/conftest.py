"""IDX files made to order, and streams left as they were."""

import gzip
import struct

import numpy as np
import pytest

from needle import random

CODES = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}


@pytest.fixture(autouse=True)
def _streams():
    before = random.get_state()
    yield
    random.set_state(before)


@pytest.fixture(scope="session")
def idx_bytes():
    """A function from an array to the content of its IDX file, plain."""

    def content(array):
        array = np.asarray(array)
        code = CODES[array.dtype.str[1:]]
        header = struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
        return header + array.astype(array.dtype.newbyteorder(">")).tobytes()

    return content


@pytest.fixture
def write_idx(tmp_path, idx_bytes):
    """A function that writes an array as a gzipped IDX file and returns its path."""

    def write(name, array):
        path = tmp_path / name
        path.write_bytes(gzip.compress(idx_bytes(array), 1))
        return path

    return write


@pytest.fixture
def images():
    """Bytes of twelve small images that are all different."""
    return np.random.default_rng(0).integers(0, 256, (12, 5, 4), dtype=np.uint8)


@pytest.fixture
def labels():
    """Their labels."""
    return np.arange(12, dtype=np.uint8)
