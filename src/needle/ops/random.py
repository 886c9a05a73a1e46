"""Operators that draw from the random stream (see `needle.random`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..graph.kinds import Source
from ..graph.op import Sample
from ..random import ambient_stream
from ..shapes import Spec, as_dtype, checked_shape
from .operands import as_number, as_probability


class Random(Source, abstract=True):
    """Base of the sources that draw."""

    random = True

    def __init__(self, shape: Any, dtype: Any) -> None:
        self.shape = checked_shape(shape, self.name)
        self.dtype = as_dtype(dtype, self.name)

    def infer(self) -> Any:
        return Spec(self.shape, self.dtype)


class Uniform(Random):
    """y ~ U(low, high)."""

    label = "rand"

    def __init__(
        self, shape: Any, low: float = 0.0, high: float = 1.0, dtype: Any = "float32"
    ) -> None:
        super().__init__(shape, dtype)
        self.low = as_number(low, "rand")
        self.high = as_number(high, "rand")

    def compute(self) -> Any:
        draw = ambient_stream().uniform(self.shape, self.dtype)
        return (draw * (self.high - self.low) + self.low).astype(self.dtype)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls((3, 4), -1.0, 2.0), ())
        yield Sample(cls((), dtype="float64"), ())
        yield Sample(cls((0, 2)), ())


class Normal(Random):
    """y ~ N(mean, std²)."""

    label = "randn"

    def __init__(
        self, shape: Any, mean: float = 0.0, std: float = 1.0, dtype: Any = "float32"
    ) -> None:
        super().__init__(shape, dtype)
        self.mean = as_number(mean, "randn")
        self.std = as_number(std, "randn")

    def compute(self) -> Any:
        draw = ambient_stream().normal(self.shape, self.dtype)
        return (draw * self.std + self.mean).astype(self.dtype)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls((3, 4), 1.0, 2.0), ())
        yield Sample(cls((), dtype="float64"), ())


class Bernoulli(Random):
    """y = 1 with probability p, else 0."""

    label = "randb"

    def __init__(self, shape: Any, p: float = 0.5, dtype: Any = "bool") -> None:
        super().__init__(shape, dtype)
        self.p = float(as_probability(p, "randb"))

    def compute(self) -> Any:
        return (ambient_stream().uniform(self.shape, self.dtype) <= self.p).astype(self.dtype)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls((3, 4), 0.25), ())
        yield Sample(cls((5,), dtype="float32"), ())
