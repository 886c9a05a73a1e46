"""Matrix products of one thread: Needle's generated code against OpenBLAS (through NumPy).

Run `python benchmarks/matmul.py [bars | sweep | all]`. Both sides are called from Python with the
result array given; they take turns, the results are compared first, and the medians are printed.
With a further argument `8`, both sides use vectors of 8 floats, as on a processor with AVX2.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

LANES = int(sys.argv[2]) if __name__ == "__main__" and len(sys.argv) > 2 else None
_CORES = {None: {}, 8: {"OPENBLAS_CORETYPE": "Haswell"}}
# OpenBLAS chooses its kernels when it is loaded: let it see this processor, or the one asked for.
_FORCED = {n: os.environ[n] for n in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE") if n in os.environ}
if _CORES[LANES] != _FORCED:
    free = {name: value for name, value in os.environ.items() if name not in _FORCED}
    os.execve(sys.executable, [sys.executable, *sys.argv], free | _CORES[LANES])

import numpy as np  # noqa: E402
from threadpoolctl import threadpool_limits  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a file, too: the package is found

from benchmarks.one_product import CompiledProduct  # noqa: E402
from needle.native.llvm import host  # noqa: E402
from needle.native.matmul import Product  # noqa: E402

ROUNDS = 25
BARS = [  # forward, weight gradient, input gradient of each layer, and batch 1
    (m, n, k, ta, tb)
    for batch, layers in (
        (100, [(784, 100), (100, 50), (50, 100), (100, 10), (100, 100)]),
        (256, [(784, 512), (512, 256), (256, 512), (512, 10)]),
        (1, [(784, 100), (100, 100), (100, 50), (100, 10)]),
    )
    for i, o in layers
    for m, n, k, ta, tb in (
        (batch, o, i, False, False), (i, o, batch, True, False), (batch, i, o, False, True)
    )
]  # fmt: skip


def sweep() -> Iterator[tuple[int, int, int, bool, bool]]:
    """Square, thin and ragged shapes of 16 to 2,048 on a side."""
    sizes = [(s, s, s) for s in (16, 17, 31, 32, 48, 64, 96, 128, 200, 255, 256, 384, 512, 1000)]
    sizes += [(1024,) * 3, (2048,) * 3]
    sizes += [
        (m, n, k)
        for m in (16, 100, 2048) for n in (16, 100, 2048) for k in (16, 100, 2048)
        if len({m, n, k}) > 1
    ]  # fmt: skip
    for m, n, k in sizes:
        for ta in (False, True):
            for tb in (False, True):
                yield m, n, k, ta, tb


def aligned(shape: tuple[int, int], random: np.random.Generator) -> np.ndarray:
    """A float32 matrix that begins at a cache line, as memory of a program does."""
    count = shape[0] * shape[1]
    space = np.empty(count + 16, np.float32)
    start = -space.ctypes.data % 64 // 4
    matrix = space[start : start + count].reshape(shape)
    matrix[:] = random.standard_normal(shape, np.float32)
    return matrix


def measure(m: int, n: int, k: int, ta: bool, tb: bool) -> tuple[float, float]:
    """Median seconds of one product: Needle, OpenBLAS."""
    random = np.random.default_rng(0)
    a = aligned((k, m) if ta else (m, k), random)
    b = aligned((n, k) if tb else (k, n), random)
    ours, theirs = aligned((m, n), random), aligned((m, n), random)
    left, right = a.T if ta else a, b.T if tb else b
    product = CompiledProduct(Product(m, n, k, ta, tb), host(LANES))
    calls = product.bind(a, b, ours)

    def run() -> None:
        for call in calls:
            call()

    def blas() -> None:
        np.matmul(left, right, out=theirs)

    run()
    blas()
    scale = np.abs(left) @ np.abs(right)
    assert np.all(np.abs(ours - theirs) <= 2 * (k + 2) * np.finfo(np.float32).eps * scale)
    inner = max(1, int(2e7 / (2 * m * n * k + 1e5)))
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(ROUNDS):
        for side in (0, 1) if turn % 2 else (1, 0):
            function = (run, blas)[side]
            start = time.perf_counter()
            for _ in range(inner):
                function()
            times[side].append((time.perf_counter() - start) / inner)
    return statistics.median(times[0]), statistics.median(times[1])


def main() -> None:
    """Print a table, worst ratio last."""
    chosen = sys.argv[1] if len(sys.argv) > 1 else "bars"
    shapes = {"bars": BARS, "sweep": list(sweep()), "all": [*BARS, *sweep()]}[chosen]
    print(f"{'product':>30}  {'needle':>9}  {'openblas':>9}  GFLOP/s       ratio")
    ratios: list[tuple[float, str]] = []
    with threadpool_limits(1):
        for m, n, k, ta, tb in dict.fromkeys(shapes):
            ours, theirs = measure(m, n, k, ta, tb)
            name = f"{m}x{k}{'^T' if ta else '  '} @ {k}x{n}{'^T' if tb else '  '}"
            rate = 2e-9 * m * n * k
            ratios.append((theirs / ours, name))
            print(
                f"{name:>30}  {ours * 1e6:7.1f}us  {theirs * 1e6:7.1f}us"
                f"  {rate / ours:5.0f} {rate / theirs:5.0f}  {theirs / ours:6.2f}",
                flush=True,
            )
    ratios.sort()
    print(f"lowest: {', '.join(f'{ratio:.2f} ({name.strip()})' for ratio, name in ratios[:8])}")


if __name__ == "__main__":
    main()
