"""A program: a trace that can be run again. It reads inputs, runs, and only then writes state."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Generator, Iterable
from contextlib import ExitStack, contextmanager
from sys import getrefcount
from typing import Any
from weakref import ref

import numpy as np

from .. import config
from ..context import ambient, changes
from ..errors import TraceError
from ..graph.node import Live, Node, new_handle, realize, settled
from ..native import llvm
from ..ops.tuples import MakeTensorTuple
from ..random import NumPyStream, ambient_stream
from ..shapes import Spec
from ..state import Counted
from ..tensor import Tensor
from .differentiate import CompiledCall, StatefulCall
from .expression import UnsupportedError
from .interpret import Interpreter
from .native_executor import Compiled, NativeExecutor, aligned, view_of
from .signature import in_native_order, mapped
from .trace import Argument, Grad, Held, Out, OutTuple, Slot, Source, Trace, outs_in


class Captured:
    """An input that is no argument: a tensor that existed before the trace.

    Args:
        node: Its node in the trace.
        source: Where the tensor is found at a call.
    """

    def __init__(self, node: Node, source: Source) -> None:
        self.node = node
        self.read = source.tensor
        self.source = source
        self.slot = source if isinstance(source, Slot) and not source.path else None
        self.is_grad = isinstance(source, Grad)
        self.in_place: Node | None = None
        self.references = 0

    def count_references(self) -> int:
        """How often the tensor in a slot is referred to: more than before if a user took hold."""
        slot: Any = self.slot
        return getrefcount(slot.container.slots().get(slot.key))


class Program:
    """One trace, with what is needed to run it.

    Args:
        trace: What a call does.
        reason: Why it was traced, for `step.programs`.
        quick: Shape, dtype and need of a gradient of each argument, where all are plain tensors.

    Attributes:
        compiled: The stages down to machine code; None where the graph runs through NumPy.
        backend: "native", or why it is not.
    """

    def __init__(
        self, trace: Trace, reason: str, quick: tuple[tuple[Any, ...], ...] | None = None
    ) -> None:
        self.trace = trace
        self._quick = quick
        self._modes = _modes()
        self.reason = reason
        self.calls = 0
        self.last_used = time.monotonic()
        self.guards = trace.guards
        self._captured = [Captured(node, source) for node, source in trace.captured]
        self._scalars = [(container.slots(), name) for container, name, _ in trace.scalars]
        self.inputs = [
            *trace.arguments,
            *[node for _, _, node in trace.scalars],
            *[captured.node for captured in self._captured],
        ]
        self.wanted = trace.wanted()
        self._differentiable = CompiledCall.of(self)
        self._kept: dict[int, Tensor] = {}
        self._references: dict[int, int] = {}
        self.lock = threading.Lock()
        self.owner: int | None = None
        self._bound = False
        self._steady = False
        self._in_place: set[tuple[str, int]] = set()
        self.compiled: Compiled | None = None
        self.backend = self._compile()
        if self.compiled is None:
            for captured in self._captured:
                captured.in_place = None
            self._results = self.wanted
            self._interpreter = Interpreter(self.inputs, trace.nodes, self.wanted)
        self._place = {node: k for k, node in enumerate(self._results)}
        # What is written after a call: all but the state that is changed in place.
        self._rebound = [
            item for k, item in enumerate(trace.rebound) if ("tensor", k) not in self._in_place
        ]
        self._slots = [
            (k, slot) for k, slot in enumerate(trace.slots) if ("slot", k) not in self._in_place
        ]
        self._sets_constants = any(_holds_constants(tree) for _, (_, _, tree) in self._slots)
        self._grads = [(target, node) for target, node in trace.grads if node is not None]
        self._grads_reset = [target for target, node in trace.grads if node is None]
        # A call that only hands out a tensor: the place of its value among the results.
        self._plain, self._class = None, Tensor
        if (
            type(result := trace.result) is Out
            and result.cls is not float
            and result.grad is None
            and not (result.requires_grad and trace.writes_state)
            and self._differentiable is None
            and not (self._rebound or self._slots or self._grads or self._sets_constants)
        ):
            self._plain, self._class = self._place[result.node], result.cls

    def __repr__(self) -> str:
        return f"Program({self.reason}; {self.calls} calls; {self.backend})"

    # -- inputs ------------------------------------------------------------------------------------

    def fits(self, args: tuple[Any, ...]) -> bool:
        """Whether a call's arguments are surely like those of the trace: the quick look."""
        quick = self._quick
        if quick is None or len(quick) != len(args):
            return False
        gradients, broadcasting, numpy_stream = self._modes
        if (
            ambient.gradients is not gradients
            or ambient.implicit_broadcasting is not broadcasting
            or (type(ambient_stream()) is NumPyStream) is not numpy_stream
        ):
            return False
        for place, argument in enumerate(args):
            if type(argument) is not Tensor:
                return False
            node = argument.node
            storage = node.storage
            shape, dtype, requires_grad, is_leaf = quick[place]
            if (
                storage is None
                or storage.shape != shape
                or storage.dtype is not dtype
                or node.requires_grad != requires_grad
                or (node.op is None) != is_leaf
            ):
                return False
        return len(args) < 2 or len(set(map(id, args))) == len(args)

    def mismatch(self, leaves: list[Any]) -> str | None:
        """Why this program is not the one for the world as it is; None if it is."""
        guards = self.guards
        self._steady = guards.unchanged()
        if self._steady:
            return guards.difference_of_call(leaves)
        difference = guards.difference(leaves) or guards.difference_of_call(leaves)
        if difference is None:
            self._bound = False
            guards.accept()
        return difference

    # -- code --------------------------------------------------------------------------------------

    def _compile(self) -> str:
        """Compile to native code where that is possible; what runs."""
        if config.jit_mode() != "1":
            return "numpy: NEEDLE_JIT asks for it"
        if not llvm.available():
            _warn_without_llvm()
            return "numpy: llvmlite is not installed"
        places, results = self._state_in_place()
        state: dict[Node, Any] = {captured.node: captured.in_place for captured in places}
        try:
            self.compiled = Compiled(self.inputs, self.trace.nodes, results, state)
        except UnsupportedError as missing:
            return f"numpy: {missing}"
        self._results = self.compiled.handed
        for captured, place in places.items():
            if captured.node in self.compiled.state:
                self._in_place.add(place)
            else:
                captured.in_place = None
        # Nobody keeps an optimiser's moments; other tensors in slots may be kept between calls.
        self._taken_hold = [
            c
            for c in places
            if c.in_place and c.slot and not isinstance(c.slot.container.owner(), Counted)
        ]
        self._native = NativeExecutor(self.compiled)
        self._first_captured = len(self.inputs) - len(self._captured)
        first_scalar = len(self.trace.arguments)
        numbers = aligned((self._first_captured,), np.float64)
        for place, node in enumerate(self.inputs[: self._first_captured]):
            if place >= first_scalar or node.specs() == Spec((), np.dtype(np.float64)):
                self._native.bind(place, numbers[place : place + 1])
        self._numbers = view_of(numbers)
        return "native"

    def _state_in_place(self) -> tuple[dict[Captured, tuple[str, int]], list[Node]]:
        """State to be written where it lies (the place in the trace that says so), other values."""
        by_slot = {(id(c.slot.container), c.slot.key): c for c in self._captured if c.slot}
        by_handle = {id(c.read([])): c for c in self._captured if c.slot is None and not c.is_grad}
        places: dict[Captured, tuple[str, int]] = {}
        handed: dict[Node, None] = {}

        def put(place: tuple[str, int], captured: Captured | None, tree: Any) -> None:
            if captured is not None and captured not in places and isinstance(tree, Out):
                captured.in_place = tree.node
                places[captured] = place
            else:
                handed.update(dict.fromkeys(node for out in outs_in(tree) for node in out.nodes()))

        put(("result", 0), None, self.trace.result)
        for k, (container, key, tree) in enumerate(self.trace.slots):
            is_number = isinstance(tree, Out) and tree.cls is float
            put(("slot", k), None if is_number else by_slot.get((id(container), key)), tree)
        for k, (target, node) in enumerate(self.trace.rebound):
            tensor = target.reference() if isinstance(target, Held) else None
            put(("tensor", k), by_handle.get(id(tensor)), Out(node))
        handed.update(dict.fromkeys(node for _, node in self.trace.grads if node is not None))
        handed.update(dict.fromkeys(self.wanted[len(self.trace.wanted()) :]))  # draws
        return places, list(handed)

    # -- a call ------------------------------------------------------------------------------------

    def run(self, leaves: list[Any]) -> Any:
        """Run on the leaves of a call's arguments; what the function returns."""
        me = threading.get_ident()
        if self.owner == me:
            raise TraceError(
                "a compiled program was entered again from one of its own operators. "
                "Do not call the jitted function inside an operator's compute"
            )
        with self.lock:
            self.owner = me
            try:
                results = (
                    self._interpreted(leaves) if self.compiled is None else self._run_native(leaves)
                )
                self.calls += 1
                return self._commit(leaves, results)
            finally:
                self.owner = None

    def _interpreted(self, leaves: list[Any]) -> list[Any]:
        arrays, _ = self.values(leaves)
        return self._interpreter(arrays)

    def values(self, leaves: list[Any]) -> tuple[list[Any], list[Any]]:
        """All inputs as arrays, and the tensors that they were read from."""
        tensors = [*leaves, *[None] * len(self._scalars), *[c.read(leaves) for c in self._captured]]
        arrays = [_array(leaf) for leaf in leaves]
        arrays += [np.asarray(held[name], np.float64) for held, name in self._scalars]
        arrays += [realize(tensor.node) for tensor in tensors[len(arrays) :]]
        return arrays, tensors

    def _run_native(self, leaves: list[Any]) -> list[Any]:
        native, numbers = self._native, self._numbers
        if not self._bound or (self._taken_hold and self._is_held()):
            self._bind_captured(leaves)
        for place, leaf in enumerate(leaves):
            if type(leaf) is float:
                numbers[place] = leaf
                continue
            array = leaf.node.storage if type(leaf) is Tensor else None
            if array is None or not (array.flags.c_contiguous and array.dtype.isnative):
                array = _dense(_array(leaf))
            if array.base is not None and id(array.base) in self._written:
                array = array.copy()  # it lies in state, as what `cached_data` gave
            native.bind(place, array)
        if self._scalars:
            for place, (held, name) in enumerate(self._scalars, len(leaves)):
                numbers[place] = held[name]
        for place in self._each_call:
            tensor = self._captured[place].read(leaves)
            native.bind(self._first_captured + place, _dense(realize(tensor.node)))
        results = native()
        if results is None:
            # An index was out of range, and no state was written: NumPy raises the eager message.
            arrays, _ = self.values(leaves)
            Interpreter(self.inputs, self.trace.nodes, self.wanted)(arrays)
            raise TraceError(
                "an index was out of range in a compiled call, and is not in an eager one"
            )
        return results

    def _is_held(self) -> bool:
        """Whether somebody took hold of a tensor in a slot, which may then not change in place."""
        return any(c.count_references() > c.references for c in self._taken_hold)

    def _bind_captured(self, leaves: list[Any]) -> None:
        """Look up all captured tensors; state moves into memory that may be changed in place."""
        self._each_call: list[int] = []  # what has to be looked up again
        self._written: set[int] = set()  # blocks of memory that are changed in place
        moving = {target for target, _ in self._rebound}
        for place, captured in enumerate(self._captured):
            tensor = captured.read(leaves)
            if captured.in_place is not None:
                array = self._own(captured, tensor)
                self._written.add(id(array.base))
            else:
                array = realize(tensor.node)
                moves = isinstance(captured.source, Grad | Slot) or captured.source in moving
                if moves or not array.flags.c_contiguous:
                    self._each_call.append(place)
            self._native.bind(self._first_captured + place, _dense(array))
        changes.count += 1
        self.guards.accept()
        for captured in self._taken_hold:
            captured.references = captured.count_references()
        self._bound = True

    def _own(self, captured: Captured, tensor: Tensor) -> Any:
        """The memory of a state tensor; one that is not in such memory yet is moved there.

        A slot gets a new tensor: somebody else may hold the old one, which must not change.
        """
        node = tensor.node
        if isinstance(node, Live) and captured not in self._taken_hold:
            return node.memory
        memory = aligned(tensor.shape, tensor.dtype)
        np.copyto(memory, realize(node))
        if captured.slot is not None:
            tensor = type(tensor).wrap(memory, tensor.requires_grad)
            captured.slot.container.assign(captured.slot.key, tensor)
        live = Live(memory, tensor.requires_grad)
        live.handle = ref(tensor)
        tensor.node = live
        return memory

    def _commit(self, leaves: list[Any], results: list[Any]) -> Any:
        """Write state, set gradients, and make what the function returns."""
        if self._plain is not None and self._steady:  # gradients that are reset are so still
            return new_handle(Node(None, (), results[self._plain], False), self._class)
        values = dict(zip(self._place, results, strict=True))
        for target, node in self._rebound:
            tensor = target.tensor(leaves)
            if tensor is not None:
                _give(tensor, values[node])
        for k, (container, key, tree) in self._slots:
            self._fill_slot(k, container, key, tree, values, leaves)
        for target, node in self._grads:
            tensor = target.tensor(leaves)
            if tensor is not None:
                tensor._grad = Tensor.wrap(values[node])
        if self._rebound or self._slots or self._grads:
            changes.count += 1
            self.guards.accept()
        if self._sets_constants:  # which this program, too, may rely on
            changes.count += 1
        for target in self._grads_reset:
            tensor = target.tensor(leaves)
            if tensor is not None:
                tensor._grad = None
        result = self.trace.result
        if type(result) is Out and self._differentiable is None:
            return self._output(result, values, None)
        return self._tree(leaves, values)

    def _tree(self, leaves: list[Any], values: dict[Node, Any]) -> Any:
        """What the function returns."""
        recorded = None
        if self._differentiable is not None and ambient.gradients:
            for captured in self._captured:
                settled(captured.read(leaves))  # the graph keeps the values of this call
            arrays, tensors = self.values([_own_copy(leaf) for leaf in leaves])
            recorded = self._differentiable.record(
                tensors, arrays, [values[n] for n in self.wanted]
            )
        return self._filled(self.trace.result, leaves, values, recorded)

    def _filled(self, tree: Any, leaves: list[Any], values: dict[Node, Any], recorded: Any) -> Any:
        """A tree of a trace, with the tensors of this call."""
        made: dict[Out, Any] = {}

        def output(item: Out) -> Any:
            if item not in made:
                made[item] = self._output(item, values, recorded)
            return made[item]

        def finished(item: Any) -> Any:
            if isinstance(item, Out):
                return output(item)
            if isinstance(item, OutTuple):
                return MakeTensorTuple()(*map(output, item.parts))
            if isinstance(item, Argument | Held):
                return item.tensor(leaves)
            return item.copy() if isinstance(item, np.ndarray) else item  # the caller's own

        return mapped(tree, finished)

    def _fill_slot(
        self,
        k: int,
        container: Any,
        key: Any,
        tree: Any,
        values: dict[Node, Any],
        leaves: list[Any],
    ) -> None:
        """A slot with one tensor keeps the program's own handle; a tree of them is made anew."""
        if not isinstance(tree, Out) or tree.cls is float:
            container.assign(key, self._filled(tree, leaves, values, None))
            return
        kept, held = self._kept, container.slots().get(key)
        if held is None or held is not kept.get(k) or getrefcount(held) > self._references[k]:
            kept[k] = held = tree.cls.wrap(values[tree.node], tree.requires_grad)
            container.assign(key, held)
            self.guards.accept()
            self._references[k] = getrefcount(held)
        else:
            _give(held, values[tree.node])

    def _output(self, item: Out, values: dict[Node, Any], recorded: Any) -> Any:
        """A tensor, a tuple of them or a number that the function returns."""
        array = values[item.node]
        if item.cls is float:
            return float(array)
        if recorded and item.requires_grad:
            output = recorded(item.node)
        elif item.requires_grad and self.trace.writes_state and ambient.gradients:
            output = new_handle(Node(StatefulCall(), (), array, True), Tensor)
        else:
            output = item.cls.wrap(array)
        if item.grad is not None:
            output._grad = Tensor.wrap(values[item.grad])
        return output


