"""Dry runs: a jitted function is called eagerly to see what it does, and all of that undone.

::

    before: a function                   after: what is known of the call; `w` is as it was

    w.data = w * 2                       state    [(w, its new values)]
    return w.sum()                       result   the sum
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from ..context import ambient_set
from ..graph.evaluate import Eager
from ..graph.node import Node, Value, realize
from ..graph.op import Op
from .objects.slots import Slot
from .objects.trees import mapped
from .tracing.pullback import is_users
from .tracing.streams import Streams, draws_undone
from .tracing.trace import Trace
from .tracing.undo import UndoLog


class _Recording(UndoLog, Eager):
    """Eager evaluation that remembers which tensors were given new data or gradients.

    And what users' operators kept, which the program runs again.
    """

    def make(self, op: Op, inputs: tuple[Any, ...]) -> Any:
        if is_users(op):
            self.touch_operator(op)
        value = super().make(op, inputs)
        self.made.add(value.node)
        return value

    def leaf(self, storage: Any, requires_grad: bool = False) -> Node:
        return self._own(super().leaf(storage, requires_grad))

    def detached(self, value: Any) -> Node:
        return self._own(super().detached(value))

    def _own(self, node: Node) -> Node:
        self.made.add(node)
        return node


class DryRun:
    """What an eager call returned, raised and changed.

    Attributes:
        result: What it returned, its tensors as arrays.
        error: What it raised, or None.
        state: Tensors that were given new data, with it.
        grads: Tensors whose `.grad` was set, with it.
        slots: The slots that the trace writes, with what they held after.
        streams: Where the random streams stood after it.
    """

    def __init__(self, function: Callable[..., Any], args: Any, kwargs: Any, trace: Trace) -> None:
        slots = [slot for slot, _ in trace.slots]
        self.result: Any = None
        self.error: Exception | None = None
        with _undone(slots) as recording:
            try:
                with ambient_set(evaluator=recording):
                    self.result = arrays_of(function(args, kwargs))
            except Exception as error:
                self.error = error
            self.state = [(value, realize(value.node)) for value in recording.node_before]
            self.grads = [(value, arrays_of(value._grad)) for value in recording.grad_before]
            self.slots = [(slot, arrays_of(slot.held())) for slot in slots]
            self.streams = Streams()


@contextmanager
def _undone(slots: list[Slot]) -> Generator[_Recording]:
    """Undo what is done inside, to these slots and in view of the evaluator that it gives."""
    recording = _Recording()
    before = [(slot, slot.held()) for slot in slots]
    with draws_undone():
        try:
            yield recording
        finally:
            recording.undo()
            for slot, item in before:
                slot.assign(item)


def arrays_of(item: Any) -> Any:
    """A tree with copies of the values of its tensors."""
    return mapped(item, lambda v: _copied(realize(v.node)) if isinstance(v, Value) else v)


def _copied(storage: Any) -> Any:
    return [part.copy() for part in storage] if isinstance(storage, tuple) else storage.copy()
