"""A program: a trace that can be run again. It reads its inputs, runs, and only then writes state."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable
from typing import Any
from weakref import ref

import numpy as np

from .. import config
from ..context import ambient, changes
from ..errors import TraceError
from ..graph.node import Live, Node, new_handle, realize
from ..native import llvm
from ..shapes import spec_of
from ..tensor import Tensor
from .differentiate import CompiledCall
from .fuse import Unsupported
from .guards import Guards
from .interpret import Interpreter
from .native_executor import Compiled, NativeExecutor, aligned
from .signature import mapped
from .slots import assign, entries
from .trace import Argument, Held, Out, Target, Trace

Read = Callable[[list[Any]], Any]
"""Finds the tensor that an input is read from, given the leaves of the arguments; None if it is gone."""


class Captured:
    """An input that is no argument: a tensor that existed before the trace.

    Args:
        node: Its node in the trace.
        read: The way to the tensor at a call.
        slot: The (container, key) that holds it, where that slot is written by the program.
        volatile: It has to be looked up at every call (a `.grad`).
    """

    def __init__(self, node: Node, read: Read, slot: Any = None, volatile: bool = False) -> None:
        self.node = node
        self.read = read
        self.slot = slot
        self.volatile = volatile
        self.in_place: Node | None = None


class Program:
    """One trace, with what is needed to run it.

    Args:
        trace: What a call does.
        reason: Why it was traced, for `step.programs`.

    Attributes:
        compiled: The stages down to machine code; None where the graph runs through NumPy.
        backend: "native", or why it is not.
    """

    def __init__(self, trace: Trace, reason: str) -> None:
        self.trace = trace
        self.reason = reason
        self.calls = 0
        self.last_used = 0.0
        self._guards = Guards(trace)
        self._captured = self._captured_inputs()
        self._scalars = [(vars(owner), name) for owner, name, _ in trace.scalars]
        self.inputs = [
            *trace.arguments,
            *[node for _, _, node in trace.scalars],
            *[captured.node for captured in self._captured],
        ]
        self.wanted = trace.wanted()
        self._differentiable = CompiledCall.of(self)
        self._kept: dict[int, Tensor] = {}
        self._lock = threading.Lock()
        self._owner: int | None = None
        self._bound = False
        self.compiled: Compiled | None = None
        self.backend = self._compile()
        if self.compiled is None:
            for captured in self._captured:
                captured.in_place = None
            self._results = self.wanted
            self._interpreter = Interpreter(self.inputs, trace.nodes, self.wanted)
        self._place = {node: k for k, node in enumerate(self._results)}

    def __repr__(self) -> str:
        return f"Program({self.reason}; {self.calls} calls; {self.backend})"

    # -- inputs ------------------------------------------------------------------------------------------

    def _captured_inputs(self) -> list[Captured]:
        """For each captured node the way to the tensor that holds it at the next call."""
        slots: dict[int, tuple[Any, Any, Any]] = {}
        for owner, key, _ in self.trace.slots:
            for path, tensor in _tensors_in(self._guards.expected(owner, key)):
                slots[id(tensor)] = (owner, key, path)
        grads = {node: target for target, node in self.trace.grad_inputs if node is not None}
        found = []
        for node, reference in self.trace.captured:
            handle = reference()
            if node in grads:
                found.append(Captured(node, _grad_reader(grads[node]), volatile=True))
            elif handle is None:
                found.append(Captured(node, _constant_reader(node)))
            elif id(handle) in slots:
                owner, key, path = slots[id(handle)]
                slot = (owner, key) if path == () else None
                found.append(Captured(node, _slot_reader(owner, key, path), slot))
            else:
                found.append(Captured(node, _held_reader(reference)))
        return found

    def mismatch(self, leaves: list[Any]) -> str | None:
        """Why this program is not the one for the world as it is; None if it is."""
        steady = self._guards.unchanged()
        if not steady:
            difference = self._guards.difference()
            if difference is not None:
                return difference
            self._bound = False
        for target, node in self.trace.grad_inputs:
            tensor = resolve(target, leaves)
            if tensor is not None and (tensor._grad is None) != (node is None):
                return f"the .grad of a tensor of shape {tensor.shape} was read and is " + (
                    "None now" if node is not None else "set now"
                )
        for captured in self._captured:
            if steady and not captured.volatile:
                continue
            tensor = captured.read(leaves)
            if tensor is None:
                return "a tensor that was used is gone"
            if tensor.node.specs() != captured.node.specs():
                return f"a tensor has shape {tensor.shape} now"
        if not steady:
            self._guards.accept()
        return None

    # -- code --------------------------------------------------------------------------------------------

    def _compile(self) -> str:
        """Compile to native code where that is possible; what runs."""
        if config.jit_mode() != "1":
            return "numpy: NEEDLE_JIT asks for it"
        if not llvm.available():
            _warn_without_llvm()
            return "numpy: llvmlite is not installed"
        state, results = self._state_in_place()
        try:
            self.compiled = Compiled(self.inputs, self.trace.nodes, results, state)
        except Unsupported as missing:
            return f"numpy: {missing}"
        self._results = results
        self._native = NativeExecutor(self.compiled)
        self._first_captured = len(self.inputs) - len(self._captured)
        first_scalar = len(self.trace.arguments)
        self._numbers = aligned((self._first_captured,), np.float64)
        for place, node in enumerate(self.inputs[: self._first_captured]):
            if place >= first_scalar or node.specs().dtype == np.float64 and node.specs().shape == ():
                self._native.bind(place, self._numbers[place : place + 1])
        return "native"

    def _state_in_place(self) -> tuple[dict[Node, Node], list[Node]]:
        """State that is written where it lies, and the values that are handed out as new arrays."""
        by_slot = {(id(c.slot[0]), c.slot[1]): c for c in self._captured if c.slot is not None}
        by_handle = {id(c.read([])): c for c in self._captured if c.slot is None and not c.volatile}
        handed: dict[Node, None] = {}

        def hand_out(tree: Any) -> None:
            mapped(tree, lambda item: handed.setdefault(item.node) if isinstance(item, Out) else None)

        hand_out(self.trace.result)
        for owner, key, tree in self.trace.slots:
            captured = by_slot.get((id(owner), key))
            if isinstance(tree, Out) and captured is not None:
                captured.in_place = tree.node
            else:
                hand_out(tree)
        for target, node in self.trace.rebound:
            tensor = target.reference() if isinstance(target, Held) else None
            captured = by_handle.get(id(tensor)) if tensor is not None else None
            if captured is not None and captured.in_place is None:
                captured.in_place = node
            else:
                handed.setdefault(node)
        handed.update(dict.fromkeys(node for _, node in self.trace.grads if node is not None))
        handed.update(dict.fromkeys(self.wanted[len(self.trace.wanted()) :]))  # draws
        state = {c.node: c.in_place for c in self._captured if c.in_place is not None}
        return state, list(handed)

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
                results = self._interpreted(leaves) if self.compiled is None else self._run_native(leaves)
                self.calls += 1
                self.last_used = time.monotonic()
                return self._commit(leaves, results)
            finally:
                self._owner = None

    def _interpreted(self, leaves: list[Any]) -> list[Any]:
        arrays, _ = self._values(leaves)
        return self._interpreter(arrays)

    def _values(self, leaves: list[Any]) -> tuple[list[Any], list[Any]]:
        """All inputs as arrays, and the tensors that they were read from."""
        tensors = [*leaves, *[None] * len(self._scalars), *[c.read(leaves) for c in self._captured]]
        arrays = [_array(leaf) for leaf in leaves]
        arrays += [np.asarray(held[name], np.float64) for held, name in self._scalars]
        arrays += [realize(tensor.node) for tensor in tensors[len(arrays) :]]
        return arrays, tensors

    def _run_native(self, leaves: list[Any]) -> list[Any]:
        native, numbers = self._native, self._numbers
        for place, leaf in enumerate(leaves):
            if type(leaf) is float:
                numbers[place] = leaf
            else:
                native.bind(place, _dense(_array(leaf)))
        for place, (held, name) in enumerate(self._scalars, len(leaves)):
            numbers[place] = held[name]
        if not self._bound:
            self._bind_captured(leaves)
        for place in self._each_call:
            tensor = self._captured[place].read(leaves)
            native.bind(self._first_captured + place, _dense(realize(tensor.node)))
        results = native()
        if results is None:
            # An index was out of range, and no state was written: NumPy raises the eager message.
            arrays, _ = self._values(leaves)
            Interpreter(self.inputs, self.trace.nodes, self.wanted)(arrays)
            raise TraceError("an index was out of range in a compiled call, and is not in an eager one")
        return results

    def _bind_captured(self, leaves: list[Any]) -> None:
        """Look up all captured tensors; state moves into memory that the program may change in place."""
        self._each_call: list[int] = []
        for place, captured in enumerate(self._captured):
            tensor = captured.read(leaves)
            if captured.in_place is not None:
                array = self._own(captured, tensor)
            else:
                array = realize(tensor.node)
                if captured.volatile or not array.flags.c_contiguous:
                    self._each_call.append(place)
            self._native.bind(self._first_captured + place, _dense(array))
        changes.count += 1
        self._guards.accept()
        self._bound = True

    def _own(self, captured: Captured, tensor: Tensor) -> Any:
        """The memory of a state tensor; one that is not in such memory yet is moved there."""
        node = tensor.node
        if isinstance(node, Live):
            return node.memory
        memory = aligned(tensor.shape, tensor.dtype)
        np.copyto(memory, realize(node))
        if captured.slot is not None:  # what the slot held may be held elsewhere, and must not change
            tensor = Tensor.wrap(memory, tensor.requires_grad)
            assign(*captured.slot, tensor)
            self._guards.expect(*captured.slot, tensor)
        live = Live(memory, tensor.requires_grad)
        live.handle = ref(tensor)
        tensor.node = live
        return memory

    def _commit(self, leaves: list[Any], results: list[Any]) -> Any:
        """Write state, set gradients, and make what the function returns."""
        values = {node: results[place] for node, place in self._place.items()}
        trace = self.trace
        written = False
        for target, node in trace.rebound:
            if node in values:
                tensor = resolve(target, leaves)
                if tensor is not None:
                    _give(tensor, values[node])
                    written = True
        if self.compiled is None or len(values) > 1:
            for k, (owner, key, tree) in enumerate(trace.slots):
                if not isinstance(tree, Out) or tree.node in values:
                    self._fill_slot(k, owner, key, tree, values)
                    written = True
        if written:
            changes.count += 1
            self._guards.accept()
        for target, node in trace.grads:
            tensor = resolve(target, leaves)
            if tensor is not None:
                tensor._grad = None if node is None else Tensor.wrap(values[node])
        result = trace.result
        if type(result) is Out and self._differentiable is None:
            return _output(result, values, None)
        return self._tree(leaves, values, results)

    def _tree(self, leaves: list[Any], values: dict[Node, Any], results: list[Any]) -> Any:
        """What the function returns."""
        recorded = None
        if self._differentiable is not None and ambient.gradients:
            arrays, tensors = self._values(leaves)
            recorded = self._differentiable.record(tensors, arrays, [values[n] for n in self.wanted])
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
            return
        handle = self._kept.get(k)
        if handle is None or entries(owner).get(key) is not handle:
            handle = self._kept[k] = Tensor.wrap(values[tree.node], tree.requires_grad)
            assign(owner, key, handle)
            self._guards.expect(owner, key, handle)
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


def _dense(array: Any) -> Any:
    """The array, or a copy in C order and the machine's own byte order."""
    if array.flags.c_contiguous and array.dtype.isnative:
        return array
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C")


_warned: list[bool] = []


def _warn_without_llvm() -> None:
    if not _warned:
        _warned.append(True)
        warnings.warn(
            "jit: llvmlite is not installed, so traced graphs run through NumPy. Install llvmlite",
            stacklevel=6,
        )


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
