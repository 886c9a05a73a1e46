"""One matrix product of Needle's, compiled by itself, for arrays of NumPy."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from needle.native.llvm import Host, compile_ir
from needle.native.llvm import host as this_host
from needle.native.matmul import Epilogue, Phase, Product, emit
from needle.native.matmul_blocking import blocking
from needle.native.vectors import F64, I64, PTR, VOID, Source, Type

Chunks = Callable[[int], Iterable[tuple[int, int]]]


class CompiledProduct:
    """A function of arrays that lie as the product says, without gaps."""

    def __init__(
        self,
        product: Product,
        host: Host | None = None,
        epilogue: Epilogue | None = None,
        further: Mapping[str, Type] | None = None,
    ) -> None:
        source = Source(host or this_host())
        self.product = product
        self.phases = emit(source, product, "product", epilogue, further)
        _write_whole(source, self.phases, dict(further or {}))
        self.module = compile_ir(source.text(), source.host)
        self.dtype = np.dtype(np.float64 if product.kind == F64 else np.float32)
        self._scratch = np.empty(blocking(product, source.host).scratch, self.dtype)
        pointers = [ctypes.c_void_p] * (4 + len(further or {}))
        signature = (*pointers, ctypes.c_int64, ctypes.c_int64)
        self._whole = self.module.function("whole", None, *pointers)
        self._functions = [
            (self.module.function(phase.symbol, None, *signature), phase.chunks)
            for phase in self.phases
        ]

    def __call__(
        self,
        a: np.ndarray,
        b: np.ndarray,
        c: np.ndarray | None = None,
        *further: np.ndarray,
        chunks: Chunks | None = None,
    ) -> np.ndarray:
        """The product of two arrays; `chunks` gives the calls of a phase, else it is one."""
        product = self.product
        c = np.zeros((product.m, product.n), self.dtype) if c is None else c
        for call in self.bind(a, b, c, *further, chunks=chunks):
            call()
        return c

    def bind(
        self,
        a: np.ndarray,
        b: np.ndarray,
        c: np.ndarray,
        *further: np.ndarray,
        chunks: Chunks | None = None,
    ) -> list[Callable[[], None]]:
        """The calls that compute C from these arrays; they and the product must stay alive."""
        assert all(x.dtype == self.dtype and x.flags.c_contiguous for x in (a, b, c))
        pointers = [
            ctypes.c_void_p(array.ctypes.data) for array in (a, b, c, self._scratch, *further)
        ]
        if chunks is None:
            return [functools.partial(self._whole, *pointers)]
        return [
            functools.partial(function, *pointers, ctypes.c_int64(begin), ctypes.c_int64(end))
            for function, count in self._functions
            for begin, end in chunks(count)
        ]


def _write_whole(source: Source, phases: list[Phase], further: dict[str, Type]) -> None:
    """Append `whole`: all phases one after the other, as a program without threads calls them."""
    pointers = dict.fromkeys(("a", "b", "c", "scratch"), PTR)
    function = source.function("whole", {**pointers, **further})
    b = function.body
    for phase in phases:
        bounds = [b.constant(bound, I64) for bound in (0, phase.chunks)]
        b.call(phase.symbol, VOID, *function.arguments, *bounds)
    b.ret()
