"""The array backend that `NEEDLE_BACKEND` names, under the course's names."""

from __future__ import annotations

import numpy as array_api  # noqa: ICN001 - the course's name

from . import config
from .device import Device, default_device
from .errors import BackendError

BACKEND = config.backend()
"""Name of the backend."""

if BACKEND == "nd":
    raise BackendError(
        "NEEDLE_BACKEND=nd asks for needle.backend_ndarray, which is not part of this version. "
        "Unset it, or set NEEDLE_BACKEND=np"
    )

NDArray = array_api.ndarray
"""The class of a tensor's `cached_data`."""

__all__ = ["BACKEND", "Device", "NDArray", "array_api", "default_device"]
