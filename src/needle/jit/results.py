"""Memory of results: new at each call, unless nobody holds what an earlier call handed out.

::

    call   loss, gradients are written to      because
    1      new arrays a
    2      new arrays b                        the gradients of call 1 are still there
    3      a                                   nobody holds any of a since call 2 set others
    4      new arrays c; b are forgotten       somebody kept a gradient of call 2

Whoever holds an array, a view of it, or a tensor over it, is counted by Python. Who let go of one
may have changed more than its values: an array that has another shape, or is read-only, is not used
again either.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from operator import attrgetter
from sys import getrefcount
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

_empty = np.empty
_form = attrgetter("shape", "dtype", "flags.num")

MOST_BYTES = 2**23
"""Results that take more are not kept: memory that is not needed should be free."""
FEWEST = 3
"""So few are made as quickly as it is seen whether those of before are held."""


class Results:
    """Gives a call the memory for its results, and enters its addresses.

    Args:
        specs: Slot, shape and dtype of each result.
        words: Addresses, by slot.
        address_of: Finds the address of an array.
    """

    def __init__(
        self,
        specs: Sequence[tuple[int, tuple[int, ...], np.dtype[Any]]],
        words: Any,
        address_of: Callable[[Array], int],
    ) -> None:
        self.specs = specs
        self._words = words
        self._address_of = address_of
        size = sum(math.prod(shape) * dtype.itemsize for _, shape, dtype in specs)
        self._keeps = len(specs) >= FEWEST and size <= MOST_BYTES
        self._sets: list[tuple[list[Array], list[int]]] = []  # the last two, and their addresses
        self._unheld: list[int] = []  # how often such arrays are referred to
        self._forms: list[Any] = []  # of arrays as they are made

    def give(self) -> list[Array]:
        """Arrays for the results of a call."""
        if not self._keeps:
            return self._new()
        for arrays, addresses in self._sets:
            is_unheld = [*map(getrefcount, arrays)] == self._unheld
            if is_unheld and [*map(_form, arrays)] == self._forms:
                for (slot, _, _), address in zip(self.specs, addresses, strict=True):
                    self._words[slot] = address
                return [*arrays]
        arrays = self._new()
        self._unheld, self._forms = [*map(getrefcount, arrays)], [*map(_form, arrays)]
        self._sets = [*self._sets[-1:], (arrays, [*map(self._address_of, arrays)])]
        return [*arrays]

    def _new(self) -> list[Array]:
        arrays = [_empty(shape, dtype) for _, shape, dtype in self.specs]
        for (slot, _, _), array in zip(self.specs, arrays, strict=True):
            self._words[slot] = self._address_of(array)
        return arrays
