"""`jit`: from a function to programs, one for each signature and state of the world.

::

    a call                                            what happens

    the first of its signature                        the function runs as written: lazily made
                                                      state comes into being
    the next, with the same shapes                    it is traced and compiled, the program runs
    all further ones, while its guards hold           the program runs
    a guard fails: a flag or an attribute changed     another program that fits, or one more
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from types import MethodType
from typing import Any
from weakref import ref

from .. import config
from ..context import ambient, ambient_set
from ..errors import ArgumentError, IndexRangeError, NeedleError, TraceError
from ..graph.evaluate import AS_WRITTEN, EAGER
from ..shapes import as_int
from ..state import Wrapper
from ..tensor import Tensor
from .check import compare_with_eager
from .collection import Programs
from .dry_run import DryRun
from .methods import WeakMethod
from .objects.trees import mapped
from .programs.differentiate import Differentiable
from .programs.program import Program
from .programs.shortcut import LONG_WAY, modes_of, quick_key
from .tracing.changed import NewStateError
from .tracing.interpret import is_random
from .tracing.recording import trace
from .tracing.signature import Key, attributes, holds_arrays, is_array, signature
from .tracing.turns import BusyError, EnteredError, making, paused

PATIENCE = 3
"""So often in a row may a trace find that state came into being."""


class Jitted(Wrapper):
    """A function whose calls are traced, compiled and replayed. See `jit`."""

    def __init__(self, function: Callable[..., Any], warmup: int = 1, check: bool = False) -> None:
        self.__wrapped__ = function
        for name in ("__module__", "__qualname__", "__doc__"):
            setattr(self, name, getattr(function, name, None))
        self.__name__ = getattr(function, "__name__", type(function).__name__)
        self._warmup = warmup
        self._check = check
        self._patience: dict[Key, tuple[int, int]] = {}
        self._asked: set[str] = set()  # attributes of arguments, which are part of a signature
        self._programs = Programs(self.__name__)
        self._methods: dict[int, tuple[ref[Any], Jitted]] = {}

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """A method's programs live with its instance."""
        if instance is None or isinstance(self.__wrapped__, staticmethod):
            return self
        if not type(instance).__weakrefoffset__:  # its programs live with the function
            return MethodType(self, instance)
        known = self._methods.get(id(instance))
        if known is None:
            place, methods = id(instance), self._methods
            gone = ref(instance, lambda _: methods.pop(place, None))
            bound = Jitted(WeakMethod(self.__wrapped__, instance), self._warmup, self._check)
            known = self._methods[place] = (gone, bound)
        return known[1]

    def __getattr__(self, name: str) -> Any:
        """What else there is belongs to the function, whose attributes are watched."""
        if name.startswith("_"):
            raise AttributeError(f"a jitted function has no attribute {name!r}")
        return getattr(self.__wrapped__, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            super().__setattr__(name, value)
        else:
            setattr(self.__wrapped__, name, value)

    @property
    def programs(self) -> list[Program]:
        """The programs made so far, each with the reason it was made."""
        return self._programs.all()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        mine = ambient.__dict__
        if mine["evaluator"] is not EAGER:
            return self._as_written(args, kwargs)
        program = None if kwargs or self._asked else self._programs.recent
        if program is not None:
            if program.shortcut is not None and not self._check:
                try:
                    result = program.shortcut(program, args, mine)
                except NeedleError as raised:
                    return self._after(raised, program, args, kwargs)
                if result is not LONG_WAY:
                    return result
            if not program.fits(args, mine):
                program = None
        leaves = list(args)
        if program is None or program.mismatch(leaves):
            program, leaves = self._looked_up(args, kwargs)
            if program is None:
                return self._as_written(args, kwargs)
        if self._check:
            return compare_with_eager(program, self._as_written, args, kwargs, leaves)
        try:
            return program.run(leaves)
        except BusyError:
            return self._as_written(args, kwargs)
        except NeedleError as raised:
            return self._after(raised, program, args, kwargs)

    def _after(self, raised: NeedleError, program: Program, args: Any, kwargs: Any) -> Any:
        """What becomes of a call that ended in an error, with the state that was there before it.

        What the function itself raises names the module; if it raises nothing, it handled that.
        """
        if isinstance(raised, EnteredError):  # which would never end as written
            raise raised
        error = DryRun(self._as_written, args, kwargs, program.trace).error
        if isinstance(error, NeedleError):
            raise error from None
        if error is not None or not isinstance(raised, IndexRangeError):
            raise raised
        if any(map(is_random, program.trace.nodes)):
            raise TraceError(
                f"jit: {self.__name__} handles an IndexRangeError in a call that has drawn "
                "random numbers, which would be drawn again. Check the indices before the "
                "call, or draw outside and pass the numbers as an argument"
            ) from raised
        return self._as_written(args, kwargs)

    def _looked_up(self, args: Any, kwargs: Any) -> tuple[Program | None, list[Any]]:
        """The program for a call, found or made, and what it runs on."""
        leaves, arguments = signature(args, kwargs)
        key = self._key(arguments, leaves)
        program, reason = self._programs.fitting(key, leaves)
        if program is None:
            with suppress(BusyError), making():
                program = self._made(arguments, reason, args, kwargs, leaves)
        if program is not None:
            self._programs.use(program)
        return program, leaves

    def _key(self, arguments: Key, leaves: list[Any]) -> Key:
        return arguments, *modes_of(ambient.__dict__), attributes(leaves, self._asked)

    def _as_written(self, args: Any, kwargs: Any) -> Any:
        """An eager call; arrays arrive as tensors, and jitted functions are part of it.

        As in a trace: a result that is differentiated here does not come from a program.
        """
        evaluator = ambient.evaluator
        with ambient_set(evaluator=AS_WRITTEN if evaluator is EAGER else evaluator):
            return self.__wrapped__(
                *[_arriving(item) for item in args],
                **{name: _arriving(item) for name, item in kwargs.items()},
            )

    def _made(
        self, arguments: Key, reason: str, args: Any, kwargs: Any, leaves: list[Any]
    ) -> Program | None:
        """A new program; None where the call has to be made eagerly first."""
        key = self._key(arguments, leaves)
        program, _ = self._programs.fitting(key, leaves)  # another thread may have made it
        if program is not None or config.jit_mode() == "0":
            return program
        if self._programs.occurrence(key) <= self._warmup:
            return None
        try:
            with paused():
                done = trace(self.__wrapped__, args, kwargs, leaves)
        except NewStateError as state:
            self._be_patient(state, key)
            return None
        self._patience.pop(key, None)
        program = Program(done, reason, None if kwargs else quick_key(args, ambient.__dict__))
        self._asked = self._asked | done.asked  # another thread may be reading it
        self._programs.keep(self._key(arguments, leaves), program)
        return program

    def _be_patient(self, state: NewStateError, key: Key) -> None:
        """A trace found that state came into being: an error, if it does so again and again."""
        ran = self._programs.calls(key)
        times, then = self._patience.get(key, (0, ran))
        in_a_row = then == ran and not state.bounded  # no program has run since
        times = times + 1 if in_a_row else 1
        self._patience[key] = times, ran
        if times >= PATIENCE:
            raise TraceError(
                f"jit: {state} gets something new at every call, so the state of the function "
                f"never settles. {state.advice}"
            ) from None

    def __reduce__(self) -> str | tuple[Any, ...]:
        """Pickled as functions are, by name, or by what is jitted: another process compiles."""
        found: Any = sys.modules.get(str(self.__module__))
        for name in str(self.__qualname__).split("."):
            found = getattr(found, name, None)
        if found is self:
            return str(self.__qualname__)
        return Jitted, (self.__wrapped__, self._warmup, self._check)

    def __deepcopy__(self, memo: dict[int, Any]) -> Jitted:
        """A copy of the function, which makes programs of its own."""
        return Jitted(deepcopy(self.__wrapped__, memo), self._warmup, self._check)

    def __repr__(self) -> str:
        return f"jit({self.__name__}, {len(self.programs)} programs)"


def _arriving(item: Any) -> Any:
    """An argument with its arrays as tensors; a list without any is the caller's own."""
    return mapped(item, _as_tensor) if holds_arrays(item) else item


def _as_tensor(item: Any) -> Any:
    return Tensor(item, requires_grad=False) if is_array(item) else item


def jit(function: Callable[..., Any] | None = None, *, warmup: int = 1, check: bool = False) -> Any:
    """Compile a function: forward, backward and optimiser step become one program.

    Args:
        function: Plain code on tensors; also usable as a decorator, with or without arguments.
        warmup: Calls with a new signature that run eagerly before one is traced.
        check: Run every call eagerly too, on copies of state and random stream, and compare.

    Returns:
        A callable like `function`. Values read from other Python objects are **constants of the
        program**.

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
        return lambda f: _jitted(f, warmup, check)
    return _jitted(function, warmup, check)


def _jitted(function: Any, warmup: int, check: bool) -> Jitted:
    if isinstance(function, classmethod | property):
        kind = type(function).__name__
        raise ArgumentError(
            f"jit: a {kind} is not compiled as a whole. Write @{kind} above @ndl.jit"
        )
    if not callable(function):
        raise ArgumentError(f"jit: {function!r} cannot be called. Pass a function or a module")
    if as_int(warmup, "jit", "warmup") < 0:
        raise ArgumentError(f"jit: warmup={warmup} is no number of calls. Use 0 or more")
    return Jitted(function, warmup, check)


Differentiable.compile = staticmethod(jit)
