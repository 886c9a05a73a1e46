"""`Callback`: what a training tells others, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .trainer import Trainer


class Callback:
    """What happens beside the training; override what you need.

    Example:
        >>> from needle.training import Callback
        >>> class Bell(Callback):
        ...     def on_epoch(self, trainer, record):
        ...         print("epoch", record["epoch"], "done")
    """

    def before_start(self, trainer: Trainer) -> None:
        """Raise what speaks against this training, before any callback has written anything."""

    def on_start(self, trainer: Trainer) -> None:
        """`fit` begins, from scratch or from a checkpoint."""

    def on_step(self, trainer: Trainer) -> None:
        """A training step is done; `trainer.running` holds the epoch's averages so far."""

    def on_epoch(self, trainer: Trainer, record: dict[str, Any]) -> None:
        """An epoch is done and `record`, its metrics, is the last of `trainer.history`."""

    def on_end(self, trainer: Trainer) -> None:
        """`fit` ends, with or without an exception."""
