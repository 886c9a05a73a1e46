"""Every sample of every registered operator, and inputs drawn for it."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

import needle as ndl
from needle.graph.op import REGISTRY, Op, Sample

FLOATS = ("float32", "float64")
DTYPES = (*FLOATS, "float16", "int64", "int8", "uint8", "bool")


class Case(NamedTuple):
    """One operator with its static arguments, and what it takes."""

    op: Op
    inputs: tuple[Any, ...]

    def arrays(self, dtype: str = "float64") -> list[Any]:
        """Arrays (tuples of them for tuple values) from the operator's domain, then scalars."""
        random = np.random.RandomState(0)
        count = len(self.inputs) - self.op.scalars
        drawn = [draw(random, item, self.op.domain, dtype) for item in self.inputs[:count]]
        return [*drawn, *self.inputs[count:]]

    def is_small(self) -> bool:
        """Few enough elements for differences of differences."""
        return sum(np.size(a) for a in flat(self.arrays())) <= 40


def draw(random: Any, item: Any, domain: tuple[float, float], dtype: str) -> Any:
    """An array for one input of a sample; index arrays stay what they are."""
    if isinstance(item, np.ndarray):
        return item
    if item and isinstance(item[0], tuple):
        return tuple([draw(random, shape, domain, dtype) for shape in item])
    low, high = domain
    values = random.uniform(low, high, item)
    if np.dtype(dtype).kind in "iu":  # integers of the domain, 0 left out where it leaves 0 out
        values = random.randint(max(0, int(np.ceil(low))), int(high) + 1, item)
    return np.asarray(values, dtype=dtype)


def as_value(array: Any, requires_grad: bool = True) -> Any:
    """A tensor over an array without a copy, a tuple of tensors over a tuple; numbers stay."""
    if isinstance(array, tuple):
        return ndl.make_tuple(*[as_value(item) for item in array])
    if isinstance(array, np.ndarray):
        return ndl.Tensor.wrap(array, requires_grad and array.dtype.kind == "f")
    return array


def parts(value: Any) -> tuple[Any, ...]:
    """The tensors of a result, which may be a tuple."""
    return tuple(value) if isinstance(value, ndl.TensorTuple) else (value,)


def flat(arrays: list[Any]) -> list[Any]:
    """The arrays, those of tuple values one by one."""
    return [item for a in arrays for item in (a if isinstance(a, tuple) else (a,))]


def scalars_of(cls: type[Op]) -> tuple[float, ...]:
    return tuple([0.5 / (k + 1) for k in range(cls.scalars)])


def cases_of(cls: type[Op]) -> Iterator[Case]:
    """The samples of a class; run-time scalars, which samples leave out, are numbers."""
    for sample in cls.samples():
        assert isinstance(sample, Sample)
        yield Case(sample.op, (*sample.inputs, *scalars_of(cls)))


def named(case: Case) -> str:
    shapes = [i.shape if isinstance(i, np.ndarray) else i for i in case.inputs]
    return f"{case.op!r}-{'-'.join(str(shape) for shape in shapes)}".replace(" ", "")


CASES = [case for cls in REGISTRY for case in cases_of(cls)]
every_case = pytest.mark.parametrize("case", CASES, ids=named)
every_class = pytest.mark.parametrize("cls", REGISTRY, ids=lambda cls: cls.__name__)


def cases_where(holds: Callable[[Op], bool], small: bool = False) -> Any:
    """Parametrises over the samples of some operators; `small`: only those with few elements."""
    chosen = [case for case in CASES if holds(case.op) and (case.is_small() or not small)]
    return pytest.mark.parametrize("case", chosen, ids=named)


def differentiable_cases(small: bool = False) -> Any:
    """Parametrises over the operators that have a gradient."""
    return cases_where(lambda op: op.differentiable, small)
