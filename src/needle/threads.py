"""How many threads numerical code may use."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from .errors import ArgumentError


@cache
def _controller() -> Any:
    from threadpoolctl import (
        ThreadpoolController,  # looks at every loaded library: not at import time
    )

    return ThreadpoolController().select(user_api="blas")


def set_num_threads(n: int) -> None:
    """Let matrix products use `n` threads, in this process.

    Args:
        n: Number of threads, at least 1.

    Raises:
        ArgumentError: n is not a positive integer.

    Example:
        >>> import needle as ndl
        >>> before = ndl.get_num_threads()
        >>> ndl.set_num_threads(1)
        >>> ndl.get_num_threads()
        1
        >>> ndl.set_num_threads(before)
    """
    if not isinstance(n, int) or n < 1:
        raise ArgumentError(f"set_num_threads: {n!r} is no number of threads. Pass an integer >= 1")
    _controller().limit(limits=n)


def get_num_threads() -> int:
    """The number of threads that matrix products may use.

    Example:
        >>> import needle as ndl
        >>> ndl.get_num_threads() >= 1
        True
    """
    counts = [library["num_threads"] for library in _controller().info()]
    return max(counts, default=os.cpu_count() or 1)
