"""Tracing: a function is run once on stand-ins, and what it did becomes a `Trace`, a value.

Nothing that the function changed stays changed: tensors, gradients, attributes and random streams
are put back, and the trace says what a program has to write after each call::

    before a call     stand_ins.py   tensors without values for the arguments
    during it         tracer.py      operators are recorded
                      watch.py       classes tell what the function reads
                      reaching.py    it is looked at, with what it leads to
                      reached.py     and noted
    after it          changed.py     which slots it changed
                      effects.py     what it changed and returned: the `Trace`
                      guarding.py    what it relied on: the guards
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Collection
from contextlib import suppress
from contextvars import copy_context
from typing import Any

from ...context import ambient
from ...errors import TraceError
from ...graph.node import Node, owner_of
from ...shapes import spec_of
from ..objects.things import attributes_of
from ..objects.trees import mapped, outline
from .changed import ChangedNumberError, NewStateError, first_attributes
from .effects import Effects, taken_apart
from .guarding import guard
from .reached import Reached
from .repetition import do_the_same
from .signature import is_leaf
from .stand_ins import StandIns
from .streams import Streams, no_entropy
from .trace import Trace
from .tracer import Tracer, refusal
from .watch import Watch


def trace(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], leaves: list[Any]
) -> Trace:
    """Run `function` once on stand-ins for its arguments and return what it does.

    Raises:
        TraceError: the function does something that a program could not repeat.
        NewStateError: state came into being; call it eagerly and trace again.
    """

    def run() -> tuple[Trace, Reached]:
        tracing = _Tracing(function, args, kwargs, leaves)
        # In a context of its own, where a context variable that had no value may be given one.
        return copy_context().run(tracing.run), tracing.reached

    try:
        done, reached = run()
    except ChangedNumberError as error:
        changed = error.changed
    else:
        if reached.grown:
            _refuse_what_depends_on_growth(done, reached, run, leaves)
        return done
    # A number that is the same after a second run (a batch size, say) was set, not counted up.
    before = [(slot, slot.held()) for slot, _ in changed]
    try:
        for slot, new in changed:
            slot.assign(new)
        run()[1].take_back()
    finally:
        for slot, old in before:
            slot.assign(old)
    slot = changed[0][0].label
    raise NewStateError(slot, f"Set {slot} outside the jitted function, between its calls")


def _refuse_what_depends_on_growth(
    done: Trace,
    reached: Reached,
    run: Callable[[], tuple[Trace, Reached]],
    leaves: list[Any],
) -> None:
    """What the function added to a list stays, and is there at the next call: does that matter?

    Raises:
        NewStateError: it does, as in `log.append(1); return x * len(log)`.
    """
    repeated = False
    try:
        with suppress(Exception):  # an eager call raises it as well
            again, second = run()
            second.take_back()
            repeated = do_the_same(done, again, leaves)
    finally:
        if not repeated:
            reached.take_back()
    if not repeated:
        path = reached.grown[0].path
        advice = f"What it computes depends on that: add to {path} outside the jitted function"
        raise NewStateError(path, advice)


class _Tracing:
    """One run of a function under the tracer, and the putting back of everything after it."""

    def __init__(self, function: Any, args: Any, kwargs: Any, leaves: list[Any]) -> None:
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.streams = Streams()
        self.tracer = Tracer()
        self.stand_ins = StandIns(leaves, self.tracer)
        self.watch = Watch(self.tracer, self.streams, self.stand_ins)
        self.reached = self.watch.reached

    def run(self) -> Trace:
        """The trace; everything is as before after it, but for what the function added to lists."""
        try:
            done = self._recorded()
            _refuse_escapes(self.tracer)
            self._refuse_escaped_stand_ins()
            _settle_constants(self.tracer)
            guard(done, self.tracer, self.reached, self.stand_ins.leaves)
        except BaseException:
            self.reached.take_back()
            raise
        return done

    def _recorded(self) -> Trace:
        evaluator = ambient.evaluator
        try:
            self.stand_ins.put_in()
            self.watch.open()
            self.watch.add("self", self.function)
            ambient.evaluator = self.tracer
            with no_entropy(refusal):
                result = self._call()
                tuples = taken_apart(result)
            ambient.evaluator = evaluator
            for refused in self.tracer.refusals:
                refused.add_note("The function caught this and went on: so would every call")
                raise refused
            self.streams.check()
            self.watch.settle()
            return Effects(self.tracer, self.reached, self.stand_ins).trace(result, tuples)
        finally:
            ambient.evaluator = evaluator
            try:
                self._put_back()
            except KeyboardInterrupt:  # tensors without values would stay behind
                self._put_back()
                raise

    def _call(self) -> Any:
        """What the function returns for the stand-ins."""
        following = iter(self.stand_ins.handles)

        def replaced(item: Any) -> Any:
            if is_leaf(item):
                return next(following)
            self.watch.add("an argument", item)
            return item

        args = [mapped(item, replaced) for item in self.args]
        kwargs = {name: mapped(item, replaced) for name, item in self.kwargs.items()}
        given = outline([args, kwargs], id, self._beside)
        result = self.function(*args, **kwargs)
        if outline([args, kwargs], id, self._beside) != given:
            raise TraceError(
                "a list or dict that was passed as an argument was changed while a jitted function "
                "was traced. Change a copy, such as dict(cache) or list(rows), and return what is "
                "new"
            )
        return result

    def _beside(self, branch: Any) -> Any:
        """What a list, dict or tuple of a class of the user's own has beside its parts."""
        held = attributes_of(branch)
        for name, value in held.items():
            self.watch.add(f"{name} of an argument", value)
        return type(branch), {name: id(value) for name, value in held.items()}

    def _refuse_escaped_stand_ins(self) -> None:
        """What stood for a number or array, which nothing of a trace itself needs any more."""
        rates = [handle.node for handle in self.reached.scalars.values()]
        nodes = [*self.stand_ins.of_numbers(), *rates]
        self.stand_ins.handles.clear()
        self.reached.scalars.clear()
        self.tracer.let_go()
        if _held(nodes):
            raise TraceError(
                "what stands for a float or array that is passed, or for a hyperparameter, was "
                "kept outside the jitted function, where a program would not write what it is at "
                "each call. Return it in tuples, lists or dicts, or keep it where the call is made"
            )

    def _put_back(self) -> None:
        """Let everything be as it was before. Done twice, it does the same."""
        self.watch.close()
        self.tracer.undo()
        self.stand_ins.put_back()
        # What has two containers, as `h` and `vars(h)`: the one found first knows what it held.
        for seen in reversed(self.reached.found.values()):
            seen.container.restore(seen.before)
        for tensor in first_attributes(self.reached):
            vars(tensor).clear()
        for held in [*self.reached.elements, *self.reached.arrays]:
            if not held.are_same():
                held.put_back()
        self.streams.put_back()


def _refuse_escapes(tracer: Tracer) -> None:
    """A traced tensor that is still alive was kept somewhere that a program would not write."""
    for node in _held(tracer.nodes):
        raise TraceError(
            f"a tensor made at {node.where} was kept outside the jitted function, where a program "
            "would not write it. Return it instead, in tuples, lists or dicts"
        )


def _settle_constants(tracer: Tracer) -> None:
    """A constant that something keeps, as a cache does, is read there from the next call on."""
    for node in _held(tracer.constants):
        raise NewStateError(f"what keeps a tensor of shape {spec_of(node.storage).shape}")


def _held(nodes: Collection[Node]) -> list[Node]:
    """The nodes that still belong to a tensor, but for what is garbage."""
    if any(map(_has_tensor, nodes)):
        gc.collect()
    return list(filter(_has_tensor, nodes))


def _has_tensor(node: Node) -> bool:
    owner = owner_of(node)
    return owner is not None and owner.node is node
