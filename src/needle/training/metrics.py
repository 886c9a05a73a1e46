"""Metrics of a batch, and their means over the samples of an epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..tensor import Tensor

Metric = Callable[[np.ndarray, np.ndarray], float]
"""From output and target of a batch to a number."""


def error_rate(output: np.ndarray, target: np.ndarray) -> float:
    """Share of samples whose largest output is not at the target class.

    error = mean(argmax(output, 1) ≠ target)

    Args:
        output: (n, classes) scores.
        target: (n,) class indices, n ≥ 1.

    Raises:
        ShapeError: other shapes.

    Example:
        >>> import numpy as np
        >>> from needle.training import error_rate
        >>> error_rate(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1]))
        0.5
    """
    scores, classes = np.asarray(output), np.asarray(target)
    if scores.ndim != 2 or not scores.size or classes.shape != scores.shape[:1]:
        raise ShapeError(
            f"error_rate: output of shape {scores.shape} and target of shape {classes.shape}. "
            "Give one row of scores a sample, and its class: (n, classes) and (n,), n >= 1"
        )
    return float(np.mean(scores.argmax(axis=1) != classes))


def measured(metrics: Mapping[str, Metric], output: Tensor, target: Tensor) -> dict[str, float]:
    """What metrics say of a batch, by name.

    Raises:
        ArgumentError: one returned something else than a number, or an array of one.
    """
    if not metrics:  # the output need not be read
        return {}
    arrays = output.numpy(), target.numpy()
    return {name: _number(metric(*arrays), name) for name, metric in metrics.items()}


def _number(value: Any, metric: str) -> float:
    try:
        return float(np.asarray(value).item())
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"Trainer: the metric {metric!r} returned {value!r:.50}. Return one number for a batch"
        ) from error


class Averages:
    """Running means, each batch weighted by its number of samples.

    Example:
        >>> from needle.training import Averages
        >>> averages = Averages()
        >>> averages.add({"loss": 1.0}, count=30)
        >>> averages.add({"loss": 4.0}, count=10)
        >>> averages.means()
        {'loss': 1.75}
    """

    def __init__(self) -> None:
        self.count = 0
        self.sums: dict[str, float] = {}

    def add(self, values: Mapping[str, float], count: int) -> None:
        """Take in the means of a batch of `count` samples."""
        self.count += count
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value * count

    def means(self) -> dict[str, float]:
        """The mean of each value over all samples so far.

        Raises:
            ArgumentError: there are none.
        """
        require_batches(self.count)
        return {name: total / self.count for name, total in self.sums.items()}

    def state_dict(self) -> dict[str, Any]:
        """Everything `load_state_dict` needs, as JSON can hold it."""
        return {"count": self.count, "sums": dict(self.sums)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.count = int(state["count"])
        self.sums = {name: float(total) for name, total in state["sums"].items()}


def require_batches(count: int) -> None:
    """Raise an ArgumentError when a loader gave nothing."""
    if not count:
        raise ArgumentError(
            "the loader gave no batch. Give one that has data and can be iterated again"
        )
