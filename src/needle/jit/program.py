"""A program: a trace that can be run again. It reads its inputs, runs, and only then writes state."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any
from weakref import ref

import numpy as np

from ..context import ambient
from ..errors import TraceError
from ..graph.node import Node, new_handle, realize
from ..shapes import spec_of
from ..tensor import Tensor
from .differentiate import CompiledCall
from .guards import Guards
from .interpret import Interpreter
from .signature import mapped
from .slots import assign, entries
from .trace import Argument, Held, Out, Target, Trace

Executor = Callable[[Sequence[Any]], list[Any]]
Read = Callable[[list[Any]], Any]
"""Finds the tensor that an input is read from, given the leaves of the arguments; None if it is gone."""


class Program:
    """One trace, with what is needed to run it.

    Args:
        trace: What a call does.
        reason: Why it was traced, for `step.programs`.
    """

    def __init__(self, trace: Trace, reason: str) -> None:
        self.trace = trace
        self.reason = reason
        self.calls = 0
        self.last_used = 0.0
        self._guards = Guards(trace)
        self._reads = self._captured_reads()
        inputs = [
            *trace.arguments,
            *[node for _, _, node in trace.scalars],
            *[n for n, _ in self._reads],
        ]
        self.inputs = inputs
        self.wanted = trace.wanted()
        self._differentiable = CompiledCall.of(self)
        self._execute: Executor = Interpreter(inputs, trace.nodes, self.wanted)
        self._place = {node: k for k, node in enumerate(self.wanted)}
        self._kept: dict[int, Tensor] = {}
        self._lock = threading.Lock()
        self._owner: int | None = None

    # -- inputs ------------------------------------------------------------------------------------------

    def _captured_reads(self) -> list[tuple[Node, Read]]:
        """For each captured node the way to the tensor that holds it at the next call."""
        slots: dict[int, Read] = {}
        for owner, key, _ in self.trace.slots:
            for path, tensor in _tensors_in(self._guards.expected(owner, key)):
                slots[id(tensor)] = _slot_reader(owner, key, path)
        grads: dict[Node, Read] = {}
        for target, node in self.trace.grad_inputs:
            if node is not None:
                grads[node] = _grad_reader(target)
        reads = []
        for node, reference in self.trace.captured:
            handle = reference()
            if node in grads:
                reads.append((node, grads[node]))
            elif handle is None:
                reads.append((node, _constant_reader(node)))
            else:
                reads.append((node, slots.get(id(handle)) or _held_reader(reference)))
        return reads

    def mismatch(self, leaves: list[Any]) -> str | None:
        """Why this program is not the one for the world as it is; None if it is."""
        if not self._guards.unchanged():
            difference = self._guards.difference()
            if difference is not None:
                return difference
            self._guards.accept()
        for target, node in self.trace.grad_inputs:
            tensor = resolve(target, leaves)
            if tensor is not None and (tensor._grad is None) != (node is None):
                return f"the .grad of a tensor of shape {tensor.shape} was read and is " + (
                    "None now" if node is not None else "set now"
                )
        for node, read in self._reads:
            tensor = read(leaves)
            if tensor is None:
                return "a tensor that was used is gone"
            if tensor.node.specs() != node.specs():
                return f"a tensor has shape {tensor.shape} now"
        return None

    # -- a call ------------------------------------------------------------------------------------------

    def run(self, leaves: list[Any]) -> Any:
        """Run on the leaves of a call's arguments; what the function returns."""
        me = threading.get_ident()
        if self._owner == me:
            raise TraceError(
                "a compiled program was entered again from one of its own operators. "
                "Do not call the jitted function inside an operator's compute"
            )
        with self._lock:
            self._owner = me
            try:
                tensors = [
                    *leaves,
                    *[None] * len(self.trace.scalars),
                    *[r(leaves) for _, r in self._reads],
                ]
                arrays = [_array(leaf) for leaf in leaves]
                arrays += [
                    np.asarray(vars(owner)[name], np.float64)
                    for owner, name, _ in self.trace.scalars
                ]
                arrays += [realize(tensor.node) for tensor in tensors[len(arrays) :]]
                results = self._execute(arrays)
                self.calls += 1
                self.last_used = time.monotonic()
                return self._commit(leaves, tensors, arrays, results)
            finally:
                self._owner = None

    def _commit(
        self, leaves: list[Any], tensors: list[Any], arrays: list[Any], results: list[Any]
    ) -> Any:
        """Write state, set gradients, and make what the function returns."""
        values = {node: results[place] for node, place in self._place.items()}
        for target, node in self.trace.rebound:
            tensor = resolve(target, leaves)
            if tensor is not None:
                _give(tensor, values[node])
        for k, (owner, key, tree) in enumerate(self.trace.slots):
            self._fill_slot(k, owner, key, tree, values)
        for target, node in self.trace.grads:
            tensor = resolve(target, leaves)
            if tensor is not None:
                tensor._grad = None if node is None else Tensor.wrap(values[node])
        recorded = (
            self._differentiable
            and ambient.gradients
            and self._differentiable.record(tensors, arrays, results)
        )
        made: dict[Node, Any] = {}

        def finished(item: Any) -> Any:
            if isinstance(item, Out):
                if item.node not in made:
                    made[item.node] = _output(item, values, recorded)
                return made[item.node]
            return resolve(item, leaves) if isinstance(item, Argument | Held) else item

        return mapped(self.trace.result, finished)

    def _fill_slot(self, k: int, owner: Any, key: Any, tree: Any, values: dict[Node, Any]) -> None:
        """A slot with one tensor keeps the program's own handle; a tree of them is made anew."""
        if not isinstance(tree, Out):
            filled = mapped(
                tree, lambda item: _output(item, values, None) if isinstance(item, Out) else item
            )
            assign(owner, key, filled)
            self._guards.expect(owner, key, filled)
            self._guards.accept()
            return
        handle = self._kept.get(k)
        if handle is None or entries(owner).get(key) is not handle:
            handle = self._kept[k] = Tensor.wrap(values[tree.node], tree.requires_grad)
            assign(owner, key, handle)
            self._guards.expect(owner, key, handle)
            self._guards.accept()
        else:
            _give(handle, values[tree.node])

    # -- for `check` -------------------------------------------------------------------------------------

    def slot_values(self) -> list[tuple[Any, Any, Any]]:
        """(container, key, what stands there) of every slot that the program writes."""
        return [(owner, key, entries(owner).get(key)) for owner, key, _ in self.trace.slots]

    def put_slots(self, values: list[tuple[Any, Any, Any]]) -> None:
        """Put things into slots, as the function itself would."""
        for owner, key, value in values:
            assign(owner, key, value)
            self._guards.expect(owner, key, value)


