"""Kinds of operators: each supplies shape rule, NumPy evaluation and the contract tests' inputs."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from ..context import ambient, ambient_set
from ..errors import DTypeError, ShapeError
from ..shapes import (
    Axes,
    Shape,
    Spec,
    as_flag,
    broadcast_shapes,
    frozen_axes,
    normalize_axes,
    reduced_shape,
)
from .evaluate import EAGER, as_values, refuse_tuples
from .expressions import NUMPY
from .gradient import pulled_back
from .node import Node, Storage, new_handle
from .op import Op, Sample, TensorOp, TensorTupleOp

_COMBINE = {"add": np.add, "maximum": np.maximum, "minimum": np.minimum}

SAMPLE_SHAPES: tuple[Shape, ...] = ((), (0,), (1,), (5,), (3, 4), (2, 1, 3), (2, 0, 3))


class Pointwise(Op):
    """What `Elementwise` and `ElementwiseTuple` share: operands of one shape, and an expression.

    The expression is written once, for NumPy and the compiler. `float_result` operators take
    integers and bools too: they are computed in float64. The last `scalars` operands are run-time
    scalars.
    """

    meaning = "expression"
    float_result: ClassVar[bool] = False
    examples: ClassVar[tuple[tuple[Any, ...], ...]] = ((),)
    """Constructor arguments that the contract tests try."""

    def expression(self, e: Any, *operands: Any) -> Any:
        """The result for one element, in the vocabulary of `graph/expressions.py`."""
        raise NotImplementedError(f"{self.name}: define expression(self, e, *operands)")

    def __call__(self, *inputs: Any) -> Any:
        if len(inputs) > 1:
            first = inputs[0]
            try:
                fits = len(inputs) == 2 and first.node.storage.shape == inputs[1].node.storage.shape
            except AttributeError:
                fits = False
            if not fits:
                inputs = _aligned(self, inputs)
        return ambient.evaluator.make(self, inputs)

    def compute(self, *arrays: Any) -> Any:
        if self.float_result:
            arrays = tuple([a.astype(np.float64) if a.dtype.kind in "biu" else a for a in arrays])
        return self.expression(NUMPY, *arrays)

    def infer(self, *specs: Any) -> Any:
        tensors = specs[: len(specs) - self.scalars]
        shape = tensors[0].shape
        if any(spec.shape != shape for spec in tensors):
            raise ShapeError(_mismatch(self.name, [spec.shape for spec in tensors]))
        # An expression on empty arrays computes nothing and gives NumPy's own dtypes.
        empty = [np.empty(0, spec.dtype) for spec in tensors]
        try:
            results = self.compute(*empty, *[0.5] * self.scalars)
        except (OverflowError, TypeError, ValueError) as error:
            dtypes = ", ".join(str(spec.dtype) for spec in tensors)
            # Of bools NumPy names operators to use instead, which tensors do not have.
            reason = "" if any(spec.dtype.kind == "b" for spec in tensors) else f" ({error})"
            raise DTypeError(
                f"{self.name}: not defined for dtype {dtypes}{reason}. Convert with astype first"
            ) from None
        if isinstance(results, tuple):
            return tuple([Spec(shape, result.dtype) for result in results])
        return Spec(shape, results.dtype)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        count = len(inspect.signature(cls.expression).parameters) - 2 - cls.scalars
        for arguments in cls.examples:
            for shape in SAMPLE_SHAPES:
                yield Sample(cls(*arguments), (shape,) * count)


class Elementwise(Pointwise, TensorOp):
    """y[i] = expression(x[i], …)."""


class ElementwiseTuple(Pointwise, TensorTupleOp):
    """(y[i], z[i], …) = expression(x[i], …): the expression returns a tuple."""


class Reduction(TensorOp):
    """Combines the elements along axes with a NumPy ufunc.

    Args:
        axes: None (all), an int or a tuple; negative counted from the end.
        keepdims: Keep reduced axes with size 1.
    """

    meaning = "combine"
    combine: ClassVar[str] = ""
    """Name of the NumPy ufunc that combines two elements."""
    has_identity: ClassVar[bool] = True
    """Whether the reduction of no elements has a value."""

    def __init__(self, axes: Axes = None, keepdims: bool = False) -> None:
        self.axes = frozen_axes(axes, self.name)
        self.keepdims = as_flag(keepdims, self.name, "keepdims")

    def compute(self, x: Storage) -> Any:
        if not x.ndim:  # NumPy takes axis 0 of a 0-d array
            normalize_axes(self.axes, 0, self.name)
        return _COMBINE[self.combine].reduce(x, axis=self.axes, keepdims=self.keepdims)

    def infer(self, x: Any) -> Any:
        axes = normalize_axes(self.axes, len(x.shape), self.name)
        shape = reduced_shape(x.shape, axes, self.keepdims)
        if not self.has_identity and any(x.shape[axis] == 0 for axis in axes):
            raise ShapeError(
                f"{self.name}: shape {x.shape} has no elements along axes {axes}. "
                "Reduce axes of size >= 1"
            )
        return Spec(shape, self.compute(np.ones((1,) * len(x.shape), x.dtype)).dtype)

    def expand(self, reduced: Any, x: Any) -> Any:
        """A tensor of the reduced shape, repeated along the reduced axes to the shape of `x`."""
        shape = x.shape
        axes = normalize_axes(self.axes, len(shape), self.name)
        if not self.keepdims and axes != tuple(range(len(axes))):
            reduced = reduced.reshape(reduced_shape(shape, axes, True))
        return reduced.broadcast_to(shape)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for shape in SAMPLE_SHAPES:
            choices: list[Axes] = [None, *range(len(shape)), tuple(range(-len(shape), 0))]
            for axes in choices:
                axis_list = normalize_axes(axes, len(shape), cls.__name__)
                if cls.has_identity or all(shape[axis] for axis in axis_list):
                    yield Sample(cls(axes), (shape,))
                    yield Sample(cls(axes, keepdims=True), (shape,))


class Movement(TensorOp):
    """Rearranges, repeats or picks elements by position. Results may share memory."""


class Contraction(TensorOp):
    """Sums products over shared axes."""

    def multiply_adds(self, *specs: Any) -> int:
        """Number of multiply-adds for inputs of these shapes."""
        raise NotImplementedError(f"{self.name}: define multiply_adds(self, *specs)")


class Indexed(TensorOp):
    """Reads or writes at positions that another operand holds."""


class Composite(Op, abstract=True):
    """An operator that can be written in terms of others, and computes the same faster at once.

    `compute` is the NumPy meaning, `decompose` says it in tensor operators: the compiler uses that,
    and the gradient is derived from it unless the class states one.
    """

    meaning = "decompose"

    def compute(self, *arrays: Any) -> Any:
        leaves = [new_handle(Node(None, (), array, False)) for array in arrays]
        with ambient_set(evaluator=EAGER):
            result = self.decompose(*leaves)
            if isinstance(result, tuple):
                return tuple([part.cached_data for part in result])
            return result.cached_data

    def decompose(self, *inputs: Any) -> Any:
        """The result (or a tuple of results) in terms of other operators."""
        raise NotImplementedError(f"{self.name}: define decompose(self, *inputs)")

    def gradient(self, out_grad: Any, node: Any) -> Any:
        return pulled_back(self.decompose, node.inputs, out_grad)


class Source(TensorOp):
    """Makes a tensor from static arguments alone.

    `random` sources draw from the stream: they are never merged, dropped or reordered.
    """

    differentiable = False
    random: ClassVar[bool] = False

    @property
    def key(self) -> tuple[Any, ...] | None:
        return None if self.random else super().key


def _aligned(op: Pointwise, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Operands of one shape.

    Under implicit broadcasting a `BroadcastTo` is recorded, else shapes must match.
    """
    count = len(inputs) - op.scalars
    try:
        shape, weak = inputs[0].shape, inputs[0].weak
        for value in inputs[1:count]:
            if value.shape != shape or value.weak != weak:
                break
        else:
            return inputs
    except AttributeError:
        pass
    values = as_values(op, inputs[:count])
    refuse_tuples(op, [value.node for value in values])
    tensors = _strengthened(values)
    shapes = [value.shape for value in tensors]
    if len(set(shapes)) > 1:
        common = broadcast_shapes(*shapes) if ambient.implicit_broadcasting else None
        if common is None:
            raise ShapeError(_mismatch(op.name, shapes))
        tensors = tuple([v if v.shape == common else v.broadcast_to(common) for v in tensors])
    return (*tensors, *inputs[count:])


