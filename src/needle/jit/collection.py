"""The programs of one function: which of them a call has, and which are forgotten.

::

    what happens                                    what follows

    a call with a known signature                   the program whose guards hold, newest first
    a new program is one of too many                the one that was unused for longest goes
    something dies that a program has used          it goes: no world can be like that again
    such loss again and again after a call or two   a warning: compiling is in vain
"""

from __future__ import annotations

import time
import warnings
from functools import partial
from typing import Any
from weakref import ref

from .occurrences import Occurrences
from .programs.program import Program
from .tracing.signature import Key
from .tracing.turns import add

MANY_PROGRAMS = 8
"""After this many programs for one function a warning says what keeps changing."""
FEW_CALLS = 2
"""What is gone after so many calls was compiled in vain."""
MOST_PROGRAMS = 64
"""So many programs are kept for one function; the longest unused goes first."""
MANY_SIGNATURES = 64
"""After so many signatures without a program a warning says that nothing is compiled."""


class Programs:
    """The programs of one function, and which signatures have occurred.

    Args:
        name: Of the function, for warnings.

    Attributes:
        recent: The program of the last call.
    """

    def __init__(self, name: str) -> None:
        self.recent: Program | None = None
        self._name = name
        self._by_key: dict[Key, tuple[Program, ...]] = {}  # the newest first
        self._occurrences = Occurrences()
        self._in_vain = 0  # programs in a row that were gone after a few calls
        self._lost = ""  # the slot whose thing went with the last one

    def all(self) -> list[Program]:
        """All that are kept, the newest of each signature first."""
        return [program for group in tuple(self._by_key.values()) for program in group]

    def calls(self, key: Key) -> int:
        """How often programs of a signature have run."""
        return sum(program.calls for program in self._by_key.get(key, ()))

    def occurrence(self, key: Key) -> int:
        """How often a signature has occurred, with this call, which has no program."""
        calls = self._occurrences.count(key)
        is_new = calls == 1
        if is_new and self._occurrences.different == MANY_SIGNATURES and not self._by_key:
            warnings.warn(
                f"jit: {self._name} was called with {MANY_SIGNATURES} different signatures, "
                "each too seldom to be compiled, so all calls were eager. Integers, strings, "
                "shapes, arrays of other libraries and objects of your own are part of a "
                "signature: pass numbers that change as floats or tensors, and a batch as a tuple "
                "or dict of tensors",
                stacklevel=5,
            )
        return calls

    def fitting(self, key: Key, leaves: list[Any]) -> tuple[Program | None, str]:
        """The program that fits the world as it is; None, and why the newest one does not."""
        reason = None
        for program in self._by_key.get(key, ()):
            mismatch = program.mismatch(leaves)
            if mismatch is None:
                return program, ""
            reason = reason or mismatch
        return None, reason or "first call with this signature"

    def use(self, program: Program) -> None:
        """Note that this call is one of the program."""
        recent = self.recent
        if program is not recent:
            if recent is not None:
                recent.last_used = time.monotonic()  # till now no other was
            self.recent = program

    def keep(self, key: Key, program: Program) -> None:
        """Keep a new program, until something dies that it has used."""
        add(program)
        self._by_key[key] = (program, *self._by_key.get(key, ()))
        program.guards.when_gone = partial(_lose, ref(self), key, ref(program))
        program.guards.accept()
        if self._in_vain == MANY_PROGRAMS:
            self._in_vain += 1  # it is said once
            self._warn_of_loss()
        count = len(self.all())
        if count == MANY_PROGRAMS + 1:
            warnings.warn(
                f"jit: {self._name} has {count} programs, the last because: {program.reason}. "
                "Each is traced and compiled: keep shapes and attributes fixed between calls",
                stacklevel=5,
            )
        if count > MOST_PROGRAMS:
            others = [
                (k, p) for k, group in self._by_key.items() for p in group if p is not program
            ]
            recent = self.recent
            self.discard(*min(others, key=lambda item: (item[1] is recent, item[1].last_used)))

    def lose(self, key: Key, program: Program | None, label: str) -> None:
        """Something died without which a program cannot be used again; of one thing several tell.

        Args:
            key: Of the program.
            program: None if it is forgotten already.
            label: The name of the slot that held the thing, if one did.
        """
        if program is not None and program in self._by_key.get(key, ()):
            self._in_vain = self._in_vain + 1 if program.calls <= FEW_CALLS else 0
            self._lost = ""
            self.discard(key, program)
        self._lost = label or self._lost

    def discard(self, key: Key, program: Program) -> None:
        """Forget a program."""
        if self.recent is program:
            self.recent = None
        group = tuple([p for p in self._by_key.get(key, ()) if p is not program])
        if group:
            self._by_key[key] = group
        else:
            self._by_key.pop(key, None)
            self._occurrences.forget(key)

    def _warn_of_loss(self) -> None:
        what = f"what {self._lost} held" if self._lost else "something that it had used"
        warnings.warn(
            f"jit: {MANY_PROGRAMS} programs of {self._name} in a row were gone after a call or "
            f"two, the last one with {what}. Each was traced and compiled: pass what is new "
            "at each call as tensors among the arguments, or keep one tensor and assign its .data",
            stacklevel=6,
        )


def _lose(owner: ref[Programs], key: Key, program: ref[Program], label: str) -> None:
    """Tell those that a program belongs to, if they are still there."""
    programs = owner()
    if programs is not None:
        programs.lose(key, program(), label)
