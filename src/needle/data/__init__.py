"""Data sets, loaders and transforms."""

from .. import hints
from .dataset import Dataset, NDArrayDataset
from .download import load_mnist
from .idx import read_idx
from .loader import DataLoader
from .mnist import MNISTDataset
from .transforms import RandomCrop, RandomFlipHorizontal, Transform

__all__ = [
    "DataLoader", "Dataset", "MNISTDataset", "NDArrayDataset", "RandomCrop", "RandomFlipHorizontal",
    "Transform", "load_mnist", "read_idx",
]  # fmt: skip

hints.give(__name__, hints.DATA)
