"""`ndl.save` and `ndl.load`: nested state in one safetensors file, without pickle.

Arrays are tensors of the file, named by their path (`model.0.weight`), so that any other reader of
safetensors finds them. What holds them together (nesting, order, numbers, text) is JSON in the
file's metadata; a file without it, written by another program, loads as a flat dict.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from os import PathLike
from typing import Any

import numpy as np

from .errors import ArgumentError, CheckpointError, DTypeError
from .files import read_file, resolved, write_file
from .graph.leaf import refuse_masked
from .tensor import Tensor

LAYOUT = "needle"  # the metadata entry that holds the nesting
DTYPES = frozenset(
    ["bool", "float16", "float32", "float64"]
    + [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
)
READABLE = {"BOOL", "C64", "F16", "F32", "F64"} | {
    f"{sign}{bits}" for sign in ("I", "U") for bits in (8, 16, 32, 64)
}


def save(path: str | PathLike[str], state: object) -> None:
    """Write `state` to one file, which holds the old content or the new whatever happens.

    Args:
        path: the file to write, `.safetensors` by custom. An existing file is replaced.
        state: dicts with text keys, lists and tuples, nested at will, of tensors, NumPy arrays,
            numbers, text, bools and None. Arrays keep shape and dtype (bool, integers, floats of
            16 to 64 bits); they are stored as dense C-order copies.

    Raises:
        ArgumentError: an object of another kind, named by its key.
        DTypeError: an array of another dtype, named by its key.
        CheckpointError: the file cannot be written.

    Example:
        >>> import needle as ndl, tempfile
        >>> path = tempfile.mkdtemp() + "/linear.safetensors"
        >>> model = ndl.nn.Linear(3, 2)
        >>> ndl.save(path, {"model": model.state_dict(), "epoch": 3})
        >>> state = ndl.load(path)
        >>> model.load_state_dict(state["model"]); state["epoch"]
        3
    """
    data = encode(state)
    try:
        target = resolved(path)
        if target.exists() and not target.is_file():
            raise CheckpointError(f"save: {path} exists and is not a file. Give the name of a file")
        write_file(target, data)
    except OSError as error:
        raise CheckpointError(f"save: cannot write {path!s:.200}: {error.strerror}") from error


def load(path: str | PathLike[str]) -> Any:
    """Read what `save` wrote, or any safetensors file.

    Args:
        path: the file to read.

    Returns:
        The state with its nesting; arrays and tensors come back as writable NumPy arrays.

    Raises:
        CheckpointError: the file is missing, cannot be read, or is damaged.

    Example:
        >>> import needle as ndl, numpy as np, tempfile
        >>> path = tempfile.mkdtemp() + "/state.safetensors"
        >>> ndl.save(path, {"weights": [np.eye(2), None], "name": "first"})
        >>> ndl.load(path)
        {'weights': [array([[1., 0.],
               [0., 1.]]), None], 'name': 'first'}
    """
    try:
        data = read_file(path)
    except OSError as error:
        raise CheckpointError(f"load: cannot read {path}: {error.strerror}") from error
    return decode(data, str(path))


def encode(state: object) -> bytes:
    """`state` as the bytes of a safetensors file."""
    import safetensors.numpy as safetensors

    arrays: dict[str, np.ndarray] = {}
    try:
        layout = json.dumps(_flatten(state, "", arrays))
        return safetensors.save(arrays, {LAYOUT: layout})
    except UnicodeEncodeError as error:
        raise ArgumentError(
            f"save: the key {error.object!r} is no valid Unicode text. Rename it"
        ) from None
    except RecursionError:
        raise ArgumentError(
            "save: the state is nested too deeply or contains itself. Save a flat dict of arrays"
        ) from None


def decode(data: bytes, source: str) -> Any:
    """The state in the bytes of a safetensors file; `source` names it in errors."""
    import safetensors
    import safetensors.numpy as numpy_format

    lies = (ValueError, LookupError, TypeError, AttributeError, RecursionError)
    try:
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        layout = header.pop("__metadata__", {}).get(LAYOUT)
        if unknown := {entry["dtype"] for entry in header.values()} - READABLE:
            raise CheckpointError(
                f"load: {source} holds {', '.join(sorted(unknown))}, which NumPy does not have. "
                "Convert it to F32 where it was written"
            )
        arrays = {name: array.copy() for name, array in numpy_format.load(data).items()}
        return arrays if layout is None else _restore(json.loads(layout), arrays)
    except (safetensors.SafetensorError, *lies) as error:
        raise CheckpointError(
            f"load: {source} is damaged or no safetensors file ({error}). Use another copy"
        ) from error


def _flatten(value: Any, path: str, arrays: dict[str, np.ndarray]) -> Any:
    """Move the arrays of `value` to `arrays` and return the rest as JSON with references."""
    if isinstance(value, Tensor):
        value = value.numpy()
    if isinstance(value, (np.ndarray, np.number, np.bool)):
        name = path or "tensor"
        while name in arrays or name == "__metadata__":  # {"a": {"b": …}, "a.b": …} names two
            name += "_"
        refuse_masked(value, f"save: {name}")
        arrays[name] = _dense(np.asarray(value), path)
        return {"tensor": name}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        entries = {
            _key(key, path): _flatten(item, _join(path, key), arrays) for key, item in value.items()
        }
        return {"dict": entries}
    if isinstance(value, (list, tuple)):
        items = [_flatten(item, _join(path, i), arrays) for i, item in enumerate(value)]
        return {"tuple": items} if isinstance(value, tuple) else items
    hint = "its state_dict()" if hasattr(value, "state_dict") else "arrays, numbers or text"
    raise ArgumentError(
        f"save: {path or 'the state'!r} is a {type(value).__name__}, which is not stored. "
        f"Save {hint} instead"
    )


def _restore(layout: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(layout, list):
        return [_restore(item, arrays) for item in layout]
    if not isinstance(layout, dict):
        return layout
    ((kind, content),) = layout.items()
    if kind == "tensor":
        return arrays[content]
    if kind == "tuple":
        return tuple(_restore(item, arrays) for item in content)
    if kind == "dict":
        return {key: _restore(item, arrays) for key, item in content.items()}
    raise ValueError(f"unknown kind of entry {kind!r}")


def _dense(array: np.ndarray, path: str) -> np.ndarray:
    """A C-order copy in the machine's byte order: the NumPy writer stores memory as it lies."""
    if array.dtype.name not in DTYPES:
        raise DTypeError(
            f"save: {path or 'the state'!r} has dtype {array.dtype}, which is not stored. "
            "Convert it to bool, an integer or a float of up to 64 bits"
        )
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C")


def _key(key: object, path: str) -> str:
    if not isinstance(key, str):
        raise ArgumentError(
            f"save: the key {key!r} in {path or 'the state'!r} is no text. Use str({key!r})"
        )
    return key


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)
