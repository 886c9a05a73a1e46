"""`Tensor`, the handle that users compute with."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any, NoReturn
from weakref import ref

import numpy as np

from .context import ambient
from .device import Device, check_device, default_device
from .errors import ArgumentError, DTypeError, ShapeError
from .graph.gradient import compute_gradient_of_variables
from .graph.leaf import leaf_over_copy, real_numbers
from .graph.node import Live, Value, new_handle
from .ops import (
    activations,
    arithmetic,
    comparison,
    contraction,
    exponential,
    functions,
    indexing,
    movement,
    reduction,
    slicing,
)
from .ops.creation import full
from .ops.operators import binary, no_operand, reflected, subtract, subtract_from, subtract_scalar
from .ops.power import power, power_scalar
from .ops.subscript import subscript
from .shapes import Shape, as_dtype, spread


class Tensor(Value):
    """An array that remembers how it was computed.

    Args:
        array: List, number, NumPy array (any strides) or Tensor; it is copied.
        device: `ndl.cpu()` or None.
        dtype: String, `np.dtype` or NumPy class. None keeps an array's dtype; a list or number gets
            NumPy's (floats float64, ints int64).
        requires_grad: Whether `backward` computes `.grad` for it. True unless told otherwise.

    `==` and `hash` go by identity, and a tensor is always true: compare values with `equal`,
    `less`, …

    Raises:
        DTypeError: the array holds no real numbers.
        BackendError: the device is not there.

    Example:
        >>> import needle as ndl
        >>> x = ndl.Tensor([[1.0, 2.0], [3.0, 4.0]])
        >>> (x @ x).sum().backward()
        >>> x.grad.numpy()
        array([[ 7., 11.],
               [ 9., 13.]])
    """

    __slots__ = ()
    # NumPy leaves `ndarray * tensor` to the tensor, instead of making an array of objects.
    __array_priority__ = 1000

    def __init__(
        self,
        array: Any,
        *,
        device: Device | None = None,
        dtype: Any = None,
        requires_grad: bool = True,
    ) -> None:
        if device is not None:
            check_device(device, "Tensor")
        self._grad = None
        self.node = leaf_over_copy(array, dtype)
        self.node.requires_grad = bool(requires_grad)
        self.node.handle = ref(self)

    @classmethod
    def wrap(cls, array: np.ndarray[Any, Any], requires_grad: bool = False) -> Tensor:
        """A tensor over a NumPy array's own memory, without a copy.

        Raises:
            DTypeError: the array holds no real numbers.
        """
        if type(array) is not np.ndarray or array.dtype.kind not in "biuf":
            array = real_numbers(array, "Tensor.wrap")
        return new_handle(ambient.evaluator.leaf(array, requires_grad), cls)

    # -- what it is --------------------------------------------------------------------------------

    @property
    def shape(self) -> Shape:
        """Sizes of the axes."""
        storage = self.node.storage
        return storage.shape if storage is not None else self.node.specs().shape  # type: ignore[union-attr]

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy dtype of the elements."""
        storage = self.node.storage
        return storage.dtype if storage is not None else self.node.specs().dtype  # type: ignore[union-attr]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def device(self) -> Device:
        """Where the tensor lives."""
        return default_device()

    @property
    def T(self) -> Tensor:  # noqa: N802 - NumPy's name
        """The tensor with its axes in reverse order."""
        return movement.permute(self, tuple(range(self.ndim))[::-1])

    # -- storage -----------------------------------------------------------------------------------

    def numpy(self) -> np.ndarray[Any, Any]:
        """The values as a NumPy array, sharing memory with the tensor where NumPy can write."""
        array = ambient.evaluator.read(self.node)
        shared = array.flags.writeable and not isinstance(self.node, Live)
        return array if shared else array.copy()

    def detach(self) -> Tensor:
        """The same values, cut off from the graph: no gradient flows through. Memory is shared."""
        return new_handle(ambient.evaluator.detached(self), Tensor)

    @property
    def data(self) -> Tensor:
        """A detached view. Assigning a tensor of the same dtype gives this one its values.

        Graphs recorded before an assignment keep the values that they were computed with.
        """
        return self.detach()

    @data.setter
    def data(self, value: Any) -> None:
        if not isinstance(value, Tensor):
            value = Tensor(value, requires_grad=False)
        if value.dtype != self.dtype:
            raise DTypeError(
                f"data: a tensor of {self.dtype} was assigned one of {value.dtype}. "
                f'Write value.astype("{self.dtype}")'
            )
        self.rebind(ambient.evaluator.detached(value))

    @property
    def cached_data(self) -> Any:
        """The live storage: writing into it changes the tensor. Assigning an array rebinds it."""
        return self.realize_cached_data()

    @cached_data.setter
    def cached_data(self, array: Any) -> None:
        self.rebind(ambient.evaluator.leaf(real_numbers(array, "cached_data")))

    def backward(self, out_grad: Tensor | None = None) -> None:
        """Set `.grad` on every leaf that requires one, and on every intermediate value still held.

        Args:
            out_grad: Gradient that comes in, of this shape; None means ones.

        `.grad` is overwritten, not added to, and is part of the graph: it can be differentiated
        again.

        Raises:
            GradientError: this tensor requires no gradient.
            ShapeError: `out_grad` has another shape.

        Example:
            >>> import needle as ndl
            >>> x = ndl.Tensor(3.0)
            >>> (x * x).backward()
            >>> x.grad.item()
            6.0
        """
        compute_gradient_of_variables(self, out_grad)

    # -- Python's own protocols --------------------------------------------------------------------

    def __repr__(self) -> str:
        array = ambient.evaluator.shown(self.node)
        if array is None:
            return f"needle.Tensor(shape={self.shape}, dtype={self.dtype}, traced)"
        text = np.array2string(array, separator=", ", prefix="needle.Tensor(")
        return f"needle.Tensor({text}, dtype={self.dtype})"

    def __str__(self) -> str:
        array = ambient.evaluator.shown(self.node)
        return repr(self) if array is None else str(array)

    def __format__(self, spec: str) -> str:
        if spec and self.size == 1:
            return format(self.item(), spec)
        try:
            return format(str(self), spec)
        except ValueError:
            raise ArgumentError(
                f"format: {spec!r} is for one number, not for shape {self.shape}. Use tolist()"
            ) from None

    def item(self) -> Any:
        """The one element, as a Python number.

        Raises:
            ShapeError: there is not exactly one element.
        """
        if self.size != 1:
            raise ShapeError(
                f"item: shape {self.shape} has {self.size} elements, not one. "
                "Use numpy() or index first"
            )
        return ambient.evaluator.read(self.node).item()

    def tolist(self) -> Any:
        """The values as nested Python lists, or a number for a 0-d tensor."""
        return ambient.evaluator.read(self.node).tolist()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.dtype.kind not in "iu" or self.size != 1:
            raise TypeError(f"a tensor of {self.dtype}, {self.shape}, is no index. Write int(t)")
        return int(self.item())

    def __bool__(self) -> bool:
        return True

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a 0-d tensor: it has no axis")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return iter([self[i] for i in range(len(self))])

    def __getitem__(self, index: Any) -> Tensor:
        return subscript(self, index)

    def __setitem__(self, index: Any, value: Any) -> NoReturn:
        raise TypeError(
            "a tensor cannot be assigned to in place: the graph could not record it. Write "
            "ndl.where(mask, new, old), or t.cached_data[index] = value outside a graph"
        )

    def __contains__(self, value: Any) -> NoReturn:
        raise TypeError(
            "`in` goes by identity, and would find nothing in a tensor. Write t.equal(value), or "
            "value in t.tolist()"
        )

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def __array_function__(
        self, function: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        # NumPy's sum and transpose would call methods of that name, which mean other axes.
        if function not in (np.shape, np.ndim, np.size):  # known in a trace, where values are not
            args, kwargs = _as_arrays(args), _as_arrays(kwargs)
        # NumPy's own code: the function would ask again for tensors that lie deeper, as in a deque.
        return getattr(function, "__wrapped__", function)(*args, **kwargs)

    def __dlpack__(self, **kwargs: Any) -> Any:
        return self.numpy().__dlpack__(**kwargs)

    def __dlpack_device__(self) -> tuple[int, int]:
        return np.empty(0).__dlpack_device__()

    def __copy__(self) -> Tensor:
        evaluator = ambient.evaluator
        known = evaluator.shown(self.node) is not None  # not in a trace, which records a copy
        node = evaluator.leaf(self.numpy()) if known else evaluator.detached(self)
        node.requires_grad = self.requires_grad
        twin = new_handle(node, type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        array = ambient.evaluator.shown(self.node)  # not known in a trace, which records a copy
        node = leaf_over_copy(self if array is None else array, None)
        node.requires_grad = self.requires_grad
        twin = new_handle(node, type(self))
        memo[id(self)] = twin
        gradient = self.grad
        if gradient is not None:
            is_new = id(gradient) not in memo
            twin.grad = deepcopy(gradient, memo)
            if is_new:
                twin.grad.requires_grad = False
        twin.__dict__.update(self.__dict__)
        return twin

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("tensors are not pickled. Save them with ndl.save(path, {'name': tensor})")

    def _refuse_order(self, other: Any) -> NoReturn:
        raise TypeError(
            "a tensor has no order of its own. Compare values with less, less_equal, greater, …; "
            "in an `if` compare numbers, as float(t) > 1: a tensor is always true"
        )

    __lt__ = __le__ = __gt__ = __ge__ = _refuse_order

    def _refuse_integers_operator(self, *other: Any) -> NoReturn:
        # Without it, NumPy's arrays and numbers on the right would compute, outside the graph.
        raise TypeError(
            "a tensor has no //, %, &, |, ^, ~, << and >>: they have no gradient. Use t.numpy(), "
            "or for masks a * b, a.maximum(b), a.equal(False)"
        )

    __floordiv__ = __mod__ = __divmod__ = _refuse_integers_operator
    __and__ = __or__ = __xor__ = __invert__ = __lshift__ = __rshift__ = _refuse_integers_operator

    # -- arithmetic --------------------------------------------------------------------------------

    def __add__(self, other: Any) -> Tensor:
        if isinstance(other, Tensor):
            return arithmetic.add(self, other)
        return binary(arithmetic.add, arithmetic.add_scalar, self, other)

    def __mul__(self, other: Any) -> Tensor:
        if isinstance(other, Tensor):
            return arithmetic.multiply(self, other)
        return binary(arithmetic.multiply, arithmetic.mul_scalar, self, other)

    def __truediv__(self, other: Any) -> Tensor:
        if isinstance(other, Tensor):
            return arithmetic.divide(self, other)
        return binary(arithmetic.divide, arithmetic.divide_scalar, self, other)

    def __pow__(self, other: Any) -> Tensor:
        return binary(power, power_scalar, self, other)

    def __sub__(self, other: Any) -> Tensor:
        return binary(subtract, subtract_scalar, self, other)

    def __rsub__(self, other: Any) -> Tensor:
        return subtract_from(self, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return reflected(arithmetic.divide, self, other)

    def __rpow__(self, other: Any) -> Tensor:
        return reflected(power, self, other)

    def __neg__(self) -> Tensor:
        return arithmetic.negate(self)

    def __pos__(self) -> Tensor:
        return self

    def __abs__(self) -> Tensor:
        return functions.abs(self)

    def __matmul__(self, other: Any) -> Tensor:
        if isinstance(other, Tensor | np.ndarray):
            return contraction.matmul(self, other)
        return no_operand(contraction.matmul, other)

    def __rmatmul__(self, other: Any) -> Tensor:
        return Tensor(other, requires_grad=False) @ self

    __radd__ = __add__
    __rmul__ = __mul__

    def matmul(self, other: Any) -> Tensor:
        """`self @ other`; see `ndl.matmul`."""
        return self @ other

    # -- elementwise, comparison -------------------------------------------------------------------

    exp = functions.exp
    log = functions.log
    sqrt = functions.sqrt
    sin = functions.sin
    cos = functions.cos
    tanh = functions.tanh
    sigmoid = functions.sigmoid
    erf = functions.erf
    relu = activations.relu
    gelu = activations.gelu
    silu = activations.silu
    abs = functions.abs
    sign = functions.sign
    step = activations.step
    clip = comparison.clip
    maximum = comparison.maximum
    minimum = comparison.minimum
    equal = comparison.equal
    not_equal = comparison.not_equal
    less = comparison.less
    less_equal = comparison.less_equal
    greater = comparison.greater
    greater_equal = comparison.greater_equal

    def where(self, condition: Tensor, other: Any) -> Tensor:
        """This tensor where the condition holds, else `other`; see `ndl.where`."""
        return comparison.where(condition, self, other)

    def astype(self, dtype: Any) -> Tensor:
        """The values in another dtype; the gradient passes, but for integers that were rounded to.

        Which integer becomes of NaN or of a float out of range is left open, as in NumPy.

        Raises:
            DTypeError: the dtype is not known, or holds no real numbers.
        """
        wanted = as_dtype(dtype, "astype")
        return self if wanted == self.dtype else comparison.Cast(wanted)(self)

    # -- reduction, movement, indexing -------------------------------------------------------------

    sum = reduction.summation
    max = reduction.max
    min = reduction.min
    mean = reduction.mean
    var = reduction.var
    argmax = reduction.argmax
    logsumexp = exponential.logsumexp
    logsoftmax = exponential.logsoftmax
    softmax = exponential.softmax
    take = indexing.take
    pick = indexing.pick

    def reshape(self, *sizes: Any, shape: Any = None) -> Tensor:
        """The same elements in another shape, `t.reshape((2, 3))` or `t.reshape(2, 3)`."""
        return movement.reshape(self, spread("reshape", sizes, shape))

    def broadcast_to(self, *sizes: Any, shape: Any = None) -> Tensor:
        """Repeated to a larger shape, `t.broadcast_to((2, 3))` or `t.broadcast_to(2, 3)`."""
        return movement.broadcast_to(self, spread("broadcast_to", sizes, shape))

    def permute(self, *order: Any, axes: Any = None) -> Tensor:
        """The axes in a new order, `t.permute((2, 0, 1))` or `t.permute(2, 0, 1)`."""
        return movement.permute(self, spread("permute", order, axes))

    def transpose(self, *pair: Any, axes: Sequence[int] | None = None) -> Tensor:
        """Two axes swapped, the last two by default: `t.transpose((0, 1))`, `t.transpose(0, 1)`."""
        return movement.transpose(self, spread("transpose", pair, axes) if pair else axes)

    def slice(self, ranges: tuple[slicing.Range, ...]) -> Tensor:
        """A (start, count, step) of each axis: what `t[a:b:c]` records."""
        return slicing.Slice(ranges)(self)

    def unslice(self, shape: Shape, ranges: tuple[slicing.Range, ...]) -> Tensor:
        """Zeros of `shape` with this tensor written into a slice of them."""
        return slicing.Unslice(shape, ranges)(self)

    def scatter_add(self, index: Any, shape: Shape, axis: int) -> Tensor:
        """Zeros of `shape` with this tensor's slices added along `axis` where the index says."""
        return indexing.ScatterAdd(shape, axis)(self, index)

    def one_hot(self, n: int, dtype: Any = "float32") -> Tensor:
        """These class indices as rows of the identity matrix; see `ndl.one_hot`."""
        return indexing.one_hot(n, self, dtype)

    # -- constants of this shape -------------------------------------------------------------------

    def full_like(self, value: float, dtype: Any = None) -> Tensor:
        """A constant of this shape, and of this dtype unless another is named."""
        return full(self.shape, value, self.dtype if dtype is None else dtype)

    def zeros_like(self) -> Tensor:
        """Zeros of this shape and dtype."""
        return self.full_like(0)

    def ones_like(self) -> Tensor:
        """Ones of this shape and dtype."""
        return self.full_like(1)


Value.tensor_class = Tensor


def _as_arrays(value: Any) -> Any:
    """Arguments of a NumPy function, with arrays for tensors, in lists and tuples too."""
    if isinstance(value, Tensor):
        return value.numpy()
    if isinstance(value, dict):
        return {key: _as_arrays(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)([_as_arrays(item) for item in value])
    return value
