"""A small training that the crash tests kill: `victim FOLDER numpy|philox THREADS [EVENT]`.

FOLDER/data holds the images. Steps are compiled and use so many threads; with 0 they are eager.
With EVENT it kills itself with SIGKILL right before that thing, by number, that it does to a file.
Started again it goes on from the last checkpoint.
"""

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import needle as ndl
from needle import nn
from needle.errors import CheckpointError
from needle.training import CheckpointFolder, Checkpoints, MetricsFile, Trainer, error_rate

EPOCHS = 4


def main(folder: Path, stream: str, threads: int, event: int | None) -> None:
    if event is not None:
        die_at(event)
    if threads:
        ndl.set_num_threads(threads)
    trainer = build(folder / "data", stream, compiled=threads > 0)
    checkpoints = CheckpointFolder(folder / "checkpoints", keep=2)
    try:
        trainer.restore(checkpoints.newest(lambda message: print(message, file=sys.stderr)))
    except CheckpointError:  # killed before the first one
        assert not checkpoints.paths()
    trainer.callbacks = [
        MetricsFile(folder / "metrics.jsonl"),
        Checkpoints(checkpoints, every_steps=7),
    ]
    trainer.fit(EPOCHS)
    ndl.save(
        folder / "final.safetensors",
        {
            "model": trainer.model.state_dict(),
            "optimizer": trainer.optimizer.state_dict(),
            "next": np.random.rand(3) if stream == "numpy" else ndl.init.rand(3).numpy(),
        },
    )


def build(data: Path, stream: str, *, compiled: bool) -> Trainer:
    """Everything that draws: initialisers, shuffling, flips, crops, dropout.

    Wide enough that threads share a step, and the last batch of an epoch is a short one.
    """
    np.random.seed(7)
    ndl.seed(7 if stream == "philox" else None)
    model = nn.Sequential(
        nn.Flatten(),
        nn.Linear(30, 256),
        nn.BatchNorm1d(256),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(256, 3),
    )
    optimizer = ndl.optim.Adam(model.parameters(), lr=0.01, weight_decay=0.01)
    transforms = [ndl.data.RandomFlipHorizontal(), ndl.data.RandomCrop(1)]
    return Trainer(
        model,
        nn.SoftmaxLoss(),
        optimizer,
        ndl.data.DataLoader(read(data, "train", transforms), 12, shuffle=True),
        ndl.data.DataLoader(read(data, "t10k"), 20),
        metrics={"error": error_rate},
        compile=compiled,
    )


def read(data: Path, part: str, transforms: list[Any] | None = None) -> ndl.data.MNISTDataset:
    names = [f"{part}-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1")]
    return ndl.data.MNISTDataset(*(str(data / name) for name in names), transforms)


def die_at(event: int) -> None:
    """Count what is done to files and die right before number `event`."""
    count = 0

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            if count == event:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1
            return function(*args, **kwargs)

        return call

    for owner, name in (
        (os, "fsync"),
        (Path, "replace"),
        (Path, "rename"),
        (Path, "mkdir"),
        (shutil, "rmtree"),
    ):
        setattr(owner, name, counted(getattr(owner, name)))


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[3:]]
    main(Path(sys.argv[1]), sys.argv[2], numbers[0], numbers[1] if len(numbers) > 1 else None)
