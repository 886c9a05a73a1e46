"""Trees of lists, tuples and dicts: what arguments, results and slots are made of.

::

    {"loss": a, "logits": [b, c]}     leaves: a at ("loss",), b at ("logits", 0), c at ("logits", 1)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from copy import copy
from typing import Any

from ...tensor import Tensor

Path = tuple[Any, ...]


def items_of(tree: Any) -> Iterable[tuple[Any, Any]]:
    """What stands directly in a list, tuple or dict, each with its key; nothing in a leaf."""
    if isinstance(tree, dict):
        return tree.items()
    return enumerate(tree) if isinstance(tree, list | tuple) else ()


def leaves_in(tree: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """What stands in a tree, with the keys that lead there.

    >>> list(leaves_in({"a": 1, "b": [2, 3]}))
    [(('a',), 1), (('b', 0), 2), (('b', 1), 3)]
    """
    if isinstance(tree, list | tuple | dict):
        for key, part in items_of(tree):
            yield from leaves_in(part, (*path, key))
    else:
        yield path, tree


def tensors_in(tree: Any) -> list[tuple[Path, Tensor]]:
    """The tensors in a tree, with the keys that lead there."""
    return [(path, leaf) for path, leaf in leaves_in(tree) if isinstance(leaf, Tensor)]


def branches_in(tree: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """The lists and dicts in a tree, itself included, with the keys that lead there.

    >>> list(branches_in({"a": ([1], 2)}))
    [((), {'a': ([1], 2)}), (('a', 0), [1])]
    """
    if isinstance(tree, list | dict):
        yield path, tree
    for key, part in items_of(tree):
        yield from branches_in(part, (*path, key))


def outline(
    tree: Any, of_leaf: Callable[[Any], Any], of_branch: Callable[[Any], Any] = type
) -> Any:
    """What two trees have in common that are of one shape, with classes, and alike in their leaves.

    >>> outline([1, {"a": 2}], str) == outline([1, {"a": "2"}], str)
    True
    """
    if not isinstance(tree, list | tuple | dict):
        return of_leaf(tree)
    parts = [(key, outline(part, of_leaf, of_branch)) for key, part in items_of(tree)]
    return of_branch(tree), *parts


def mapped(tree: Any, function: Callable[[Any], Any], twins: dict[int, Any] | None = None) -> Any:
    """A tree of the same shape and classes, with `function` applied to its leaves.

    Args:
        tree: The tree.
        function: Is given each leaf.
        twins: What stands for lists and dicts, by their identity, is taken from there, and put
            there: one that is found at several places stays one.
    """
    if isinstance(tree, tuple):
        return _like(tree, [mapped(part, function, twins) for part in tree])
    if not isinstance(tree, list | dict):
        return function(tree)
    if twins is None:
        return _mapped_branch(tree, function, None)
    if id(tree) not in twins:
        twins[id(tree)] = _mapped_branch(tree, function, twins)
    return twins[id(tree)]


def _like(tree: tuple[Any, ...], parts: list[Any]) -> tuple[Any, ...]:
    """A tuple of the same class, with what the user gave to it beside its parts."""
    twin = tuple.__new__(type(tree), parts)
    if type(tree).__dictoffset__:
        vars(twin).update(vars(tree))
    return twin


def _mapped_branch(tree: Any, function: Callable[[Any], Any], twins: dict[int, Any] | None) -> Any:
    """The same of a list or dict."""
    if isinstance(tree, list):
        parts = [mapped(part, function, twins) for part in tree]
        if type(tree) is list:
            return parts
        twin = copy(tree)
        twin[:] = parts
        return twin
    twin = {} if type(tree) is dict else copy(tree)
    for name, part in tree.items():
        twin[name] = mapped(part, function, twins)
    return twin
