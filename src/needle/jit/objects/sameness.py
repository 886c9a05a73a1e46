"""When two values are the same to a program, which looks at them before each call.

::

    0.5, 0.5          the same               nan, nan        the same
    1, 1.0            not the same           0.0, -0.0       not the same
    (1, 2), (1, 2)    the same               (1,), (True,)   not the same
    [1, 2], [1, 2]    the same               what raises     not the same

What can be changed is watched where it is: its equal is as good only for a moment.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from .things import COLLECTIONS, is_users_object

_NUMBERS = (np.ndarray, np.generic, float, complex)
_MUTABLE = (list, dict, np.ndarray, *COLLECTIONS)


def is_equal(a: Any, b: Any) -> bool:
    """Whether two values are the same to a program; never if they cannot be compared."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    try:
        if isinstance(a, slice):
            return is_equal(_parts(a), _parts(b))
        if isinstance(a, tuple):
            return len(a) == len(b) and all(map(is_equal, a, b))
        if isinstance(a, frozenset):
            twins = {item: item for item in b}
            return len(a) == len(b) and all(is_equal(item, twins.get(item)) for item in a)
        if isinstance(a, _NUMBERS):  # of which NaN is equal, and -0.0 is not
            a, b = np.asarray(a), np.asarray(b)
            if a.dtype != b.dtype or a.shape != b.shape:
                return False
            return a.tobytes() == b.tobytes() or (a.dtype == object and bool((a == b).all()))
        return bool(a == b)
    except Exception:
        return False


def _parts(item: slice) -> tuple[Any, ...]:
    return item.start, item.stop, item.step


def is_as_good(now: Any, value: Any) -> bool:
    """Whether something may stand where a value stood: it is that, or equal and stays so.

    >>> is_as_good((1, "a"), (1, "a")), is_as_good([1], [1])
    (True, False)
    """
    return now is value or (is_equal(now, value) and _stays(value))


def is_same(a: Collection[Any], b: Collection[Any]) -> bool:
    """Whether two collections hold the same values in the same order."""
    return len(a) == len(b) and all(map(is_as_good, a, b))


def _stays(value: Any) -> bool:
    """Whether nothing in a value can be changed."""
    if isinstance(value, _MUTABLE) or is_users_object(value):
        return False
    return not isinstance(value, tuple | frozenset) or all(map(_stays, value))


def is_rate(value: Any) -> bool:
    """Whether a hyperparameter is read at each call: a number, but 0, which may omit a term."""
    is_number = isinstance(value, int | float | np.floating) and not isinstance(value, bool)
    return is_number and bool(value)
