"""How the functions of a program are called: with a table of all values, and words of each call.

Every function has the signature ``void f(ptr table, i64 begin, i64 end, ptr words)`` and does the
chunks begin ... end - 1. `table` has the address of every value. The words of a call say where in
the table the pointers lie that it needs, and how far from there it begins. So kernels that do the
same with other memory are calls of one function::

    what is called                 function    words

    kernel1: y[i] = x[i] * 2       @kernel1    slot of y, 0, slot of x, 0
    kernel2: z[i] = y[i + 1] * 2   @kernel1    slot of z, 0, slot of y, 4

A chain is a call of one function too, whose words name the calls that it makes for each chunk.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ...native.values import I8, I64, PTR, VOID, Value
from ...native.vectors import Source
from .kernels import Special
from .tasks import Task

_SIGNATURE = {"table": PTR, "begin": I64, "end": I64, "words": PTR}

CHAIN = "chain"
"""The function that makes the calls of a chain. Its words: how many, then function and words."""


@dataclass(eq=False)
class Call:
    """The call of a task: its name, the function, and the number of the first of its words."""

    symbol: str
    function: str
    words: int
    task: Task


@dataclass(eq=False)
class Shared:
    """Calls that are made one after the other for each chunk, and their chunks shared out."""

    calls: list[Call]
    chunks: int
    cost: float


@dataclass(eq=False)
class Emitted:
    """The code of a program.

    Attributes:
        ir: The module.
        words: For each call the slot of each pointer and the bytes from there, then numbers.
        stages: What may run side by side, stage after stage; or an operator to call in Python.
    """

    ir: str = ""
    words: list[int] = field(default_factory=list[int])
    stages: list[list[Shared] | Special] = field(default_factory=list[list[Shared] | Special])

    @property
    def calls(self) -> list[Call]:
        """The calls of all tasks, in order."""
        stages = [stage for stage in self.stages if isinstance(stage, list)]
        return [call for stage in stages for each in stage for call in each.calls]


class Function:
    """A function of the program while it is written: its code, and what a call gives it."""

    def __init__(self, source: Source, symbol: str, pointers: int) -> None:
        function = source.function(symbol, _SIGNATURE)
        self.b = function.body
        self._table, self.begin, self.end, self._words = function.arguments
        self._count = pointers

    def pointers(self) -> list[Value]:
        """All pointers."""
        return [self.pointer(place) for place in range(self._count)]

    def pointer(self, place: Value | int) -> Value:
        """The pointer in the slot that a word names, moved by the bytes that the next one says."""
        b, word = self.b, place * 2
        pointer = b.load(self._table, PTR, b.load(self._words, I64, word))
        return b.offset(pointer, I8, b.load(self._words, I64, word + 1))

    def number(self, place: Value | int) -> Value:
        """A number that is different from call to call."""
        return self.b.load(self._words, I64, place + 2 * self._count)


def write_chain(source: Source) -> None:
    """Append the function that does one chunk after the other of several calls."""
    function = source.function(CHAIN, _SIGNATURE)
    b = function.body
    table, begin, end, words = function.arguments
    with b.loop(begin, end) as chunk, b.loop(0, b.load(words, I64)) as number:
        function_place = number.index * 2 + 1
        to_call, given = (b.load(words, PTR, function_place + k) for k in (0, 1))
        b.call_pointer(to_call, VOID, table, chunk.index, chunk.index + 1, given)
    b.ret()
