"""Which thread is to do which chunks: a program as the table that `pool` reads.

Every phase of a stage is cut evenly, so that a thread meets the same part of each phase, and finds
the data in its cache. Phases of a single chunk go to the thread that has the least to do by then,
the longest first::

    before: a stage                          after: two queues of chunks, numbered through

    product  8 chunks, each of cost 4        thread 0   product 0 ... 4, update 0
    update   1 chunk, of cost 3              thread 1   product 4 ... 8, pack 0
    pack     1 chunk, of cost 2

This is where chunks begin, not where they end: a thread that is without work for a moment takes
from the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, chain, pairwise
from typing import Any, NamedTuple

import numpy as np

from ..errors import ArgumentError
from . import layout


class Phase(NamedTuple):
    """A native function and its chunks.

    Attributes:
        address: Of the function.
        chunks: How many there are.
        waits: Whether it waits for the phases before it.
        cost: Rough nanoseconds of a chunk: only how they compare matters.
        words: Address of what the function is given beside the program's arguments.
    """

    address: int
    chunks: int
    waits: bool = True
    cost: float = 1.0
    words: int = 0


class _Piece(NamedTuple):
    """Chunks begin ... end - 1 of a phase, for one thread."""

    phase: Phase
    begin: int
    end: int


Queues = list[list[_Piece]]


def stages(phases: Sequence[Phase]) -> list[list[Phase]]:
    """Phases that run side by side; those without chunks are left out."""
    found: list[list[Phase]] = [[]]
    for phase in phases:
        if phase.waits:
            found.append([])
        if phase.chunks > 0:
            found[-1].append(phase)
    return [stage for stage in found if stage]


def widest(phases: Sequence[Phase]) -> int:
    """The most chunks that can be worked on at once."""
    return max((sum(p.chunks for p in stage) for stage in stages(phases)), default=1)


def share(stage: Sequence[Phase], threads: int) -> Queues:
    """The chunks of a stage as a queue for each thread."""
    queues: Queues = [[] for _ in range(threads)]
    loads = [0.0] * threads
    for phase in sorted(stage, key=lambda phase: (phase.chunks == 1, -phase.cost)):
        cuts = [t * phase.chunks // threads for t in range(threads + 1)]
        if phase.chunks == 1:
            idle = loads.index(min(loads))
            cuts = [0] * (idle + 1) + [1] * (threads - idle)
        for thread, (begin, end) in enumerate(pairwise(cuts)):
            if begin < end:
                queues[thread].append(_Piece(phase, begin, end))
                loads[thread] += (end - begin) * phase.cost
    return queues


def table(
    phases: Sequence[Phase], arguments: int, threads: int
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The program as `pool` reads it, for a number of threads."""
    shared = [share(stage, threads) for stage in stages(phases)]
    pieces = [piece for queues in shared for piece in chain(*queues)]
    total = _length(pieces)
    if total > layout.MAX_CHUNKS:
        raise ArgumentError(
            f"Program: {total} chunks are more than {layout.MAX_CHUNKS}. Compute with fewer "
            "elements at once, or make chunks larger"
        )
    first_queue = layout.HEADER + layout.ROW_WORDS * len(pieces)
    queue_words = 1 + threads
    first_place = first_queue + queue_words * len(shared)
    rows: list[int] = []
    filled: list[int] = []
    places: list[int] = []
    for stage, queues in enumerate(shared, 1):
        ends = list(accumulate(map(_length, queues), initial=len(places)))
        filled.append(max(thread for thread, queue in enumerate(queues) if queue) + 1)
        filled += [begin << 32 | end for begin, end in pairwise(ends)]
        following = first_queue + queue_words * stage if stage < len(shared) else 0
        for phase, begin, end in chain(*queues):
            row, number, length = layout.HEADER + len(rows), len(places), end - begin
            rows += [phase.address, number, length, begin, ends[-1], following, phase.words]
            places += [row] * length
    header = [0, threads, total, arguments, len(pieces), first_place]
    return np.array([*header, *rows, *filled, *places], np.int64)


def _length(queue: Sequence[_Piece]) -> int:
    return sum(piece.end - piece.begin for piece in queue)