def _modes() -> tuple[bool, bool, bool]:
    """The ambient modes that a trace depends on."""
    return ambient.gradients, ambient.implicit_broadcasting, type(ambient_stream()) is NumPyStream


def _give(tensor: Tensor, array: Any) -> None:
    """New data for a tensor: as an assignment to `.data`, but unseen by guards."""
    node = Node(None, (), array, tensor.node.requires_grad)
    node.handle = ref(tensor)
    tensor.node = node


def _holds_constants(tree: Any) -> bool:
    found: list[bool] = []
    mapped(tree, lambda item: found.append(not isinstance(item, Out)))
    return any(found) or not found


def _array(leaf: Any) -> Any:
    array = realize(leaf.node) if isinstance(leaf, Tensor) else np.asarray(leaf)
    return in_native_order(array)


def _own_copy(leaf: Any) -> Any:
    """A leaf that a graph can keep: the caller may write into an array later."""
    return leaf.copy() if isinstance(leaf, np.ndarray) else leaf


def _dense(array: Any) -> Any:
    """The array, or a copy in C order and the machine's own byte order."""
    if array.flags.c_contiguous and array.dtype.isnative:
        return array
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C")


_tracing = threading.RLock()


@contextmanager
def paused(programs: Iterable[Program]) -> Generator[None]:
    """Let no program run in other threads inside a `with` block: a trace borrows the tensors."""
    me = threading.get_ident()
    with _tracing, ExitStack() as stack:
        for program in list(programs):
            if program.owner != me:
                stack.enter_context(program.lock)
        yield


_warned: list[bool] = []


def _warn_without_llvm() -> None:
    if not _warned:
        _warned.append(True)
        warnings.warn(
            "jit: llvmlite is not installed, so traced graphs run through NumPy. Install llvmlite",
            stacklevel=6,
        )
