"""Finding MNIST's files, and downloading them; no test touches the network."""

import gzip
import hashlib
import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from needle.data import download, load_mnist
from needle.errors import DataError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def small_mnist(monkeypatch, idx_bytes, images, labels):
    """Contents of four small files under MNIST's names, with their checksums in force."""
    parts = {"train-images-idx3-ubyte": images, "train-labels-idx1-ubyte": labels}
    parts |= {"t10k-images-idx3-ubyte": images[:3], "t10k-labels-idx1-ubyte": labels[:3]}
    contents = {name: idx_bytes(array) for name, array in parts.items()}
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    monkeypatch.setattr(download, "MNIST_FILES", sums)
    return contents


@pytest.fixture
def internet(monkeypatch):
    """What pooch finds, by address; a missing address fails as without a connection."""
    pages = {}

    class HTTPDownloader:
        def __init__(self, progressbar):
            assert progressbar is False

        def __call__(self, url, output_file, pooch):
            if url not in pages:
                raise OSError("no route to host")
            output_file.write(pages[url])

    pooch = types.SimpleNamespace(HTTPDownloader=HTTPDownloader)
    monkeypatch.setitem(sys.modules, "pooch", pooch)
    return pages


def offer(pages, contents, mirror, level=6):
    pages |= {
        f"{mirror}{name}.gz": gzip.compress(content, level) for name, content in contents.items()
    }


def test_checksums_are_those_of_the_data_folder():
    text = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    pairs = re.findall(r"^([0-9a-f]{64})  (\S+-ubyte)$", text, re.MULTILINE)
    assert {name: digest for digest, name in pairs} == download.MNIST_FILES
    for name, digest in download.MNIST_FILES.items():
        content = gzip.decompress((ROOT / "data" / f"{name}.gz").read_bytes())
        assert hashlib.sha256(content).hexdigest() == digest


def write(folder, contents, zipped=True):
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        path = folder / (f"{name}.gz" if zipped else name)
        path.write_bytes(gzip.compress(content) if zipped else content)


@pytest.mark.parametrize("zipped", [True, False])
def test_files_that_are_there_are_used(tmp_path, small_mnist, zipped, internet):
    write(tmp_path, small_mnist, zipped)
    train, test = load_mnist(tmp_path)
    assert (len(train), len(test)) == (12, 3)


def test_which_folder(tmp_path, small_mnist, monkeypatch):
    write(tmp_path / "data", small_mnist)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NEEDLE_DATA", raising=False)
    assert len(load_mnist()[0]) == 12
    monkeypatch.setenv("NEEDLE_DATA", str(tmp_path / "elsewhere"))
    with pytest.raises(DataError, match=r"elsewhere: train-images"):
        load_mnist(download=False)
    assert len(load_mnist("data")[0]) == 12


def test_transforms_are_for_training(tmp_path, small_mnist):
    write(tmp_path, small_mnist)
    train, test = load_mnist(tmp_path, [np.zeros_like])
    assert not train[0][0].any()
    assert test[0][0].any()


@pytest.mark.parametrize("mirror", download.MNIST_MIRRORS)
def test_download_from_any_mirror(tmp_path, small_mnist, internet, mirror):
    offer(internet, small_mnist, mirror, level=1)
    train, _ = load_mnist(tmp_path / "new" / "data")
    assert np.array_equal(train.y, np.arange(12))
    names = sorted(path.name for path in (tmp_path / "new" / "data").iterdir())
    assert names == sorted(f"{name}.gz" for name in small_mnist)
    internet.clear()
    assert len(load_mnist(tmp_path / "new" / "data")[1]) == 3


BAD = {
    "other content": (lambda page: gzip.compress(b"other"), "SHA-256 of the content is"),
    "no gzip": (lambda page: b"<html>", "Not a gzipped file"),
    "cut": (lambda page: page[:-10], "damaged gzip file"),
}


@pytest.mark.parametrize(("damage", "message"), BAD.values(), ids=BAD.keys())
def test_what_a_mirror_changed_is_not_kept(tmp_path, small_mnist, internet, damage, message):
    offer(internet, small_mnist, download.MNIST_MIRRORS[0])
    for url, page in list(internet.items()):
        internet[url] = damage(page)
    with pytest.raises(DataError, match=message):
        load_mnist(tmp_path)
    assert not list(tmp_path.iterdir())
    offer(internet, small_mnist, download.MNIST_MIRRORS[1])
    assert len(load_mnist(tmp_path)[0]) == 12


def test_a_download_that_ends_halfway_leaves_nothing(tmp_path, small_mnist, internet):
    offer(internet, small_mnist, download.MNIST_MIRRORS[0])
    page = internet.popitem()
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte\.gz not there and could not be"):
        load_mnist(tmp_path / "new")
    assert not list(tmp_path.iterdir())
    internet.update([page])
    assert len(load_mnist(tmp_path / "new")[0]) == 12


def test_a_folder_that_cannot_be_made_is_named(tmp_path, small_mnist, internet):
    offer(internet, small_mnist, download.MNIST_MIRRORS[0])
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file is not a folder. Name the one that holds the IDX"):
        load_mnist(tmp_path / "file")
    with pytest.raises(DataError, match=r"file/data: .* cannot be written \(Not a directory\)"):
        load_mnist(tmp_path / "file" / "data")


@pytest.mark.parametrize("name", [5, ["a"], "a\0b", "a" * 5000], ids=range(4))
def test_what_is_no_path_holds_no_data(name):
    with pytest.raises(DataError, match=r"cannot be read \(.*\)\. Name the folder that holds"):
        load_mnist(name)


def test_without_internet_one_error_says_what_to_do(tmp_path, small_mnist, internet):
    with pytest.raises(DataError, match=r"could not be downloaded .*no route to host") as caught:
        load_mnist(tmp_path)
    text = str(caught.value)
    assert str(tmp_path) in text
    assert all(f"{name}.gz" in text for name in small_mnist)
    assert "or name the folder that has them by argument or NEEDLE_DATA" in text


def test_without_pooch_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(DataError, match=r'pip install "needle-dl\[data\]"'):
        load_mnist(tmp_path)


def test_a_folder_that_has_some_of_the_files_gets_none_of_mnist(tmp_path, small_mnist, internet):
    offer(internet, small_mnist, download.MNIST_MIRRORS[0])
    write(tmp_path, small_mnist)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r": t10k-labels-idx1-ubyte\.gz not there\. Put train"):
        load_mnist(tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
