"""Callbacks: metrics to a file, checkpoints, and progress for people."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from shutil import get_terminal_size
from typing import Any, TextIO

from ..errors import ArgumentError, CheckpointError
from ..files import naming, remove_leftovers, write_file
from ..shapes import as_int
from ..threads import get_num_threads
from .callback import Callback
from .checkpoint import CheckpointFolder
from .environment import versions
from .trainer import Trainer


class MetricsFile(Callback):
    """One JSON object a line and epoch: `{"epoch": 1, "step": 600, "lr": 0.001, …}`.

    The file is cut back to what the trainer's history holds when `fit` starts, so that a run
    resumed from a checkpoint ends with the very bytes of one that never stopped.

    Args:
        path: the file, `metrics.jsonl` by custom.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)

    def on_start(self, trainer: Trainer) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.path.parent)
        write_file(self.path, b"".join(_line(record) for record in trainer.history))

    def on_epoch(self, trainer: Trainer, record: dict[str, Any]) -> None:
        with naming(self.path), self.path.open("ab") as file:
            file.write(_line(record))
            file.flush()
            os.fsync(file.fileno())


class Checkpoints(Callback):
    """A checkpoint before the first step and after each epoch.

    Args:
        folder: where they go, or its path (then the last 3 stay).
        every_steps: also one after so many steps in the middle of an epoch.
        config: JSON values to keep with them, such as what it takes to build the model again.

    Raises:
        CheckpointError: (when `fit` starts) the folder holds a checkpoint that is ahead of this
            training, beside which new ones would be the oldest, and dropped.
    """

    def __init__(
        self,
        folder: CheckpointFolder | str | PathLike[str],
        *,
        every_steps: int | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        if every_steps is not None and as_int(every_steps, "Checkpoints", "every_steps") < 1:
            raise ArgumentError(f"Checkpoints: every_steps={every_steps}. Give at least 1, or None")
        self.folder = folder if isinstance(folder, CheckpointFolder) else CheckpointFolder(folder)
        self.every_steps = every_steps
        self.config = dict(config or {})

    def before_start(self, trainer: Trainer) -> None:
        if self.every_steps and not hasattr(trainer.train_loader, "state_dict"):
            raise ArgumentError(
                f"Checkpoints: every_steps={self.every_steps} needs a training loader with "
                "state_dict(), such as DataLoader. Use one, or every_steps=None"
            )
        if ahead := self.folder.ahead_of(trainer.epoch, trainer.step):
            raise CheckpointError(
                f"Checkpoints: {ahead} is ahead of this training, which is at epoch "
                f"{trainer.epoch}. Restore it to go on with its run, or give another folder"
            )

    def on_start(self, trainer: Trainer) -> None:
        remove_leftovers(self.folder.path)
        if trainer.step == 0:
            self._save(trainer)

    def on_step(self, trainer: Trainer) -> None:
        if self.every_steps and trainer.step % self.every_steps == 0:
            self._save(trainer, mid_epoch=True)

    def on_epoch(self, trainer: Trainer, record: dict[str, Any]) -> None:
        self._save(trainer)

    def _save(self, trainer: Trainer, *, mid_epoch: bool = False) -> None:
        checkpoint = trainer.checkpoint()
        checkpoint.state.update(config=self.config, versions=versions(), threads=get_num_threads())
        self.folder.add(checkpoint, mid_epoch=mid_epoch)


class Progress(Callback):
    """A progress bar on a terminal, where tqdm is installed, and one line an epoch everywhere.

    Args:
        stream: where the lines go; standard output by default.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream: TextIO | None = stream or sys.stdout  # None where that is closed
        on_terminal = self.stream is not None and self.stream.isatty()
        self._shows_bar = on_terminal and find_spec("tqdm") is not None
        self._bar: Any = None

    def on_step(self, trainer: Trainer) -> None:
        if not self._shows_bar:
            return
        if self._bar is None:
            self._bar = self._new_bar(trainer)
        self._bar.set_postfix_str(f"loss {trainer.running.means()['loss']:.4f}", refresh=False)
        self._bar.update(trainer.running.count - self._bar.n)

    def on_epoch(self, trainer: Trainer, record: dict[str, Any]) -> None:
        self._close()
        print(self.line(trainer, record), file=self.stream, flush=True)

    def on_end(self, trainer: Trainer) -> None:
        self._close()

    def line(self, trainer: Trainer, record: dict[str, Any]) -> str:
        """What is printed after an epoch."""
        width = len(str(trainer.epochs))
        parts = [f"epoch {record['epoch']:{width}d}/{trainer.epochs}"]
        for part in ("train", "test"):
            values = [
                _spell(name.removeprefix(f"{part}_"), value)
                for name, value in record.items()
                if name.startswith(f"{part}_")
            ]
            if values:
                parts.append(f"{part} " + " ".join(values))
        parts.append(f"lr {record['lr']:.3g}")
        parts.append(f"{trainer.samples_per_second:,.0f} samples/s")
        return "  ".join(parts)

    def _new_bar(self, trainer: Trainer) -> Any:
        from tqdm import tqdm

        dataset = getattr(trainer.train_loader, "dataset", None)
        size = get_terminal_size()  # 80 × 24 where the terminal does not know
        return tqdm(
            total=None if dataset is None else len(dataset),
            desc=f"epoch {trainer.epoch + 1}/{trainer.epochs}",
            unit=" samples",
            unit_scale=True,
            file=self.stream,
            leave=False,
            ncols=size.columns,
            nrows=size.lines,
        )

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _spell(name: str, value: float) -> str:
    return f"{name} {value:6.2%}" if name == "error" else f"{name} {value:.4f}"


def _line(record: dict[str, Any]) -> bytes:
    return (json.dumps(record) + "\n").encode()
