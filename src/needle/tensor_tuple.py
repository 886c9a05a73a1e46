"""`TensorTuple`, a handle on several tensors that are one value of the graph."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from typing import Any

import numpy as np

from .context import ambient
from .errors import ArgumentError
from .graph.node import Value, new_handle
from .ops.tuples import MakeTensorTuple, tuple_get_item
from .tensor import Tensor


class TensorTuple(Value):
    """A tuple of tensors as one value of the graph.

    Example:
        >>> import needle as ndl
        >>> pair = ndl.make_tuple(ndl.Tensor([1.0]), ndl.Tensor([2.0]))
        >>> [float(t) for t in pair]
        [1.0, 2.0]
    """

    __slots__ = ()

    def __len__(self) -> int:
        storage = self.node.storage
        return len(storage if storage is not None else self.node.specs())

    def __getitem__(self, index: int) -> Tensor:
        return tuple_get_item(self, index)

    def __iter__(self) -> Iterator[Tensor]:
        elements = ambient.evaluator.elements(self)
        return iter([self[i] for i in range(len(self))] if elements is None else elements)

    def tuple(self) -> builtins.tuple[Tensor, ...]:
        """The elements as a Python tuple."""
        return tuple(self)

    def __add__(self, other: Any) -> TensorTuple:
        if not isinstance(other, TensorTuple) or len(other) != len(self):
            raise ArgumentError(
                f"add: a TensorTuple of {len(self)} takes another of the same length"
            )
        return MakeTensorTuple()(*[a + b for a, b in zip(self, other, strict=True)])

    def detach(self) -> TensorTuple:
        """The same tuple, cut off from the graph."""
        return MakeTensorTuple()(*[item.detach() for item in self])

    def ones_like(self) -> TensorTuple:
        """A tuple of ones of the elements' shapes and dtypes."""
        return MakeTensorTuple()(*[item.ones_like() for item in self])

    def numpy(self) -> builtins.tuple[np.ndarray[Any, Any], ...]:
        """The elements as NumPy arrays."""
        return tuple([item.numpy() for item in self])

    def __repr__(self) -> str:
        return f"needle.TensorTuple({', '.join(repr(item) for item in self)})"

    def __copy__(self) -> TensorTuple:
        twin = self.detach()
        twin.requires_grad = self.requires_grad
        return twin

    def __deepcopy__(self, memo: dict[int, Any]) -> TensorTuple:
        arrays = tuple([array.copy() for array in self.numpy()])
        twin = new_handle(ambient.evaluator.leaf(arrays, self.requires_grad), TensorTuple)
        memo[id(self)] = twin
        return twin

    __reduce_ex__ = Tensor.__reduce_ex__


Value.tuple_class = TensorTuple
