"""`ndl.jit`: plain imperative code, traced and compiled whole."""

from __future__ import annotations

from .api import Jitted, jit
from .program import Program

__all__ = ["Jitted", "Program", "jit"]
