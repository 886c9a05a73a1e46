"""Tracing: a function is run once on stand-ins, and what it did becomes a `Trace`, a value.

Nothing that the function changed stays changed: tensors, gradients, attributes and random streams are put
back, and the trace says what a program has to write after each call.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from weakref import ReferenceType, ref

import numpy as np

from .. import random
from ..context import ambient_set
from ..errors import TraceError
from ..graph.node import Node, Value, new_handle, realize
from ..shapes import Spec, spec_of
from ..tensor import Tensor
from .signature import mapped
from .slots import Container, reach, restore, roots
from .tracer import Scalar, Tracer


class NewStateError(Exception):
    """A slot went from nothing to a traced tensor: the call has to be made eagerly first."""


@dataclass(frozen=True)
class Out:
    """In a tree: the value of a node, as a new tensor."""

    node: Node
    requires_grad: bool = False


@dataclass(frozen=True)
class Argument:
    """The tensor that was passed as leaf `place` of the arguments."""

    place: int


@dataclass(frozen=True)
class Held:
    """A tensor that existed before the trace, held weakly."""

    reference: ReferenceType[Any]


Target = Argument | Held


@dataclass
class Trace:
    """What one call of a function does.

    Attributes:
        arguments: Nodes that stand for the leaves of the arguments.
        scalars: (optimiser, attribute, node) of each hyperparameter.
        captured: (node, tensor that held it) of values that existed before.
        nodes: Recorded nodes, in program order.
        result: Tree of what the function returned.
        rebound: Tensors that are given new data.
        grads: Tensors whose `.grad` is set: to a node, or None.
        grad_inputs: Tensors whose `.grad` is read before it is set, with the node read (None: it was None).
        slots: (container, key, tree) of slots that are given new tensors.
        containers: What was reached, with its slots as they were.
        tensors: The tensors reached, weakly.
    """

    arguments: list[Node]
    scalars: list[tuple[Any, str, Node]]
    captured: list[tuple[Node, ReferenceType[Value]]]
    nodes: list[Node]
    result: Any = None
    rebound: list[tuple[Target, Node]] = field(default_factory=list)
    grads: list[tuple[Target, Node | None]] = field(default_factory=list)
    grad_inputs: list[tuple[Target, Node | None]] = field(default_factory=list)
    slots: list[tuple[Any, Any, Any]] = field(default_factory=list)
    containers: list[tuple[Container, dict[Any, Any]]] = field(default_factory=list)
    tensors: list[ReferenceType[Tensor]] = field(default_factory=list)

    @property
    def writes_state(self) -> bool:
        """Whether a call changes tensors that existed before, `.grad` aside."""
        return bool(self.rebound or self.slots)

    def wanted(self) -> list[Node]:
        """The nodes whose values a call needs, each once, in the order results, state, gradients."""
        found: dict[Node, None] = {}
        trees = [self.result, *[tree for _, _, tree in self.slots]]
        for tree in trees:
            mapped(
                tree, lambda item: found.setdefault(item.node) if isinstance(item, Out) else None
            )
        for _, node in [*self.rebound, *self.grads]:
            if node is not None:
                found.setdefault(node)
        return list(found)


def trace(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], leaves: list[Any]
) -> Trace:
    """Run `function` once on stand-ins for its arguments and return what it does.

    Raises:
        TraceError: the function does something that a program could not repeat.
        NewStateError: state came into being; call it eagerly and trace again.
    """
    return _Tracing(function, args, kwargs, leaves).run()


class _Tracing:
    """One run of a function under the tracer, and the putting back of everything after it."""

    def __init__(self, function: Any, args: Any, kwargs: Any, leaves: list[Any]) -> None:
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.leaves = leaves
        self.named = list(roots(function))
        arguments = [(f"argument {place}", item) for place, item in enumerate(args)]
        arguments += [(f"argument {name!r}", item) for name, item in kwargs.items()]
        containers, tensors = reach([*self.named, *arguments])
        self.before = [(container, dict(container.items())) for container in containers]
        self.tensors = [ref(tensor) for tensor in tensors]
        self.places: dict[int, int] = {}

    def run(self) -> Trace:
        streams = random.get_state()
        numpy_state = np.random.get_state(legacy=False)
        own_nodes = [leaf.node if isinstance(leaf, Tensor) else None for leaf in self.leaves]
        stand_ins, nodes = self._stand_ins()
        scalars = self._hyperparameters()
        real = {
            node: _value(leaf, own)
            for node, leaf, own in zip(nodes, self.leaves, own_nodes, strict=True)
        }
        real.update(
            {node: np.asarray(getattr(owner, name), np.float64) for owner, name, node, _ in scalars}
        )
        tracer = Tracer(real)
        for owner, name, _, handle in scalars:
            vars(owner)[name] = handle
        done: Trace | None = None
        try:
            with ambient_set(evaluator=tracer):
                result = self._call(stand_ins)
            if not tracer.drew and not _same_state(numpy_state, np.random.get_state(legacy=False)):
                raise TraceError(
                    "np.random was called directly while a jitted function was traced: a program would repeat "
                    "the same numbers. Draw with ndl.init.rand or randn, or pass the numbers as an argument"
                )
            done = Trace(
                arguments=nodes,
                scalars=[(owner, name, node) for owner, name, node, _ in scalars],
                captured=[],
                nodes=tracer.nodes,
                containers=self.before,
                tensors=self.tensors,
            )
            self._collect(done, tracer, result, {(id(o), n): h for o, n, _, h in scalars})
            done.captured = list(tracer.captured.items())
            del result
        finally:
            self._put_back(tracer, own_nodes)
            random.set_state(streams)
            np.random.set_state(numpy_state)
        del stand_ins, scalars
        _refuse_escapes(tracer)
        return done

    # -- before ------------------------------------------------------------------------------------------

    def _stand_ins(self) -> tuple[list[Any], list[Node]]:
        """Every leaf as something traced: a tensor itself on a new node, an array or float as a new tensor."""
        handles: list[Any] = []
        nodes: list[Node] = []
        for place, leaf in enumerate(self.leaves):
            if isinstance(leaf, Tensor):
                if id(leaf) in self.places:
                    handles.append(leaf)
                    nodes.append(leaf.node)
                    continue
                self.places[id(leaf)] = place
                node = Node(None, (), None, leaf.requires_grad, Spec(leaf.shape, leaf.dtype))
                node.handle = ref(leaf)
                leaf.node = node
                handles.append(leaf)
            else:
                spec = spec_of(np.asarray(leaf))
                node = Node(None, (), None, False, spec)
                handles.append(new_handle(node, Scalar if isinstance(leaf, float) else Tensor))
            nodes.append(node)
        return handles, nodes

    def _hyperparameters(self) -> list[tuple[Any, str, Node, Scalar]]:
        """A run-time scalar for each declared hyperparameter; one that is 0 stays a number, and is guarded."""
        found = []
        for container, slots in self.before:
            for name in getattr(container.owner, "hyperparameters", ()):
                value = slots.get(name)
                if isinstance(value, int | float) and not isinstance(value, bool) and value != 0:
                    node = Node(None, (), None, False, Spec((), np.dtype(np.float64)))
                    found.append((container.owner, name, node, new_handle(node, Scalar)))
        return found

    def _call(self, stand_ins: list[Any]) -> Any:
        following = iter(stand_ins)

        def replaced(item: Any) -> Any:
            return (
                next(following)
                if isinstance(item, Tensor | np.ndarray | float | np.floating)
                else item
            )

        args = [mapped(item, replaced) for item in self.args]
        kwargs = {name: mapped(self.kwargs[name], replaced) for name in sorted(self.kwargs)}
        return self.function(*args, **kwargs)

    # -- after -------------------------------------------------------------------------------------------

    def _collect(self, done: Trace, tracer: Tracer, result: Any, scalars: dict[Any, Any]) -> None:
        done.result = self._tree(tracer, result)
        for container, slots in self.before:
            self._compare(done, tracer, container, slots, scalars)
        self._compare_names()
        for value, node in tracer.node_before.items():
            if value.node is not node:
                done.rebound.append((self._target(value), tracer.known(value)))
        for value, before in tracer.grad_before.items():
            after = value._grad
            if value in tracer.grad_read:
                read = None if before is None else tracer.known(before)
                done.grad_inputs.append((self._target(value), read))
            if after is not before:
                done.grads.append(
                    (self._target(value), None if after is None else tracer.known(after))
                )

    def _target(self, value: Any) -> Target:
        place = self.places.get(id(value))
        return Held(ref(value)) if place is None else Argument(place)

    def _tree(self, tracer: Tracer, item: Any) -> Any:
        """What was returned or kept, with its tensors as `Out`, `Argument` or `Held`."""

        def leaf(value: Any) -> Any:
            if isinstance(value, Value.tuple_class):
                return Out(tracer.known(value))
            if not isinstance(value, Tensor):
                return value
            if id(value) in self.places:
                return Argument(self.places[id(value)])
            if value in tracer.node_before or not tracer.is_made_here(value.node):
                return Held(ref(value))
            return Out(value.node, value.requires_grad)

        return mapped(item, leaf)

    def _compare(
        self,
        done: Trace,
        tracer: Tracer,
        container: Container,
        slots: dict[Any, Any],
        scalars: dict[Any, Any],
    ) -> None:
        """What happened to the slots of one container."""
        now = container.items()
        if len(now) < len(slots) or any(key not in now for key in slots):
            raise TraceError(
                f"{container.path} lost an entry during a trace. Do that outside the jitted function"
            )
        for key, new in now.items():
            old = slots.get(key)
            if new is old or new is scalars.get((id(container.owner), key)):
                continue
            where = (
                f"{container.path}.{key}" if isinstance(key, str) else f"{container.path}[{key!r}]"
            )
            if _holds_tensors(new):
                if _shape_of(old) != _shape_of(new):
                    if _is_number(old):
                        raise _changed_number(where)
                    raise NewStateError(where)
                done.slots.append((container.owner, key, self._slot_tree(tracer, new)))
            elif _is_number(old) and _is_number(new) and new != old:
                raise _changed_number(where)

    def _slot_tree(self, tracer: Tracer, item: Any) -> Any:
        return mapped(
            item, lambda v: Out(tracer.known(v), v.requires_grad) if isinstance(v, Tensor) else v
        )

    def _compare_names(self) -> None:
        """Numbers in the function's closure and globals: a program could not count them up."""
        after = dict(roots(self.function))
        for name, old in self.named:
            if _is_number(old) and name in after and after[name] != old:
                raise _changed_number(name)

    def _put_back(self, tracer: Tracer, own_nodes: list[Node | None]) -> None:
        for value, node in tracer.node_before.items():
            value.node = node
        for place in self.places.values():
            own = own_nodes[place]
            assert own is not None
            self.leaves[place].node = own
        for value, grad in tracer.grad_before.items():
            value._grad = grad
        for container, slots in self.before:
            kept = _side_effects(container.items(), slots)
            restore(container.owner, {**slots, **kept})


