"""The MLP ResNet as numbers: layer sizes, weights, batches of MNIST, and the work in a step.

Every library gets the same arrays through a file, and puts them into a model of its own.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .process import ROOT

PIXELS, CLASSES, BLOCKS = 784, 10, 3
DROPOUT = 0.1
LR, BETA1, BETA2, EPS, WEIGHT_DECAY = 1e-3, 0.9, 0.999, 1e-8, 1e-3
NORM_EPS, NORM_MOMENTUM = 1e-5, 0.1

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Problem:
    """Weights by name, and batches: x (batches, batch, 784) float32, y (batches, batch) uint8.

    Names are `linear0.weight` (in, out), `linear0.bias`, …, in the order in which layers run, and
    `norm0.weight`, `.bias`, `.mean`, `.variance`.
    """

    weights: Arrays
    x: np.ndarray
    y: np.ndarray

    @property
    def hidden(self) -> int:
        """Width of the residual blocks."""
        return self.weights["linear0.weight"].shape[1]

    @property
    def learned(self) -> Arrays:
        """The weights without the running statistics."""
        return {n: a for n, a in self.weights.items() if n.split(".")[1] in ("weight", "bias")}


def linear_shapes(hidden: int) -> list[tuple[int, int]]:
    """(in, out) of each fully connected layer."""
    blocks = [(hidden, hidden // 2), (hidden // 2, hidden)] * BLOCKS
    return [(PIXELS, hidden), *blocks, (hidden, CLASSES)]


def step_flops(batch: int, hidden: int) -> int:
    """Floating-point operations of a step's matrix products: the images need no gradient.

    >>> step_flops(100, 100), step_flops(256, 512)
    (49960000, 1626865664)
    """
    sizes = [i * o for i, o in linear_shapes(hidden)]
    return 2 * batch * (3 * sum(sizes) - sizes[0])


def write(path: Path, *, batch: int, hidden: int, batches: int = 8) -> Path:
    """Draw weights, take the first images of MNIST, and save both."""
    random = np.random.default_rng(0)
    weights: Arrays = {}
    for i, (inputs, outputs) in enumerate(linear_shapes(hidden)):
        bound = (6 / inputs) ** 0.5
        weights[f"linear{i}.weight"] = random.uniform(-bound, bound, (inputs, outputs))
        weights[f"linear{i}.bias"] = random.uniform(-0.1, 0.1, outputs)
    for i in range(2 * BLOCKS):
        width = hidden if i % 2 else hidden // 2
        for name, low, high in (
            ("weight", 0.5, 1.5), ("bias", -0.1, 0.1), ("mean", -0.1, 0.1), ("variance", 0.5, 1.5),
        ):  # fmt: skip
            weights[f"norm{i}.{name}"] = random.uniform(low, high, width)
    images, labels = mnist()
    count = batches * batch
    x = (images[:count] / np.float32(255)).reshape(batches, batch, PIXELS)
    y = labels[:count].reshape(batches, batch)
    arrays = {name: array.astype(np.float32) for name, array in weights.items()}
    np.savez(path, **arrays, x=x, y=y)
    return path


def read(path: str) -> Problem:
    """What `write` saved."""
    with np.load(path) as file:
        arrays = dict(file)
    return Problem(x=arrays.pop("x"), y=arrays.pop("y"), weights=arrays)


def mnist_files(folder: Path) -> Path:
    """MNIST's training set as plain arrays of bytes, for libraries that do not read IDX."""
    images, labels = mnist()
    np.save(folder / "images.npy", images)
    np.save(folder / "labels.npy", labels)
    return folder


def mnist() -> tuple[np.ndarray, np.ndarray]:
    """Training images (60000, 784) and labels (60000,), as bytes."""
    folder = ROOT / "data"
    with gzip.open(folder / "train-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, PIXELS)
    with gzip.open(folder / "train-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    return images, labels
