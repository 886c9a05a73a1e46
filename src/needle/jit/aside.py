"""A jitted function called eagerly to see what it does, and all of that undone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..context import ambient_set
from ..graph.evaluate import Eager
from ..graph.node import Node, Value, realize
from .signature import mapped
from .streams import Streams
from .trace import Trace


class _Recording(Eager):
    """Eager evaluation that remembers which tensors were given new data or gradients."""

    def __init__(self) -> None:
        self.nodes: dict[Value, Node] = {}
        self.grads: dict[Value, Any] = {}

    def touch_node(self, value: Value) -> None:
        self.nodes.setdefault(value, value.node)

    def touch_grad(self, value: Value, *, reading: bool) -> None:
        self.grads.setdefault(value, value._grad)


class Aside:
    """What an eager call returned, raised and changed.

    Attributes:
        result: What it returned, its tensors as arrays.
        error: What it raised, or None.
        state: Tensors that were given new data, with it.
        grads: Tensors whose `.grad` was set, with it.
        slots: (container, key, what it held after) of the slots that the trace writes.
        streams: Where the random streams stood after it.
    """

    def __init__(self, function: Callable[..., Any], args: Any, kwargs: Any, trace: Trace) -> None:
        streams, recording = Streams(), _Recording()
        written = [(container, key) for container, key, _ in trace.slots]
        before = [(c, key, c.slots().get(key)) for c, key in written]
        self.result: Any = None
        self.error: Exception | None = None
        try:
            with ambient_set(evaluator=recording):
                self.result = arrays_of(function(args, kwargs))
        except Exception as error:
            self.error = error
        self.state = [(value, realize(value.node)) for value in recording.nodes]
        self.grads = [(value, arrays_of(value._grad)) for value in recording.grads]
        self.slots = [(c, key, arrays_of(c.slots().get(key))) for c, key in written]
        self.streams = Streams()
        for value, node in recording.nodes.items():
            value.node = node
        for value, grad in recording.grads.items():
            value._grad = grad
        for container, key, item in before:
            container.assign(key, item)
        streams.put_back()


def arrays_of(item: Any) -> Any:
    """A tree with copies of the values of its tensors."""
    return mapped(item, lambda v: _copied(realize(v.node)) if isinstance(v, Value) else v)


def _copied(storage: Any) -> Any:
    return [part.copy() for part in storage] if isinstance(storage, tuple) else storage.copy()
