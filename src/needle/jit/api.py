"""`jit`: from a function to programs, one for each signature and state of the world."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary, ref

from .. import config
from ..context import ambient
from ..errors import ArgumentError
from ..graph.evaluate import EAGER
from ..random import NumPyStream, ambient_stream
from .check import compare_with_eager
from .differentiate import Differentiable
from .program import Program
from .signature import Key, signature
from .trace import NewStateError, trace

MANY_PROGRAMS = 8
"""After this many programs for one function a warning says what keeps changing."""
MOST_PROGRAMS = 64
"""So many programs are kept for one function; the longest unused goes first."""
PATIENCE = 3
"""So often in a row may a trace find that state came into being."""


class Jitted:
    """A function whose calls are traced, compiled and replayed. See `jit`."""

    def __init__(self, function: Callable[..., Any], warmup: int = 1, check: bool = False) -> None:
        self.__wrapped__ = function
        self.__name__ = getattr(function, "__name__", type(function).__name__)
        self.__doc__ = getattr(function, "__doc__", None)
        self._warmup = warmup
        self._check = check
        self._calls: dict[Key, int] = {}
        self._programs: dict[Key, list[Program]] = {}
        self._patience: dict[Key, int] = {}
        self._methods: WeakKeyDictionary[Any, Jitted] = WeakKeyDictionary()

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """A method's programs live with its instance."""
        if instance is None:
            return self
        bound = self._methods.get(instance)
        if bound is None:
            bound = Jitted(_Method(self.__wrapped__, instance), self._warmup, self._check)
            self._methods[instance] = bound
        return bound

    @property
    def programs(self) -> list[Program]:
        """The programs made so far, each with the reason it was made."""
        return [program for group in self._programs.values() for program in group]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if ambient.evaluator is not EAGER or config.jit_mode() == "0":
            return self.__wrapped__(*args, **kwargs)
        leaves, key = signature(args, kwargs)
        numpy_stream = isinstance(ambient_stream(), NumPyStream)
        key = (key, ambient.gradients, ambient.implicit_broadcasting, numpy_stream)
        reason = "first call with this signature"
        for program in self._programs.get(key, ()):
            mismatch = program.mismatch(leaves)
            if mismatch is None:
                return self._run(program, args, kwargs, leaves)
            reason = mismatch
        return self._miss(key, reason, args, kwargs, leaves)

    def _run(self, program: Program, args: Any, kwargs: Any, leaves: list[Any]) -> Any:
        if self._check:
            return compare_with_eager(program, self.__wrapped__, args, kwargs, leaves)
        return program.run(leaves)

    def _miss(self, key: Key, reason: str, args: Any, kwargs: Any, leaves: list[Any]) -> Any:
        """No program fits: warm up, or trace one."""
        calls = self._calls[key] = self._calls.get(key, 0) + 1
        if calls <= self._warmup:
            return self.__wrapped__(*args, **kwargs)
        try:
            done = trace(self.__wrapped__, args, kwargs, leaves)
        except NewStateError as state:
            self._patience[key] = self._patience.get(key, 0) + 1
            if self._patience[key] >= PATIENCE:
                raise ArgumentError(
                    f"jit: {state} gets a new tensor at every call, so the state of the function never "
                    "settles. Keep a fixed number of tensors and assign their .data, or return the tensor"
                ) from None
            return self.__wrapped__(*args, **kwargs)
        self._patience.pop(key, None)
        program = Program(done, reason)
        self._keep(key, program)
        return self._run(program, args, kwargs, leaves)

    def _keep(self, key: Key, program: Program) -> None:
        group = self._programs.setdefault(key, [])
        group.insert(0, program)
        count = len(self.programs)
        if count == MANY_PROGRAMS + 1:
            warnings.warn(
                f"jit: {self.__name__} has {count} programs, the last because: {program.reason}. "
                "Each is traced and compiled: keep shapes and attributes fixed between calls",
                stacklevel=4,
            )
        if count > MOST_PROGRAMS:
            oldest = min(
                self._programs,
                key=lambda k: min(p.last_used for p in self._programs[k] or [program]),
            )
            self._programs[oldest].pop()

    def __repr__(self) -> str:
        return f"jit({self.__name__}, {len(self.programs)} programs)"


class _Method:
    """A function bound to an instance that it does not keep alive."""

    def __init__(self, function: Callable[..., Any], instance: Any) -> None:
        self.__wrapped__ = function
        self.__name__ = getattr(function, "__name__", "method")
        self._instance = ref(instance)

    @property
    def __self__(self) -> Any:
        return self._instance()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__wrapped__(self._instance(), *args, **kwargs)


def jit(function: Callable[..., Any] | None = None, *, warmup: int = 1, check: bool = False) -> Any:
    """Compile a function: forward, backward and optimiser step become one program.

    Args:
        function: Plain code on tensors; also usable as a decorator, with or without arguments.
        warmup: Calls with a new signature that run eagerly before one is traced.
        check: Run every call eagerly too, on copies of state and random stream, and compare.

    Returns:
        A callable like `function`. Values read from other Python objects are **constants of the program**.

    Raises:
        TraceError: at a call, where the function does something that a program could not repeat.

    Example:
        >>> import needle as ndl
        >>> @ndl.jit
        ... def f(x):
        ...     return (x * x).sum()
        >>> [float(f(ndl.Tensor([1.0, k]))) for k in (2.0, 3.0, 4.0)]
        [5.0, 10.0, 17.0]
    """
    if function is None:
        return lambda f: Jitted(f, warmup, check)
    if not callable(function):
        raise ArgumentError(f"jit: {function!r} cannot be called. Pass a function or a module")
    return Jitted(function, warmup, check)


Differentiable.compile = staticmethod(jit)
