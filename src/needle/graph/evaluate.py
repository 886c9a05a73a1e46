"""Evaluators: what an operator call does. `Op.__call__` hands every call to `ambient.evaluator`.

`Eager` computes at once. `Lazy` records and computes when storage is read. `Checked` is eager and
names the first NaN or infinity. The tracer of `jit/` is a fourth, written there.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from ..context import Ambient, ambient, ambient_set
from ..errors import ArgumentError, NeedleError, NonFiniteError, TraceError
from ..shapes import Spec
from .location import user_line
from .node import Live, Node, Value, new_handle, realize, settled
from .op import Op, TensorOp, TensorTupleOp, as_storage, is_ruled

_NUMBER = Spec((), np.dtype(np.float64))  # of a run-time scalar


class Eager:
    """Compute at once; record the graph where a gradient may be asked for."""

    computes = True
    """Whether values can be read: False while a function is traced."""

    def make(self, op: Op, inputs: tuple[Any, ...]) -> Any:
        """The result of `op` on `inputs` as a new handle."""
        if op.scalars:
            return self._make_with_scalars(op, inputs)
        nodes = []
        arrays = []
        record = False
        try:
            for value in inputs:
                node = value.node
                nodes.append(node)
                arrays.append(node.storage)
                if node.requires_grad:
                    record = True
                if node.storage is None:
                    return self.make(op, tuple(map(settled, inputs)))
        except AttributeError:
            return self.make(op, as_values(op, inputs))
        try:
            storage = op.compute(*arrays)
        except Exception:
            _explain(op, nodes)
            raise
        if type(storage) is not np.ndarray or not op.ours:
            storage = as_storage(op, storage)
        if record and op.differentiable and ambient.gradients:
            return new_handle(Node(op, tuple(nodes), storage, True))
        return new_handle(Node(None, (), storage, False))

    def _make_with_scalars(self, op: Op, inputs: tuple[Any, ...]) -> Any:
        """An operator whose last operands are run-time scalars."""
        count = len(inputs) - op.scalars
        nodes = tuple([settled(value).node for value in as_values(op, inputs[:count])])
        arrays = [node.storage for node in nodes]
        scalars = [float(number) for number in inputs[count:]]
        try:
            storage = op.evaluate(*arrays, *weak_scalars(scalars, arrays))
        except Exception:
            _explain(op, nodes)
            raise
        if op.differentiable and ambient.gradients and any(node.requires_grad for node in nodes):
            lifted = tuple([Node(None, (), np.asarray(number), False) for number in scalars])
            return new_handle(Node(op, nodes + lifted, storage, True))
        return new_handle(Node(None, (), storage, False))

    def gradient(self, op: Op, out_grad: Any, value: Any) -> Any:
        """What an operator's rule makes of the gradient of its result."""
        return op.gradient(out_grad, value)

    def leaf(self, storage: Any, requires_grad: bool = False) -> Node:
        """A node without an operator over an array."""
        return Node(None, (), storage, requires_grad)

    def detached(self, value: Any) -> Node:
        """A node with the values of a tensor and no graph; the memory is shared."""
        return Node(None, (), settled(value).node.storage, False)

    def elements(self, value: Any) -> list[Any] | None:
        """The elements of a tuple as tensors; None where they have to be recorded."""
        storage = value.node.storage
        if storage is None or value.node.requires_grad:
            return None
        return [new_handle(Node(None, (), array, False)) for array in storage]

    def read(self, node: Node) -> Any:
        """The storage of a node, for whoever wants its numbers."""
        return realize(node)

    def shown(self, node: Node) -> Any:
        """The storage of a node, for whoever wants to print it; None where it is not known."""
        try:
            return realize(node)
        except TraceError:  # it outlived a trace
            return None

    def touch_node(self, value: Value) -> None:
        """Called before a tensor is given new data."""

    def touch_grad(self, value: Value, *, reading: bool) -> None:
        """Called before a `.grad` is read or set."""

    def touch_flag(self, value: Value, flag: bool) -> None:
        """Called before a tensor's `requires_grad` is set."""


class Lazy(Eager):
    """Record only; storage is computed when it is read.

    A `TensorOp` or `TensorTupleOp` without a shape rule is computed when its shape is asked for,
    which the library's operators do of their operands: their errors come at their line. Computed at
    once are operators that no gradient passes: draws keep the program's order, and `detach` and
    updates let go of what they were made from.
    """

    def make(self, op: Op, inputs: tuple[Any, ...]) -> Any:
        if not op.differentiable:
            return super().make(op, inputs)
        nodes = tuple([_recordable(value).node for value in as_values(op, inputs)])
        spec = op.infer(*[node.specs() for node in nodes]) if is_ruled(op) else None
        if spec is None and not isinstance(op, TensorOp | TensorTupleOp):
            return super().make(op, inputs)
        requires = ambient.gradients and any(node.requires_grad for node in nodes)
        node = Node(op, nodes, None, requires, spec)
        several = isinstance(op, TensorTupleOp) if spec is None else node.is_tuple()
        return new_handle(node, Value.tuple_class if several else Value.tensor_class)


