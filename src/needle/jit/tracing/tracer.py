"""The evaluator of a trace: operators are recorded, nothing is computed.

::

    before: a line that runs         after: what is noted

    y = (x * 2 + w).tanh()           nodes      %2 = MulScalar(2) %0    of x, an argument
                                                %3 = EWiseAdd %2 %1
                                                %4 = Tanh %3            of y, which has no values
                                     captured   %1, with a weak reference to w, which is older
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NoReturn
from weakref import ReferenceType, WeakKeyDictionary, ref

import numpy as np

from ...context import ambient, ambient_set
from ...errors import TraceError
from ...graph.evaluate import EAGER, as_values
from ...graph.location import user_line
from ...graph.node import Live, Node, Value, new_handle, realize
from ...graph.op import Op, is_ruled
from ...graph.order import topological_order
from ...ops.arithmetic import EWiseAdd, EWiseDiv, EWiseMul, Negate, ScalarOperator
from ...ops.comparison import StopGradient
from ...ops.functions import Abs
from ...ops.power import EWisePow
from ...ops.tuples import MakeTensorTuple
from ...shapes import Spec
from ...tensor import Tensor
from .interpret import evaluated
from .pullback import Pullback, is_users, run_rule
from .streams import draws_undone
from .undo import UndoLog

_STOP, _TUPLE = StopGradient(), MakeTensorTuple()
_OF_NUMBERS = (EWiseAdd, EWiseMul, EWiseDiv, EWisePow, ScalarOperator, Negate, Abs)
"""What Python has for floats gives a float; a function of the library's gives a tensor."""
_ELEMENTS: WeakKeyDictionary[Value, tuple[Tensor, ...]] = WeakKeyDictionary()
"""Of tuples that programs captured: they live as long as the tuple does."""


class Scalar(Tensor):
    """A run-time scalar of a trace: a number that is not known yet.

    Like a Python number it is weak: beside a tensor it takes the tensor's dtype.
    """

    __slots__ = ()
    weak = True

    def full_like(self, value: Any, dtype: Any = None) -> Tensor:
        """A constant beside a number, as in 1 / lr, is one as well."""
        return new_handle(super().full_like(value, dtype).node, Scalar)

    def _refuse(self, *_: Any) -> NoReturn:
        raise refusal(
            f"a float is compared or read while a jitted function is traced, at {user_line()}: it "
            "is a run-time scalar, whose value is not known there. Decide outside and pass a bool, "
            "or use ndl.where. Where a number has to be known, let the function read it from a "
            "variable or attribute: that is a constant of the program"
        )

    __lt__ = __le__ = __gt__ = __ge__ = __bool__ = _refuse
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __divmod__ = __rdivmod__ = _refuse
    numpy = item = __float__ = __int__ = __index__ = __round__ = __trunc__ = _refuse
    cached_data = property(_refuse)
    # Of floats alone:
    real = imag = is_integer = conjugate = as_integer_ratio = hex = property(_refuse)

    def __str__(self) -> str:
        """What is written now would be written at every call. `repr` shows what this is."""
        return self._refuse()

    def __format__(self, spec: str) -> str:
        return self._refuse()

    def __copy__(self) -> Scalar:
        """A number is never copied."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Scalar:
        return self

    def __eq__(self, other: object) -> bool:
        # Beside None, a string or a tensor the answer is that of any number.
        return self._refuse() if isinstance(other, Scalar | int | float | np.number) else False

    def __hash__(self) -> int:
        """Of an entry of a dict or set, which is looked up by value."""
        return self._refuse()


class Rate(Scalar):
    """A hyperparameter: it is not known, but for not being 0."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        is_zero = isinstance(other, int | float | np.number) and other == 0
        return False if is_zero else super().__eq__(other)

    def __bool__(self) -> bool:
        return True

    __hash__ = Scalar.__hash__


