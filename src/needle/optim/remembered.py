"""What an optimiser remembers of its parameters, as the dictionaries that programs know."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

from ..state import Telling


class Remembered(MutableMapping[Any, Any]):
    """What is remembered under one name, by parameter: reads and writes the optimiser's `state`.

    Args:
        state: By parameter what is remembered of it, by name.
        name: Such as "u" for momentum.
    """

    def __init__(self, state: dict[Any, dict[str, Any]], name: str) -> None:
        self._state = state
        self._name = name

    def __getitem__(self, param: Any) -> Any:
        known = self._state[param]
        if self._name not in known:
            raise KeyError(param)
        return known[self._name]

    def __setitem__(self, param: Any, value: Any) -> None:
        self._state.setdefault(param, Telling())[self._name] = value

    def __delitem__(self, param: Any) -> None:
        self[param]  # KeyError where there is nothing to forget
        del self._state[param][self._name]

    def __iter__(self) -> Iterator[Any]:
        return iter([param for param, known in self._state.items() if self._name in known])

    def __len__(self) -> int:
        return sum(self._name in known for known in self._state.values())

    def __repr__(self) -> str:
        return repr(dict(self))


class Remembers:
    """An attribute that is what an optimiser remembers under the attribute's name.

    Assigning a dictionary replaces all of it.
    """

    def __init__(self, doc: str) -> None:
        self.__doc__ = doc

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, optimizer: Any, owner: type | None = None) -> Any:
        return self if optimizer is None else Remembered(optimizer.state, self.name)

    def __set__(self, optimizer: Any, values: Any) -> None:
        given = dict(values)
        mine = Remembered(optimizer.state, self.name)
        mine.clear()
        mine.update(given)
