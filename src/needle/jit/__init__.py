"""`ndl.jit`: plain imperative code, traced and compiled whole."""

from __future__ import annotations

from .api import Jitted, jit
from .explain import Explanation, explain
from .program import Program

__all__ = ["Explanation", "Jitted", "Program", "explain", "jit"]
