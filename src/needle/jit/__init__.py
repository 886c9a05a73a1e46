"""`ndl.jit`: plain imperative code, traced and compiled whole.

What happens to a function, and where to begin to read::

    a call     api.py                  which program fits; if none does:
    trace      tracing/recording.py    the function runs once, and a `Trace` says what it did
    compile    compiler/compiled.py    stage after stage, the trace's graph becomes machine code
    run        programs/program.py     inputs are bound, the code runs, its results are written

Each folder knows only those before it: `objects/` what Python objects hold, `guards/` whether the
world is still that of a program, then `tracing/`, `compiler/` and `programs/`. `explain.py` shows
the stages as text, `tracing/interpret.py` is what they mean.
"""

from __future__ import annotations

from .api import Jitted, jit
from .explain import Explanation, explain
from .programs.program import Program

__all__ = ["Explanation", "Jitted", "Program", "explain", "jit"]
