"""News: what guards are told of between two calls, and whether it still matters.

Attributes are set and set back, as `training` is around an evaluation. So each has a check::

    before: what happens          after: what guards know

    model.eval()                  told of `training`
    model.train()                 told of `training` again, and its check says that it is as it was
    w.data = new                  told of something else: only a look at everything helps
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

What = tuple[int, Any]
"""The identity of an object, and an attribute of it."""
Heard = tuple[object, dict[What | None, object]]
"""The last news, and all that was heard of: None for what has no check."""


class News:
    """What was told. Other threads may tell something at any time: nothing is ever taken away.

    Attributes:
        last: A thing that stands for the last time that something was told.
        seen: The same, of what was seen to.
        checks: What says of an attribute whether it has changed, and how.
    """

    def __init__(self) -> None:
        self.last: object = None
        self.seen: object = None
        self.checks: dict[What, Callable[[], str | None]] = {}
        self._told: dict[What | None, object] = {}  # with what stands for the last time
        self._seen_to: dict[What | None, object] = {}

    def tell(self, owner: Any, name: Any) -> None:
        """An attribute was set."""
        what = id(owner), name
        self._told[what if what in self.checks else None] = self.last = object()

    def distrust(self) -> None:
        """Anything may have happened."""
        self._told[None] = self.last = object()

    def heard(self) -> Heard:
        """What was told up to now."""
        last = self.last
        return last, self._told.copy()

    def see_to(self, heard: Heard) -> None:
        """Nothing of this matters any more."""
        self.seen, self._seen_to = heard

    def is_as_before(self) -> bool:
        """Whether all that was told of is surely as it was."""
        heard = self.heard()
        for what, when in heard[1].items():
            if self._seen_to.get(what) is not when and (what is None or self.checks[what]()):
                return False
        self.see_to(heard)
        return True

    def difference(self) -> str | None:
        """What differs of the attributes that were told of."""
        checks = [self.checks[what] for what in self._told.copy() if what is not None]
        return next(filter(None, (check() for check in checks)), None)
