"""Rounds: every contestant has a turn in each, in an order that moves on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

from .figures import Summary, differences, group_size, summary
from .process import Contestant, ContestantError, Process


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Args:
        quick: a look while writing code, not a measurement.
        rounds: turns of each contestant.
        groups: timed groups a turn; the first is thrown away, because it follows the others' turns.
        seconds: a group goes on for about so long.
    """

    quick: bool
    rounds: int
    groups: int
    seconds: float


FULL = Effort(quick=False, rounds=15, groups=9, seconds=0.02)
QUICK = Effort(quick=True, rounds=3, groups=4, seconds=0.01)


class Field:
    """The contestants that could be built, and why the others could not.

    Args:
        at_once: how many are started, and asked what is not timed, at the same time.
    """

    def __init__(self, at_once: int = 1) -> None:
        self.processes: dict[str, Process] = {}
        self.missing: dict[str, str] = {}
        self._at_once = at_once

    def start(self, contestants: Iterable[Contestant]) -> None:
        """Build the contestants; who fails is out."""
        wanted = {contestant.name: contestant for contestant in contestants}

        def start(name: str) -> None:
            self.processes[name] = Process(wanted[name])

        self._attempt(start, wanted)
        self.processes = {name: self.processes[name] for name in wanted if name in self.processes}

    def ask(self, method: str, /, **arguments: Any) -> dict[str, Any]:
        """Everyone's answer; who fails is out. For what is not timed."""
        return self._attempt(
            lambda name: self.processes[name].ask(method, **arguments), self.processes
        )

    def _attempt(self, action: Callable[[str], Any], names: Iterable[str]) -> dict[str, Any]:
        """Results of an action by name, without those of who failed."""
        with ThreadPoolExecutor(self._at_once) as pool:
            begun = {name: pool.submit(action, name) for name in names}
        answers = {}
        for name, future in begun.items():
            try:
                answers[name] = future.result()
            except ContestantError as error:
                self.drop(name, error)
        return answers

    def drop(self, name: str, error: Exception) -> None:
        """Leave a contestant out from now on."""
        self.missing[name] = str(error)[:300]
        say(f"  without {error}")
        if (process := self.processes.pop(name, None)) is not None:
            process.close()

    def check(self, reference: Sequence[float], tolerance: float, **arguments: Any) -> Summary:
        """Compare everyone's `check()` with the reference; who differs is out.

        Returns:
            The largest relative difference of each.
        """
        found = differences(self.ask("check", **arguments), reference)
        for name, difference in found.items():
            if not difference <= tolerance:
                error = f"{name}: result differs by {difference:.2g}, allowed {tolerance:.2g}"
                self.drop(name, ContestantError(error))
        return found


@contextmanager
def field_of(contestants: Iterable[Contestant], at_once: int = 1) -> Generator[Field]:
    """Start the contestants, and end them."""
    field = Field(at_once)
    try:
        field.start(contestants)
        yield field
    finally:
        for process in field.processes.values():
            process.close()


def interleave(
    field: Field, effort: Effort, between: Callable[[], object] | None = None
) -> dict[str, Summary]:
    """Time everyone's `run` in rounds.

    Args:
        field: The contestants.
        effort: How long.
        between: called once a round.

    Returns:
        Median and best seconds of one run, and the processors used, by name.
    """
    sizes = {}
    for name, answer in _turn(field, groups=3, sizes=dict.fromkeys(field.processes, 1)).items():
        sizes[name] = group_size(min(answer["seconds"]), effort.seconds)
    seconds: dict[str, list[float]] = {name: [] for name in sizes}
    processors: dict[str, list[float]] = {name: [] for name in sizes}
    for number in range(effort.rounds):
        for name, answer in _turn(field, effort.groups, sizes, number).items():
            seconds[name] += answer["seconds"][1:]
            processors[name].append(answer["processors"])
        if between is not None:
            between()
    return {
        name: {**summary(seconds[name]), **conditions(process, processors[name])}
        for name, process in field.processes.items()
    }


def conditions(process: Process, processors: Sequence[float]) -> dict[str, Any]:
    """Threads a row claims, cores it kept busy, and what executed it."""
    return {
        "threads": process.threads,
        "processors": median(processors),
        "executor": process.ask("ran"),
    }


def _turn(
    field: Field, groups: int, sizes: Mapping[str, int], number: int = 0
) -> dict[str, dict[str, Any]]:
    """One turn of everyone, beginning with another one each time."""
    names = list(field.processes)
    first = number % max(1, len(names))
    answers = {}
    for name in names[first:] + names[:first]:
        try:
            answers[name] = field.processes[name].ask("time", groups=groups, size=sizes[name])
        except ContestantError as error:
            field.drop(name, error)
    return answers


def say(text: str) -> None:
    """Progress, beside the results."""
    print(text, file=sys.stderr, flush=True)
