"""Small data sets in MNIST's own format, cut from MNIST with nothing but gzip and NumPy."""

import gzip
from pathlib import Path

import numpy as np

DATA = Path(__file__).parents[2] / "data"
PARTS = {"train": 60_000, "t10k": 10_000}


def read(part):
    """All images (n, 784) and labels (n,) of a part, as bytes."""
    images = gzip.decompress((DATA / f"{part}-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((DATA / f"{part}-labels-idx1-ubyte.gz").read_bytes())
    return (
        np.frombuffer(images, np.uint8, offset=16).reshape(-1, 784),
        np.frombuffer(labels, np.uint8, offset=8),
    )


def cut(folder, part, count):
    """Write the first `count` samples of a part to `folder`; images in [0, 1] and labels back."""
    images, labels = (array[:count] for array in read(part))
    head = np.array([2051, count, 28, 28], ">i4").tobytes()
    path = folder / f"{part}-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(head + images.tobytes(), 1))
    head = np.array([2049, count], ">i4").tobytes()
    path = folder / f"{part}-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(head + labels.tobytes(), 1))
    return images / 255, labels
