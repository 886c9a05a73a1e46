"""What the machine itself can do just now: multiply-adds of one core, and a hand-over of two."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from needle.native import llvm, threads
from needle.native.threads import Phase, Program
from needle.native.vectors import F32, I64, PTR, Builder, Source, Value

ACCUMULATORS = 12  # enough to hide an FMA's latency, few enough for 16 registers
TURNS = 100_000
STAGES = 200
SPINS = 64


def build(threads: int | None) -> Hardware | MatrixProduct:
    """Native code where LLVM is there, else NumPy's matrix product."""
    del threads
    return MatrixProduct() if llvm.unavailable() else Hardware()


class Hardware:
    """Measured with code of our own."""

    def __init__(self) -> None:
        host = llvm.host()
        self._memory = np.zeros(256, np.float32)
        self._memory[: host.lanes] = 0.5
        address = self._memory.ctypes.data
        self._flops = 2 * ACCUMULATORS * host.lanes * TURNS
        self._modules = [_compiled(_multiply_adds), _compiled(_spins)]
        peak, spin = (module.address("phase") for module in self._modules)
        self._peak = Program([Phase(peak, 1)], address)
        self._handovers = Program([Phase(spin, 2)] * STAGES, address)

    def measure(self) -> dict[str, Any]:
        """FLOP/s of one core, and the seconds that two threads lose between two phases."""
        threads.set_threads(1)
        serial = _best(self._handovers.run)
        flops = self._flops / _best(self._peak.run)
        threads.set_threads(2)
        shared = _best(self._handovers.run)
        return {
            "peak": flops,
            "barrier": max(0.0, (shared - serial / 2) / STAGES),
            "approximate": False,
        }


class MatrixProduct:
    """Where no code can be made: NumPy's large matrix product, which is below the peak."""

    def __init__(self) -> None:
        self._a = np.ones((1024, 1024), np.float32)

    def measure(self) -> dict[str, Any]:
        """FLOP/s of NumPy's matrix product; no hand-over."""
        seconds = _best(lambda: self._a @ self._a)
        return {"peak": 2 * 1024**3 / seconds, "barrier": None, "approximate": True}


def _best(run: Any) -> float:
    run()
    seconds = []
    for _ in range(20):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _compiled(write: Any) -> llvm.Module:
    """A module with the function `phase`, which does what `write` appends for each chunk."""
    source = Source(llvm.host())
    function = source.function("phase", {"memory": PTR, "begin": I64, "end": I64})
    b, (memory, begin, end) = function.body, function.arguments
    with b.loop(begin, end) as loop:
        write(b, memory, loop.index)
    b.ret()
    return llvm.compile_ir(source.text())


def _multiply_adds(b: Builder, memory: Value, chunk: Value) -> None:
    kind = F32.vector(b.source.host.lanes)
    factor = b.load(memory, kind)
    with b.loop(0, TURNS, carry=[factor] * ACCUMULATORS) as loop:
        loop.update(*[b.fma(value, factor, factor) for value in loop.values])
    total = loop.values[0]
    for value in loop.values[1:]:
        total = total + value
    b.store(total, b.offset(memory, F32, 128))


def _spins(b: Builder, memory: Value, chunk: Value) -> None:
    with b.loop(0, SPINS):
        b.pause()
