"""Watching what a function reads while it is traced: it is what its program relies on.

The classes of objects that the function reaches (from its closure, its globals, its arguments)
note, as long as the trace lasts, which attributes are read; what is read is reached in turn.
Nothing else is looked at: a list of losses beside the model guards nothing::

    before: what is read               after: what is relied on

    model.head(x) * cfg["scale"]       the variables `model` and `cfg`; the attribute `head` of the
                                       model; all entries of `cfg`
    self.k * G, in Head.forward        `k` of the head; `forward` of its class; the variable `G`
"""

from __future__ import annotations

from typing import Any

from ...tensor import Tensor
from ..objects.classes import MAKING
from ..objects.containers import Attributes, Variables
from .instrumentation import Instrumentation
from .reaching import Reaching
from .stand_ins import StandIns
from .streams import Streams
from .tracer import Tracer


class Watch:
    """Is told by instrumented classes what the function does, and reaches what it reads.

    Args:
        tracer: Is told of hyperparameters, which become run-time scalars.
        streams: Is told of random generators.
        stand_ins: Is told of the attributes of arguments.

    Attributes:
        reached: What the function has reached so far.
    """

    def __init__(self, tracer: Tracer, streams: Streams, stand_ins: StandIns) -> None:
        self._stand_ins = stand_ins
        self._instrumentation = Instrumentation(self)
        self._reaching = reaching = Reaching(tracer, streams, self._instrumentation)
        self._classes, self._found = reaching.classes, reaching.found
        self.reached, self.add = reaching.reached, reaching.add

    def open(self) -> None:
        """Let tensors note which attributes are read of them that Needle does not know.

        Of classes, what is read of them under names that are computed.
        """
        self._instrumentation.tensors()
        self._instrumentation.classes()
        if self._stand_ins.has_attributes():
            self._instrumentation.instances_of(Tensor)

    def settle(self) -> None:
        """Stop watching, and see to what was changed unseen.

        Raises:
            TraceError: a NumPy array was written.
        """
        self.close()
        self._classes.note_what_may_hide(self._found)
        self.reached.settle()

    def close(self) -> None:
        """Let no class note any more what is read."""
        self._instrumentation.end()
        self._reaching.wake()

    # -- told by classes ---------------------------------------------------------------------------

    def missed(self, tensor: Any, name: str) -> None:
        """An attribute of a tensor was asked for and may come: those that it has are watched."""
        if name.startswith("__"):
            return
        if self._stand_ins.place(tensor) is not None:
            self._stand_ins.asked.add(name)
        if id(tensor) in self.reached.tensors and id(tensor) not in self._found:
            self._reaching.add_whole(
                tensor, Attributes(tensor, f"a tensor of shape {tensor.shape}")
            )

    def assigned(self, owner: Any, name: str) -> None:
        """An attribute is about to be assigned."""
        seen = self._found.get(id(owner))
        if seen is not None:
            seen.assign(name)

    def read_of_class(self, cls: type, name: Any = None) -> None:
        """An attribute of a class is about to be read, or all of them."""
        names = list(vars(cls)) if name is None else [name]
        for one in names:
            self._classes.read(cls, one, self._reaching)

    def read(self, owner: Any, name: str) -> None:
        """An attribute is about to be read."""
        seen = self._found.get(id(owner))
        if seen is None:
            for asked, held in self._stand_ins.ask(owner, name).items():
                self.add(f"{asked} of an argument", held)
            self._classes.read(type(owner), name, self._reaching)  # it may be new
            return
        if name in seen.reads or name in seen.overwritten:
            return
        if name in ("__dict__", "__getstate__"):  # which `copy` asks for
            if not seen.whole:
                seen.whole = True
                self._reaching.add_all(seen)
        elif not name.startswith("__") or name in MAKING:
            seen.reads[name] = None
            path = seen.container.label(name)
            if name in seen.before:
                self._classes.read(type(owner), name, self._reaching, may_come=False)
                self.add(path, seen.before[name])
                return
            if isinstance(seen.container, Variables):
                space = seen.container.space
                self.add(path, space.get(name, space.get("__getattr__")))
            self._classes.read(type(owner), name, self._reaching)
