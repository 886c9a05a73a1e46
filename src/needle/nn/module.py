"""`Parameter` and `Module`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from reprlib import recursive_repr
from typing import Any, Self

import numpy as np

from ..errors import NeedleError, StateError
from ..shapes import as_flag
from ..state import Stateful, by_name, children, taken_from, walk
from ..tensor import Tensor


class Parameter(Tensor):
    """A tensor that a module learns. Results of operators on it are plain tensors.

    Example:
        >>> import needle as ndl
        >>> w = ndl.nn.Parameter([1.0, 2.0])
        >>> type(w * 2).__name__
        'Tensor'
    """


class Module(Stateful):
    """Base of all layers: define `forward`; parameters are found by walking the attributes.

    Modules, lists, tuples and dicts are walked, in definition order, at call time. A plain tensor
    that needs no gradient is a buffer: part of `state_dict()`, but not of `parameters()`.

    Example:
        >>> import needle as ndl
        >>> class Scale(ndl.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.factor = ndl.nn.Parameter([2.0])
        ...     def forward(self, x):
        ...         return x * self.factor.broadcast_to(x.shape)
        >>> Scale()(ndl.Tensor([1.0, 3.0])).numpy()
        array([2., 6.])
    """

    training: bool = True

    def __init__(self) -> None:
        self.training = True

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The computation; subclasses define it."""
        raise NotImplementedError(f"{type(self).__name__}: define forward(self, ...)")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return self.forward(*args, **kwargs)
        except NeedleError as error:
            error.add_module(self, lambda child: _name_of(self, child))
            raise

    # -- what is inside --------------------------------------------------------------------------

    def named_modules(self) -> Iterator[tuple[str, Module]]:
        """Dotted names and modules below this one, itself first under the name ""."""
        return self._named(lambda value: isinstance(value, Module))

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Dotted names and parameters, each parameter once."""
        return self._named(lambda value: isinstance(value, Parameter))

    def parameters(self) -> list[Parameter]:
        """All parameters, in definition order, each once."""
        return [parameter for _, parameter in self.named_parameters()]

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]:
        """Dotted names and buffers: plain tensors without gradient, such as running statistics."""
        return self._named(_is_buffer)

    def _named_state(self) -> dict[str, Tensor]:
        """Parameters and buffers, in definition order."""
        result: dict[str, Tensor] = {}
        for name, value in self._named(_is_state):
            if name in result:
                raise StateError(
                    f"state_dict: {name} is the name of two tensors in {type(self).__name__}. "
                    "Give dicts keys that differ as text, and hold no dots"
                )
            result[name] = value
        return result

    def _named(self, wanted: Callable[[Any], bool]) -> Iterator[tuple[str, Any]]:
        """Dotted names and values below this module that are wanted, each once."""
        return ((name, value) for name, value in walk(self, into=Module) if wanted(value))

    # -- modes -----------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Self:
        """Switch this module and all below it to training; returns the module.

        A class below may define `train` itself, as to keep a frozen layer in evaluation: it is
        called for what is inside.

        Raises:
            ArgumentError: `mode` is no bool.
        """
        mode = as_flag(mode, "train", "mode")
        todo: list[Module] = [self]
        seen: set[int] = set()
        while todo:
            module = todo.pop()
            if id(module) in seen:
                continue
            seen.add(id(module))
            if module is not self and type(module).train is not Module.train:
                _switch(module, mode)
                continue
            module.training = mode
            todo.extend(reversed([child for _, child in _direct(module)]))
        return self

    def eval(self) -> Self:
        """Switch this module and all below it to evaluation; returns the module."""
        return _switch(self, False)

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for parameter in self.parameters():
            parameter.grad = None

    # -- state -----------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, np.ndarray[Any, Any]]:
        """Copies of all parameters and buffers, by dotted name.

        Raises:
            StateError: two of them have one name, as below the keys 1 and "1" of a dict.

        Example:
            >>> import needle as ndl
            >>> list(ndl.nn.Linear(2, 3).state_dict())
            ['weight', 'bias']
        """
        return {
            name: np.array(tensor.numpy(), order="C")
            for name, tensor in self._named_state().items()
        }

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Give parameters and buffers the values of a `state_dict()`.

        Args:
            state: Arrays or tensors by dotted name; dtypes are converted.
            strict: Refuse missing and unexpected names; otherwise they are passed over.

        Raises:
            StateError: `state` is no dict; or lists all names that are missing, unexpected, wrongly
                shaped or no numbers; nothing is loaded then.
        """
        state = by_name(state)
        mine = self._named_state()
        problems: list[str] = []
        given: dict[str, Tensor] = {}
        for name in [name for name in mine if name in state]:
            tensor = taken_from(state, name, mine[name].dtype, problems)
            if tensor is None:
                continue
            given[name] = tensor
            if tensor.shape != mine[name].shape:
                problems.append(f"{name} has shape {tensor.shape}, the module's {mine[name].shape}")
        fix = "Build the module as it was when its state was saved"
        if strict:
            missing = [f"{name} is missing" for name in mine if name not in state]
            unexpected = [f"{name} is unexpected" for name in state if name not in mine]
            problems = missing + unexpected + problems
            fix += ", or pass strict=False to skip missing and unexpected names"
        if problems:
            raise StateError(
                f"load_state_dict: {type(self).__name__} does not fit: {'; '.join(problems)}. {fix}"
            )
        for name, tensor in given.items():
            mine[name].data = tensor

    # -- how it looks ----------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """What `repr` shows between the parentheses, beside the modules inside."""
        return ""

    @recursive_repr()
    def __repr__(self) -> str:
        lines: list[str] = []
        for label, module in _direct(self):
            body = repr(module).replace("\n", "\n  ")
            lines.append(f"  ({label}): {body}")
        name, extra = type(self).__name__, self.extra_repr()
        if not lines:
            return f"{name}({extra})"
        return "\n".join([f"{name}(", *([f"  {extra}"] if extra else []), *lines, ")"])


def _switch(module: Any, mode: bool) -> Any:
    """Call a module's `train`, which its class may have defined for something else."""
    try:
        return module.train(mode)
    except TypeError as error:
        if type(module).train is not Module.train:
            error.add_note(
                f"train() and eval() call {type(module).__name__}.train(mode), which switches "
                "between training and evaluation. Give a method that does something else another "
                "name, as fit"
            )
        raise


def _is_state(value: Any) -> bool:
    return isinstance(value, Parameter) or _is_buffer(value)


def _is_buffer(value: Any) -> bool:
    return (
        isinstance(value, Tensor) and not isinstance(value, Parameter) and not value.requires_grad
    )


def _direct(
    parent: Any, path: str = "", above: tuple[int, ...] = ()
) -> Iterator[tuple[str, Module]]:
    """Modules inside, with their names: through containers but not through other modules."""
    for name, value in children(parent):
        if isinstance(value, Module):
            yield path + name, value
        elif isinstance(value, list | tuple | dict) and id(value) not in above:
            yield from _direct(value, f"{path}{name}.", (*above, id(value)))


def _name_of(parent: Module, child: Module) -> str | None:
    """The name under which `child` stands in `parent`."""
    return next((name for name, module in _direct(parent) if module is child), None)
