"""Devices: where arrays live. There is one, the CPU; `cuda()` says that it is not there."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from .errors import BackendError

Array = np.ndarray[Any, Any]


class Device:
    """A place for arrays. Devices compare equal by name."""

    name = ""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"needle.{self.name}()"

    def enabled(self) -> bool:
        """Whether arrays can be made here."""
        return True


class CPUDevice(Device):
    """The CPU, with arrays in NumPy."""

    name = "cpu"

    def rand(self, *shape: int, dtype: Any = "float64") -> Array:
        """Uniform numbers in [0, 1) from NumPy's global state."""
        return np.asarray(np.random.rand(*shape)).astype(dtype)  # noqa: NPY002 - as the course says

    def randn(self, *shape: int, dtype: Any = "float64") -> Array:
        """Normal numbers from NumPy's global state."""
        return np.asarray(np.random.randn(*shape)).astype(dtype)  # noqa: NPY002 - as the course says

    def one_hot(self, n: int, i: Any, dtype: Any = "float32") -> Array:
        """Rows of the n x n identity matrix."""
        return np.eye(n, dtype=dtype)[np.asarray(i).astype(np.int64)]

    def empty(self, shape: Any, dtype: Any = "float32") -> Array:
        """An array that is not filled."""
        return np.empty(shape, dtype)

    def full(self, shape: Any, fill_value: float, dtype: Any = "float32") -> Array:
        """An array that holds one number."""
        return np.full(shape, fill_value, dtype)

    def zeros(self, *shape: Any, dtype: Any = "float32") -> Array:
        """An array of zeros."""
        return np.zeros(_flat(shape), dtype)

    def ones(self, *shape: Any, dtype: Any = "float32") -> Array:
        """An array of ones."""
        return np.ones(_flat(shape), dtype)


class CUDADevice(Device):
    """A GPU, which Needle has no code for: `enabled()` is False, making an array here raises."""

    name = "cuda"

    def enabled(self) -> bool:
        return False

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        """There is nothing to make an array with: BackendError."""
        raise BackendError("cuda: Needle has no code for GPUs. Use ndl.cpu()")

    rand = randn = one_hot = empty = full = zeros = ones = _refuse


def _flat(shape: tuple[Any, ...]) -> Any:
    return shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape


_CPU = CPUDevice()


def cpu() -> CPUDevice:
    """The CPU.

    Example:
        >>> import needle as ndl
        >>> ndl.cpu()
        needle.cpu()
    """
    return _CPU


def cpu_numpy() -> CPUDevice:
    """The CPU with arrays in NumPy: with the `np` backend the same as `cpu()`.

    Example:
        >>> import needle as ndl
        >>> ndl.cpu_numpy() == ndl.cpu()
        True
    """
    return _CPU


def cuda() -> CUDADevice:
    """A GPU that is not there: it can be asked for and says so.

    Example:
        >>> import needle as ndl
        >>> ndl.cuda().enabled()
        False
    """
    return CUDADevice()


def all_devices() -> list[Device]:
    """The devices that arrays can be made on.

    Example:
        >>> import needle as ndl
        >>> ndl.all_devices()
        [needle.cpu()]
    """
    return [_CPU]


def default_device() -> CPUDevice:
    """The device that is used where none is named: the CPU.

    Example:
        >>> import needle as ndl
        >>> ndl.default_device()
        needle.cpu()
    """
    return _CPU


def check_device(device: Any, operation: str) -> None:
    """Refuse a device that arrays cannot be made on; None means the default."""
    if device is None or device is _CPU or (isinstance(device, Device) and device.enabled()):
        return
    raise BackendError(
        f"{operation}: device {device!r} is not available. Use ndl.cpu() or leave it out"
    )
