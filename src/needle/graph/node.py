"""Nodes, the immutable values of the graph, and handles, what a user holds.

Graph edges run node -> node. A handle points at its node and carries `.grad`; a node knows its
handle only weakly. So a gradient that is itself a graph over a leaf makes no reference cycle, and
memory goes when the last handle goes.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any, ClassVar, Protocol
from weakref import ref

import numpy as np

from ..context import VALUE, ambient, changes
from ..errors import ArgumentError, TraceError
from ..shapes import Spec, spec_of

if TYPE_CHECKING:
    from .op import Op

_new = object.__new__
Storage = np.ndarray[Any, Any]
Specs = Spec | tuple[Spec, ...]


class Node:
    """One value: the operator that made it, its input nodes, and its storage once computed.

    `storage` is a NumPy array, a tuple of them for a tuple value, or None while not computed.
    `spec` is set where the storage is not there to be asked. A leaf has no operator. `where` is the
    user's line, recorded in traces only.
    """

    __slots__ = ("handle", "inputs", "op", "requires_grad", "spec", "storage", "where")

    def __init__(
        self,
        op: Op | None,
        inputs: tuple[Node, ...],
        storage: Any,
        requires_grad: bool,
        spec: Specs | None = None,
        where: str | None = None,
    ) -> None:
        self.op = op
        self.inputs = inputs
        self.storage = storage
        self.requires_grad = requires_grad
        self.spec = spec
        self.where = where
        self.handle: ref[Value] | None = None

    def specs(self) -> Specs:
        """Shape and dtype (a tuple of them for a tuple value), off the storage if there is one."""
        storage = self.storage
        if storage is None:
            if self.spec is None:
                realize(self)
                return self.specs()
            return self.spec
        if isinstance(storage, tuple):
            return tuple([spec_of(array) for array in storage])
        return spec_of(storage)

    def flag(self, requires_grad: bool) -> None:
        """Set whether reverse mode goes on to this value."""
        self.requires_grad = requires_grad

    def is_tuple(self) -> bool:
        """Whether the value is a tuple of tensors."""
        if self.storage is not None:
            return type(self.storage) is tuple
        return not isinstance(self.specs(), Spec)


class Value:
    """What a user holds: a handle on a node, with room for a gradient.

    Base of `Tensor` and `TensorTuple`.
    """

    __slots__ = ("__dict__", "__weakref__", "_grad", "node")

    node: Node
    _grad: Any
    weak: ClassVar[bool] = False
    """True for run-time scalars of a trace, which like Python numbers never decide a dtype."""
    # Set by tensor.py: the classes that results are handed out as.
    tensor_class: ClassVar[Any]
    tuple_class: ClassVar[Any]

    @property
    def grad(self) -> Any:
        """The gradient that `backward` set, None before."""
        ambient.evaluator.touch_grad(self, reading=True)
        return self._grad

    @grad.setter
    def grad(self, value: Any) -> None:
        if value is not None:
            _check_grad(self, value)
        ambient.evaluator.touch_grad(self, reading=False)
        if self._grad is not value:
            self._grad = value
            changes.grads += 1

    @property
    def op(self) -> Op | None:
        """The operator that made this value; None for a leaf."""
        return self.node.op

    @property
    def inputs(self) -> tuple[Value, ...]:
        """Handles on the operator's inputs: the live ones where still held, else new ones."""
        return tuple([handle_of(node) for node in self.node.inputs])

    @property
    def requires_grad(self) -> bool:
        """Whether reverse mode goes on to this value. It can be set."""
        return self.node.requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        ambient.evaluator.touch_flag(self, bool(value))
        if self.node.requires_grad is not bool(value):
            changes.note(self, VALUE)
            self.node.flag(bool(value))
            changes.note(self, VALUE)

    def is_leaf(self) -> bool:
        """True for a value that reverse mode does not go on from: no recorded operator made it."""
        node = self.node
        return node.op is None or not node.requires_grad or not node.op.differentiable

    def realize_cached_data(self) -> Any:
        """The live storage, computed now if it was not: writing into it changes the value."""
        node = self.node
        if isinstance(node, Live):
            node.lend()
        return ambient.evaluator.read(node)

    @property
    def cached_data(self) -> Any:
        """The live storage, as `realize_cached_data()`."""
        return self.realize_cached_data()

    def rebind(self, node: Node) -> None:
        """Make this a handle on another node; the old one still knows whom to give its gradient."""
        ambient.evaluator.touch_node(self)
        node.requires_grad = self.node.requires_grad
        node.handle = ref(self)
        changes.note(self, VALUE)
        self.node = node
        changes.note(self, VALUE)


def _check_grad(owner: Value, grad: Any) -> None:
    is_tuple = isinstance(owner, Value.tuple_class)
    if not isinstance(grad, Value.tuple_class if is_tuple else Value.tensor_class):
        maker = "make_tuple" if is_tuple else "Tensor"
        raise ArgumentError(
            f"grad: a {type(owner).__name__} was given a {type(grad).__name__} for a gradient. "
            f"Write t.grad = ndl.{maker}(...), or None"
        )


