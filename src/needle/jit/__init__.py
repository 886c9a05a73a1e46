"""`ndl.jit`: plain imperative code, traced and compiled whole.

What happens to a function, and where to begin to read::

    a call       api.py              which program fits; if none does:
    trace        tracing.py          the function runs once, and a `Trace` says what it did
    compile      compiled.py         stage after stage, the trace's graph becomes machine code
    run          program.py          inputs are bound, the code runs, state and results are written

`explain.py` shows the stages as text, `interpret.py` is what they mean.
"""

from __future__ import annotations

from .api import Jitted, jit
from .explain import Explanation, explain
from .program import Program

__all__ = ["Explanation", "Jitted", "Program", "explain", "jit"]
