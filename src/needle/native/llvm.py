"""IR text -> addresses: the one entry through which LLVM is used.

Nothing else imports llvmlite, and this module does so only when something is compiled. The IR that
arrives already says what to do, down to explicit vectors, so no optimisation pass runs: LLVM picks
instructions, schedules them and allocates registers.

Code may not refer to functions of the process by name: the loader would end the process over a
missing one, and code and C library can lie too far apart for a direct call. Instead a module
declares `@c.NAME = global ptr null` for the C function NAME, which is filled in here after loading.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import platform
import re
import sys
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from ..errors import ArgumentError, CompileError
from . import cache

# Code and constants are laid out next to each other (llvmlite's own memory manager): so constants
# can be addressed relative to the code, which is shorter and faster than 64-bit addresses.
CODE_MODEL = "small"
OPTIMISATION = 3

_DECLARATION = re.compile(r"^declare [^\n]*@(?!llvm\.)([\w.$]+)", re.MULTILINE)
_EXTERNAL = re.compile(r"^@c\.(\w+) = ", re.MULTILINE)


@dataclass(frozen=True)
class Host:
    """The machine that code is made for: its name, its features, floats in one vector register."""

    cpu: str
    features: str
    lanes: int
    fma: bool

    def lanes_of(self, bits: int) -> int:
        """Elements of so many bits in one vector register."""
        return self.lanes * 32 // bits

    @property
    def neon(self) -> bool:
        """Whether vectors are those of aarch64: on x86, what has FMA has wider ones."""
        return self.lanes == 4 and self.fma

    @property
    def registers(self) -> int:
        """Vector registers: 32 with AVX-512 and NEON, 16 with AVX2 and SSE."""
        return 32 if self.lanes == 16 or self.neon else 16


class Module:
    """Loaded machine code. It lives as long as this object, or a function taken from it, does."""

    def __init__(self, ir: str, host: Host, engine: Any) -> None:
        self.ir = ir
        self.host = host
        self._engine = engine

    def address(self, symbol: str) -> int:
        """Address of a function or global; valid while this module lives."""
        address = int(self._engine.get_function_address(symbol))
        if not address:
            raise CompileError(f"The module defines no symbol {symbol!r}")
        return address

    def function(self, symbol: str, result: Any, *arguments: Any) -> Any:
        """The function `symbol` as a ctypes function, which keeps the module alive."""
        function = ctypes.CFUNCTYPE(result, *arguments)(self.address(symbol))
        function.module = self  # pyright: ignore[reportAttributeAccessIssue]
        return function

    def assembly(self) -> str:
        """The machine code as text, made again from the IR."""
        with _parsed(self.ir) as module:
            return str(_machine(self.host).emit_assembly(module))


def unavailable() -> str | None:
    """Why there is no machine code here; None if there is."""
    try:
        _binding()
    except ModuleNotFoundError:
        return "llvmlite is not installed"
    except (ImportError, OSError, RuntimeError) as error:
        return f"llvmlite cannot be loaded ({error})"
    if is_x86() and "-sse4.1" in _native_host().features:  # what rounds would call the C library
        return "llvmlite cannot make code for a processor without SSE4.1"
    return None


def is_x86() -> bool:
    """Whether the processor is of the family x86-64."""
    return platform.machine().lower() in ("x86_64", "amd64")


@functools.cache
def host(lanes: int | None = None) -> Host:
    """The machine we run on, or with `lanes` one like it with that many floats a vector.

    Where the processor's family has one, a narrower host is a real older machine (x86-64-v3 has
    AVX2 and FMA, x86-64-v2 neither): what is compiled for it is what such a machine runs.
    """
    native = _native_host()
    if lanes is None or lanes == native.lanes:
        return native
    if lanes not in (4, 8, 16):
        raise ArgumentError(f"host: lanes={lanes} is not a vector width. Use 4, 8 or 16")
    if lanes < native.lanes and is_x86():
        return Host({8: "x86-64-v3", 4: "x86-64-v2"}[lanes], "", lanes, fma=lanes == 8)
    return Host(native.cpu, native.features, lanes, native.fma)


def compile_ir(text: str, target: Host | None = None) -> Module:
    """Machine code of the IR `text`, made for `target` (default: this host) or read from the cache.

    Raises CompileError with LLVM's message for text that is not valid IR, and for a C function
    that this process does not have.
    """
    target = target or host()
    llvm = _binding()
    name = _key(text, target)
    code = cache.load(name)
    if code is None:
        code = _emit(text, target)
        cache.store(name, code)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine(target), use_lmm=True)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _link(text, engine)
    return Module(text, target, engine)


def _emit(text: str, target: Host) -> bytes:
    """The object file of the IR."""
    for symbol in _DECLARATION.findall(text):
        raise CompileError(f"IR declares {symbol!r}: C functions are called through @c.{symbol}")
    with _parsed(text) as module:
        return bytes(_machine(target).emit_object(module))


def _link(text: str, engine: Any) -> None:
    """Write the addresses of C functions into the globals that stand for them."""
    for symbol in _EXTERNAL.findall(text):
        address = _binding().address_of_symbol(symbol)
        if address is None:
            raise CompileError(f"This process has no C function {symbol!r}")
        slot = engine.get_global_value_address(f"c.{symbol}")
        ctypes.c_void_p.from_address(slot).value = address


@contextlib.contextmanager
def _parsed(text: str) -> Generator[Any]:
    """LLVM's form of the IR, verified, in a context of its own that goes with it."""
    llvm = _binding()
    try:
        with (
            contextlib.closing(llvm.create_context()) as context,
            contextlib.closing(llvm.parse_assembly(text, context)) as module,
        ):
            module.verify()
            module.triple = llvm.get_process_triple()
            yield module
    except RuntimeError as error:  # LLVM's message already quotes the line
        raise CompileError(f"LLVM rejects this IR: {error}") from error