class Tracer(UndoLog):
    """Records what a function does. Values that existed before are captured by reference.

    Attributes:
        nodes: Recorded nodes in program order.
        captured: Nodes that existed before, with a weak reference to the tensor they were read
            from and whether it needed a gradient.
        constants: Leaves made during the trace from Python data.
        made: Nodes that came into being during the trace, which arguments did not.
        refusals: Why values that were asked for were not given.
        draws_in_operators: Whether users' operators draw from the ambient stream.
    """

    computes = False

    def __init__(self) -> None:
        super().__init__()
        self.nodes: list[Node] = []
        self.captured: dict[Node, tuple[ReferenceType[Any], bool]] = {}
        self.constants: set[Node] = set()
        self.refusals: list[TraceError] = []
        self.draws_in_operators = False
        self._real: dict[Node, Any] = {}  # values in this call
        self._arguments: set[Node] = set()
        self._tuples: dict[Node, Node] = {}
        self._recorded: set[Node] = set()  # with a gradient, though their flag may be off now

    def argument(self, node: Node, value: Any = None) -> None:
        """`node` stands for what is given at each call; `value` is what that is in this one."""
        self._arguments.add(node)
        self._real[node] = value

    def make(self, op: Op, inputs: tuple[Any, ...]) -> Any:
        """Record one operator; the result has shape and dtype, but no storage."""
        values = as_values(op, inputs)
        nodes = tuple([self.known(value) for value in values])
        spec = op.infer(*[node.specs() for node in nodes]) if is_ruled(op) else None
        learnt = None if spec is not None else self._learnt(op, op.evaluate, nodes)
        if spec is None:
            spec = Node(None, (), learnt, False).specs()
        requires = (
            op.differentiable and ambient.gradients and any(node.requires_grad for node in nodes)
        )
        node = Node(op, nodes, None, requires, spec, user_line())
        self.nodes.append(node)
        self.made.add(node)
        if learnt is not None:
            self._real[node] = learnt
        if node.is_tuple():
            return new_handle(node, Value.tuple_class)
        weak = op.ours and isinstance(op, _OF_NUMBERS) and all(value.weak for value in values)
        return new_handle(node, Scalar if weak else Tensor)

    def gradient(self, op: Op, out_grad: Any, value: Any) -> Any:
        """A user's rule is called in Python, as the operator is; others are recorded."""
        if not is_users(op):
            return op.gradient(out_grad, value)
        operands = (out_grad, value, *value.inputs)
        needed = [child.requires_grad for child in value.inputs]
        nodes = [self.known(operand) for operand in operands]
        parts = self._learnt(op, partial(run_rule, op, needed), nodes)
        return tuple(
            [
                Pullback(op, place, needed, part.node.specs())(*operands)
                if isinstance(part, Value)
                else part
                for place, part in enumerate(parts)
            ]
        )

    def leaf(self, storage: Any, requires_grad: bool = False) -> Node:
        """A constant made from Python data during the trace."""
        node = Node(None, (), storage, requires_grad)
        self.constants.add(node)
        self.made.add(node)
        return node

    def detached(self, value: Any) -> Node:
        """A recorded node with the same values and no gradient."""
        return self.make(_STOP, (value,)).node

    def elements(self, value: Any) -> None:
        """Elements of a tuple are recorded, one operator each."""

    def read(self, node: Node) -> Any:
        """Values of constants only; everything else is not known while tracing."""
        if node in self.constants:
            return node.storage
        made = f" (made at {node.where})" if node.where else ""
        raise refusal(
            f"the values of a tensor of shape {_shape(node)}{made} are not known while a jitted "
            f"function is traced, at {user_line()}. float(), int(), item(), numpy(), cached_data "
            "and NumPy's functions cannot be used there: return the tensor and read it outside, or "
            "compute with tensors (x.exp() instead of np.exp(x), ndl.where instead of if)"
        )

    def shown(self, node: Node) -> Any:
        """The values of a constant; None, where they are not known."""
        return node.storage if node in self.constants else None

    def touch_flag(self, value: Value, flag: bool) -> None:
        """What was recorded without a gradient becomes a leaf: reverse mode is to stop there."""
        super().touch_flag(value, flag)
        node = value.node
        if node.op is None or not node.op.differentiable or node not in self.made:
            return
        if node.requires_grad:
            self._recorded.add(node)
        elif flag and node not in self._recorded:
            value.rebind(self.detached(value))

    def known(self, value: Value) -> Node:
        """The node of a value, captured if it existed before."""
        node = value.node
        if node in self.made or node in self._arguments or node in self.captured:
            return node
        if self.of_operators.get(value, node) is not node:
            raise refusal(
                f"a tensor of shape {_shape(node)} is read at {user_line()} after an operator of "
                "your own gave it new data, and a program would read what it held before the call. "
                "Let the operator return the value"
            )
        realize(node)
        if isinstance(value, Value.tuple_class):
            return self._tuple(value)
        self.captured[node] = (ref(value), self.flag_of(value))
        return node

    def _tuple(self, value: Any) -> Node:
        """A tuple that existed before: one that is made here, of its captured elements."""
        made = self._tuples.get(value.node)
        if made is None:
            parts = _ELEMENTS.get(value)
            if parts is None:
                with ambient_set(evaluator=EAGER, gradients=True):
                    parts = _ELEMENTS[value] = tuple([value[k] for k in range(len(value))])
            with ambient_set(gradients=True):  # it may be used again outside of no_grad
                made = self._tuples[value.node] = self.make(_TUPLE, parts).node
        return made

    def flag_of(self, value: Value) -> bool:
        """The `requires_grad` that a value had before the trace."""
        return self.flag_before.get(value, value.node.requires_grad)

    # -- operators without a shape rule ------------------------------------------------------------

    def _learnt(self, op: Op, run: Callable[..., Any], nodes: Sequence[Node]) -> Any:
        """What a user's code gives on the values of this call: its shape and dtype are learnt."""
        self.touch_operator(op)
        with draws_undone(), ambient_set(evaluator=EAGER):
            values = [self._real_value(node) for node in nodes]
        with draws_undone() as streams, ambient_set(evaluator=EAGER):
            try:
                return run(*values)
            except TraceError as error:  # it reads values that are not known
                self.refusals.append(error)
                raise
            finally:
                self.draws_in_operators |= not streams.ambient_stands()

    def _real_value(self, node: Node) -> Any:
        for item in topological_order([node], lambda node: node not in self._real):
            self._real[item] = _stored(item, self._real)
        return self._real[node]


def refusal(message: str) -> TraceError:
    """An error that the trace ends with, even if the function goes on: its program would, too."""
    error, tracer = TraceError(message), ambient.evaluator
    if isinstance(tracer, Tracer):
        tracer.refusals.append(error)
    return error


def _stored(node: Node, real: dict[Node, Any]) -> Any:
    if isinstance(node, Live):
        return node.memory
    if node.storage is not None:
        return node.storage
    return evaluated(node, [real[child] for child in node.inputs])


def _shape(node: Node) -> Any:
    specs = node.specs()
    return specs.shape if isinstance(specs, Spec) else [spec.shape for spec in specs]
