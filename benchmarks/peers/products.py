"""The products of `benchmarks.matmul`, one at a time."""

from __future__ import annotations

from threadpoolctl import threadpool_limits

from .. import matmul


def build(threads: int | None) -> Products:
    """The contestant, both sides of it."""
    return Products(threads or 1)


class Products:
    """Needle's and OpenBLAS's time for each shape."""

    def __init__(self, threads: int) -> None:
        threadpool_limits(threads)
        self._groups = {
            group: {_name(shape): shape for shape in shapes}
            for group, shapes in (("bars", matmul.BARS), ("sweep", matmul.sweep()))
        }

    def names(self, group: str) -> list[str]:
        """Names of the products of a group."""
        return list(self._groups[group])

    def product(self, group: str, name: str) -> dict[str, float]:
        """Median seconds of both; the results are compared first."""
        needle, openblas = matmul.measure(*self._groups[group][name])
        return {"needle": needle, "openblas": openblas}


def _name(shape: tuple[int, int, int, bool, bool]) -> str:
    m, n, k, ta, tb = shape
    return f"({m}×{k}{')ᵀ' if ta else ')'} @ ({k}×{n}{')ᵀ' if tb else ')'}"
