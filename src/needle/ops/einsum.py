"""`einsum`, parsed into transpose, reshape and matmul."""

from __future__ import annotations

import math
from typing import Any

from ..errors import ArgumentError, ShapeError
from .operands import as_tensor


def einsum(subscripts: str, *operands: Any) -> Any:
    """Einstein summation: labels that the output lacks are summed over.

    Args:
        subscripts: Such as "bij,bjk->bik"; without "->" the output has the labels that occur once,
            in alphabetical order. One letter an axis; a letter twice in one operand is not
            supported, nor "...".
        operands: One tensor for each comma-separated term; several are contracted from left to
            right.

    Raises:
        ArgumentError: the subscripts cannot be read, or do not match the operands.
        ShapeError: one label stands for different sizes.

    Example:
        >>> import needle as ndl
        >>> a, b = ndl.Tensor([[1.0, 2.0]]), ndl.Tensor([[3.0, 4.0]])
        >>> ndl.einsum("ik,jk->ij", a, b).numpy()
        array([[11.]])
    """
    terms, output = _parsed(subscripts, operands)
    tensors = [as_tensor(operand) for operand in operands]
    _check_sizes(subscripts, terms, tensors)
    result, labels = tensors[0], terms[0]
    for position, (operand, term) in enumerate(zip(tensors[1:], terms[1:], strict=True), start=2):
        kept = set(output).union(*terms[position:])
        result, labels = _contract(result, labels, operand, term, kept)
    result, labels = _drop(result, labels, set(output))
    return _ordered(result, labels, output)


def _parsed(subscripts: str, operands: tuple[Any, ...]) -> tuple[list[str], str]:
    if not isinstance(subscripts, str):
        raise ArgumentError(
            f"einsum: the first argument is a {type(subscripts).__name__}, not text. "
            'Write einsum("ij,jk->ik", a, b)'
        )
    text = subscripts.replace(" ", "")
    left, arrow, output = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(operands):
        raise ArgumentError(
            f"einsum: {subscripts!r} names {len(terms)} operands, {len(operands)} were given. "
            "Pass one for each comma-separated term"
        )
    if not arrow:
        output = "".join(sorted(label for label in set(left) - {","} if left.count(label) == 1))
    if any(not label.isalpha() for label in "".join(terms) + output):
        raise ArgumentError(
            f"einsum: {subscripts!r} is not letters, ',' and '->'. Name every axis by a letter"
        )
    for term in [*terms, output]:
        if len(set(term)) != len(term):
            raise ArgumentError(
                f"einsum: {term!r} in {subscripts!r} names an axis twice. Take the diagonal first"
            )
    if not set(output) <= set("".join(terms)):
        raise ArgumentError(
            f"einsum: the output of {subscripts!r} has a label that no operand has. Leave it out"
        )
    return terms, output


def _check_sizes(subscripts: str, terms: list[str], operands: list[Any]) -> None:
    """Refuse terms that do not have their operand's axes, and labels with two sizes."""
    sizes: dict[str, int] = {}
    for term, operand in zip(terms, operands, strict=True):
        if len(term) != operand.ndim:
            raise ShapeError(
                f"einsum: {term!r} in {subscripts!r} names {len(term)} axes of shape "
                f"{operand.shape}. Write one letter an axis"
            )
        for label, size in zip(term, operand.shape, strict=True):
            if sizes.setdefault(label, size) != size:
                raise ShapeError(
                    f"einsum: label {label!r} in {subscripts!r} has sizes {sizes[label]} and "
                    f"{size}. A label stands for one size"
                )


def _contract(a: Any, a_labels: str, b: Any, b_labels: str, kept: set[str]) -> tuple[Any, str]:
    """One product of two operands: batch, rows, columns and summed axes gathered, then a matmul."""
    a, a_labels = _drop(a, a_labels, kept | set(b_labels))
    b, b_labels = _drop(b, b_labels, kept | set(a_labels))
    shared = [label for label in a_labels if label in b_labels]
    batch = "".join(label for label in shared if label in kept)
    inner = "".join(label for label in shared if label not in kept)
    rows = "".join(label for label in a_labels if label not in shared)
    columns = "".join(label for label in b_labels if label not in shared)
    size = dict(zip(a_labels + b_labels, a.shape + b.shape, strict=True))

    def count(labels: str) -> int:
        return math.prod(size[label] for label in labels)

    left = _ordered(a, a_labels, batch + rows + inner).reshape(
        (count(batch), count(rows), count(inner))
    )
    right = _ordered(b, b_labels, batch + inner + columns).reshape(
        (count(batch), count(inner), count(columns))
    )
    labels = batch + rows + columns
    return (left @ right).reshape(tuple([size[label] for label in labels])), labels


def _drop(a: Any, labels: str, needed: set[str]) -> tuple[Any, str]:
    """Sum over the axes that nothing else has."""
    summed = tuple([axis for axis, label in enumerate(labels) if label not in needed])
    if not summed:
        return a, labels
    return a.sum(summed), "".join(label for label in labels if label in needed)


def _ordered(a: Any, labels: str, wanted: str) -> Any:
    return a if labels == wanted else a.permute(tuple([labels.index(label) for label in wanted]))