def _strengthened(tensors: tuple[Any, ...]) -> tuple[Any, ...]:
    """Run-time scalars beside tensors take the tensors' shape and, beside floats, their dtype."""
    strong = [value for value in tensors if not value.weak]
    if not strong or len(strong) == len(tensors):
        return tensors
    model = strong[-1]  # of `where`, not the condition
    dtype = model.dtype if model.dtype.kind == "f" else np.dtype(np.float64)
    return tuple([v.astype(dtype).broadcast_to(model.shape) if v.weak else v for v in tensors])


def _mismatch(name: str, shapes: list[Shape]) -> str:
    """What is wrong with these shapes, and what to write instead.

    Operands with the same number of elements, as (N, 1) and (N,), are first told to be reshaped:
    repeating both to (N, N) is hardly ever meant.
    """
    listed = " and ".join(str(shape) for shape in shapes)
    message = f"{name}: shapes {listed} differ. "
    letters, size, common = "abcdefgh", math.prod(shapes[0]), broadcast_shapes(*shapes)
    pairs = [f"{letters[i]}.reshape({shapes[0]})" for i, s in enumerate(shapes) if s != shapes[0]]
    paired = " and ".join(pairs) if all(math.prod(s) == size for s in shapes) else ""
    if common is None:
        way = f"{paired} if their elements lie in one order" if paired else "reshape"
        return message + f"They do not broadcast either: make them equal with {way}"
    repeats = [f"{letters[i]}.broadcast_to({common})" for i, s in enumerate(shapes) if s != common]
    repeated = " and ".join(repeats)
    message += "Needle broadcasts only when told: write "
    if paired and math.prod(common) != size:
        return message + f"{paired} to pair the elements, or {repeated} to repeat them"
    return message + repeated
