"""Code that reads and writes memory: items of arrays, lanes under masks, words for threads."""

from __future__ import annotations

from ..errors import CompileError
from .instructions import Instructions
from .llvm import is_x86
from .values import I1, I32, I64, PTR, VOID, Operand, Type, Value


class MemoryInstructions(Instructions):
    """Appends, besides arithmetic, loads and stores, and what threads need of each other."""

    def array(self, kind: Type, size: int) -> Value:
        """Memory for so many items, which the function has while it runs: to be asked for first."""
        return self.emit(PTR, f"alloca [{size} x {kind}], align 64")

    def offset(self, pointer: Value, kind: Type, index: Operand) -> Value:
        """Address of item `index` (any type of integer) of an array of the scalar of `kind`."""
        index = self.value(index)
        text = f"getelementptr inbounds {kind.scalar}, ptr {pointer.text}, {index!r}"
        return self.emit(PTR.vector(index.type.lanes), text)

    def load(
        self,
        pointer: Value,
        kind: Type,
        index: Operand | None = None,
        *,
        mask: Value | None = None,
    ) -> Value:
        """Load a value of `kind` at item `index`; where `mask` is false, zero and no access."""
        address = pointer if index is None else self.offset(pointer, kind, index)
        if mask is None:
            return self.emit(kind, f"load {kind}, ptr {address.text}, align {kind.bytes}")
        return self._masked("load", kind, address, mask)

    def store(
        self,
        x: Value,
        pointer: Value,
        index: Operand | None = None,
        *,
        mask: Value | None = None,
    ) -> None:
        """Store x at item `index`, only the lanes where `mask` holds."""
        address = pointer if index is None else self.offset(pointer, x.type, index)
        if mask is None:
            self.lines.append(f"  store {x!r}, ptr {address.text}, align {x.type.bytes}")
            return
        if x.type.scalar in ("i8", "i16"):
            mask = self._hidden(mask)
        self._masked("store", x.type, address, mask, x)

    def prefetch(self, pointer: Value) -> None:
        """Have the cache line at an address fetched, which may lie outside of any array."""
        to_read, all_caches, data = (self.constant(flag, I32) for flag in (0, 3, 1))
        self._intrinsic("prefetch.p0", VOID, pointer, to_read, all_caches, data)

    def gather(self, pointer: Value, kind: Type, index: Value, mask: Value | None = None) -> Value:
        """Load the items at a vector of indices; zero where `mask` is false."""
        return self._masked("gather", kind, self.offset(pointer, kind, index), mask)

    def scatter(self, x: Value, pointer: Value, index: Value, mask: Value | None = None) -> None:
        """Store each lane of x at its index, only the lanes where `mask` holds."""
        self._masked("scatter", x.type, self.offset(pointer, x.type, index), mask, x)

    def _masked(
        self, name: str, kind: Type, addresses: Value, mask: Value | None, x: Value | None = None
    ) -> Value:
        """Store the lanes of `x` where a mask holds (None: all); without `x`, load them.

        LLVM ends the process over an intrinsic of the wrong type, so the mask must fit.
        """
        if not kind.lanes:
            raise CompileError(f"A mask needs a vector, but the type is {kind}")
        mask = self.coerce(1 if mask is None else mask, kind.like(I1))
        where = addresses, self.constant(kind.bytes, I32), mask
        symbol = f"masked.{name}.{kind.mangled}.{addresses.type.mangled}"
        if x is not None:
            return self._intrinsic(symbol, VOID, x, *where)
        return self._intrinsic(symbol, kind, *where, self.constant(0, kind))

    def _hidden(self, mask: Value) -> Value:
        """The mask, by a way on which LLVM does not see that it is a constant.

        Where only lane 0 of narrowed integers is stored, LLVM 22 stores the wide one: 4 bytes.
        """
        bits = self._bits(mask)
        wide = self.emit(I64, f"zext {bits!r} to i64")
        hidden = self.emit(I64, f'call i64 asm "", "=r,0"({wide!r})')
        narrow = self.emit(bits.type, f"trunc {hidden!r} to {bits.type}")
        return self.emit(mask.type, f"bitcast {narrow!r} to {mask.type}")

    # -- shared by threads ----------------------------------------------------------------------
    # Atomic operations on i64 and pointers, all sequentially consistent: one order for all threads.

    def atomic_load(self, pointer: Value, kind: Type = I64) -> Value:
        """Load a word that other threads may be writing."""
        return self.emit(kind, f"load atomic {kind}, ptr {pointer.text} seq_cst, align 8")

    def atomic_store(self, x: Operand, pointer: Value) -> None:
        """Store a word that other threads may be reading."""
        self.lines.append(f"  store atomic {self.value(x)!r}, ptr {pointer.text} seq_cst, align 8")

    def atomic_add(self, pointer: Value, x: Operand) -> Value:
        """Add to a word; its value before."""
        x = self.coerce(x, I64)
        return self.emit(I64, f"atomicrmw add ptr {pointer.text}, {x!r} seq_cst")

    def compare_swap(self, pointer: Value, expected: Operand, x: Operand) -> Value:
        """Store x if the word is as expected; whether it was."""
        expected, x = self.coerce(expected, I64), self.coerce(x, I64)
        text = f"cmpxchg ptr {pointer.text}, {expected!r}, {x!r} seq_cst seq_cst"
        pair = self.emit(VOID, text)
        return self.emit(I1, f"extractvalue {{ i64, i1 }} {pair.text}, 1")

    def pause(self) -> None:
        """Tell the processor that this is a loop that waits for another thread."""
        if is_x86():
            self._intrinsic("x86.sse2.pause", VOID)
        else:
            self._intrinsic("aarch64.hint", VOID, self.constant(1, I32))

    def call_c(self, name: str, result: Type, *arguments: Operand) -> Value:
        """Call a function of the C library on scalars; its address is filled in after loading."""
        self.source.add(f"@c.{name} = global ptr null")
        return self.call_pointer(self.load(self.symbol(f"c.{name}"), PTR), result, *arguments)