class Checked(Eager):
    """Eager, stopping at the first result that is not finite."""

    def make(self, op: Op, inputs: tuple[Any, ...]) -> Any:
        value = super().make(op, inputs)
        storage = value.node.storage
        for array in storage if isinstance(storage, tuple) else (storage,):
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise NonFiniteError(_describe(op, inputs, array))
        return value


EAGER = Eager()
AS_WRITTEN = Eager()
"""Eager too, in an eager call of a jitted function: jitted functions inside it run as written."""
LAZY = Lazy()
CHECKED = Checked()
Ambient.default = ambient.evaluator = EAGER


def weak_scalars(numbers: list[float], arrays: list[Any]) -> list[Any]:
    """Run-time scalars as NumPy is to be given them, so that they decide no dtype.

    Python numbers never do; 0-d arrays, which NumPy is quicker with, do not beside arrays of their
    own dtype.
    """
    dtype = arrays[0].dtype
    for array in arrays:
        if array.dtype is not dtype:
            return numbers
    return [np.array(number, dtype) for number in numbers] if dtype.kind == "f" else numbers


def _recordable(value: Any) -> Any:
    return settled(value) if isinstance(value.node, Live) else value


def check_finite() -> AbstractContextManager[None]:
    """Stop at the first NaN or infinity inside a `with` block.

    Raises:
        NonFiniteError: names the operator, the user's line, the first bad value and its position.
        TraceError: inside a jitted function, where no values are known.

    Example:
        >>> import needle as ndl
        >>> with ndl.check_finite():
        ...     y = ndl.exp(ndl.Tensor([1.0]))
    """
    if not ambient.evaluator.computes:
        raise TraceError(
            "check_finite: values are not known while a jitted function is traced. Put it around "
            "the call, which then runs as written"
        )
    return ambient_set(evaluator=CHECKED)


def as_values(op: Op, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Operands as values: arrays, lists and numbers become constants that need no gradient."""
    return tuple([item if isinstance(item, Value) else _constant(op, item) for item in inputs])


def _constant(op: Op, item: Any) -> Any:
    if item is None or isinstance(item, str | dict):
        raise ArgumentError(
            f"{op.name}: operand {item!r} is not a tensor. Pass a Tensor, an array or a number"
        )
    refuse_lists_of_tensors(item, op.name)
    return Value.tensor_class(item, requires_grad=False)


def refuse_lists_of_tensors(item: Any, operation: str) -> None:
    """Name the operand that is a list of tensors, of which only the values would be taken."""
    if isinstance(item, list | tuple) and any(isinstance(part, Value) for part in item):
        raise ArgumentError(
            f"{operation}: an operand is a {type(item).__name__} of tensors, whose graphs would be "
            "lost. Pass them one by one, or as one tensor: ndl.concatenate"
        )


def refuse_tuples(op: Op, nodes: Sequence[Node]) -> None:
    """Name the operand that is a tuple, of an operator that takes tensors alone."""
    for position, node in enumerate(nodes):
        if node.is_tuple():
            raise ArgumentError(
                f"{op.name}: operand {position} is a TensorTuple. Pass one of its elements: t[0]"
            )


def _explain(op: Op, nodes: Sequence[Node]) -> None:
    """NumPy refused: where the library knows why, it says so in its own words."""
    if not is_ruled(op):
        return
    if op.key is not None:  # users' operators may take tuples
        refuse_tuples(op, nodes)
    try:
        op.infer(*[node.specs() for node in nodes], *[_NUMBER] * op.scalars)
    except NeedleError as error:
        raise error from None


def _describe(op: Op, inputs: tuple[Any, ...], array: np.ndarray[Any, Any]) -> str:
    position = tuple([int(i) for i in np.argwhere(~np.isfinite(array))[0]])
    shapes = ", ".join(
        str(value.shape) for value in inputs if isinstance(value, Value.tensor_class)
    )
    return (
        f"{op.name}: first non-finite value {array[position]} at {position} of shape "
        f"{array.shape}, inputs of shape {shapes or 'none'}, at {user_line()}. "
        "Look at the inputs of this operator"
    )
