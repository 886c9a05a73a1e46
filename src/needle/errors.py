"""The exception tree: every message names the operation, the offending values and the fix.

::

    NeedleError
    ├── ShapeError       (ValueError)          shapes that do not fit together
    ├── DTypeError       (TypeError)           a dtype the operation cannot take
    ├── ArgumentError    (ValueError)          a static argument out of its range
    ├── IndexRangeError  (IndexError)          an index outside its axis
    ├── GradientError    (RuntimeError)        a gradient that does not exist or does not fit
    ├── NonFiniteError   (FloatingPointError)  the first NaN or infinity under check_finite
    ├── DataError        (ValueError)          a data file that is missing, damaged or lies
    ├── StateError       (ValueError)          state that does not fit a module or optimiser
    ├── CheckpointError  (RuntimeError)        a checkpoint that is damaged or does not match
    ├── BackendError     (RuntimeError)        a device or backend that is not there
    ├── TraceError       (RuntimeError)        code that cannot be traced as written
    └── CompileError     (RuntimeError)        the compiler cannot go on
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class NeedleError(Exception):
    """Base of every error that Needle raises on purpose.

    While one passes through module calls it collects the path of the module that failed, which is
    put in front of the message: `modules.2.fn.modules.0 (Linear): matmul: …`.
    """

    _module: Any = None
    _path: str = ""

    def add_module(self, module: Any, name_of: Callable[[Any], str | None]) -> None:
        """Note that the error passed through a call of `module`.

        Args:
            module: The module, outermost last.
            name_of: Gives the name of a child in `module`, None where it has none.
        """
        if self._module is None:
            self._kind = type(module).__name__
        else:
            name = name_of(self._module)
            if name is not None:
                self._path = f"{name}.{self._path}" if self._path else name
        self._module = module

    def __str__(self) -> str:
        message = super().__str__()
        if self._module is None:
            return message
        return (
            f"{self._path} ({self._kind}): {message}" if self._path else f"{self._kind}: {message}"
        )


class ShapeError(NeedleError, ValueError):
    """Shapes that do not fit together."""


class DTypeError(NeedleError, TypeError):
    """A dtype that the operation cannot take."""


class ArgumentError(NeedleError, ValueError):
    """A static argument that is out of its range or of the wrong kind."""


class IndexRangeError(NeedleError, IndexError):
    """An index outside its axis."""


class GradientError(NeedleError, RuntimeError):
    """A gradient that does not exist or does not fit."""


class NonFiniteError(NeedleError, FloatingPointError):
    """The first NaN or infinity under `check_finite`."""


class DataError(NeedleError, ValueError):
    """A data file that is missing, damaged, or says something untrue of itself."""


class StateError(NeedleError, ValueError):
    """State that does not fit the module or optimiser it is loaded into."""


class CheckpointError(NeedleError, RuntimeError):
    """A checkpoint that is damaged or does not match."""


class BackendError(NeedleError, RuntimeError):
    """A device or backend that is not there."""


class TraceError(NeedleError, RuntimeError):
    """Code that cannot be traced as written; the message says what to write instead."""


class CompileError(NeedleError, RuntimeError):
    """A program that the compiler cannot build."""
