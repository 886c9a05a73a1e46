"""`summary`: what a model is made of, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from .. import init, nn
from ..context import ambient_set, no_grad
from ..graph.evaluate import Eager
from ..graph.kinds import Contraction
from ..shapes import as_shape
from ..tensor import Tensor


class Row(NamedTuple):
    """One layer of a summary: name, class, output shape, parameters and multiply-adds of its own."""

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    multiply_adds: int


class Summary(NamedTuple):
    """The layers of a model; `str` makes a table of them."""

    rows: tuple[Row, ...]

    @property
    def parameters(self) -> int:
        """Number of parameters of all layers."""
        return sum(row.parameters for row in self.rows)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of all matrix products of one forward pass."""
        return sum(row.multiply_adds for row in self.rows)

    def __str__(self) -> str:
        head = ("layer", "kind", "output shape", "parameters", "multiply-adds")
        total = ("total", "", "", f"{self.parameters:,}", f"{self.multiply_adds:,}")
        body = [
            (row.name, row.kind, str(row.shape), f"{row.parameters:,}", f"{row.multiply_adds:,}")
            for row in self.rows
        ]
        table = [head, *body, total]
        widths = [max(len(line[column]) for line in table) for column in range(5)]
        lines = [
            "  ".join(
                [
                    cell.ljust(widths[i]) if i < 3 else cell.rjust(widths[i])
                    for i, cell in enumerate(line)
                ]
            ).rstrip()
            for line in table
        ]
        rule = "-" * max(len(line) for line in lines)
        return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


class _Counting(Eager):
    """Eager, adding up the multiply-adds of contractions."""

    def __init__(self) -> None:
        self.total = 0

    def make(self, op: Any, inputs: tuple[Any, ...]) -> Any:
        result = super().make(op, inputs)
        if isinstance(op, Contraction):
            self.total += op.multiply_adds(*[value.node.specs() for value in inputs])
        return result


def summary(model: nn.Module, input_shape: Any, *, dtype: Any = "float32") -> Summary:
    """Layers, output shapes, parameters and multiply-adds of one forward pass over zeros, in evaluation mode.

    Args:
        model: The model.
        input_shape: Shape of its input, batch axis included.
        dtype: Of the input.

    Returns:
        A `Summary`: print it for the table, or read `.rows`, `.parameters`, `.multiply_adds`.

    Example:
        >>> import needle as ndl
        >>> print(ndl.summary(ndl.nn.Sequential(ndl.nn.Linear(3, 2), ndl.nn.ReLU()), (1, 3)))
        layer      kind    output shape  parameters  multiply-adds
        ----------------------------------------------------------
        modules.0  Linear  (1, 2)                 8              6
        modules.1  ReLU    (1, 2)                 0              0
        ----------------------------------------------------------
        total                                     8              6
    """
    counting = _Counting()
    modules = dict(model.named_modules())
    modes = {name: module.training for name, module in modules.items()}
    rows: list[Row] = []
    with _watched(modules, counting, rows), no_grad(), ambient_set(evaluator=counting):
        model.eval()
        model(init.zeros(*as_shape(input_shape, "summary"), dtype=dtype))
    for name, module in modules.items():
        module.training = modes[name]
    return Summary(tuple(rows))


@contextmanager
def _watched(modules: dict[str, nn.Module], counting: _Counting, rows: list[Row]) -> Iterator[None]:
    """Note each call of a module that does something of its own: a leaf, or one with parameters or products."""
    inside = [0]

    def watch(name: str, module: nn.Module) -> None:
        forward = module.forward
        leaf = not any(True for _ in list(module.named_modules())[1:])
        own = sum(p.size for path, p in module.named_parameters() if "." not in path)

        def watching(*args: Any, **kwargs: Any) -> Any:
            before, outer = counting.total, inside[-1]
            inside.append(0)
            result = forward(*args, **kwargs)
            mine = counting.total - before
            of_children = inside.pop()
            inside[-1] = outer + mine
            if leaf or own or mine > of_children:
                shape = result.shape if isinstance(result, Tensor) else ()
                rows.append(
                    Row(name or "model", type(module).__name__, shape, own, mine - of_children)
                )
            return result

        module.__dict__["forward"] = watching

    for name, module in modules.items():
        watch(name, module)
    try:
        yield
    finally:
        for module in modules.values():
            module.__dict__.pop("forward", None)
