"""How machine code is told of the inputs of a call.

Machine code finds all memory through one table of pointers. What stays where it is, state above
all, is entered once, and again when a guard says that something moved::

    before: a call                       after: what the table points to

    step(x, 0.1)                         the array of x, a word that holds 0.1
    captured: opt.lr, model.weight       a word that holds opt.lr, the memory of the weight

State that is changed in place moves into memory of its own first: nobody else may hold that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from weakref import ref

import numpy as np

from ...context import VALUE, changes
from ...graph.node import Live, Node, Program, owner_of, realize
from ...shapes import Spec
from ...state import Telling
from ...tensor import Tensor
from ..compiler.compiled import Compiled
from ..compiler.native_executor import NativeExecutor, address_of, aligned, view_of
from ..objects.slots import Slot
from ..tracing.trace import Grad, Out, Trace, outs_in
from .inputs import Captured, Inputs, array_of


def state_in_place(
    trace: Trace, captured: Iterable[Captured]
) -> tuple[dict[Captured, Node], list[Node]]:
    """State that may be written where it lies, with its new value, and what else is handed out."""
    by_source: dict[Any, Captured] = {item.source: item for item in captured}
    state: dict[Captured, Node] = {}
    handed = list(outs_in(trace.result))
    shared, replaced = trace.shared(), trace.replaced()
    for slot, tree in trace.slots:
        old = by_source.get(slot)
        alone = isinstance(tree, Out) and tree.is_plain() and tree not in shared
        if old and alone and slot not in replaced and _is_like(old, tree):
            state[old] = tree.node
        else:
            handed += outs_in(tree)
    for target, node in trace.rebound:  # the tensor needs a gradient as before
        old = by_source.get(target)
        if old and target not in replaced and old.node.specs() == node.specs():
            state[old] = node
        else:
            handed.append(Out(node))
    nodes = dict.fromkeys([node for out in handed for node in out.nodes()])
    nodes.update(dict.fromkeys([node for _, node in trace.grads if node is not None]))
    return state, list(nodes)


class Binding:
    """Runs machine code on the inputs of each call.

    Args:
        inputs: The inputs.
        trace: What a call does.
        compiled: The code.
        in_place: State that it writes where it lies.
        program: Counts the calls.

    Attributes:
        in_place: Where that is found.
        may_be_held: State whose tensors somebody may take hold of between calls.
        written: Where blocks of memory begin and end that are changed in place, by identity.
        has_numbers: Whether there are hyperparameters.
        bound: Whether the captured tensors are where they were; a guard that fails resets it.
        each_call: What is captured, and has to be looked up at each call nevertheless.
        native: The code.
    """

    def __init__(
        self,
        inputs: Inputs,
        trace: Trace,
        compiled: Compiled,
        in_place: Iterable[Captured],
        program: Program,
    ) -> None:
        self._program: Callable[[], Any] = ref(program)
        self.bound = False
        self.native = NativeExecutor(compiled)
        self._scalars = inputs.scalars
        self.has_numbers = bool(self._scalars)
        self._captured = inputs.captured
        self._snapshot = inputs.snapshot
        self._first_captured = len(inputs.nodes) - len(inputs.captured)
        self._numbers = self._bind_numbers(inputs)
        self._guards = trace.guards
        self.in_place = {captured.source for captured in in_place}
        self._moving = {target for target, _ in trace.rebound if target not in self.in_place}
        # Nobody keeps an optimiser's moments; other tensors in slots may be kept between calls.
        self.may_be_held = [
            c for c in in_place if c.slot and not isinstance(c.slot.container.owner(), Telling)
        ]
        self.each_call: list[tuple[int, Captured]] = []  # what has to be looked up again
        self.written: dict[int, tuple[int, int]] = {}

    def _bind_numbers(self, inputs: Inputs) -> Any:
        """The words that floats among the arguments, and hyperparameters, are written to."""
        numbers = aligned((self._first_captured,), np.float64)
        for place, node in enumerate(inputs.nodes[: self._first_captured]):
            if place >= inputs.arguments or node.specs() == Spec((), np.dtype(np.float64)):
                self.native.bind(place, numbers[place : place + 1])
        return view_of(numbers)

    def run(self, leaves: list[Any]) -> list[Any] | None:
        """Run on the leaves of a call's arguments; None where an index was out of range."""
        native = self.native
        if not self.bound or (self.may_be_held and self._is_held()):
            self._bind_captured(leaves)
        for place, leaf in enumerate(leaves):
            if type(leaf) is float:
                self._numbers[place] = leaf
                continue
            array = leaf.node.storage if type(leaf) is Tensor else None
            if array is None or not (array.flags.c_contiguous and array.dtype.isnative):
                array = _dense(array_of(leaf))
            native.bind(place, self._apart(array))
        if self.has_numbers:
            self.bind_numbers(len(leaves))
        for place, captured in self.each_call:
            native.bind(place, self._apart(_dense(realize(captured.read(leaves).node))))
        return native()

    def bind_numbers(self, first: int) -> None:
        """Write the hyperparameters as they are now into their words, the first of which is named.

        Nobody is told of one that a schedule sets.
        """
        numbers = self._numbers
        for place, (held, name) in enumerate(self._scalars, first):
            numbers[place] = held[name]

    def _apart(self, array: Any) -> Any:
        """The array, or a copy if it lies in state that changes, as what `cached_data` gave."""
        return array.copy() if self._lies_in_state(array) else array

    def is_apart(self, base: Any) -> bool:
        """Whether what an array is a view of is an array with memory of its own, and no state."""
        return type(base) is np.ndarray and base.base is None and id(base) not in self.written

    def _lies_in_state(self, array: Any) -> bool:
        base = array.base
        if base is None or self.is_apart(base):
            return False
        begin = address_of(array)  # what the memory belongs to is not known, as of a memoryview
        end = begin + array.nbytes
        return any(first < end and begin < last for first, last in self.written.values())

    def _is_held(self) -> bool:
        """Whether somebody took hold of a tensor in a slot, which may then not change in place.

        Nor may one that was given a `.grad`: the tensor that comes after it has none.
        """
        return any(
            c.count_references() > c.references or c.read([])._grad is not None
            for c in self.may_be_held
        )

    def _bind_captured(self, leaves: list[Any]) -> None:
        """Look up all captured tensors; state moves into memory that may be changed in place."""
        self.bound = False
        self._snapshot.drop()
        self.each_call, self.written = [], {}
        program, news = self._program(), self._guards.news
        places = list(enumerate(self._captured, self._first_captured))
        for place, captured in places:
            if captured.source in self.in_place:
                tensor = captured.read(leaves)
                live = tensor.node
                if not self._is_own(captured, tensor):
                    live = _moved(captured, tensor)
                    changes.note(tensor, VALUE, but=news)  # others have to look for it anew
                    if captured.slot is not None:
                        captured.slot.note(but=news)
                live.changed_by(program)
                changes.rely(news, owner_of(live), [VALUE])
                begin = address_of(live.memory)
                self.written[id(live.memory.base)] = begin, begin + live.memory.nbytes
                self.native.bind(place, live.memory)
        for place, captured in places:
            source = captured.source
            if source not in self.in_place:
                array = realize(captured.read(leaves).node)
                moves = isinstance(source, Grad | Slot) or source in self._moving
                if moves or not array.flags.c_contiguous or self._apart(array) is not array:
                    self.each_call.append((place, captured))
                else:
                    self.native.bind(place, _dense(array))
        self._guards.accept()
        for captured in self.may_be_held:
            captured.references = captured.count_references()
        self._snapshot.lasts = not self.each_call
        self.bound = True

    def _is_own(self, captured: Captured, tensor: Tensor) -> bool:
        """Whether a state tensor is in memory that may be changed in place.

        A slot's may not where somebody else may hold the tensor, which must not change.
        """
        is_shared = captured in self.may_be_held or owner_of(tensor.node) is not tensor
        return isinstance(tensor.node, Live) and not is_shared


def _moved(captured: Captured, tensor: Tensor) -> Live:
    """A state tensor's new place, in memory that nobody else holds; a slot gets a new tensor."""
    array = realize(tensor.node)
    memory = aligned(array.shape, array.dtype)
    np.copyto(memory, array)
    if captured.slot is not None:
        tensor = type(tensor).wrap(memory, tensor.requires_grad)
        captured.slot.container.assign(captured.slot.key, tensor)
    live = Live(memory, tensor.requires_grad)
    live.handle = ref(tensor)
    tensor.node = live
    return live


def _is_like(old: Captured, new: Out) -> bool:
    """Whether a tensor is to a program, and to who looks at its class, what another was."""
    node = old.node
    is_alike = new.cls is type(old.read([])) and node.requires_grad == new.requires_grad
    return is_alike and node.specs() == new.node.specs()


def _dense(array: Any) -> Any:
    """The array, or a copy in C order and the machine's own byte order."""
    if array.flags.c_contiguous and array.dtype.isnative:
        return array
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C")
