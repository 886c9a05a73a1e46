"""The parts of a trainer's state as a checkpoint keeps them, each checked when it is read.

What does not fit raises a `TypeError` or `ValueError`, of which `Trainer.restore` makes a message::

    in `checkpoint.state`             what it may be

    "step": 600                       an integer that is 0 or more
    "history": [{"epoch": 1, ...}]    records of numbers
    "schedule": {...}, or None        the state of the schedule, None where it has none
"""

from __future__ import annotations

from typing import Any

from ..shapes import as_int


def state_of(part: Any) -> Any:
    """The state of a schedule or loader, None where it has none."""
    return part.state_dict() if hasattr(part, "state_dict") else None


def counted(state: dict[str, Any], name: str) -> int:
    """A number of steps or epochs."""
    number = as_int(state[name], "restore", name)
    if number < 0:
        raise ValueError(f"{name} {number}")
    return number


def rate_of(lr: Any) -> float | None:
    """A learning rate; None before the first step."""
    if not isinstance(lr, int | float | None):
        raise TypeError(f"lr {lr!r}")
    return lr


def record_of(record: Any) -> dict[str, Any]:
    """An epoch's metrics, as `fit` records them; what callbacks add may be anything."""
    for name, value in record.items():
        ours = name in ("epoch", "step", "lr") or name.startswith(("train_", "test_"))
        if ours and not isinstance(value, int | float):
            raise TypeError(f"{name} {value!r} in its history")
    return dict(record)


def restore_part(part: Any, state: Any) -> None:
    """Give a schedule or loader its state."""
    if (state is None) == hasattr(part, "state_dict"):
        raise TypeError(f"{type(part).__name__} with state {state}")
    if state is not None:
        part.load_state_dict(state)
