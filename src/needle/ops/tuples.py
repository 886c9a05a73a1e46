"""Operators on tuples of tensors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..errors import ArgumentError, IndexRangeError
from ..graph.kinds import ElementwiseTuple
from ..graph.node import Value
from ..graph.op import Sample, TensorOp, TensorTupleOp
from ..shapes import as_int
from .operands import as_number


class MakeTensorTuple(TensorTupleOp):
    """y = (a, b, …)."""

    label = "make_tuple"

    def compute(self, *arrays: Any) -> Any:
        return arrays

    def infer(self, *specs: Any) -> Any:
        return specs

    def gradient(self, out_grad: Any, node: Any) -> Any:
        return tuple([out_grad[i] for i in range(len(out_grad))])

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(), ((2, 3), (4,), ()))


def make_tuple(*args: Any) -> Any:
    """Tensors as one `TensorTuple`.

    Example:
        >>> import needle as ndl
        >>> len(ndl.make_tuple(ndl.Tensor([1.0]), ndl.Tensor([2.0])))
        2
    """
    return MakeTensorTuple()(*args)


class TupleGetItem(TensorOp):
    """y = one element of a tuple."""

    def __init__(self, index: int) -> None:
        self.index = index

    def compute(self, value: Any) -> Any:
        return value[self.index]

    def infer(self, value: Any) -> Any:
        return value[self.index]

    def gradient(self, out_grad: Any, node: Any) -> Any:
        parts = [
            out_grad if i == self.index else part.zeros_like()
            for i, part in enumerate(node.inputs[0])
        ]
        return MakeTensorTuple()(*parts)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(0), (((2, 3), (4,)),))
        yield Sample(cls(1), (((2, 3), (), (0,)),))


def tuple_get_item(value: Any, index: int) -> Any:
    """Element `index` of a `TensorTuple`.

    Args:
        value: The tuple.
        index: An integer; negative ones count from the end.

    Raises:
        IndexRangeError: the tuple has no such element.
        ArgumentError: it is no `TensorTuple`.

    Example:
        >>> import needle as ndl
        >>> pair = ndl.make_tuple(ndl.Tensor([1.0]), ndl.Tensor([2.0]))
        >>> ndl.tuple_get_item(pair, 1).numpy()
        array([2.])
    """
    if not isinstance(value, Value.tuple_class):
        raise ArgumentError(
            f"tuple_get_item: a {type(value).__name__} is no TensorTuple. "
            "Pass one, as make_tuple returns it"
        )
    count, place = len(value), as_int(index, "tuple_get_item", "index")
    if not -count <= place < count:
        raise IndexRangeError(
            f"tuple_get_item: index {place} is out of range for {count} elements. "
            f"Use an index from {-count} to {count - 1}"
        )
    return TupleGetItem(place % count)(value)


class FusedAddScalars(ElementwiseTuple):
    """(y, z) = (a + c0, a + c1)."""

    examples = ((1.5, -2.0),)

    def __init__(self, c0: float, c1: float) -> None:
        self.c0 = as_number(c0, self.name)
        self.c1 = as_number(c1, self.name)

    def expression(self, e: Any, a: Any) -> Any:
        return a + self.c0, a + self.c1

    def gradient(self, out_grad: Any, node: Any) -> Any:
        return out_grad[0] + out_grad[1]


def fused_add_scalars(x: Any, c0: float, c1: float) -> Any:
    """The tuple (x + c0, x + c1).

    Example:
        >>> import needle as ndl
        >>> [y.item() for y in ndl.fused_add_scalars(ndl.Tensor(1.0), 1, 2)]
        [2.0, 3.0]
    """
    return FusedAddScalars(c0, c1)(x)