def handle_of(node: Node) -> Value:
    """The live handle of `node`, or a new one.

    A handle that was given new data since has left for another node. It still gets the gradient
    (`owner_of`).
    """
    owner = None if node.handle is None else node.handle()
    if owner is None:
        return new_handle(node, Value.tuple_class if node.is_tuple() else Value.tensor_class)
    if owner.node is node:
        return owner
    recorded = new_handle(node, Value.tensor_class)
    node.handle = ref(owner)
    return recorded


def owner_of(node: Node) -> Value | None:
    """The handle that `node` was made for, if it is still held: where its gradient goes."""
    return node.handle() if node.handle is not None else None


def new_handle(node: Node, cls: Any = None) -> Any:
    """A handle on `node`, made known to it; of class `cls`, or of the one that its storage has.

    It is on the path of every operator, and makes do without further calls.
    """
    if cls is None:
        cls = Value.tuple_class if type(node.storage) is tuple else Value.tensor_class
    handle: Any = _new(cls)
    handle.node = node
    handle._grad = None
    node.handle = ref(handle)
    return handle


class Program(Protocol):
    """What changes values in place, and counts its calls: each is counted once it has done so."""

    calls: int


class Copy(Node):
    """A leaf with the values that a `Live` node had."""

    __slots__ = ("__weakref__",)


class Live(Node):
    """A leaf whose storage is the memory of compiled programs, which change it in place.

    `storage` stays None, so that whoever computes with the value computes with a copy (`settled`):
    graphs keep the values that they were computed with, and the tensor stays where programs find
    it.

    Attributes:
        memory: Where the values are.
        lent: Whether a user may hold the memory, and change it at any time.
        copied: The last copy, if nobody but programs can have changed the values since.
    """

    __slots__ = ("_copies", "_programs", "_then", "copied", "lent", "memory")

    def __init__(self, memory: Storage, requires_grad: bool) -> None:
        super().__init__(None, (), None, requires_grad, spec_of(memory))
        self.memory = memory
        self._programs: set[ref[Program]] = set()
        self.lent = False
        self.copied: Node | None = None
        self._copies: list[ref[Copy]] = []  # since programs changed the values
        self._then: list[int] = []  # how often those had been called

    def changed_by(self, program: Program) -> None:
        """Let a program change the values from now on. It counts its calls."""
        self._programs.difference_update([it for it in self._programs.copy() if not it()])
        self._programs.add(ref(program))
        self.copied = None  # last: another thread may have made it meanwhile

    def programs(self) -> list[Program]:
        """Who changes the values; other threads may let one more do so at the same time."""
        return [program for it in self._programs.copy() if (program := it())]

    def lend(self) -> None:
        """Let a user hold the memory."""
        self.lent = True
        self.copied = None

    def copy(self, owner: Value) -> Node:
        """A leaf of `owner` with the values of now: the same one until they may have changed.

        Nobody can write into it, since that would not be seen here.
        """
        self._let_go_of_old_copies()
        copy = self.copied
        if copy is None:
            array = self.memory.copy()
            array.flags.writeable = False
            copy = Copy(None, (), array, self.requires_grad)
            copy.handle = ref(owner)
            self._copies = [*[it for it in self._copies if it()], ref(copy)]
            if not self.lent:
                self.copied = copy
        return copy

    def flag(self, requires_grad: bool) -> None:
        """Set it for graphs over the values of now, too, as if they were over this node."""
        super().flag(requires_grad)
        self._let_go_of_old_copies()
        for it in self._copies:
            if copy := it():
                copy.flag(requires_grad)

    def _let_go_of_old_copies(self) -> None:
        now = [program.calls for program in self.programs()]
        if self._then != now:
            self._copies, self.copied, self._then = [], None, now


def settled(value: Any) -> Any:
    """`value`, computed if it was not; for one in a program's memory, a tensor of its values."""
    node = value.node
    if node.storage is None:
        if isinstance(node, Live):
            return handle_of(node.copy(value))
        realize(node)
    return value


def realize(node: Node) -> Any:
    """The storage of `node`, computing what is missing below it.

    The only reader of storage on demand.
    """
    if node.storage is not None:
        return node.storage
    if isinstance(node, Live):
        return node.memory
    pending = [node]
    while pending:
        top = pending[-1]
        if top.storage is not None:
            pending.pop()
            continue
        if top.op is None or top.where is not None:
            raise TraceError(
                "a tensor that a jitted function computed has no values outside of its trace: a "
                "traced tensor outlived the trace of its function, or an operator of your own "
                "reads it. Return it from the function, or pass it to the operator as an operand"
            )
        missing = [child for child in top.inputs if child.storage is None]
        if missing:
            pending.extend(reversed(missing))
        else:
            top.storage = top.op.evaluate(*[child.storage for child in top.inputs])
            if not top.requires_grad:
                top.op, top.inputs = None, ()  # nobody asks how it was made: let go of it
            pending.pop()
    return node.storage


def count_live_nodes() -> int:
    """The number of values alive in the process, counted now: operators pay nothing for it."""
    return sum(type(thing) in (Node, Copy, Live) for thing in gc.get_objects())
