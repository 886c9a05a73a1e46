"""IR text -> machine code: hosts, errors, lifetimes, C functions."""

import ctypes
import gc
import subprocess
import sys
import threading

import pytest

from needle.errors import ArgumentError, CompileError
from needle.native import llvm

ADD = """
define i64 @add(i64 %x, i64 %y) {
  %sum = add i64 %x, %y
  ret i64 %sum
}
"""
SINE = """
@c.sin = global ptr null
define double @sine(double %x) {
  %f = load ptr, ptr @c.sin
  %y = call double %f(double %x)
  ret double %y
}
"""
TWICE = """
define void @twice(ptr %x) {
  %v = load <16 x float>, ptr %x, align 4
  %w = fadd <16 x float> %v, %v
  store <16 x float> %w, ptr %x, align 4
  ret void
}
"""


@pytest.fixture(autouse=True)
def _cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("NEEDLE_CACHE", str(tmp_path / "needle"))


def test_it_is_available_here():
    assert llvm.unavailable() is None


def test_text_becomes_a_function():
    add = llvm.compile_ir(ADD).function("add", ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)
    assert add(40, 2) == 42


def test_code_lives_as_long_as_a_function_taken_from_it():
    add = llvm.compile_ir(ADD).function("add", ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)
    for _ in range(50):
        llvm.compile_ir(ADD)
    gc.collect()
    assert add(40, 2) == 42


def test_c_functions_are_filled_in():
    sine = llvm.compile_ir(SINE).function("sine", ctypes.c_double, ctypes.c_double)
    assert sine(1.0) == pytest.approx(0.8414709848078965, abs=1e-15)
    again = llvm.compile_ir(SINE).function("sine", ctypes.c_double, ctypes.c_double)
    assert again(1.0) == sine(1.0)


@pytest.mark.parametrize(
    ("lanes", "register"), [(16, "zmm"), (8, "ymm"), (4, "xmm")], ids=("16", "8", "4")
)
def test_a_narrower_host_gets_the_code_of_one(lanes, register):
    if llvm.host().lanes < lanes or not llvm.is_x86():
        pytest.skip("this processor has no such registers")
    assembly = llvm.compile_ir(TWICE, llvm.host(lanes)).assembly()
    wider = {"zmm": (), "ymm": ("zmm",), "xmm": ("zmm", "ymm")}[register]
    assert register in assembly
    assert not any(name in assembly for name in wider)
    assert llvm.host(lanes).lanes == lanes


def test_the_host_is_this_one():
    assert llvm.host() is llvm.host()
    assert llvm.host().lanes in (4, 8, 16)
    with pytest.raises(ArgumentError, match=r"lanes=5 is not a vector width. Use 4, 8 or 16"):
        llvm.host(5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("define void @f() {\n ret i32 0\n}", r"(?s)LLVM rejects.*ret i32 0"),
        ("define i32 @f() {\n %x = add i32 %y, 1\n ret i32 %x\n}", "use of undefined value"),
        ("declare void @puts(ptr)", r"declares 'puts': C functions are called through @c\.puts"),
        ("@c.no_such_function = global ptr null", "no C function 'no_such_function'"),
    ],
)
def test_wrong_text_is_a_compile_error(text, message):
    with pytest.raises(CompileError, match=message):
        llvm.compile_ir(text)


def test_an_unknown_symbol_is_a_compile_error():
    with pytest.raises(CompileError, match="defines no symbol 'nothing'"):
        llvm.compile_ir(ADD).address("nothing")


def test_several_threads_compile_at_once():
    results = []

    def work(i):
        text = ADD.replace("%x, %y", f"%x, {i}")
        add = llvm.compile_ir(text).function("add", ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)
        results.append(add(i, 0) == 2 * i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 8


def test_importing_it_imports_no_llvmlite():
    code = "import sys, needle.native.llvm; sys.exit('llvmlite' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("stand_in", "reason"),
    [
        ("sys.modules['llvmlite'] = None", "llvmlite is not installed"),
        (
            (
                "from needle.native import llvm\n"
                "def fails(): raise OSError('no memory for it')\n"
                "llvm._binding = fails"
            ),
            "llvmlite cannot be loaded (no memory for it)",
        ),
        (
            (
                "from needle.native import llvm\n"
                "old = llvm.Host('kvm64', '+sse2,-sse4.1', 4, False)\n"
                "llvm._native_host, llvm.is_x86 = lambda: old, lambda: True"
            ),
            "llvmlite cannot make code for a processor without SSE4.1",
        ),
    ],
    ids=["missing", "broken", "old"],
)
def test_without_it_jit_says_why_once_and_goes_through_numpy(stand_in, reason):
    code = f"""
import sys, warnings
{stand_in}
import needle as ndl
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for factor in (2, 3):
        double = ndl.jit(lambda x: x * factor, warmup=0)
        assert double(ndl.Tensor([1.0, 2.0])).tolist() == [factor, 2 * factor]
assert [str(w.message) for w in caught] == [
    "jit: {reason}, so traced graphs run through NumPy. Set NEEDLE_JIT=numpy if that is meant"
], caught
assert double.programs[0].backend == "numpy: {reason}"
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert not done.stderr
    assert done.returncode == 0
