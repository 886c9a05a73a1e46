"""The variables that a function's code names: those of its closure, and globals.

::

    def make(w):                            slots of `step`:  w, a variable of its closure
        def step(x):                                          SCALE, a global
            return x @ w * SCALE
"""

from __future__ import annotations

import dis
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import repeat
from operator import attrgetter
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, ModuleType
from typing import Any
from weakref import ref

from .slots import MISSING, Container
from .things import is_library

_contents = attrgetter("cell_contents")
_PLAIN = (bool, int, float, str, type(None))


class Names(Container):
    """The variables of a function: those of its closure, and globals."""

    def __init__(self, owner: FunctionType, path: str) -> None:
        super().__init__(owner, path)
        self.owner = ref(owner)
        self._globals = global_names(owner.__code__)
        self.expected = [*owner.__code__.co_freevars, *self._globals]

    def slots(self) -> dict[Any, Any]:
        function = self.owner()
        if function is None:
            return {}
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        held = {name: _held(cell) for name, cell in cells}
        space = function.__globals__
        held.update({name: space[name] for name in self._globals if name in space})
        return {name: value for name, value in held.items() if value is not MISSING}

    def reader(self, keys: Sequence[Any]) -> Callable[[], list[Any]]:
        function, free = self.owner, self.owner().__code__.co_freevars
        cells = [free.index(key) for key in keys if key in free]
        names = [key for key in keys if key not in free]

        def read() -> list[Any]:
            held = function()
            if held is None:
                return []
            closure, space = held.__closure__, held.__globals__
            try:
                found = list(map(_contents, map(closure.__getitem__, cells))) if cells else []
            except ValueError:  # a variable that is not assigned yet, or was deleted
                found = [_held(closure[place]) for place in cells]
            return found + list(map(space.get, names, repeat(MISSING))) if names else found

        return read

    def _cell(self, key: Any) -> CellType | None:
        """Where a variable of the closure is kept; None for a global."""
        function = self.owner()
        free = function.__code__.co_freevars
        return function.__closure__[free.index(key)] if key in free else None

    def variable(self, key: Any) -> tuple[int, str]:
        """The same for two functions that name the same variable."""
        cell = self._cell(key)
        return (id(self.owner().__globals__), key) if cell is None else (id(cell), "")

    def assign(self, key: Any, value: Any) -> None:
        cell = self._cell(key)
        if cell is None:
            self.owner().__globals__[key] = value
        else:
            cell.cell_contents = value

    def remove(self, key: Any) -> None:
        cell = self._cell(key)
        if cell is None:
            del self.owner().__globals__[key]
        else:
            del cell.cell_contents

    def label(self, key: Any) -> str:
        return str(key)

    def is_fixed(self, key: Any, value: Any) -> bool:
        """Whether a variable holds what nobody binds anew: what an import put there.

        That is a module in a global, or a class or function in C of a library under its own name;
        and the class that `super()` goes by.
        """
        if key in self.owner().__code__.co_freevars:
            return key == "__class__"
        if isinstance(value, type | BuiltinFunctionType):
            return value.__name__ == key and is_library(value.__module__)
        return isinstance(value, ModuleType)


class Defaults(Container):
    """The default arguments of a function: those by place, then those of keywords."""

    def __init__(self, owner: FunctionType) -> None:
        super().__init__(owner, f"the defaults of {owner.__name__}")
        self.owner = ref(owner)

    def slots(self) -> dict[Any, Any]:
        function = self.owner()
        if function is None:
            return {}
        return {**dict(enumerate(function.__defaults__ or ())), **(function.__kwdefaults__ or {})}

    def reader(self, keys: Sequence[Any]) -> Callable[[], list[Any]]:
        function = self.owner

        def read() -> list[Any]:
            held = function()
            if held is None:
                return []
            return [*(held.__defaults__ or ()), *(held.__kwdefaults__ or {}).values()]

        return read

    def are_plain(self) -> bool:
        """Whether nothing can be changed in them: their tuple says all, and keeps nothing alive."""
        function = self.owner()
        plain = all(isinstance(value, _PLAIN) for value in function.__defaults__ or ())
        return plain and not function.__kwdefaults__


def _held(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a variable that is not assigned yet
        return MISSING


@lru_cache(maxsize=4096)
def global_names(code: CodeType) -> tuple[str, ...]:
    """Global variables that a function's code reads or sets."""
    named = _arguments_of(code, "LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL", "DELETE_GLOBAL")
    return tuple(dict.fromkeys(named))


@lru_cache(maxsize=4096)
def modules_in(code: CodeType) -> tuple[str, ...]:
    """The modules that a function's code imports, the packages around them included."""
    named = [name.split(".") for name in _arguments_of(code, "IMPORT_NAME")]
    found = [".".join(parts[: end + 1]) for parts in named for end in range(len(parts))]
    return tuple(dict.fromkeys(found))


@lru_cache(maxsize=4096)
def names_in(code: CodeType) -> frozenset[str]:
    """The attributes and globals that a function's code names.

    Also in strings, as in `getattr(settings, "factor", 1.0)`.
    """
    strings = [text for part in _nested(code) for text in part.co_consts if isinstance(text, str)]
    names = [name for part in _nested(code) for name in part.co_names]
    return frozenset([*names, *filter(str.isidentifier, strings)])


def _arguments_of(code: CodeType, *instructions: str) -> Iterator[str]:
    for part in _nested(code):
        for instruction in dis.get_instructions(part):
            if instruction.opname in instructions:
                yield instruction.argval


def _nested(code: CodeType) -> Iterator[CodeType]:
    """A function's code, and that of the functions written in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)
