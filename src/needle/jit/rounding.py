"""How much of a value is rounding: a trace is run through NumPy again, with all results shaken.

::

    before: a call whose bias has no gradient      after: what may differ

    g = 3e-10, which would be 0 without rounding   shaken, g is -2e-10, 4e-10, …
    b = b - lr * g / |g|                           b by 2 lr, and nothing else by more than 1e-6
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from ..graph.node import Node
from .programs.program import Program
from .tracing.interpret import Interpreter, is_random
from .tracing.streams import Streams, draws_undone

_RUNS = 4
_UNITS = 4
"""By so many units in the last place each result is shaken: kernels add up in another order."""


class Rounding:
    """What rounding does to the values of a call, which is about to run.

    Args:
        program: Whose call it is.
        leaves: Of the call's arguments.
    """

    def __init__(self, program: Program, leaves: Sequence[Any]) -> None:
        self._trace = program.trace
        self._inputs = program.inputs.nodes
        self._arrays = [array.copy() for array in program.inputs.values(leaves)]
        self._streams = Streams()

    def of(self, node: Node) -> float:
        """The most by which an element of a node's value may be off."""
        return self._spreads.get(node, 0.0)

    @cached_property
    def _spreads(self) -> dict[Node, float]:
        wanted = self._trace.wanted()
        random = np.random.RandomState(0)
        with draws_undone(), np.errstate(all="ignore"):
            exact = self._values(Interpreter(self._inputs, self._trace.nodes, wanted))
            runs = [self._values(_Shaken(self._inputs, self._trace.nodes, wanted, random))
                    for _ in range(_RUNS)]  # fmt: skip
            return {
                node: max(_distance(run[place], exact[place]) for run in runs)
                for place, node in enumerate(wanted)
            }

    def _values(self, run: Interpreter) -> list[Any]:
        self._streams.put_back()
        return run(self._arrays)


class _Shaken(Interpreter):
    """Runs the operators of a trace with results that are off by some units in the last place."""

    def __init__(self, inputs: Any, nodes: Any, wanted: Any, random: np.random.RandomState) -> None:
        super().__init__(inputs, nodes, wanted)
        self._random = random

    def evaluated(self, node: Node, arrays: list[Any]) -> Any:
        result = super().evaluated(node, arrays)
        if is_random(node):
            return result
        return tuple(map(self._off, result)) if isinstance(result, tuple) else self._off(result)

    def _off(self, array: Any) -> Any:
        """Whole numbers, which may be indices, have no rounding."""
        if array.dtype.kind != "f":
            return array
        size = _UNITS * np.finfo(array.dtype).eps
        off = array * (1 + size * self._random.uniform(-1, 1, array.shape))
        return np.where(array == np.round(array), array, off).astype(array.dtype)


def _distance(a: Any, b: Any) -> float:
    if isinstance(a, tuple):
        return max(map(_distance, a, b), default=0.0)
    return float(np.nanmax(np.abs(a.astype(np.float64) - b), initial=0.0))
