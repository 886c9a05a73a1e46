"""The user's line: where outside the library a value was made."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np

_PACKAGES = str(Path(__file__).parent.parent), str(Path(np.__file__).parent)


def user_line() -> str:
    """`file:line` of the innermost caller that is not part of the library, or of NumPy."""
    frame = inspect.currentframe()
    assert frame is not None  # CPython has frames
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGES):
        frame = frame.f_back
    code = frame.f_code
    # Code that a program made or changed need not say which lines its instructions are of.
    return f"{code.co_filename}:{frame.f_lineno or code.co_firstlineno}"
