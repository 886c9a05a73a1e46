"""Instrumented classes: as long as a trace lasts they tell what is read of their instances or set.

::

    a line of the function          what is called first, and by what

    model.width                     watch.read(model, "width")       __getattribute__ of its class
    model.h = y                     watch.assigned(model, "h")       __setattr__ of its class
    settings.rate, of a module      watch.read(settings, "rate")     a class for it alone
    getattr(p, "factor", 1.0)       watch.missed(p, "factor")        __getattr__ of `Tensor`
    getattr(Settings, name)         watch.read_of_class(...)         getattr of `builtins`
"""

from __future__ import annotations

import builtins
import inspect
import threading
from functools import wraps
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any
from weakref import ref

from ...tensor import Tensor
from ..objects.slots import MISSING
from ..objects.things import is_library

if TYPE_CHECKING:
    from .watch import Watch


_set = object.__setattr__
"""What a class says of assignments holds for its user: a module of constants may refuse them."""


class Instrumentation:
    """What was changed of classes, so that they tell a watch what this thread does."""

    def __init__(self, watch: Watch) -> None:
        self._watch = ref(watch)
        self._thread: int | None = threading.get_ident()
        self._own: dict[type, dict[str, Any]] = {}  # what each class itself has for its new methods
        self._modules: dict[ModuleType, type] = {}  # the class of each
        self._builtins: dict[str, Any] = {}

    def instances_of(self, cls: type) -> bool:
        """Let a class tell of its instances; False if it does not tell of all that is read."""
        if "__getattribute__" in self._own.get(cls, {}):
            return not self._reads_by_itself(cls)
        told = self._told
        read: Any = cls.__getattribute__
        assign: Any = cls.__setattr__

        def __getattribute__(owner: Any, name: str) -> Any:  # noqa: N807
            if (watch := told()) is not None:
                watch.read(owner, name)
            return read(owner, name)

        def __setattr__(owner: Any, name: str, value: Any) -> None:  # noqa: N807
            if (watch := told()) is not None:
                watch.assigned(owner, name)
            assign(owner, name, value)

        try:
            self._give(cls, {"__getattribute__": __getattribute__, "__setattr__": __setattr__})
        except TypeError:
            del self._own[cls]
            return False
        return not self._reads_by_itself(cls)

    def _reads_by_itself(self, cls: type) -> bool:
        """Whether reading is by a method of the user's own, which goes on past its class."""
        for base in cls.__mro__:
            method = self._own.get(base, vars(base)).get("__getattribute__", MISSING)
            if method is not MISSING:
                return isinstance(method, FunctionType) and not is_library(method.__module__)
        return False

    def module(self, module: ModuleType) -> None:
        """Let a module tell."""
        own = type(module)
        derived = type(own.__name__, (own,), {})
        self._modules[module] = own
        _set(module, "__class__", derived)
        self.instances_of(derived)

    def tensors(self) -> None:
        """Let tensors tell which attributes were asked for that are not there."""
        told = self._told

        def __getattr__(owner: Any, name: str) -> Any:  # noqa: N807
            if (watch := told()) is not None:
                watch.missed(owner, name)
            message = f"{type(owner).__name__!r} object has no attribute {name!r}"
            raise AttributeError(message, name=name, obj=owner)

        self._give(Tensor, {"__getattr__": __getattr__})

    def classes(self) -> None:
        """Let built-in functions tell what others than Needle read of classes, by any name."""
        told, vars_of = self._told, vars

        def telling(function: Any) -> Any:
            @wraps(function)
            def asked(*args: Any) -> Any:
                if not args and function is vars_of:
                    return _asking().f_locals
                watch = told() if args and isinstance(args[0], type) else None
                if watch is not None and not _is_needles(_asking()):
                    watch.read_of_class(*args[:2])
                return function(*args)

            return asked

        self._builtins = {name: vars(builtins)[name] for name in ("getattr", "hasattr", "vars")}
        for name, function in self._builtins.items():
            setattr(builtins, name, telling(function))

    def end(self) -> None:
        """Let everything be as it was. Done twice, it does the same."""
        self._thread = None
        for name, function in self._builtins.items():
            setattr(builtins, name, function)
        self._builtins.clear()  # the next trace may have its own there by the second time
        for module, cls in self._modules.items():
            _set(module, "__class__", cls)
        for cls, methods in self._own.items():
            for name, own in methods.items():
                if own is not MISSING:
                    type.__setattr__(cls, name, own)
                elif name in vars(cls):  # it may have been ended in between
                    type.__delattr__(cls, name)
        self._own.clear()

    def _told(self) -> Watch | None:
        return self._watch() if threading.get_ident() == self._thread else None

    def _give(self, cls: type, methods: dict[str, Any]) -> None:
        own = self._own.setdefault(cls, {})
        own.update({name: vars(cls).get(name, MISSING) for name in methods})
        for name, method in methods.items():
            type.__setattr__(cls, name, method)


def _asking() -> Any:
    """The frame of what called the function that calls this."""
    frame: Any = inspect.currentframe()
    frame = frame.f_back  # its own would keep itself alive, and with it all that called it
    return frame.f_back


def _is_needles(frame: Any) -> bool:
    """Whether a frame runs code of the library."""
    return str(frame.f_globals.get("__name__")).startswith("needle.")
