"""Pure functions on measured seconds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

Summary = dict[str, Any]

SLACK = 1.2  # a library's helper threads may wake up for a moment


def summary(seconds: Sequence[float]) -> Summary:
    """Median and best of a sample, and how many there are.

    >>> summary([3.0, 1.0, 2.0])
    {'median': 2.0, 'best': 1.0, 'count': 3}
    """
    return {"median": median(seconds), "best": min(seconds), "count": len(seconds)}


def ratio(theirs: float | None, ours: float | None) -> float | None:
    """How many times faster ours is; None where one is missing.

    >>> ratio(6.0, 2.0)
    3.0
    """
    if theirs is None or not ours:
        return None
    return theirs / ours


def overran(row: Summary) -> bool:
    """Whether a row kept more cores busy than the threads it claims.

    >>> overran({"threads": 1, "processors": 1.8}), overran({"threads": 2, "processors": 1.9})
    (True, False)
    """
    threads, used = row.get("threads"), row.get("processors")
    return threads is not None and used is not None and used > threads * SLACK


def fastest(rows: Mapping[str, Summary], names: Iterable[str]) -> str | None:
    """The name with the least median among those that were measured.

    >>> fastest({"a": {"median": 2.0}, "b": {"median": 1.0}}, ["a", "b", "c"])
    'b'
    """
    there = [name for name in names if name in rows]
    return min(there, key=lambda name: rows[name]["median"]) if there else None


def group_size(one_run: float, group: float) -> int:
    """How many runs of `one_run` seconds fill `group` seconds; at least one.

    >>> group_size(0.003, 0.02), group_size(1.0, 0.02)
    (6, 1)
    """
    return max(1, int(group / one_run)) if one_run > 0 else 1


def differences(results: Mapping[str, Sequence[float]], reference: Sequence[float]) -> Summary:
    """The largest relative difference of each contestant's numbers from the reference.

    >>> differences({"a": [1.0, 2.2]}, [1.0, 2.0])["a"] < 0.11
    True
    """
    return {
        name: max(
            (abs(x - r) / max(abs(r), 1e-6) for x, r in zip(values, reference, strict=True)),
            default=math.nan,
        )
        for name, values in results.items()
    }
