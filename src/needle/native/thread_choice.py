"""The number of threads that runs a program fastest, found by timing its runs.

Two processors may be halves of one, far apart, or busy with something else, and that changes while
a program runs: so the number is measured, never computed, and looked at again.
"""

from __future__ import annotations

import statistics

ROUNDS = 4  # turns of each candidate in a trial; the first one warms up and does not count
TURN = 3  # runs in a turn; in the first one threads still wake up, so it does not count either
GAIN = 0.95  # more threads must take at most this share of the time of fewer
HOPELESS = 1.5  # a candidate this many times slower than the best is tried in few turns only
LATE = 1.5  # a run this many times slower than usual is late
WINDOW = 64  # of so many runs,
TOO_MANY = 8  # so many late ones lead to a new trial
PATIENCE = (WINDOW, 16_384)  # runs to the next look even if none is late: at first, and at most


class ThreadChoice:
    """Chooses between 1, 2, 4, ... and `most` threads. Run with `threads`, then `add` the time.

    A trial runs the candidates in turns, so that a disturbance meets all of them, and compares
    medians. Afterwards the best one is used until many runs are late or it is time for another
    look; looks that change nothing become rarer.

    >>> choice = ThreadChoice(2)
    >>> for _ in range(24):
    ...     choice.add(1000 if choice.threads == 1 else 600)
    >>> choice.threads
    2
    """

    def __init__(self, most: int) -> None:
        powers = [2**i for i in range(most.bit_length()) if 2**i < most]
        self._candidates = [*powers, most]
        self._best = 0
        self._patience = PATIENCE[0]
        self._begin_trial()

    def add(self, nanoseconds: int) -> None:
        """Take in the time of one run with `threads` threads."""
        if self._waiting:
            self._add_trial(nanoseconds)
            return
        self._runs += 1
        if nanoseconds > self._late_from:
            self._late += 1
        if self._runs % WINDOW == 0 or self._late >= TOO_MANY:
            if self._late >= TOO_MANY or self._runs >= self._patience:
                self._begin_trial()
            self._late = 0

    def _begin_trial(self) -> None:
        self._times: dict[int, list[int]] = {count: [] for count in self._candidates}
        turns = [count for count in self._candidates for _ in range(TURN)]
        self._waiting = turns * ROUNDS if len(self._candidates) > 1 else []
        self._before = 0
        self._runs = self._late = 0
        self._late_from = float("inf")
        self.threads = self._waiting[0] if self._waiting else self._candidates[0]

    def _add_trial(self, nanoseconds: int) -> None:
        count = self._waiting.pop(0)
        if count == self._before:
            self._times[count].append(nanoseconds)
        self._before = count
        if len(self._waiting) == len(self._candidates) * TURN * (ROUNDS - 2):
            self._drop_hopeless()
        if self._waiting:
            self.threads = self._waiting[0]
        else:
            self._settle()

    def _drop_hopeless(self) -> None:
        """After the first round that counts."""
        last = {count: min(times[TURN - 1 :]) for count, times in self._times.items()}
        limit = HOPELESS * min(last.values())
        self._waiting = [count for count in self._waiting if last[count] <= limit]

    def _settle(self) -> None:
        counted = {count: times[TURN - 1 :] for count, times in self._times.items()}
        medians = {count: statistics.median(times) for count, times in counted.items()}
        best = self._candidates[0]
        for count in self._candidates[1:]:
            if medians[count] < GAIN * medians[best]:
                best = count
        self._patience = min(2 * self._patience, PATIENCE[1]) if best == self._best else PATIENCE[0]
        self._best = self.threads = best
        self._late_from = LATE * medians[best]
