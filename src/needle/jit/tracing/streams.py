"""Where every random stream stands, so that a trace can leave them as it found them.

A generator that the function makes itself is none of them. With a seed it draws the same numbers at
each call, as a program does; without one it begins with numbers from the system, which are refused.
"""

from __future__ import annotations

import random as python_random
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from threading import get_ident
from typing import Any, NamedTuple

import numpy as np

from ...errors import TraceError
from ...philox import PhiloxStream
from ...random import ambient_stream, make_ambient
from .turns import draws_paused


class _Known(NamedTuple):
    """A generator, what gives and sets its state, and the state that it had."""

    generator: Any
    state: Callable[[], Any]
    set_state: Callable[[Any], Any]
    before: Any

    def stands(self) -> bool:
        """Whether it stands where it stood."""
        return _equal(self.state(), self.before)


class Streams:
    """The places of NumPy's and Python's global streams, of the ambient one, and of those added."""

    def __init__(self) -> None:
        self._known: list[_Known] = []
        self.add(np.random.mtrand._rand)  # type: ignore[attr-defined]
        self.add(python_random._inst)  # type: ignore[attr-defined]
        self._ambient = ambient_stream()
        self.add(self._ambient)

    def add(self, generator: Any) -> bool:
        """Remember where a generator stands; False if it is none."""
        found = accessors(generator)
        if found is not None and all(known.generator is not generator for known in self._known):
            if isinstance(generator, PhiloxStream):
                generator.shared = True  # other threads wait from now on
            state, set_state = found
            self._known.append(_Known(generator, state, set_state, state()))
        return found is not None

    def check(self) -> None:
        """Refuse draws that were made since.

        Raises:
            TraceError: a stream stands elsewhere, or another one is in force.
        """
        if ambient_stream() is not self._ambient:
            raise TraceError(
                "ndl.seed was called while a jitted function was traced, and a program would not "
                "call it again. Seed outside the jitted function"
            )
        for known in self._known:
            if not known.stands():
                raise TraceError(
                    f"numbers were drawn from {_name(known.generator)} directly while a jitted "
                    "function was traced, and a program would repeat them. Draw with "
                    "ndl.init.rand or randn, or pass the numbers as an argument. If another "
                    "thread drew them, give it a generator of its own"
                )

    def stands(self) -> bool:
        """Whether every stream stands where it stood."""
        return all(known.stands() for known in self._known)

    def ambient_stands(self) -> bool:
        """Whether the ambient one does, be it NumPy's."""
        own = isinstance(self._ambient, PhiloxStream)
        generator = self._ambient if own else np.random.mtrand._rand  # type: ignore[attr-defined]
        return all(known.stands() for known in self._known if known.generator is generator)

    def put_back(self) -> None:
        """Let every stream stand where it stood, and the one be in force that was."""
        make_ambient(self._ambient)
        for known in self._known:
            known.set_state(known.before)


@contextmanager
def draws_undone() -> Generator[Streams]:
    """Let every stream stand after a `with` block where it stood, and no other thread draw."""
    with draws_paused():
        streams = Streams()
        try:
            yield streams
        finally:
            streams.put_back()


@contextmanager
def no_entropy(refusal: Callable[[str], Exception]) -> Generator[None]:
    """Give this thread no random numbers of the system's inside a `with` block.

    Args:
        refusal: Makes the error.
    """
    module: Any = python_random  # whose function NumPy's unseeded generators call, too
    original, thread = module._urandom, get_ident()

    def drawn(count: int) -> bytes:
        if get_ident() != thread:
            return original(count)
        raise refusal(
            "random numbers of the system's were drawn, as for a generator without a seed, while a "
            "jitted function was traced, and a program would repeat them. Draw with ndl.init.rand "
            "or randn, or pass the numbers as an argument. (np.random.RandomState draws some with "
            "a seed, too; np.random.default_rng(seed) does not)"
        )

    module._urandom = drawn
    try:
        yield
    finally:
        module._urandom = original


def accessors(generator: Any) -> tuple[Callable[[], Any], Callable[[Any], Any]] | None:
    """What gives and sets the state of a generator; None if it is none."""
    if isinstance(generator, np.random.Generator):
        generator = generator.bit_generator
    if isinstance(generator, np.random.BitGenerator):
        return partial(getattr, generator, "state"), partial(setattr, generator, "state")
    if isinstance(generator, np.random.RandomState):
        return partial(generator.get_state, legacy=False), generator.set_state
    if isinstance(generator, PhiloxStream):
        return generator.get_state, generator.set_state
    is_systems = isinstance(generator, python_random.SystemRandom)  # which stands nowhere
    if isinstance(generator, python_random.Random) and not is_systems:
        return generator.getstate, generator.setstate
    return None


def _name(generator: Any) -> str:
    if isinstance(generator, python_random.Random):
        return "random"
    if isinstance(generator, PhiloxStream):
        return "needle.random"
    return "np.random" if isinstance(generator, np.random.RandomState) else repr(generator)


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(a[name], b[name]) for name in a)
    return np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b
