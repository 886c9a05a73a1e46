"""A small set of labelled images in MNIST's files: how bright is the picture?"""

import gzip
from pathlib import Path

import numpy as np

SHAPE = (6, 5)


def write_images(folder: Path, *, train: int = 110, test: int = 40, classes: int = 3) -> Path:
    """Write the four IDX files into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.RandomState(1)
    for part, count in (("train", train), ("t10k", test)):
        labels = np.arange(count) % classes
        images = rng.randint(0, 160, (count, *SHAPE)) + (30 * labels)[:, None, None]
        _write_idx(folder / f"{part}-images-idx3-ubyte.gz", images)
        _write_idx(folder / f"{part}-labels-idx1-ubyte.gz", labels)
    return folder


def _write_idx(path: Path, array: np.ndarray) -> None:
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))
