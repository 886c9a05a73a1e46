"""Tracing: a function is run once on stand-ins, and what it did becomes a `Trace`, a value.

Nothing that the function changed stays changed: tensors, gradients, attributes and random streams
are put back, and the trace says what a program has to write after each call.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any
from weakref import ref

import numpy as np

from ..context import ambient
from ..errors import TraceError
from ..graph.node import Node, Value, new_handle, realize
from ..shapes import spec_of
from ..tensor import Tensor
from .guards import Guards
from .signature import in_native_order, is_leaf
from .slots import MISSING, Container, Items, is_equal
from .streams import Streams
from .trace import Argument, Grad, Held, Out, OutTuple, Slot, Source, Target, Trace
from .tracer import Scalar, Tracer
from .trees import mapped, tensors_in
from .watch import Seen, Watch


class NewStateError(Exception):
    """State came into being: the call has to be made eagerly first. The message names the slot."""


class ChangedNumberError(TraceError):
    """A Python number changed during a trace."""

    def __init__(self, changed: list[tuple[Container, Any, Any]]) -> None:
        container, key, _ = changed[0]
        where = container.label(key)
        super().__init__(
            f"the Python number {where} changed while a jitted function was traced, and a program "
            f"would not change it again. Keep it in a tensor: {where} = ndl.Tensor(0), and "
            f"{where}.data = {where} + 1"
        )
        self.changed = changed


def trace(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], leaves: list[Any]
) -> Trace:
    """Run `function` once on stand-ins for its arguments and return what it does.

    Raises:
        TraceError: the function does something that a program could not repeat.
        NewStateError: state came into being; call it eagerly and trace again.
    """
    try:
        return _Tracing(function, args, kwargs, leaves).run()
    except ChangedNumberError as error:
        changed = error.changed
    # A number that is the same after a second run (a batch size, say) was set, not counted up.
    before = [(container, key, container.slots()[key]) for container, key, _ in changed]
    try:
        for container, key, new in changed:
            container.assign(key, new)
        _Tracing(function, args, kwargs, leaves).run()
    finally:
        for container, key, old in before:
            container.assign(key, old)
    container, key, _ = changed[0]
    raise NewStateError(container.label(key))


class _Tracing:
    """One run of a function under the tracer, and the putting back of everything after it."""

    def __init__(self, function: Any, args: Any, kwargs: Any, leaves: list[Any]) -> None:
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.leaves = leaves
        self.own_nodes = [leaf.node if isinstance(leaf, Tensor) else None for leaf in leaves]
        self.places: dict[int, int] = {}
        self.streams = Streams()
        self.tracer = Tracer()
        self.watch = Watch(self.tracer, self.streams)
        self.stubs: dict[Node, Node] = {}

    def run(self) -> Trace:
        """The trace; everything is as before after it."""
        done, grad_inputs = self._recorded()
        self.watch.scalars.clear()
        _refuse_escapes(self.tracer)
        self._guard(done, grad_inputs)
        return done

    def _recorded(self) -> tuple[Trace, list[Any]]:
        """The trace, and the gradients that were read."""
        evaluator = ambient.evaluator
        try:
            stand_ins, nodes = self._stand_ins()
            self.watch.add("self", self.function)
            ambient.evaluator = self.tracer
            result = mapped(self._call(stand_ins), _taken_apart)
            ambient.evaluator = evaluator
            self.streams.check()
            return self._collected(nodes, result)
        finally:
            ambient.evaluator = evaluator
            try:
                self._put_back()
            except KeyboardInterrupt:  # tensors without values would stay behind
                self._put_back()
                raise

    # -- before ------------------------------------------------------------------------------------

    def _stand_ins(self) -> tuple[list[Any], list[Node]]:
        """Every leaf as something traced: a tensor on a new node, or a new tensor for a number."""
        handles: list[Any] = []
        nodes: list[Node] = []
        for place, leaf in enumerate(self.leaves):
            if isinstance(leaf, Tensor):
                handle = leaf
                if id(leaf) not in self.places:
                    value = in_native_order(realize(leaf.node))
                    leaf.node = Node(None, (), None, leaf.requires_grad, spec_of(value))
                    leaf.node.handle = ref(leaf)
                    self.tracer.argument(leaf.node, value)
            else:
                value = in_native_order(np.asarray(leaf))
                node = Node(None, (), None, False, spec_of(value))
                handle = new_handle(node, Scalar if isinstance(leaf, float) else Tensor)
                self.tracer.argument(node, value)
            self.places.setdefault(id(handle), place)
            handles.append(handle)
            nodes.append(handle.node)
        return handles, nodes

    def _call(self, stand_ins: list[Any]) -> Any:
        following = iter(stand_ins)

        def replaced(item: Any) -> Any:
            if is_leaf(item):
                return next(following)
            self.watch.add("an argument", item)
            return item

        args = [mapped(item, replaced) for item in self.args]
        kwargs = {name: mapped(item, replaced) for name, item in self.kwargs.items()}
        given = _outline([args, kwargs])
        result = self.function(*args, **kwargs)
        if _outline([args, kwargs]) != given:
            raise TraceError(
                "a list or dict that was passed as an argument was changed while a jitted function "
                "was traced. Return what is new instead"
            )
        return result

    # -- after -------------------------------------------------------------------------------------

    def _collected(self, nodes: list[Node], result: Any) -> tuple[Trace, list[Any]]:
        tracer = self.tracer
        self.watch.settle()
        self._check_flags()
        slots = self._compared()
        by_slot = self._written_tensors(slots)
        for _, tensor in tensors_in([result, [new for _, _, new in slots]]):
            if id(tensor) in by_slot:
                tracer.known(tensor)
        rebound = [
            (value, tracer.known(value))
            for value, node in tracer.node_before.items()
            if value.node is not node and self._is_real(value)
        ]
        grads, grad_inputs = self._gradients()
        captured = self._captured(by_slot, grad_inputs)
        done = Trace(
            arguments=nodes,
            scalars=[(container, name, node) for container, name, node, _ in self.watch.scalars],
            captured=[(self.stubs[node], source) for node, source in captured],
            nodes=tracer.nodes,
            guards=Guards(),
            result=self._tree(result, by_slot),
            rebound=[(self._target(value), self._stub(node)) for value, node in rebound],
            grads=grads,
            slots=[(container, key, self._tree(new, by_slot)) for container, key, new in slots],
        )
        for node in tracer.nodes:
            node.inputs = tuple([self._stub(child) for child in node.inputs])
        return done, grad_inputs

    def _check_flags(self) -> None:
        """`requires_grad` is not for a function to set: it decides what is recorded."""
        flags: list[tuple[Any, bool]] = list(self.watch.tensors.values())
        flags += [(v, f) for r, f in self.tracer.captured.values() if (v := r()) is not None]
        for tensor, flag in flags:
            if tensor.node.requires_grad != flag and tensor not in self.tracer.node_before:
                tensor.node.requires_grad = flag
                raise TraceError(
                    f"requires_grad of a tensor of shape {tensor.shape} was set while a jitted "
                    "function was traced. Set it outside"
                )

    def _compared(self) -> list[tuple[Container, Any, Any]]:
        """What the slots hold that changed: (container, key, new)."""
        slots: list[tuple[Container, Any, Any]] = []
        changed: list[tuple[Container, Any, Any]] = []
        for seen in self.watch.found.values():
            self._compare(seen, slots, changed)
        if changed:
            raise ChangedNumberError(changed)
        for seen in self.watch.found.values():
            now = seen.container.slots()
            if isinstance(seen.container, Items) and len(now) > len(seen.before):
                # It grew by Python values: a side effect, that stays, and that nothing relies on.
                seen.before, seen.whole = now, False
        return slots

    def _compare(self, seen: Seen, slots: list[Any], changed: list[Any]) -> None:
        """What happened to the slots of one container."""
        container = seen.container
        now = container.slots()
        if any(key not in now for key in seen.before):
            raise TraceError(
                f"{container.path} lost an entry during a trace. Do that outside the jitted "
                "function"
            )
        scalars = {name: handle for c, name, _, handle in self.watch.scalars if c is container}
        for key, new in now.items():
            old = seen.before.get(key, MISSING)
            if new is old or new is scalars.get(key, MISSING):
                continue
            if key in scalars and isinstance(new, Scalar):
                slots.append((container, key, new))
            elif _is_number(old) and _is_number(new):
                if new != old:
                    changed.append((container, key, new))
            elif old is MISSING and isinstance(container, Items) and not _holds_tensors(new):
                continue
            elif old is MISSING or (_holds_tensors(new) and _structure(old) != _structure(new)):
                raise NewStateError(container.label(key))
            elif _holds_tensors(new) or not is_equal(old, new):
                slots.append((container, key, new))

    def _written_tensors(self, slots: list[Any]) -> dict[int, Slot]:
        """The slots that are written, by the identity of the tensors that they held."""
        written = {(id(container), key) for container, key, _ in slots}
        return {
            id(tensor): Slot(seen.container, key, path)
            for seen in self.watch.found.values()
            for key, value in seen.before.items()
            if (id(seen.container), key) in written
            for path, tensor in tensors_in(value)
        }

    def _gradients(self) -> tuple[list[Any], list[Any]]:
        """What happened to `.grad`: what is set at the end, and what was read before it was set."""
        tracer = self.tracer
        grads: list[tuple[Target, Node | None]] = []
        inputs: list[tuple[Target, Node | None]] = []
        for value, before in tracer.grad_before.items():
            if not self._is_real(value):
                continue
            after = value._grad
            if value in tracer.grad_read:
                inputs.append(
                    (self._target(value), None if before is None else tracer.known(before))
                )
            if after is not before or (after is None and value not in tracer.grad_read):
                node = None if after is None else self._stub(tracer.known(after))
                grads.append((self._target(value), node))
            if after is not before and after is not None:
                self._refuse_graph_of(value)
        return grads, inputs

    def _refuse_graph_of(self, value: Any) -> None:
        """Reverse mode ends at an argument: what it was computed from would get no gradient."""
        place = self.places.get(id(value))
        own = None if place is None else self.own_nodes[place]
        if own is not None and own.op is not None:
            raise TraceError(
                f"backward inside a jitted function reaches an argument of shape {value.shape} "
                "that was computed from other tensors, which would get no gradient. Pass detach() "
                "of it, or compute it in the function"
            )

    def _captured(
        self, by_slot: dict[int, Slot], grad_inputs: list[Any]
    ) -> list[tuple[Node, Source]]:
        """Where each value that existed before is found at a later call."""
        by_grad = {node: target for target, node in grad_inputs if node is not None}
        found: list[tuple[Node, Source]] = []
        for node, (reference, _) in self.tracer.captured.items():
            handle = reference()
            if node in by_grad:
                source: Source = Grad(by_grad[node])
            elif handle is None:  # nobody can change it any more: a constant
                continue
            else:
                source = by_slot.get(id(handle)) or Held(reference)
            self.stubs[node] = Node(None, (), None, node.requires_grad, node.specs())
            found.append((node, source))
        return found

    def _guard(self, done: Trace, grad_inputs: list[Any]) -> None:
        """Tell the guards what the trace relies on."""
        guards = done.guards
        written = {(id(container), key) for container, key, _ in done.slots}
        numbers = {(id(container), name) for container, name, _ in done.scalars}
        inside = self._inside_written(written)
        for owner, seen in self.watch.found.items():
            if owner not in inside and seen.is_relied_on():
                guards.add(seen.container, seen.before, seen.read(), seen.whole, written, numbers)
        for tensor, flag in self.watch.tensors.values():
            guards.add_flag(tensor, flag)
        for reference, flag in self.tracer.captured.values():
            guards.add_flag(reference(), flag)
        for node, source in done.captured:
            if not isinstance(source, Grad):
                guards.add_source(source, node.specs())
        for target, node in grad_inputs:
            guards.add_grad(target, None if node is None else node.specs())
        guards.add_others([target for target, _ in [*done.rebound, *done.grads]])
        self._guard_aliases(guards, written, inside)

    def _inside_written(self, written: set[Any]) -> set[int]:
        """Lists and dicts in slots that are written: the slot's own guard looks at them."""
        found: set[int] = set()

        def note(item: Any) -> None:
            if isinstance(item, list | dict | tuple):
                found.add(id(item))
                for part in item.values() if isinstance(item, dict) else item:
                    note(part)

        for seen in self.watch.found.values():
            for key, value in seen.before.items():
                if (id(seen.container), key) in written and _holds_tensors(value):
                    note(value)
        return found

    def _guard_aliases(self, guards: Guards, written: set[Any], inside: set[int]) -> None:
        """A tensor that is found at several places is one input: it has to be so at each call."""
        found: dict[int, list[Slot]] = {}
        for owner, seen in self.watch.found.items():
            for key in () if owner in inside else seen.read():
                value = seen.before.get(key)
                if isinstance(value, Tensor | tuple) or (id(seen.container), key) in written:
                    for path, tensor in tensors_in(value):
                        found.setdefault(id(tensor), []).append(Slot(seen.container, key, path))
        for place, tensor in enumerate(self.leaves):
            if isinstance(tensor, Tensor) and id(tensor) in self.watch.tensors:
                others: Sequence[Target] = found.pop(id(tensor), []) or [Held(ref(tensor))]
                guards.add_alias([Argument(place), *others])
        for slots in found.values():
            if len(slots) > 1 and any((id(slot.container), slot.key) in written for slot in slots):
                guards.add_alias([*slots])

    # -- small things ------------------------------------------------------------------------------

    def _tree(self, item: Any, by_slot: dict[int, Slot]) -> Any:
        """What was returned or kept, with its tensors as `Out`, `Argument` or `Held`."""

        def leaf(value: Any) -> Any:
            if isinstance(value, _Parts):
                return OutTuple(tuple([self._leaf(part, by_slot) for part in value.tensors]))
            if isinstance(value, Iterator | Coroutine):
                raise TraceError(
                    f"a jitted function returned a {type(value).__name__}, which can be read only "
                    "once, and would be the same at every call. Return a list or tuple"
                )
            return self._leaf(value, by_slot) if isinstance(value, Tensor) else value

        return mapped(item, leaf)

    def _leaf(self, value: Any, by_slot: dict[int, Slot]) -> Any:
        tracer = self.tracer
        place = self.places.get(id(value))
        if place is not None and not isinstance(self.leaves[place], np.ndarray):
            return Argument(place)
        if isinstance(value, Scalar):
            return Out(value.node, cls=float)
        if id(value) in by_slot:
            return Out(self._stub(value.node), value.requires_grad, type(value))
        if place is None and (value in tracer.node_before or not tracer.is_made_here(value.node)):
            return Held(ref(value))
        grad = None if value._grad is None else self._stub(tracer.known(value._grad))
        return Out(value.node, value.requires_grad, type(value), grad)

    def _is_real(self, value: Any) -> bool:
        """Whether a value exists outside of the trace: stand-ins of arrays and floats do not."""
        place = self.places.get(id(value))
        return place is None or self.own_nodes[place] is not None

    def _target(self, value: Any) -> Target:
        place = self.places.get(id(value))
        return Held(ref(value)) if place is None else Argument(place)

    def _stub(self, node: Node) -> Node:
        return self.stubs.get(node, node)

    def _put_back(self) -> None:
        """Let everything be as it was before. Done twice, it does the same."""
        self.watch.close()
        for value, node in self.tracer.node_before.items():
            value.node = node
        for leaf, own in zip(self.leaves, self.own_nodes, strict=True):
            if own is not None:
                leaf.node = own
        for value, grad in self.tracer.grad_before.items():
            value._grad = grad
        for seen in self.watch.found.values():
            seen.container.restore(seen.before)
        self.streams.put_back()


