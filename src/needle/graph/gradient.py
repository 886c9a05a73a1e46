"""Reverse mode: gradients as graphs, derived from the operators' own rules.

The gradient of an output with respect to a node is the sum, over the node's users, of what each
user's `gradient` rule makes of its own (Griewank & Walther, "Evaluating Derivatives", 2008,
chapter 3).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from operator import attrgetter
from typing import Any, cast

from ..context import ambient, ambient_set
from ..errors import ArgumentError, GradientError, ShapeError
from ..shapes import as_int
from .evaluate import refuse_lists_of_tensors
from .node import Node, Value, handle_of, owner_of
from .op import Op, as_tuple
from .order import topological_order


def reverse(output: Value, out_grad: Value | None, stop: Collection[Node] = ()) -> dict[Node, Any]:
    """Gradient of `output` with respect to every node below it that requires one.

    Args:
        output: The value that is differentiated.
        out_grad: Gradient that comes in, of the output's shape; None means ones.
        stop: Nodes below which nothing is asked for.
    """
    stop = frozenset(stop)
    order = topological_order([output.node], attrgetter("requires_grad"))
    if stop:
        order = _above(order, stop)
    gradients: dict[Node, Any] = {output.node: _seed(cast(Any, output), out_grad)}
    for node in reversed(order):
        op = node.op
        if op is None or node in stop or node not in gradients or not op.differentiable:
            continue
        parts = ambient.evaluator.gradient(op, gradients[node], handle_of(node))
        if type(parts) is not tuple:
            parts = as_tuple(parts)
        if len(parts) != len(node.inputs) - op.scalars:
            raise GradientError(
                f"{op.name}: gradient returned {len(parts)} gradients for {len(node.inputs)} "
                "inputs. Return one for each input, None where an input has none"
            )
        for child, part in zip(node.inputs, parts, strict=False):
            if part is None or not child.requires_grad:
                continue
            part = _fitted(op, child, part)
            known = gradients.get(child)
            gradients[child] = part if known is None else known + part
    return gradients


def compute_gradient_of_variables(output_tensor: Value, out_grad: Value | None) -> None:
    """Set `.grad` on every variable below `output_tensor`; gradients are tensors of the graph too.

    Args:
        output_tensor: The value that is differentiated.
        out_grad: Gradient that comes in, of the output's shape; None means ones.

    `.grad` is overwritten, on every leaf that requires one and on every intermediate value still
    held.

    Raises:
        ArgumentError: the output is no tensor.
        GradientError: the output requires no gradient, or an operator's rule does not fit.
        ShapeError: `out_grad` has another shape.

    Example:
        >>> import needle as ndl
        >>> x = ndl.Tensor([2.0])
        >>> ndl.autograd.compute_gradient_of_variables(x * x, ndl.Tensor([1.0]))
        >>> x.grad.numpy()
        array([4.])
    """
    if not isinstance(output_tensor, Value):
        raise ArgumentError(
            f"backward: a {type(output_tensor).__name__} is no tensor. Pass the tensor to derive"
        )
    if not output_tensor.requires_grad:
        raise GradientError(
            "backward: the output requires no gradient, so there is nothing to differentiate. "
            "Make an input with requires_grad=True, and compute outside no_grad()"
        )
    found = reverse(output_tensor, out_grad)
    given: set[Value] = set()
    taken: set[Any] = {out_grad} if isinstance(out_grad, Value) else set()  # by other holders
    for node, gradient in found.items():
        owner = owner_of(node)
        if owner is None:
            continue
        if owner in given:
            # A tensor that was given new data between two uses has two leaves in one graph.
            gradient = owner.grad + gradient
        elif gradient in taken or gradient.node in found or _is_variable(gradient):
            gradient = _view(gradient)  # new data for one holder is none for the other
        taken.add(gradient)
        given.add(owner)
        owner.grad = gradient


def value_and_grad(f: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """A function that returns `f`'s value and its gradient, and touches no `.grad`.

    Args:
        f: Takes tensors and returns one tensor.
        argnums: Position of the argument (or a tuple or list of positions) to differentiate by.

    Returns:
        `g(*args) -> (value, gradient)`; the gradient has the argument's shape, is a tuple where
        `argnums` names several, and can be differentiated again. Where f returns more than one
        number, it is the gradient of their sum. Inside `no_grad()` the gradient is right too.

    Raises:
        ArgumentError: `argnums` names no argument, or a list of tensors, or is no integer; or f is
            no function.
        GradientError: f returned no tensor.

    Example:
        >>> import needle as ndl
        >>> value, gradient = ndl.value_and_grad(lambda x: (x * x).sum())(ndl.Tensor([1.0, 3.0]))
        >>> float(value), gradient.numpy()
        (10.0, array([2., 6.]))
    """
    if not callable(f):
        raise ArgumentError(f"grad: a {type(f).__name__} is no function. Pass one: grad(f)(x)")
    several = isinstance(argnums, tuple | list)
    listed = argnums if isinstance(argnums, tuple | list) else (argnums,)
    positions = [as_int(position, "grad", "argnums") for position in listed]

    def differentiated(*args: Any, **kwargs: Any) -> Any:
        inputs = list(args)
        for position in positions:
            if not -len(inputs) <= position < len(inputs):
                raise ArgumentError(
                    f"grad: argnums {position} names no argument of a call with {len(inputs)}. "
                    "Pass tensors by position"
                )
        with ambient_set(gradients=True):
            for position in positions:
                inputs[position] = _variable(inputs[position])
            output = f(*inputs, **kwargs)
        wanted = [inputs[position] for position in positions]
        if not isinstance(output, Value.tensor_class):
            raise GradientError(
                f"grad: the function returned {type(output).__name__}. Return one tensor"
            )
        found: dict[Node, Any] = {}
        if output.requires_grad:
            found = reverse(output, None, [value.node for value in wanted])
        gradients = tuple(
            [found[value.node] if value.node in found else value.zeros_like() for value in wanted]
        )
        return output, gradients if several else gradients[0]

    return differentiated


def grad(f: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """A function that returns the gradient of `f`, and touches no `.grad`.

    Tensors that `f` reads elsewhere than in its arguments are constants.

    Args:
        f: Takes tensors and returns one tensor, whose elements are summed.
        argnums: Position of the argument (or a tuple or list of positions) to differentiate by.

    Example:
        >>> import needle as ndl
        >>> cube = lambda x: x**3
        >>> ndl.grad(ndl.grad(cube))(ndl.Tensor(2.0)).item()
        12.0
    """
    both = value_and_grad(f, argnums)

    def gradient(*args: Any, **kwargs: Any) -> Any:
        return both(*args, **kwargs)[1]

    return gradient


def pulled_back(f: Callable[..., Any], inputs: Sequence[Any], out_grad: Any) -> tuple[Any, ...]:
    """Gradients of f's inputs for a gradient of its result; None for those that have none.

    f is run again and recorded, also where reverse mode itself is not to be.
    """
    with ambient_set(gradients=True):
        views = [_view(value) for value in inputs]
        output = f(*views)
    found = reverse(output, out_grad, [view.node for view in views])
    return tuple([found.get(view.node) for view in views])


def _variable(argument: Any) -> Any:
    """A value of its own over an argument: f may see the same tensor elsewhere, as a constant.

    Where the argument takes part in differentiation it is a view of it, else a leaf.
    """
    if not isinstance(argument, Value.tensor_class):
        refuse_lists_of_tensors(argument, "grad")
        return Value.tensor_class(argument)
    if argument.requires_grad:
        return _view(argument)
    fresh = argument.detach()
    fresh.requires_grad = True
    return fresh


def _is_variable(value: Value) -> bool:
    return value.node.op is None and value.node.requires_grad


def _view(value: Any) -> Any:
    """The same values as another tensor; a tuple, which is never given new data, stays itself."""
    return value.reshape(value.shape) if isinstance(value, Value.tensor_class) else value


def _above(order: list[Node], stop: frozenset[Node]) -> list[Node]:
    """The nodes of `order` that depend on `stop`, and `stop` itself."""
    above: set[Node] = set()
    for node in order:
        if node in stop or any(child in above for child in node.inputs):
            above.add(node)
    return [node for node in order if node in above]


def _seed(output: Any, out_grad: Any) -> Any:
    """The gradient that comes in: a tensor, or a tuple of them, of the output's shape."""
    if out_grad is None:
        return output.ones_like()
    if isinstance(output, Value.tuple_class):
        return _seed_of_tuple(output, out_grad)
    if isinstance(out_grad, Value.tuple_class):
        raise ShapeError("backward: the output is one tensor, out_grad a tuple. Pass one tensor")
    if not isinstance(out_grad, Value.tensor_class):
        out_grad = Value.tensor_class(out_grad, requires_grad=False)
    if out_grad.shape == output.shape:
        return out_grad
    if out_grad.size == 1 == output.size:
        return out_grad.reshape(output.shape)
    raise ShapeError(
        f"backward: the output has shape {output.shape}, out_grad {out_grad.shape}. "
        f"Pass an out_grad of shape {output.shape}"
    )