def _machine(target: Host) -> Any:
    llvm = _binding()
    return llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(
        cpu=target.cpu,
        features=target.features,
        opt=OPTIMISATION,
        reloc="pic",
        codemodel=CODE_MODEL,
        jit=True,
    )


def _key(text: str, target: Host) -> str:
    import llvmlite

    llvm = _binding()
    versions = f"{llvmlite.__version__} {llvm.llvm_version_info} {CODE_MODEL} {OPTIMISATION}"
    return cache.key(
        text, target.cpu, target.features, versions, llvm.get_process_triple(), platform.system()
    )


@functools.cache
def _native_host() -> Host:
    llvm = _binding()
    features = llvm.get_host_cpu_features()
    has = features.get if is_x86() else lambda _feature: False
    wide = has("avx512f") and has("avx512vl") and has("avx512dq") and has("avx512bw")
    lanes = 16 if wide else 8 if has("avx2") and has("fma") else 4
    fma = lanes > 4 or not is_x86()
    return Host(llvm.get_host_cpu_name(), features.flatten(), lanes, fma)


@functools.cache
def _binding() -> Any:
    """The binding of llvmlite, imported and initialised at first use."""
    import llvmlite.binding as binding

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    return binding


# -- fork ------------------------------------------------------------------------------------------


def _library_lock() -> contextlib.AbstractContextManager[Any]:
    """What llvmlite holds while LLVM works. A child forked meanwhile would wait for it for ever."""
    loaded = sys.modules.get("llvmlite.binding.ffi")
    return getattr(getattr(loaded, "lib", None), "_lock", None) or contextlib.nullcontext()


_held = contextlib.ExitStack()
if hasattr(os, "register_at_fork"):
    # The first to be registered is the last to be called: who holds other locks may need LLVM.
    os.register_at_fork(
        before=lambda: _held.enter_context(_library_lock()),
        after_in_parent=_held.close,
        after_in_child=_held.close,
    )
