"""The ambient random stream: NumPy's global state, or Philox4x32-10 after `needle.seed(n)`.

One stream is *ambient*, for the whole process: initialisers, dropout and loaders without a seed
of their own draw from it.

**NumPy's stream** (`needle.streams`) is the global legacy state, drawn in float64:
`np.random.seed(k)` gives the published numbers. **Philox** (`needle.philox`) is counter-based: a
number depends on the seed and on its place alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .philox import PhiloxStream
from .streams import NumPyStream, bad_state, turn

_numpy_stream = NumPyStream()
_ambient: NumPyStream | PhiloxStream = _numpy_stream


def ambient_stream() -> NumPyStream | PhiloxStream:
    """The stream in force for the whole process."""
    return _ambient


def make_ambient(stream: NumPyStream | PhiloxStream) -> None:
    """Let a stream be in force for the whole process."""
    global _ambient
    with turn:
        if isinstance(stream, PhiloxStream):
            stream.shared = True
        _ambient = stream


def seed(n: int | None) -> None:
    """Draw from Philox4x32-10 with this seed from now on; None goes back to NumPy's global state.

    Covers initialisers, dropout and loaders, eager and compiled. `np.random.seed` does not end
    it, and NumPy's state is left as it is.

    Args:
        n: 0 <= n < 2**64, or None.

    Raises:
        ArgumentError: a seed that is no integer in that range.

    Example:
        >>> import needle as ndl
        >>> ndl.seed(0)
        >>> ndl.random.ambient_stream().uniform((2,), "float32").tolist()
        [0.3990464210510254, 0.8805201649665833]
        >>> ndl.seed(None)
    """
    make_ambient(_numpy_stream if n is None else PhiloxStream(n))


def get_state() -> dict[str, Any]:
    """All there is to know of the process's random numbers, as plain JSON values.

    Returns:
        {"numpy": state of NumPy's global stream, "philox": state of the ambient Philox stream,
        or None while NumPy's is in force}.

    Example:
        >>> import needle as ndl
        >>> ndl.seed(7)
        >>> ndl.random.get_state()["philox"]
        {'stream': 'philox', 'seed': 7, 'draw': 0}
        >>> ndl.seed(None)
    """
    with turn:
        philox = None if _ambient is _numpy_stream else _ambient.get_state()
        return {"numpy": _numpy_stream.get_state(), "philox": philox}


def set_state(state: dict[str, Any]) -> None:
    """Go back to where `get_state` was called, in whatever process that was.

    Raises:
        StateError: a dictionary that `get_state` did not make.

    Example:
        >>> import needle as ndl
        >>> before = ndl.random.get_state()
        >>> first = ndl.random.ambient_stream().uniform((3,))
        >>> ndl.random.set_state(before)
        >>> bool((ndl.random.ambient_stream().uniform((3,)) == first).all())
        True
    """
    if not isinstance(state, dict) or set(state) != {"numpy", "philox"}:
        raise bad_state("process's", state, KeyError("needs 'numpy' and 'philox'"))
    philox = None if state["philox"] is None else stream_from_state(state["philox"])
    with turn:
        _numpy_stream.set_state(state["numpy"])
        make_ambient(_numpy_stream if philox is None else philox)


def stream_from_state(state: dict[str, Any]) -> NumPyStream | PhiloxStream:
    """A stream of its own that goes on where the stream stood that gave this state.

    Raises:
        StateError: a dictionary that no stream's `get_state` made.

    Example:
        >>> from needle.random import stream_from_state
        >>> stream_from_state({"stream": "philox", "seed": 7, "draw": 2}).draw
        2
    """
    kind = state.get("stream") if isinstance(state, dict) else None
    stream: NumPyStream | PhiloxStream
    if kind == "numpy":
        stream = NumPyStream(np.random.RandomState())
    elif kind == "philox":
        stream = PhiloxStream(0)
    else:
        raise bad_state("known", state, KeyError("'stream' is neither 'numpy' nor 'philox'"))
    stream.set_state(state)
    return stream
