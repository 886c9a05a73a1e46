"""One training of the MLP ResNet on a set of images: its options, and what is built from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np

from .. import config, nn, optim, random
from ..data import DataLoader, MNISTDataset, load_mnist
from ..errors import CheckpointError, DataError
from ..models import MLPResNet
from ..shapes import as_int
from ..training import Checkpoint, Trainer, error_rate

OPTIMIZERS = {"adam": optim.Adam, "adamw": optim.AdamW, "sgd": optim.SGD}
SCHEDULES = ("constant", "cosine", "step")
LONGEST_WARMUP = 1_000_000  # epochs


@dataclass(frozen=True)
class Options:
    """What decides how a run goes; kept in its checkpoints."""

    data: str
    epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    optimizer: str
    hidden_dim: int
    schedule: str
    warmup: float
    seed: int
    threads: int | None  # None: BLAS decides, and compiled programs by timing
    eager: bool

    def __post_init__(self) -> None:
        """Refuse, as a TypeError, what no command line gives: a checkpoint may say anything."""
        choices = {"optimizer": OPTIMIZERS, "schedule": SCHEDULES}
        for name, kind in get_type_hints(Options).items():
            value = getattr(self, name)
            fits = isinstance(value, kind) and value in choices.get(name, (value,))
            if not fits or (kind is float and not math.isfinite(value)):
                raise TypeError(f"{name} {value!r}")
        if self.warmup > LONGEST_WARMUP:
            raise TypeError(f"warmup {self.warmup!r}")


def read_config(checkpoint: Checkpoint, source: Path) -> tuple[Options, dict[str, Any]]:
    """Options and architecture of the run that wrote `checkpoint`; `source` names it in errors.

    Raises:
        CheckpointError: another program wrote it, or changed what the commands read of it.
    """
    try:
        config = checkpoint.state["config"]
        options, architecture = Options(**config["options"]), dict(config["architecture"])
        signature(build_model).bind(**architecture)
        as_int(architecture["classes"], "config", "classes")
        _check_progress(checkpoint.state)
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(
            f"{source} was not written by this version's `needle train` "
            f"({type(error).__name__}: {error}). Read it with needle.training.Checkpoint"
        ) from error
    return options, architecture


def _check_progress(state: dict[str, Any]) -> None:
    """Look at what the commands read of a run's progress; the caller names what is wrong."""
    as_int(state["epoch"], "state", "epoch")
    if not isinstance(state["versions"], dict):
        raise TypeError(f"versions {state['versions']!r}")
    for record in state["history"]:
        as_int(record["epoch"], "history", "epoch")
        for name in ("test_loss", "test_error", *record):
            float(record[name])


@dataclass(frozen=True)
class Images:
    """A training and a test set of labelled images."""

    folder: Path
    train: MNISTDataset
    test: MNISTDataset

    @classmethod
    def read(cls, folder: Path) -> Images:
        """The four IDX files of `folder`, named like MNIST's."""
        train, test = load_mnist(folder)
        if train.X.shape[1:] != test.X.shape[1:]:
            raise DataError(
                f"{folder}: training images are {train.X.shape[1:]}, test images "
                f"{test.X.shape[1:]}. Both must be of one size"
            )
        return cls(folder, train, test)

    def architecture(self, hidden_dim: int) -> dict[str, Any]:
        """Arguments of `build_model` for these images, as JSON can hold them."""
        return {
            "shape": list(self.train.X.shape[1:]),
            "hidden_dim": hidden_dim,
            "classes": self._classes(),
        }

    def check(self, architecture: dict[str, Any]) -> None:
        """Whether a model fits these images.

        Raises:
            DataError: the images have another size or more classes than the model.
        """
        shape = list(self.train.X.shape[1:])
        if shape != architecture["shape"]:
            raise DataError(
                f"{self.folder}: images are {shape}, the model takes {architecture['shape']}. "
                "Name the data it was trained on: --data DIR"
            )
        if self._classes() > architecture["classes"]:
            raise DataError(
                f"{self.folder}: {self._classes()} classes, the model knows "
                f"{architecture['classes']}. Name the data it was trained on: --data DIR"
            )

    def test_loader(self, batch_size: int) -> DataLoader:
        """Batches of the test images, in order."""
        return DataLoader(self.test, batch_size)

    def _classes(self) -> int:
        return 1 + int(max(self.train.y.max(), self.test.y.max()))


def default_folder() -> Path:
    """Where the data is when nobody says: `NEEDLE_DATA`, or `data` here."""
    return config.data_dir() or Path("data")


def build_trainer(options: Options, images: Images, architecture: dict[str, Any]) -> Trainer:
    """Seed, model, optimiser, schedule and loaders of a run."""
    images.check(architecture)
    random.seed(options.seed)
    model = build_model(**architecture)
    optimizer = OPTIMIZERS[options.optimizer](
        model.parameters(), lr=options.lr, weight_decay=options.weight_decay
    )
    loader = DataLoader(images.train, options.batch_size, shuffle=True)
    return Trainer(
        model,
        nn.SoftmaxLoss(),
        optimizer,
        loader,
        images.test_loader(options.batch_size),
        schedule=_build_schedule(options, optimizer, len(loader)),
        metrics={"error": error_rate},
        compile=not options.eager,
    )


def _build_schedule(
    options: Options, optimizer: optim.Optimizer, steps_an_epoch: int
) -> optim.Schedule | None:
    warmup = round(options.warmup * steps_an_epoch)
    rest = max(1, options.epochs * steps_an_epoch - warmup)
    if options.schedule == "cosine":
        return optim.CosineLR(optimizer, rest, warmup=warmup)
    if options.schedule == "step":
        return optim.StepLR(optimizer, -(-rest // 3), gamma=0.1, warmup=warmup)
    return optim.Schedule(optimizer, warmup) if warmup else None


def build_model(shape: Sequence[int], hidden_dim: int, classes: int) -> nn.Module:
    """The MLP ResNet for flattened images."""
    return nn.Sequential(
        nn.Flatten(), MLPResNet(int(np.prod(shape)), hidden_dim=hidden_dim, num_classes=classes)
    )
