"""How often each signature of a function has occurred: one that is seldom is never compiled.

::

    calls                                what is counted

    f(batch), f(batch)                   2, of one signature: the second call is traced
    f(x, 1), f(x, 2), f(x, 3), ...       1 of each: they differ in a number, and all run as written
"""

from __future__ import annotations

from .tracing.signature import Key, keeps_objects

MOST_SIGNATURES = 4096
"""Of so many signatures is it remembered that they occurred."""
MOST_KEPT = 8
"""Of so many, if that keeps objects alive: batches in objects without weak references are large."""


class Occurrences:
    """Counts calls by their signature.

    Attributes:
        different: How many signatures have occurred, those with a program that is gone not counted.
    """

    def __init__(self) -> None:
        self.different = 0
        self._calls: dict[Key, int] = {}
        self._kept: dict[Key, int] = {}  # whose keys keep objects alive

    def count(self, key: Key) -> int:
        """How often a signature has occurred, with this call."""
        counts, most = (
            (self._kept, MOST_KEPT) if keeps_objects(key) else (self._calls, MOST_SIGNATURES)
        )
        calls = counts[key] = counts.pop(key, 0) + 1
        if len(counts) > most:
            counts.pop(next(iter(counts)))
        self.different += calls == 1
        return calls

    def forget(self, key: Key) -> None:
        """The programs of a signature are gone."""
        if self._calls.pop(key, None) or self._kept.pop(key, None):
            self.different -= 1
