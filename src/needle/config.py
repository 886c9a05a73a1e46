"""Settings from the environment: the only module that reads `os.environ`.

| variable | meaning | default |
|---|---|---|
| `NEEDLE_BACKEND` | `np` or `nd`: what a tensor's `cached_data` is | `np` |
| `NEEDLE_DATA` | folder that holds the data sets | `data` |
| `NEEDLE_JIT` | `1` native code, `numpy` traced graphs through NumPy, `0` eager | `1` |
| `NEEDLE_CACHE` | folder of compiled code, `0` switches it off | the user's cache folder |

A variable that is empty counts as one that is not set.
"""

from __future__ import annotations

import os
from pathlib import Path

from .errors import ArgumentError


def _choice(variable: str, default: str, allowed: tuple[str, ...]) -> str:
    value = os.environ.get(variable) or default
    if value not in allowed:
        names = ", ".join(allowed)
        raise ArgumentError(f"{variable}={value!r} is not known. Set it to one of: {names}")
    return value


def backend() -> str:
    """Name of the array backend, `np` or `nd`."""
    return _choice("NEEDLE_BACKEND", "np", ("np", "nd"))


def jit_mode() -> str:
    """How `ndl.jit` runs: `1` native, `numpy` through NumPy, `0` eagerly."""
    return _choice("NEEDLE_JIT", "1", ("1", "numpy", "0"))


def data_dir() -> Path | None:
    """Folder named by `NEEDLE_DATA`, or None."""
    value = os.environ.get("NEEDLE_DATA")
    return Path(value) if value else None


def cache_dir() -> Path | None:
    """Folder for compiled code; None where `NEEDLE_CACHE=0`, or there is no user with a home."""
    value = os.environ.get("NEEDLE_CACHE")
    if value == "0":
        return None
    if value:
        return Path(value)
    root = os.environ.get("XDG_CACHE_HOME")
    if root:
        return Path(root) / "needle"
    if os.environ.get("HOME") == "":  # Python takes it for the root folder
        return None
    try:
        return Path.home() / ".cache" / "needle"
    except RuntimeError:  # a container's user that no list knows
        return None
