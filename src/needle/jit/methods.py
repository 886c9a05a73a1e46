"""Methods that do not keep their object alive: what is jitted of a class lives with its instances.

::

    model.step, of a class                              model.step, decorated with `ndl.jit`

    a method with its object: `f = model.step`          a method with a weak reference to it: once
    keeps the model alive                               the model is gone, a call is an error
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import ref

from ..errors import ArgumentError


class WeakMethod:
    """A function bound to an instance that it does not keep alive."""

    def __init__(self, function: Callable[..., Any], instance: Any) -> None:
        self.__wrapped__ = function
        self.__name__ = getattr(function, "__name__", "method")
        self._instance = ref(instance)

    @property
    def __self__(self) -> Any:
        return self._instance()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        instance = self._instance()
        if instance is None:
            raise ArgumentError(
                f"jit: {self.__name__} was called when its object was gone, which a jitted method "
                "does not keep alive. Give the object a name: model = Model(), then model(x)"
            )
        return self.__wrapped__(instance, *args, **kwargs)
