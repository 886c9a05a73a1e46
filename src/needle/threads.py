"""How many threads numerical code may use: NumPy's matrix products, and compiled programs."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController

from .errors import ArgumentError
from .native import threads as native


@cache
def _controller() -> Any:
    """NumPy's matrix products; made at first use, since it looks at every loaded library."""
    return ThreadpoolController().select(user_api="blas")


def set_num_threads(n: int) -> None:
    """Let matrix products and compiled programs use `n` threads, in this process.

    Without a call of it each compiled program finds its best number by timing its runs.

    Args:
        n: Number of threads, from 1 to 2**31 - 1.

    Raises:
        ArgumentError: n is no integer in that range.

    Example:
        >>> import needle as ndl
        >>> before = ndl.get_num_threads()
        >>> ndl.set_num_threads(1)
        >>> ndl.get_num_threads()
        1
        >>> ndl.set_num_threads(before)
    """
    if not isinstance(n, int) or isinstance(n, bool) or not 1 <= n < 1 << 31:
        raise ArgumentError(f"set_num_threads: {n!r} is no number of threads. Pass 1 to 2**31 - 1")
    _controller().limit(limits=n)
    native.set_threads(n)


def get_num_threads() -> int:
    """The number of threads that matrix products may use.

    Example:
        >>> import needle as ndl
        >>> ndl.get_num_threads() >= 1
        True
    """
    counts = [library["num_threads"] for library in _controller().info()]
    return max(counts, default=os.cpu_count() or 1)
