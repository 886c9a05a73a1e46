"""Fetching batches ahead in a background thread."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def prefetched(fetch: Callable[[int], T], numbers: range, ahead: int) -> Iterator[T]:
    """`fetch(number)` for each number in turn, `ahead` of them under way before they are asked for.

    Order, results and exceptions are those of `map(fetch, numbers)`. The thread ends when the
    iterator is exhausted, closed or collected, or the interpreter exits.

    Args:
        fetch: must depend on its number only, and be called in a thread of its own.
        numbers: consecutive numbers.
        ahead: at least 1.
    """
    owner = os.getpid()
    pool = ThreadPoolExecutor(1, thread_name_prefix="needle-prefetch")
    pending: deque[Future[T]] = deque()
    try:
        for place, number in enumerate(numbers):
            if os.getpid() != owner:  # the thread did not come along through a fork
                yield fetch(number)
                continue
            for upcoming in numbers[place + len(pending) : place + ahead + 1]:
                pending.append(pool.submit(fetch, upcoming))
            yield pending.popleft().result()
    finally:
        # Not waited for: the iterator may be collected in the very thread that would be joined.
        pool.shutdown(wait=False, cancel_futures=True)
