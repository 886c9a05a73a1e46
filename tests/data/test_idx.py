"""IDX files: what is read, and how files that lie are refused."""

import gzip
import os
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from needle.data import read_idx
from needle.errors import DataError

same_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
SMALL = hnp.arrays(
    st.sampled_from(["u1", "i1", "i2", "i4", "f4", "f8"]),
    hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4),
    elements={"allow_nan": False},
)


@same_folder
@given(SMALL, st.booleans())
def test_every_element_type_plain_and_gzipped(tmp_path, idx_bytes, array, zipped):
    path = tmp_path / "file"
    content = idx_bytes(array)
    path.write_bytes(gzip.compress(content, 1) if zipped else content)
    got = read_idx(str(path))
    assert got.dtype == array.dtype
    assert got.dtype.isnative
    assert got.shape == array.shape
    assert np.array_equal(got, array)


def test_a_number_without_axes(write_idx):
    assert read_idx(write_idx("n", np.array(7, np.int32))) == 7


def test_several_gzip_members_are_one_file(tmp_path, idx_bytes, labels):
    content = idx_bytes(labels)
    path = tmp_path / "two"
    path.write_bytes(gzip.compress(content[:9]) + gzip.compress(content[9:]))
    assert np.array_equal(read_idx(path), labels)


GOOD = struct.pack(">BBBBI", 0, 0, 8, 1, 5) + b"12345"
HUGE = struct.pack(">BBBBIII", 0, 0, 8, 3, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
HOSTILE = {
    "empty": (b"", "the file is empty. Get the file again"),
    "empty gzip": (gzip.compress(b""), "not an IDX file: begins with bytes , not 00 00"),
    "one byte": (b"\0", "not an IDX file: begins with bytes 00, not"),
    "text": (b"<html>Not found</html>", "not an IDX file: begins with bytes 3c 68 74 6d"),
    "zip archive": (b"PK\3\4rest", "Give an IDX file, plain or gzipped"),
    "unknown type": (b"\0\0\x0a\1" + GOOD[4:], "not an IDX file: begins with bytes 00 00 0a 01"),
    "zipped text": (gzip.compress(b"hello"), "not an IDX file"),
    "too many axes": (b"\0\0\x08\xff" + bytes(4 * 255), "255 axes, more than 32"),
    "header cut": (GOOD[:6], "ends within its header"),
    "zipped header cut": (gzip.compress(GOOD[:6]), "ends within its header"),
    "truncated": (GOOD[:-1], r"header promises \(5,\) uint8, 5 bytes, but 4 follow|can hold"),
    "zipped, truncated before": (gzip.compress(GOOD[:-1]), "5 bytes, but 4 follow"),
    "trailing": (GOOD + b"!", "5 bytes, but more follow. Get the file again, or correct"),
    "zipped, trailing inside": (gzip.compress(GOOD + b"!"), "but more follow"),
    "zipped, trailing outside": (gzip.compress(GOOD) + b"junk", "gzip stream is damaged"),
    "gzip cut": (gzip.compress(GOOD)[:-9], "the gzip stream is cut short"),
    "gzip checksum": (gzip.compress(GOOD)[:-8] + bytes(8), "damaged.*CRC"),
    "gzip body": (gzip.compress(GOOD)[:10] + b"\xff" * 40, "damaged.*invalid"),
    "gzip magic only": (b"\x1f\x8b", "cut short|damaged"),
    "promises too much": (HUGE + b"x", "more than the file can hold"),
    "zipped, promises too much": (gzip.compress(HUGE + b"x"), "more than the file can hold"),
    "nothing along axes too long": (
        b"\0\0\x08\x03" + bytes(4) + b"\xff" * 8,
        r"\(0, 4294967295, 4294967295\) uint8, 0 bytes along axes too long for an array",
    ),
    "promises more axes than follow": (b"\0\0\x08\x03" + GOOD[4:8], "ends within its header"),
}


@pytest.mark.parametrize(("content", "message"), HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_files_are_refused(tmp_path, content, message):
    path = tmp_path / "hostile-idx1-ubyte.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)


def bomb(header, zeros):
    """A gzip file whose content is `header` and that many zero bytes."""
    packer = zlib.compressobj(9, wbits=31)
    pieces = [packer.compress(header)]
    pieces += [packer.compress(bytes(1 << 20)) for _ in range(zeros >> 20)]
    return b"".join([*pieces, packer.flush()])


@pytest.mark.parametrize("size", [5, 1 << 16])
def test_a_bomb_is_not_unpacked(tmp_path, size):
    path = tmp_path / "bomb.gz"
    path.write_bytes(bomb(struct.pack(">BBBBI", 0, 0, 8, 1, size), 256 << 20))
    tracemalloc.start()
    with pytest.raises(DataError, match=f"{size:,} bytes, but more follow"):
        read_idx(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


def test_a_promise_that_fits_the_ratio_allocates_what_is_there(tmp_path):
    """The header says 500 MB, which gzip could pack this small, but 1 MB follows."""
    noise = np.random.default_rng(0).bytes(1 << 19)
    content = struct.pack(">BBBBI", 0, 0, 8, 1, 500_000_000) + noise + noise
    path = tmp_path / "liar.gz"
    path.write_bytes(gzip.compress(content, 1))
    tracemalloc.start()
    with pytest.raises(DataError, match=r"500,000,000 bytes, but 1,048,576 follow"):
        read_idx(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(DataError, match=r"nothing\.gz: no such file. Check the path"):
        read_idx(tmp_path / "nothing.gz")
    with pytest.raises(DataError, match=r"not a regular file. Give the path of an IDX file"):
        read_idx(tmp_path)
    (tmp_path / "file").write_bytes(GOOD)
    with pytest.raises(DataError, match=r"cannot be read"):
        read_idx(tmp_path / "file" / "below")


@pytest.mark.parametrize("name", [None, 5, ["a"], "a\0b", "a" * 5000], ids=range(5))
def test_what_is_no_path_cannot_be_read(name):
    with pytest.raises(DataError, match=r"cannot be read \(.*\)\. Check the path"):
        read_idx(name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match=r"not a regular file"):
        read_idx(tmp_path / "pipe")


@same_folder
@given(st.data())
def test_a_damaged_file_is_an_array_or_a_data_error(tmp_path, idx_bytes, data):
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    content = bytearray(idx_bytes(array))
    zipped = data.draw(st.booleans())
    if zipped:
        content = bytearray(gzip.compress(content, mtime=0))
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=3)):
        content[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    path = tmp_path / "damaged"
    path.write_bytes(content[:cut] + data.draw(st.binary(max_size=3)))
    try:
        got = read_idx(path)
    except DataError:
        return
    assert got.nbytes <= len(content) * 1032
