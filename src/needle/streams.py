"""What every random stream offers, and NumPy's.

A stream draws arrays and knows nothing of tensors. Streams that threads share are drawn from in
turns, and whoever goes back to where one stood (a trace) holds the turn till then: no number is
given twice::

    before: two threads                    after

    A  traces: "a stream stood at 5"       A  takes the turn, traces
    B  draws number 5                      B  waits
    A  puts the stream back to 5           A  puts back what it drew itself, lets go
    B  draws number 5 again                B  draws number 5
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from .errors import ArgumentError, StateError, TraceError

Array = npt.NDArray[Any]
Shape = tuple[int, ...]


class _Turn:
    """A lock that its owner may take again, and that nobody waits for in vain."""

    seconds = 60

    def __init__(self) -> None:
        lock = threading.RLock()
        self._acquire, self._release = lock.acquire, lock.release

    def __enter__(self) -> None:
        if not self._acquire(False):
            self._wait()

    def __exit__(self, *_: object) -> None:
        self._release()

    def _wait(self) -> None:
        # In short waits, which a process that is stopped does not use up all at once.
        if not any(self._acquire(timeout=1) for _ in range(self.seconds)):
            raise TraceError(
                f"random numbers were not to be had for {self.seconds} s, because another thread "
                "traces or checks a jitted function. If the function waits for this thread, let "
                "it not: draw the numbers before, and pass them as an argument"
            )

    def before_fork(self) -> None:
        """Let the thread that forks have the turn: it is the only one of the child."""
        self._acquire()

    def after_fork(self) -> None:
        """Go on, in both processes."""
        self._release()


turn = _Turn()
"""Held for each draw from a stream that threads share, and till such a stream is put back."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=turn.before_fork,
        after_in_parent=turn.after_fork,
        after_in_child=turn.after_fork,
    )


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

    @property
    def _turn(self) -> AbstractContextManager[None]:
        return turn if self._own is None else nullcontext()

    def uniform(self, shape: Shape = (), dtype: npt.DTypeLike = "float64") -> Array:
        with self._turn:
            return np.asarray(self._source.rand(*shape))

    def normal(self, shape: Shape = (), dtype: npt.DTypeLike = "float64") -> Array:
        with self._turn:
            return np.asarray(self._source.randn(*shape))

    def integers(self, low: int, high: int, size: Shape = ()) -> Array:
        with self._turn:
            return np.asarray(self._source.randint(low, high, size=size, dtype=np.int64))

    def permutation(self, n: int) -> Array:
        order = np.arange(n)
        with self._turn:
            self._source.shuffle(order)
        return order

    def rounds(self, count: int, draws: Sequence[Draw]) -> list[Array]:
        if len(draws) == 1:
            return [draws[0].vector(self, count)]
        columns = [draw.vector(self, 0) for draw in draws]
        with self._turn:
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
