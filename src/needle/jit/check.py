"""`jit(check=True)`: every compiled call beside an eager one, whose effects are undone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from ..errors import IndexRangeError, TraceError
from ..graph.node import realize
from ..shapes import Spec
from .dry_run import DryRun, arrays_of
from .program import Program
from .trace import Trace
from .turns import draws_paused, turn_of

_TOLERANCES = {2: 1e-2, 4: 1e-4, 8: 1e-9}
"""By the size of a number in bytes; longer ones have that of 8."""


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
        try:
            result = program.run(leaves)
        except IndexRangeError:
            return function(args, kwargs)  # it handles that itself, as the eager call has shown
        if not eager.streams.stands():
            raise TraceError(
                "check: the random stream stands elsewhere after the compiled call than after the "
                "eager one. Draw with ndl.init.rand or randn only"
            )
    tolerance = _tolerance(program.trace)
    _compare("the result", arrays_of(result), eager.result, tolerance)
    for tensor, values in eager.state:
        _compare(f"a tensor of shape {values.shape}", realize(tensor.node), values, tolerance)
    tensor: Any
    for tensor, values in eager.grads:
        _compare("a .grad", arrays_of(tensor._grad), values, tolerance)
    for slot, values in eager.slots:
        _compare(slot.label, arrays_of(slot.held()), values, tolerance)
    return result


def _tolerance(trace: Trace) -> float:
    """That of the coarsest dtype in a trace: what is cast to a finer one has its rounding."""
    inputs = [*trace.arguments, *[node for node, _ in trace.captured]]
    specs = [node.specs() for node in [*inputs, *trace.nodes]]
    flat = [part for spec in specs for part in ([spec] if isinstance(spec, Spec) else spec)]
    sizes = [spec.dtype.itemsize for spec in flat if spec.dtype.kind == "f"]
    return _TOLERANCES[min([8, *sizes])]


def _compare(where: str, compiled: Any, eager: Any, tolerance: float) -> None:
    if _is_number(compiled) and _is_number(eager):
        _compare_dtypes(where, compiled, eager)
        _compare_arrays(where, np.asarray(compiled), np.asarray(eager), tolerance)
    elif type(compiled) is not type(eager) or _outline(compiled) != _outline(eager):
        ours, its = f"{compiled!r:.80}", f"{eager!r:.80}"
        _refuse(f"{where} is {ours} after the compiled call and {its} after the eager one")
    elif isinstance(eager, list | tuple):
        for k, (a, b) in enumerate(zip(compiled, eager, strict=True)):
            _compare(f"{where}[{k}]", a, b, tolerance)
    elif isinstance(eager, dict):
        for name in compiled:
            _compare(f"{where}[{name!r}]", compiled[name], eager[name], tolerance)


def _is_number(item: Any) -> bool:
    return isinstance(item, np.ndarray | np.number | float)


def _outline(item: Any) -> Any:
    """What has to be equal of a thing that is no array: a plain value, a length, keys."""
    if isinstance(item, list | tuple):
        return len(item)
    if isinstance(item, dict):
        return item.keys()
    return item if isinstance(item, int | str | bytes | complex) else None


def _compare_arrays(where: str, compiled: Any, eager: Any, tolerance: float) -> None:
    if compiled.shape != eager.shape:
        _refuse(f"{where} has shape {compiled.shape} compiled and {eager.shape} eagerly")
    if not np.allclose(compiled, eager, rtol=tolerance, atol=tolerance, equal_nan=True):
        worst = float(np.nanmax(np.abs(compiled.astype(np.float64) - eager)))
        _refuse(f"{where} differs by up to {worst:.3g} between the compiled and the eager call")


def _compare_dtypes(where: str, compiled: Any, eager: Any) -> None:
    """Those of tensors: numbers of any float type are floats in a program."""
    both = isinstance(compiled, np.ndarray) and isinstance(eager, np.ndarray)
    if both and compiled.dtype != eager.dtype:
        _refuse(f"{where} has dtype {compiled.dtype} compiled and {eager.dtype} eagerly")


def _refuse(difference: str) -> NoReturn:
    raise TraceError(
        f"check: {difference}. Something that the function reads is a constant of the program: "
        "pass it as an argument"
    )