class _Parts:
    """The elements of a `TensorTuple` that was returned."""

    def __init__(self, value: Any) -> None:
        self.tensors = [value[k] for k in range(len(value))]


def _taken_apart(item: Any) -> Any:
    return _Parts(item) if isinstance(item, Value.tuple_class) else item


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _holds_tensors(item: Any) -> bool:
    return bool(tensors_in(item))


def _structure(item: Any) -> Any:
    """The structure of a tree of tensors: what a program relies on."""
    if isinstance(item, list | tuple):
        return (type(item), *[_structure(part) for part in item])
    if isinstance(item, dict):
        return (dict, *[(name, _structure(part)) for name, part in item.items()])
    return Tensor if isinstance(item, Tensor) else None


def _outline(item: Any) -> Any:
    """What lists and dicts hold, by identity."""
    if isinstance(item, list | tuple):
        return [_outline(part) for part in item]
    if isinstance(item, dict):
        return [(name, _outline(part)) for name, part in item.items()]
    return id(item)


def _refuse_escapes(tracer: Tracer) -> None:
    """A traced tensor that is still alive was kept somewhere that a program would not write."""
    if not _escaped(tracer):
        return
    gc.collect()
    for node in _escaped(tracer):
        raise TraceError(
            f"a tensor made at {node.where} was kept outside the jitted function, where a program "
            "would not write it. Return it instead, in tuples, lists or dicts"
        )


def _escaped(tracer: Tracer) -> list[Node]:
    alive = []
    for node in tracer.nodes:
        handle = node.handle() if node.handle is not None else None
        if handle is not None and handle.node is node:
            alive.append(node)
    return alive
