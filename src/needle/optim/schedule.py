"""Learning-rate schedules: each writes `optimizer.lr` when it is stepped."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..errors import ArgumentError, StateError
from ..ops.operands import as_bounded
from ..shapes import as_int
from ..state import Watched, by_name
from .optimizer import Optimizer


class Schedule(Watched):
    """lr = lr₀ · factor(steps made), after a linear warm-up. A subclass defines `factor`.

    Args:
        optimizer: Whose `lr` is written; lr₀ is its `lr` now.
        warmup: Steps over which lr grows linearly to lr₀: step k of them uses
            lr₀ · (k + 1) / (warmup + 1).

    Call `step()` after each epoch, or after each batch if the steps are meant as batches.

    Raises:
        ArgumentError: the optimiser has no `lr`, or warmup is no integer >= 0.

    Example:
        >>> import needle as ndl
        >>> opt = ndl.optim.SGD([ndl.nn.Parameter([1.0])], lr=1.0)
        >>> schedule = ndl.optim.Schedule(opt, warmup=1)
        >>> before = opt.lr
        >>> schedule.step()
        >>> before, opt.lr
        (0.5, 1.0)
    """

    def __init__(self, optimizer: Optimizer, warmup: int = 0) -> None:
        kind = type(self).__name__
        if not hasattr(optimizer, "lr"):
            raise ArgumentError(
                f"{kind}: a {type(optimizer).__name__} has no lr. Pass an optimiser, such as SGD"
            )
        self.optimizer: Any = optimizer
        self.warmup = as_int(warmup, kind, "warmup")
        if self.warmup < 0:
            raise ArgumentError(f"{kind}: warmup={warmup} is negative. Use warmup >= 0")
        self.base_lr = float(self.optimizer.lr)
        self.steps = 0
        self._write()

    def factor(self, step: int) -> float:
        """What lr₀ is multiplied by, `step` steps after the warm-up."""
        return 1.0

    def step(self) -> None:
        """Count one step and write the new learning rate."""
        self.steps += 1
        self._write()

    def _rate(self, step: int) -> float:
        return self.base_lr * self.factor(step)

    def _write(self) -> None:
        if self.steps < self.warmup:
            self.optimizer.lr = self.base_lr * ((self.steps + 1) / (self.warmup + 1))
        else:
            self.optimizer.lr = self._rate(self.steps - self.warmup)

    def state_dict(self) -> dict[str, Any]:
        """What is needed to go on: numbers that fit JSON."""
        return {"kind": type(self).__name__, "steps": self.steps, "base_lr": self.base_lr}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict()`.

        Raises:
            StateError: it belongs to another kind of schedule, or `state_dict` did not make it.
        """
        kind, given = type(self).__name__, by_name(state)
        if given.get("kind") != kind:
            raise StateError(
                f"load_state_dict: state of a {given.get('kind')} for a {kind}. "
                "Build the same schedule"
            )
        try:
            steps, base_lr = as_int(given["steps"], kind, "steps"), float(given["base_lr"])
            if steps < 0 or not math.isfinite(base_lr):
                raise ValueError(f"{steps=}, {base_lr=}")
        except (LookupError, TypeError, ValueError, OverflowError) as error:
            raise StateError(
                f"load_state_dict: no state of a {kind} ({type(error).__name__}: {error}). "
                "Pass what state_dict() returned"
            ) from error
        self.steps, self.base_lr = steps, base_lr
        self._write()


class StepLR(Schedule):
    """lr = lr₀ · gamma^⌊steps / every⌋.

    Args:
        optimizer: Whose `lr` is written.
        every: Steps between two reductions.
        gamma: Factor of one reduction.
        warmup: Steps of linear warm-up before.

    Example:
        >>> import needle as ndl
        >>> opt = ndl.optim.SGD([ndl.nn.Parameter([1.0])], lr=1.0)
        >>> schedule = ndl.optim.StepLR(opt, every=1, gamma=0.5)
        >>> schedule.step()
        >>> opt.lr
        0.5
    """

    def __init__(
        self, optimizer: Optimizer, every: int, gamma: float = 0.1, warmup: int = 0
    ) -> None:
        self.every = _positive(every, "StepLR", "every")
        self.gamma = as_bounded(gamma, "StepLR", "gamma")
        super().__init__(optimizer, warmup)

    def factor(self, step: int) -> float:
        try:
            return self.gamma ** (step // self.every)
        except OverflowError:  # Python's powers are not infinite: the optimiser refuses the rate
            return math.inf


class CosineLR(Schedule):
    """lr = low + (lr₀ - low) · (1 + cos(π · steps / total)) / 2, then low.

    Loshchilov & Hutter 2017, equation 5, without restarts.

    Args:
        optimizer: Whose `lr` is written.
        total: Steps after the warm-up until the lowest rate.
        low: The lowest rate.
        warmup: Steps of linear warm-up before.

    Example:
        >>> import needle as ndl
        >>> opt = ndl.optim.SGD([ndl.nn.Parameter([1.0])], lr=1.0)
        >>> schedule = ndl.optim.CosineLR(opt, total=2)
        >>> schedule.step()
        >>> round(opt.lr, 6)
        0.5
    """

    def __init__(self, optimizer: Optimizer, total: int, low: float = 0.0, warmup: int = 0) -> None:
        self.total = _positive(total, "CosineLR", "total")
        self.low = as_bounded(low, "CosineLR", "low")
        super().__init__(optimizer, warmup)

    def factor(self, step: int) -> float:
        share = self.low / self.base_lr if self.base_lr else 0.0
        return share + (1 - share) * self._height(step)

    def _rate(self, step: int) -> float:
        """Where lr₀ is 0, no factor makes `low` of it."""
        return super()._rate(step) if self.base_lr else self.low * (1 - self._height(step))

    def _height(self, step: int) -> float:
        """What lr₀ counts beside `low`: 1 at first, 0 at last."""
        return (1 + math.cos(math.pi * min(step, self.total) / self.total)) / 2


def _positive(value: int, kind: str, name: str) -> int:
    """A number of steps.

    Raises:
        ArgumentError: it is no integer >= 1.
    """
    count = as_int(value, kind, name)
    if count < 1:
        raise ArgumentError(f"{kind}: {name}={value} is not positive. Use {name} >= 1")
    return count
