"""`jit(check=True)`: every compiled call beside an eager one, whose effects are undone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from ..errors import IndexRangeError, TraceError
from ..graph.node import realize
from ..shapes import Spec
from .dry_run import DryRun, arrays_of
from .programs.program import Program
from .rounding import Rounding
from .tracing.trace import Out, OutTuple, Trace
from .tracing.turns import draws_paused, turn_of

_TOLERANCES = {2: 1e-2, 4: 1e-4, 8: 1e-9}
"""By the size of a number in bytes; longer ones have that of 8."""
_SPREADS = 10
"""A value that shaking moves by so much may be off by so many times that."""


def compare_with_eager(
    program: Program, function: Callable[..., Any], args: Any, kwargs: Any, leaves: list[Any]
) -> Any:
    """Call a function eagerly, undo what it did, run its program, and compare results and state.

    Returns:
        What the program returned.

    Raises:
        TraceError: names what differs.
    """
    with turn_of(program), draws_paused():
        eager = DryRun(function, args, kwargs, program.trace)
        if eager.error is not None:
            raise eager.error
        trace, rounding = program.trace, Rounding(program, leaves)
        data = {id(target.tensor(leaves)): Out(node) for target, node in trace.rebound}
        grads = {id(target.tensor(leaves)): node for target, node in trace.grads}
        try:
            result = program.run(leaves)
        except IndexRangeError:
            return function(args, kwargs)  # it handles that itself, as the eager call has shown
        if not eager.streams.stands():
            raise TraceError(
                "check: the random stream stands elsewhere after the compiled call than after the "
                "eager one. Draw with ndl.init.rand or randn only"
            )
        compare = _Comparison(_tolerance(trace), rounding).compare
        compare("the result", arrays_of(result), eager.result, trace.result)
        for tensor, values in eager.state:
            where = f"a tensor of shape {values.shape}"
            compare(where, realize(tensor.node), values, data.get(id(tensor)))
        tensor: Any
        for tensor, values in eager.grads:
            node = grads.get(id(tensor))
            compare("a .grad", arrays_of(tensor._grad), values, node and Out(node))
        for (slot, values), (_, tree) in zip(eager.slots, trace.slots, strict=True):
            compare(slot.label, arrays_of(slot.held()), values, tree)
    return result


def _tolerance(trace: Trace) -> float:
    """That of the coarsest dtype in a trace: what is cast to a finer one has its rounding."""
    inputs = [*trace.arguments, *[node for node, _ in trace.captured]]
    specs = [node.specs() for node in [*inputs, *trace.nodes]]
    flat = [part for spec in specs for part in ([spec] if isinstance(spec, Spec) else spec)]
    sizes = [spec.dtype.itemsize for spec in flat if spec.dtype.kind == "f"]
    return _TOLERANCES[min([8, *sizes])]


class _Comparison:
    """Refuses what differs by more than rounding.

    Args:
        tolerance: Relative and absolute.
        rounding: Of values that depend more on it, such as a direction of which only rounding is
            left; it is asked where the tolerance is not enough.
    """

    def __init__(self, tolerance: float, rounding: Rounding) -> None:
        self._tolerance = tolerance
        self._rounding = rounding

    def compare(self, where: str, compiled: Any, eager: Any, tree: Any) -> None:
        """Compare two trees; `tree` is what the trace has in their place, if it has."""
        if _is_number(compiled) and _is_number(eager):
            self._compare_arrays(where, compiled, eager, tree)
        elif type(compiled) is not type(eager) or _outline(compiled) != _outline(eager):
            ours, its = f"{compiled!r:.80}", f"{eager!r:.80}"
            _refuse(f"{where} is {ours} after the compiled call and {its} after the eager one")
        elif isinstance(eager, list | tuple | dict):
            for key in eager if isinstance(eager, dict) else range(len(eager)):
                self.compare(f"{where}[{key!r}]", compiled[key], eager[key], _part(tree, key))

    def _compare_arrays(self, where: str, compiled: Any, eager: Any, tree: Any) -> None:
        ours, its = np.asarray(compiled), np.asarray(eager)
        if ours.shape != its.shape:
            _refuse(f"{where} has shape {ours.shape} compiled and {its.shape} eagerly")
        are_arrays = ours is compiled and its is eager  # a number of any float type is a float
        if are_arrays and ours.dtype != its.dtype:
            _refuse(f"{where} has dtype {ours.dtype} compiled and {its.dtype} eagerly")
        if self._are_close(ours, its, self._tolerance):
            return
        spread = self._rounding.of(tree.node) if isinstance(tree, Out) else 0.0
        if self._are_close(ours, its, self._tolerance + _SPREADS * spread):
            return
        worst = float(np.nanmax(np.abs(ours.astype(np.float64) - its)))
        _refuse(f"{where} differs by up to {worst:.3g} between the compiled and the eager call")

    def _are_close(self, ours: Any, its: Any, absolute: float) -> bool:
        return np.allclose(ours, its, rtol=self._tolerance, atol=absolute, equal_nan=True)


def _part(tree: Any, key: Any) -> Any:
    """What stands in a tree of a trace, None where it is another tree."""
    parts = tree.parts if isinstance(tree, OutTuple) else tree
    if isinstance(parts, dict):
        return parts.get(key)
    return parts[key] if isinstance(parts, list | tuple) and key < len(parts) else None


def _is_number(item: Any) -> bool:
    return isinstance(item, np.ndarray | np.number | float)


def _outline(item: Any) -> Any:
    """What has to be equal of a thing that is no array: a plain value, a length, keys."""
    if isinstance(item, list | tuple):
        return len(item)
    if isinstance(item, dict):
        return item.keys()
    return item if isinstance(item, int | str | bytes | complex) else None


def _refuse(difference: str) -> NoReturn:
    raise TraceError(
        f"check: {difference}. Something that the function reads is a constant of the program: "
        "pass it as an argument"
    )