def _seed_of_tuple(output: Any, out_grad: Any) -> Any:
    want = [spec.shape for spec in output.node.specs()]
    have = None
    if isinstance(out_grad, Value.tuple_class):
        have = [spec.shape for spec in out_grad.node.specs()]
    if have != want:
        given = "no TensorTuple" if have is None else f"one of shapes {have}"
        raise ShapeError(
            f"backward: the output is a tuple of shapes {want}, out_grad is {given}. "
            "Pass a TensorTuple of the output's shapes"
        )
    return out_grad


def _fitted(op: Op, child: Node, part: Any) -> Any:
    """One gradient, checked against its input and cast to its dtype.

    An integer input keeps a float gradient: rounding it would lose it silently.
    """
    try:
        have, want = part.node.storage, child.storage
        if have.shape == want.shape and have.dtype is want.dtype:
            return part
    except AttributeError:  # not computed, a tuple, or no tensor at all
        pass
    if isinstance(part, Value.tuple_class):
        return part
    if not isinstance(part, Value.tensor_class):
        raise GradientError(
            f"{op.name}: gradient returned {type(part).__name__}. "
            "Return tensors computed from out_grad"
        )
    spec: Any = child.specs()
    if part.shape != spec.shape:
        raise GradientError(
            f"{op.name}: gradient of shape {part.shape} for an input of shape {spec.shape}. "
            "A gradient has its input's shape: sum or reshape it in the gradient rule"
        )
    if part.dtype != spec.dtype and spec.dtype.kind == "f":
        return part.astype(spec.dtype)
    return part