def _side_effects(now: dict[Any, Any], before: dict[Any, Any]) -> dict[Any, Any]:
    """Python values (no numbers, no tensors) that the function set: they happen once a trace, and stay."""
    return {
        key: value
        for key, value in now.items()
        if value is not before.get(key)
        and isinstance(key, str)
        and not _holds_tensors(value)
        and not (_is_number(value) and key in before)
    }


def _value(leaf: Any, own: Node | None) -> Any:
    if own is None:
        return np.asarray(leaf)
    return realize(own)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number)


def _changed_number(where: str) -> TraceError:
    return TraceError(
        f"the Python number {where} changed while a jitted function was traced, and a program would not change "
        f"it again. Keep it in a tensor: {where} = ndl.Tensor(0), and {where}.data = {where} + 1"
    )


def _holds_tensors(item: Any) -> bool:
    if isinstance(item, list | tuple):
        return any(_holds_tensors(part) for part in item)
    if isinstance(item, dict):
        return any(_holds_tensors(part) for part in item.values())
    return isinstance(item, Tensor)


def _shape_of(item: Any) -> Any:
    """The structure of a tree of tensors: what a program relies on."""
    if isinstance(item, list | tuple):
        return (type(item), *[_shape_of(part) for part in item])
    if isinstance(item, dict):
        return (dict, *[(name, _shape_of(part)) for name, part in item.items()])
    return Tensor if isinstance(item, Tensor) else None


def _same_state(a: Any, b: Any) -> bool:
    if a["bit_generator"] != b["bit_generator"] or a.get("gauss") != b.get("gauss"):
        return False
    if a.get("has_gauss") != b.get("has_gauss"):
        return False
    left, right = a["state"], b["state"]
    return all(np.array_equal(left[name], right[name]) for name in left)


def _refuse_escapes(tracer: Tracer) -> None:
    """A traced tensor that is still alive was kept somewhere that a program would not write."""
    if not _escaped(tracer):
        return
    gc.collect()
    for node in _escaped(tracer):
        raise TraceError(
            f"a tensor made at {node.where} was kept outside the jitted function, where a program would not "
            "write it. Return it instead"
        )


def _escaped(tracer: Tracer) -> list[Node]:
    alive = []
    for node in tracer.nodes:
        handle = node.handle() if node.handle is not None else None
        if handle is not None and handle.node is node:
            alive.append(node)
    return alive
