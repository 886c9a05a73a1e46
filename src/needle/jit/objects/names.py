"""The variables that a function's code names: those of its closure, and globals.

::

    def make(w):                            slots:  w, of the Closure of `step`
        def step(x):                                SCALE, of the Globals of the file
            return x @ w * SCALE
"""

from __future__ import annotations

import dis
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from itertools import pairwise, repeat
from operator import attrgetter
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, ModuleType
from typing import Any
from weakref import ref

from .slots import MISSING, Container
from .things import is_library, is_of_library

_contents = attrgetter("cell_contents")
_IMMUTABLE = (bool, int, float, str, type(None))
SUPER = "__class__"
"""The variable of a closure that `super()` goes by."""
_VARIABLES = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF")
_NO_STEPS = ("PRECALL", "PUSH_NULL", "EXTENDED_ARG")


class Closure(Container):
    """The variables of a function's closure, but for those that another function has already.

    Args:
        owner: The function.
        path: Its name in messages.
        known: The variables that others have, by identity of their cells; these are put there.
    """

    def __init__(self, owner: FunctionType, path: str, known: set[int]) -> None:
        super().__init__(owner, path)
        self.owner = ref(owner)
        cells = zip(owner.__code__.co_freevars, owner.__closure__ or (), strict=True)
        own = {name: id(cell) for name, cell in cells if id(cell) not in known}
        known.update(own.values())
        self.expected = list(own)

    def slots(self) -> dict[Any, Any]:
        function = self.owner()
        if function is None:
            return {}
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        held = {name: _held(cell) for name, cell in cells if name in self.expected}
        return {name: value for name, value in held.items() if value is not MISSING}

    def reader(self, keys: Sequence[Any]) -> Callable[[], list[Any]]:
        function, free = self.owner, self.owner().__code__.co_freevars
        cells = [free.index(key) for key in keys]

        def read() -> list[Any]:
            held = function()
            if held is None:
                return []
            closure: Any = held.__closure__ or ()
            try:
                return list(map(_contents, map(closure.__getitem__, cells)))
            except ValueError:  # a variable that is not assigned yet, or was deleted
                return [_held(closure[place]) for place in cells]

        return read

    def _cell(self, key: Any) -> CellType:
        function = self.owner()
        return function.__closure__[function.__code__.co_freevars.index(key)]

    def assign(self, key: Any, value: Any) -> None:
        self._cell(key).cell_contents = value

    def remove(self, key: Any) -> None:
        del self._cell(key).cell_contents

    def label(self, key: Any) -> str:
        return str(key)

    def is_fixed(self, key: Any, value: Any) -> bool:
        """The class that `super()` goes by is."""
        return key == SUPER


class Globals(Container):
    """The global variables that functions of one file name.

    Args:
        owner: All globals of the file.
        path: The name in messages of the first of these functions.
    """

    def __init__(self, owner: dict[str, Any], path: str) -> None:
        super().__init__(owner, path)
        self._names: dict[str, None] = {}
        self.expected = self._names.keys()

    def add(self, names: Iterable[str]) -> None:
        """Let variables be slots, too."""
        self._names.update(dict.fromkeys(names))

    def slots(self) -> dict[Any, Any]:
        space = self.owner()
        return {name: space[name] for name in self._names if name in space}

    def held(self, key: Any) -> Any:
        return self.owner().get(key, MISSING)

    def reader(self, keys: Sequence[Any]) -> Callable[[], Iterable[Any]]:
        return partial(map, self.owner().get, keys, repeat(MISSING))

    def assign(self, key: Any, value: Any) -> None:
        self.owner()[key] = value

    def remove(self, key: Any) -> None:
        del self.owner()[key]

    def label(self, key: Any) -> str:
        return str(key)

    def is_fixed(self, key: Any, value: Any) -> bool:
        """A module is, and a class or function in C of a library under its own name."""
        if isinstance(value, type):
            return value.__name__ == key and is_of_library(value)
        if isinstance(value, BuiltinFunctionType):
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
        plain = all(isinstance(value, _IMMUTABLE) for value in function.__defaults__ or ())
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


def variables(function: Any) -> list[Any]:
    """What the variables hold that a function's code names: those of its closure, and globals."""
    if not isinstance(function, FunctionType):
        return []
    space, cells = function.__globals__, function.__closure__ or ()
    return [*map(_held, cells), *[space.get(name) for name in global_names(function.__code__)]]


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


@lru_cache(maxsize=4096)
def takes_classes(code: CodeType) -> bool:
    """Whether a function's code may take the class of a thing: `type(x)`, `x.__class__`.

    Not for its name alone, as in `type(x).__name__`, nor for `super().forward`; what else is done
    with a `super()` may read any attribute of the bases.
    """
    return any("__class__" in part.co_consts or _takes_classes(part) for part in _nested(code))


def _takes_classes(code: CodeType) -> bool:
    steps = [step for step in dis.get_instructions(code) if step.opname not in _NO_STEPS]
    for place, step in enumerate(steps):
        if step.argval == "type" and step.opname in _VARIABLES:
            follows = steps[place + 3 : place + 4]  # its argument, the call
        elif step.argval == "super" and step.opname in _VARIABLES:
            if not _reads_attribute(steps[place + 1 :]):
                return True
            continue
        elif step.argval == "__class__" and step.opname.startswith("LOAD"):
            follows = steps[place + 1 : place + 2]
            if place and steps[place - 1].argval == "super":
                continue
        else:
            continue
        if not follows or follows[0].argval not in ("__name__", "__qualname__"):
            return True
    return False


def _reads_attribute(steps: list[dis.Instruction]) -> bool:
    """Whether code that goes on so after `super` calls it, and reads an attribute of that."""
    for step, following in pairwise(steps):
        if step.opname.startswith("CALL"):
            return following.opname in ("LOAD_ATTR", "LOAD_METHOD")
        if step.opname == "LOAD_SUPER_ATTR":
            return True
    return False


def class_of_super(function: FunctionType) -> type | None:
    """The class in whose code a method was written, which `super()` goes by."""
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    found = _held(dict(cells)[SUPER]) if SUPER in function.__code__.co_freevars else None
    return found if isinstance(found, type) else None


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
