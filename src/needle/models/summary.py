"""`summary`: what a model is made of, layer by layer."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, NamedTuple

from .. import init, nn
from ..context import ambient_set, no_grad
from ..errors import ArgumentError
from ..graph.evaluate import Eager
from ..graph.kinds import Contraction
from ..shapes import as_shape
from ..state import walk
from ..tensor import Tensor


class Row(NamedTuple):
    """One call of a layer: name, class, output shape, parameters and multiply-adds of its own.

    The shape is None where the result is no tensor, or the layer was not called. Parameters count
    in the row where they come first.
    """

    name: str
    kind: str
    shape: tuple[int, ...] | None
    parameters: int
    multiply_adds: int


class Summary(NamedTuple):
    """The layers of a model; `str` makes a table of them."""

    rows: tuple[Row, ...]

    @property
    def parameters(self) -> int:
        """Number of parameters of all layers, shared ones counted once."""
        return sum(row.parameters for row in self.rows)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of all matrix products of one forward pass."""
        return sum(row.multiply_adds for row in self.rows)

    def __str__(self) -> str:
        head = ("layer", "kind", "output shape", "parameters", "multiply-adds")
        total = ("total", "", "", f"{self.parameters:,}", f"{self.multiply_adds:,}")
        body = [
            (name, kind, "-" if shape is None else str(shape), f"{own:,}", f"{products:,}")
            for name, kind, shape, own, products in self.rows
        ]
        table = [head, *body, total]
        widths = [max(len(line[column]) for line in table) for column in range(5)]
        form = "  ".join(f"{{:{side}{width}}}" for side, width in zip("<<<>>", widths, strict=True))
        lines = [form.format(*line).rstrip() for line in table]
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
    """Layers, output shapes, parameters and multiply-adds of one forward pass.

    The pass is over zeros, in evaluation mode; the model is left as it was.

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
    if not isinstance(model, nn.Module):
        given = model.__name__ if isinstance(model, type) else type(model).__name__
        raise ArgumentError(f"summary: {given} is no module. Pass an instance of nn.Module")
    x = init.zeros(*as_shape(input_shape, "summary"), dtype=dtype)
    counting = _Counting()
    modules = dict(model.named_modules())
    modes = [module.training for module in modules.values()]
    try:
        with _watched(modules, counting) as rows, no_grad(), ambient_set(evaluator=counting):
            model.eval()(x)
    finally:
        for module, mode in zip(modules.values(), modes, strict=True):
            module.training = mode
    return Summary(tuple(rows))


@contextmanager
def _watched(modules: dict[str, nn.Module], counting: _Counting) -> Generator[list[Row]]:
    """Rows of the calls of modules that do something of their own, in the order they end.

    That is: modules with nothing inside, or with parameters or products of their own. At the end
    come those that have parameters and were not called.
    """
    rows: list[Row] = []
    inside = [0]  # multiply-adds of the calls made within each open one
    counted: set[nn.Parameter] = set()

    def own_parameters(module: nn.Module) -> int:
        found = [p for _, p in walk(module, into=()) if isinstance(p, nn.Parameter)]
        own = [p for p in found if p not in counted]
        counted.update(own)
        return sum(p.size for p in own)

    def watch(name: str, module: nn.Module) -> None:
        forward = module.forward
        leaf = len(list(module.named_modules())) == 1

        def watching(*args: Any, **kwargs: Any) -> Any:
            before = counting.total
            inside.append(0)
            result = forward(*args, **kwargs)
            mine = counting.total - before
            own_products = mine - inside.pop()
            inside[-1] += mine
            own = own_parameters(module)
            if leaf or own or own_products:
                shape = result.shape if isinstance(result, Tensor) else None
                rows.append(Row(name, type(module).__name__, shape, own, own_products))
            return result

        module.__dict__["forward"] = watching

    before = [vars(module).get("forward") for module in modules.values()]
    try:
        for name, module in modules.items():
            watch(name or "model", module)
        yield rows
    finally:
        for module, forward in zip(modules.values(), before, strict=True):
            if forward is None:
                del module.__dict__["forward"]
            else:
                module.__dict__["forward"] = forward
    for name, module in modules.items():
        if own := own_parameters(module):
            rows.append(Row(name or "model", type(module).__name__, None, own, 0))
