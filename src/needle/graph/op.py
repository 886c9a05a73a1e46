"""The operator contract and the registry of operators."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ..context import ambient
from ..errors import DTypeError, GradientError
from ..shapes import Shape, native
from .node import Specs, Storage

REGISTRY: list[type[Op]] = []
"""Every operator class of the library, in order of definition: the contract tests' list."""


class Sample(NamedTuple):
    """Sample inputs of one operator for the contract tests.

    Args:
        op: The operator with its static arguments.
        inputs: For each input a shape (the test draws numbers from the operator's domain), an
            array, or a tuple of shapes where the input is a tuple of tensors.
    """

    op: Op
    inputs: tuple[Shape | Storage | tuple[Shape, ...], ...]


class Op:
    """An operator: its NumPy meaning, its gradient in terms of tensors, its shape rule.

    A subclass needs `compute(*arrays)` and `gradient(out_grad, node)`; the kinds in `kinds.py`
    supply more. Static arguments are attributes, set in `__init__` and never changed.
    """

    label: ClassVar[str] = ""
    """The name that messages use, where it is not that of the class: see `__init_subclass__`."""
    differentiable: ClassVar[bool] = True
    """False for operators whose results never need a gradient (comparisons, index searches)."""
    scalars: ClassVar[int] = 0
    """How many trailing operands are run-time scalars: numbers that never decide a dtype."""
    meaning: ClassVar[str] = ""
    """Where `compute` follows from another attribute, as from `expression`, its name."""
    ours: ClassVar[bool] = False
    """Whether the library defines it: it depends on its operands alone, and makes real numbers."""
    domain: ClassVar[tuple[float, float]] = (-2.0, 2.0)
    """The open interval of test inputs; narrower where not every real is allowed."""

    def __init_subclass__(cls, *, abstract: bool = False, **kwargs: Any) -> None:
        """Register the library's own operators; `abstract=True` is for bases of some of them.

        Their label, where they state none, is the class's name as a function is spelled. A class
        that states another meaning computes that, and not what its base computes faster.
        """
        super().__init_subclass__(**kwargs)
        stated = vars(cls)
        if cls.meaning in stated and "compute" not in stated and is_shortcut(cls):
            kind: Any = next(base for base in cls.__mro__ if "meaning" in vars(base))
            cls.compute = kind.compute
        cls.ours = cls.__module__.startswith("needle.ops.")
        if cls.ours and not abstract:
            REGISTRY.append(cls)
            if "label" not in vars(cls):
                cls.label = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__).lower()

    def __call__(self, *inputs: Any) -> Any:
        return ambient.evaluator.make(self, inputs)

    @property
    def name(self) -> str:
        """The name that messages use."""
        return self.label or type(self).__name__

    def compute(self, *arrays: Any) -> Any:
        """The NumPy meaning: arrays in, an array out (or a tuple of arrays)."""
        raise NotImplementedError(f"{self.name}: define compute(self, *arrays)")

    def evaluate(self, *arrays: Any) -> Any:
        """`compute`, with the result as an array (NumPy hands out scalars for 0-d results)."""
        result = self.compute(*arrays)
        if type(result) is np.ndarray and self.ours:
            return result
        return as_storage(self, result)

    def gradient(self, out_grad: Any, node: Any) -> Any:
        """Gradient of each input given that of the output, as tensors; None where there is none."""
        raise GradientError(
            f"{self.name} has no gradient. Call detach() on its input, or define gradient"
        )

    def infer(self, *specs: Specs) -> Specs | None:
        """Shape and dtype of the result from those of the inputs; None where no rule is stated."""
        return None

    def gradient_as_tuple(self, out_grad: Any, node: Any) -> tuple[Any, ...]:
        """`gradient`, always as a tuple with one entry an input, those that need none included.

        Args:
            out_grad: Gradient of the result, a tensor of its shape.
            node: The result.
        """
        unneeded = [child for child in node.node.inputs if not child.requires_grad]
        for child in unneeded:
            child.requires_grad = True
        try:
            return as_tuple(self.gradient(out_grad, node))
        finally:
            for child in unneeded:
                child.requires_grad = False

    @property
    def key(self) -> tuple[Any, ...] | None:
        """What merging and caching compare: class and static arguments.

        None for what must stay apart: draws, and users' operators, which may do anything.
        """
        if not self.ours:
            return None
        return (type(self), *[(name, _frozen(value)) for name, value in sorted(vars(self).items())])

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        """Sample inputs for the contract tests."""
        return iter(())

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({arguments})"


