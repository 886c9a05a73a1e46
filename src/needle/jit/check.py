"""`jit(check=True)`: every compiled call beside an eager one, on copies of state and random stream."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import random
from ..errors import TraceError
from ..graph.node import realize
from ..tensor import Tensor
from .program import Program, resolve
from .signature import mapped


def compare_with_eager(
    program: Program, function: Callable[..., Any], args: Any, kwargs: Any, leaves: list[Any]
) -> Any:
    """Run a call compiled, put everything back, run it eagerly, and compare results and state.

    Returns:
        What the eager call returned; the eager call's state stays.

    Raises:
        TraceError: names what differs.
    """
    held = [resolve(target, leaves) for target, _ in program.trace.rebound]
    before = [(tensor, realize(tensor.node).copy()) for tensor in held if tensor is not None]
    slots = [(owner, key, mapped(item, _twin)) for owner, key, item in program.slot_values()]
    streams = random.get_state()
    compiled = _copied(program.run(leaves))
    compiled_state = [realize(tensor.node).copy() for tensor, _ in before]
    compiled_slots = [_copied(item) for _, _, item in program.slot_values()]
    after = random.get_state()
    for tensor, values in before:
        tensor.data = Tensor(values, requires_grad=False)
    program.put_slots(slots)
    random.set_state(streams)
    result = function(*args, **kwargs)
    if random.get_state() != after:
        raise TraceError(
            "check: the random stream stands elsewhere after the compiled call than after the eager one. "
            "Draw with ndl.init.rand or randn only"
        )
    _compare("the result", compiled, _copied(result))
    for (tensor, _), values in zip(before, compiled_state, strict=True):
        _compare(f"a tensor of shape {tensor.shape}", values, realize(tensor.node))
    for (_, key, item), values in zip(program.slot_values(), compiled_slots, strict=True):
        _compare(f"slot {key!r}", values, _copied(item))
    return result


def _twin(item: Any) -> Any:
    return copy.deepcopy(item) if isinstance(item, Tensor) else item


def _copied(item: Any) -> Any:
    return mapped(item, lambda v: np.array(v.numpy()) if isinstance(v, Tensor) else v)


def _compare(where: str, compiled: Any, eager: Any) -> None:
    if isinstance(compiled, list | tuple):
        for k, (a, b) in enumerate(zip(compiled, eager, strict=True)):
            _compare(f"{where}[{k}]", a, b)
    elif isinstance(compiled, dict):
        for name in compiled:
            _compare(f"{where}[{name!r}]", compiled[name], eager[name])
    elif isinstance(compiled, np.ndarray):
        tolerance = 1e-4 if compiled.dtype == np.float32 else 1e-9
        if not np.allclose(compiled, eager, rtol=tolerance, atol=tolerance, equal_nan=True):
            worst = float(np.nanmax(np.abs(compiled.astype(np.float64) - eager)))
            raise TraceError(
                f"check: {where} differs by up to {worst:.3g} between the compiled and the eager call. "
                "Something that the function reads is a constant of the program: pass it as an argument"
            )