def resolve(target: Target, leaves: list[Any]) -> Any:
    """The tensor that a target names in this call; None if it is gone."""
    return leaves[target.place] if isinstance(target, Argument) else target.reference()


def _give(tensor: Tensor, array: Any) -> None:
    """New data for a tensor: as an assignment to `.data`, but unseen by guards."""
    node = Node(None, (), array, tensor.node.requires_grad)
    node.handle = ref(tensor)
    tensor.node = node


def _output(item: Out, values: dict[Node, Any], recorded: Any) -> Any:
    array = values[item.node]
    if isinstance(array, tuple):
        return new_handle(Node(None, (), array, False), Tensor.tuple_class)
    if recorded and item.requires_grad:
        return recorded(item.node)
    return Tensor.wrap(array)


def _array(leaf: Any) -> Any:
    return realize(leaf.node) if isinstance(leaf, Tensor) else np.asarray(leaf)


def _tensors_in(item: Any, path: tuple[Any, ...] = ()) -> list[tuple[tuple[Any, ...], Tensor]]:
    if isinstance(item, Tensor):
        return [(path, item)]
    if isinstance(item, list | tuple):
        return [found for k, part in enumerate(item) for found in _tensors_in(part, (*path, k))]
    if isinstance(item, dict):
        return [found for k, part in item.items() for found in _tensors_in(part, (*path, k))]
    return []


def _slot_reader(owner: Any, key: Any, path: tuple[Any, ...]) -> Read:
    def read(leaves: list[Any]) -> Any:
        item = entries(owner).get(key)
        for step in path:
            item = item[step]
        return item

    return read


def _grad_reader(target: Target) -> Read:
    def read(leaves: list[Any]) -> Any:
        tensor = resolve(target, leaves)
        return None if tensor is None else tensor._grad

    return read


def _held_reader(reference: Any) -> Read:
    return lambda leaves: reference()


def _constant_reader(node: Node) -> Read:
    handle = new_handle(Node(None, (), realize(node), False, spec_of(realize(node))), Tensor)
    return lambda leaves: handle
