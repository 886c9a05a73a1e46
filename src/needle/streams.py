"""What every random stream offers, and NumPy's.

A stream draws arrays and knows nothing of tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from .errors import ArgumentError, StateError

Array = npt.NDArray[Any]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class UniformDraw:
    """A draw of one float64 in [0, 1)."""

    words = 2

    def vector(self, stream: Stream, count: int) -> Array:
        return stream.uniform((count,))

    def from_longs(self, longs: Array) -> Array:
        return unit_interval(longs[:, 0])


@dataclass(frozen=True)
class IntegersDraw:
    """A draw of `size` integers, low <= value < high."""

    low: int
    high: int
    size: int

    @property
    def words(self) -> int:
        return 2 * self.size

    def vector(self, stream: Stream, count: int) -> Array:
        return stream.integers(self.low, self.high, (count, self.size))

    def from_longs(self, longs: Array) -> Array:
        return bounded(longs[:, : self.size], self.low, self.high)


Draw = UniformDraw | IntegersDraw


class Stream(Protocol):
    """What every random stream offers."""

    def uniform(self, shape: Shape = (), dtype: npt.DTypeLike = "float64") -> Array:
        """Floats in [0, 1), at least as fine as `dtype` needs: the caller scales, then casts."""
        ...

    def normal(self, shape: Shape = (), dtype: npt.DTypeLike = "float64") -> Array:
        """Standard normal floats, at least as fine as `dtype` needs."""
        ...

    def integers(self, low: int, high: int, size: Shape = ()) -> Array:
        """int64 values, low <= value < high."""
        ...

    def permutation(self, n: int) -> Array:
        """0 … n-1 in random order, int64."""
        ...

    def rounds(self, count: int, draws: Sequence[Draw]) -> list[Array]:
        """What `count` times making `draws` in turn gives: for each draw an array (count, …)."""
        ...

    def get_state(self) -> dict[str, Any]:
        """Where the stream stands, as plain JSON values."""
        ...

    def set_state(self, state: dict[str, Any]) -> None:
        """Put the stream where `get_state` found it."""
        ...


class NumPyStream:
    """NumPy's legacy stream: the global one, or that of a `RandomState` of its own.

    Example:
        >>> import numpy as np
        >>> from needle.streams import NumPyStream
        >>> np.random.seed(0)
        >>> NumPyStream().uniform((2,)).round(4).tolist()
        [0.5488, 0.7152]
    """

    def __init__(self, source: Any = None) -> None:
        self._own = source

    @property
    def _source(self) -> Any:
        return self._own or np.random  # NumPy loads it on first use, not with us

    def uniform(self, shape: Shape = (), dtype: npt.DTypeLike = "float64") -> Array:
        return np.asarray(self._source.rand(*shape))

    def normal(self, shape: Shape = (), dtype: npt.DTypeLike = "float64") -> Array:
        return np.asarray(self._source.randn(*shape))

    def integers(self, low: int, high: int, size: Shape = ()) -> Array:
        return np.asarray(self._source.randint(low, high, size=size, dtype=np.int64))

    def permutation(self, n: int) -> Array:
        order = np.arange(n)
        self._source.shuffle(order)
        return order

    def rounds(self, count: int, draws: Sequence[Draw]) -> list[Array]:
        if len(draws) == 1:
            return [draws[0].vector(self, count)]
        columns = [draw.vector(self, 0) for draw in draws]
        turns = [columns, *([draw.vector(self, 1) for draw in draws] for _ in range(count))]
        return [np.concatenate(column) for column in zip(*turns, strict=True)]

    def get_state(self) -> dict[str, Any]:
        state = self._source.get_state(legacy=False)
        if state["bit_generator"] != "MT19937":
            raise StateError(
                f"get_state: NumPy's generator is {state['bit_generator']}, and only the default "
                "MT19937 can be stored. Call np.random.set_bit_generator(np.random.MT19937())"
            )
        return {
            "stream": "numpy",
            "key": state["state"]["key"].tolist(),
            "position": int(state["state"]["pos"]),
            "has_gauss": int(state["has_gauss"]),
            "gauss": float(state["gauss"]),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        try:
            key = np.array(state["key"], np.uint32)
            position, gauss = int(state["position"]), float(state["gauss"])
            self._source.set_state(("MT19937", key, position, int(state["has_gauss"]), gauss))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise bad_state("NumPy", state, error) from error


def unit_interval(longs: Array) -> Array:
    """Floats in [0, 1) of 64 random bits each, of which they take 53."""
    return (longs >> np.uint64(11)) * 2.0**-53


def bounded(longs: Array, low: int, high: int) -> Array:
    """Integers, low <= value < high, of 64 random bits each."""
    if not low < high:
        raise ArgumentError(f"integers: no value in [{low}, {high}). Give low < high")
    return (longs % np.uint64(high - low)).astype(np.int64) + low


def bad_state(kind: str, state: object, error: Exception) -> StateError:
    """What to raise for a state that a stream of some kind cannot go back to."""
    return StateError(
        f"set_state: {state!r:.200} is no state of a {kind} stream ({type(error).__name__}: "
        f"{error}). Give what get_state returned"
    )