class TensorOp(Op):
    """An operator whose result is one tensor: subclass it with `compute` and `gradient`.

    Example:
        >>> import needle as ndl
        >>> class Square(ndl.TensorOp):
        ...     def compute(self, x):
        ...         return x * x
        ...     def gradient(self, out_grad, node):
        ...         return out_grad * node.inputs[0] * 2
        >>> x = ndl.Tensor([3.0])
        >>> Square()(x).backward()
        >>> x.grad.numpy()
        array([6.])
    """


class TensorTupleOp(Op):
    """An operator whose result is a `TensorTuple`: `compute` returns a tuple of arrays."""


def is_shortcut(cls: type[Op]) -> bool:
    """Whether `compute` is a quick way to what a class means by its `expression` or the like.

    Such is the library's, and what is stated beside the meaning; of a class derived from that one
    it would be the meaning itself.
    """
    owner = next(base for base in cls.__mro__ if "compute" in vars(base))
    return cls.meaning in vars(owner) or _is_librarys(owner)


def is_opaque(op: Op) -> bool:
    """Whether nothing is known of what an operator means but that its `compute` gives it.

    What a user's `decompose` says is not: it may read tensors, and use operators of his own.
    """
    if op.ours or "compute" in vars(op):
        return "compute" in vars(op)
    decomposed = hasattr(op, "decompose") and is_of_user(op, "decompose")
    return decomposed or not is_shortcut(type(op))


def is_of_user(op: Op, name: str) -> bool:
    """Whether an operator has a method from a user: of a class of his, or as an attribute.

    Who wrote it is not asked of the method: a decorator names it after another one.
    """
    if op.ours or name in vars(op):
        return name in vars(op)
    found = getattr(type(op), name)
    return all(vars(base).get(name) is not found for base in filter(_is_librarys, type(op).__mro__))


def _is_librarys(cls: type) -> bool:
    return str(cls.__module__).partition(".")[0] == "needle"


def is_ruled(op: Op) -> bool:
    """Whether `infer` is about what is computed: a user's `compute` may give something else."""
    return is_of_user(op, "infer") or not is_of_user(op, "compute")


def as_storage(op: Op, result: Any) -> Any:
    """What `compute` returned as an array, or where it is no `TensorOp` a tuple of arrays."""
    if isinstance(result, np.floating):  # NumPy hands out scalars for 0-d results
        return np.asarray(result)
    if isinstance(result, tuple) and isinstance(op, TensorOp):
        _refuse_several(op, result)
    elif isinstance(result, tuple) or (isinstance(result, list) and isinstance(op, TensorTupleOp)):
        return tuple([_as_array(op, item) for item in result])
    return _as_array(op, result)


def _refuse_several(op: Op, results: tuple[Any, ...]) -> None:
    """A tuple of numbers is an array; one of arrays has the results of a tuple operator."""
    if any(isinstance(item, np.ndarray | np.generic) for item in results):
        raise DTypeError(
            f"{op.name}: compute returned a tuple of {len(results)} results, and a TensorOp has "
            "one. Derive from TensorTupleOp (ElementwiseTuple where there is an expression), or "
            "return one array"
        )


def _as_array(op: Op, item: Any) -> Storage:
    try:
        array = np.asarray(item)
    except ValueError:  # nested lists of different lengths
        array = np.empty((), object)
    if array.dtype.kind not in "biuf":
        given = "None" if item is None else type(item).__name__
        if isinstance(item, np.ndarray):
            given += f" of dtype {item.dtype}"
        raise DTypeError(
            f"{op.name}: compute returned {given}, which is no array of real numbers. "
            "Return a NumPy array, or a tuple of them from a TensorTupleOp"
        )
    return array if array.dtype.isnative else array.astype(native(array.dtype))


def as_tuple(gradients: Any) -> tuple[Any, ...]:
    """What an operator's `gradient` returned, as a tuple."""
    if isinstance(gradients, tuple):
        return gradients
    if isinstance(gradients, list):
        return tuple(gradients)
    return (gradients,)


def _frozen(value: Any) -> Any:
    if isinstance(value, float):
        return ("float", struct.pack("<d", value))
    if isinstance(value, list | tuple):
        return tuple([_frozen(item) for item in value])
    if isinstance(value, slice):
        return ("slice", value.start, value.stop, value.step)
    if isinstance(value, np.dtype):
        return str(value)
    return (type(value).__name__, value)
