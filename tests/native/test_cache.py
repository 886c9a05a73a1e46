"""The cache of compiled objects: what it keeps, what it refuses, and what it survives."""

import ctypes
import os
import stat
import subprocess
import sys
from dataclasses import replace

import pytest

from needle.native import cache, llvm

IR = "define i64 @answer() {\n  ret i64 42\n}\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    path = tmp_path / "needle"
    monkeypatch.setenv("NEEDLE_CACHE", str(path))
    return path


def answer(module):

    return module.function("answer", ctypes.c_int64)()


def test_what_is_stored_is_loaded(folder):
    assert cache.load("name") is None
    cache.store("name", b"object")
    assert cache.load("name") == b"object"
    assert cache.load("other") is None


def test_folder_is_made_for_the_user_alone(folder):
    cache.store("name", b"object")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [path.suffix for path in folder.iterdir()] == [".o"]


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o707])
def test_a_folder_that_others_can_enter_is_not_used(folder, mode):
    cache.store("name", b"object")
    folder.chmod(mode)
    assert cache.load("name") is None
    cache.store("second", b"object")
    assert cache.clear() == (0, 0)
    assert len(list(folder.iterdir())) == 1


def test_a_folder_of_another_user_is_not_used(folder, monkeypatch):
    cache.store("name", b"object")
    monkeypatch.setattr(os, "getuid", lambda: folder.stat().st_uid + 1)
    assert cache.load("name") is None


def test_a_link_is_not_used(folder, tmp_path):
    (tmp_path / "real").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "real")
    cache.store("name", b"object")
    assert not list((tmp_path / "real").iterdir())


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("NEEDLE_CACHE", str(tmp_path / "file" / "needle"))
    cache.store("name", b"object")
    assert cache.load("name") is None
    assert cache.clear() == (0, 0)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
def test_a_pipe_under_the_name_of_an_object_is_not_waited_for(folder):
    cache.store("name", b"object")
    path = folder / "name.o"
    path.unlink()
    os.mkfifo(path)
    assert cache.load("name") is None
    cache.store("name", b"object")
    assert cache.load("name") == b"object"


@pytest.mark.parametrize(
    "damage", [lambda d: d[:-1], lambda d: b"", lambda d: d[:50] + b"?" + d[51:]]
)
def test_a_damaged_entry_is_removed_and_compiled_anew(folder, damage):
    assert answer(llvm.compile_ir(IR)) == 42
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert cache.load(path.stem) is None
    assert not path.exists()
    path.write_bytes(damage(whole))
    assert answer(llvm.compile_ir(IR)) == 42
    assert path.read_bytes() == whole


def test_an_entry_under_another_name_is_removed_and_compiled_anew(folder):
    other = IR.replace("42", "43")
    llvm.compile_ir(IR)
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    llvm.compile_ir(other)
    (second,) = set(folder.iterdir()) - {path}
    path.write_bytes(second.read_bytes())
    assert answer(llvm.compile_ir(IR)) == 42
    assert path.read_bytes() == whole
    assert answer(llvm.compile_ir(other)) == 43


def test_a_stored_object_is_used(folder, monkeypatch):
    llvm.compile_ir(IR)
    monkeypatch.setattr(llvm, "_emit", lambda *_: pytest.fail("compiled again"))
    assert answer(llvm.compile_ir(IR)) == 42


def test_another_text_or_host_is_another_object(folder):
    llvm.compile_ir(IR)
    llvm.compile_ir(IR, replace(llvm.host(), features=""))
    llvm.compile_ir(IR.replace("42", "43"))
    assert len(list(folder.iterdir())) == 3
    assert cache.key("ab", "c") != cache.key("a", "bc")


def test_zero_switches_it_off(monkeypatch):
    monkeypatch.setenv("NEEDLE_CACHE", "0")
    cache.store("name", b"object")
    assert cache.load("name") is None
    assert cache.clear() == (0, 0)
    assert answer(llvm.compile_ir(IR)) == 42


def test_a_user_without_a_home_has_none(monkeypatch):
    """As in a container that runs under a number which no list of users knows."""

    def unknown(*_):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("NEEDLE_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(cache.Path, "home", unknown)
    cache.store("name", b"object")
    assert cache.load("name") is None
    assert cache.clear() == (0, 0)
    assert answer(llvm.compile_ir(IR)) == 42


def test_clear_says_what_it_removed(folder):
    cache.store("one", b"12345")
    cache.store("two", b"123456789")
    (folder / "left-over.tmp").write_bytes(b"123")
    (folder / "not-ours.txt").write_text("keep")
    size = sum(path.stat().st_size for path in folder.iterdir() if path.suffix != ".txt")
    assert cache.clear() == (3, size)
    assert [path.name for path in folder.iterdir()] == ["not-ours.txt"]


def test_what_was_used_longest_ago_goes_first(folder, monkeypatch):
    for age, name in enumerate(["new", "used", "old"]):
        cache.store(name, bytes(1000))
        os.utime(folder / f"{name}.o", (10**9 - age, 10**9 - age))
    cache.load("old")  # now the one used last
    monkeypatch.setattr(cache, "LIMIT", 3 * 1048 + 200)
    monkeypatch.setattr(cache, "STRIDE", 100)
    cache.store("newest", bytes(1000))
    assert sorted(path.stem for path in folder.iterdir()) == ["new", "newest", "old"]


def test_the_folder_is_counted_now_and_then(folder, monkeypatch):
    """Else the time of storing would grow with what is there."""
    counted = []
    monkeypatch.setattr(cache, "_shrink", counted.append)
    monkeypatch.setattr(cache, "STRIDE", 1000)
    for number in range(10):
        cache.store(f"{number}", bytes(400))
    assert counted == [folder] * 4  # the first, then each third one


WORKER = """
import ctypes, sys
from needle.native import llvm
for round in range(30):
    text = "define i64 @answer() {\\n  ret i64 %d\\n}\\n" % (round % 5)
    assert llvm.compile_ir(text).function("answer", ctypes.c_int64)() == round % 5
    from needle.native import cache
    if round % 7 == 6:
        cache.clear()
"""


def test_two_processes_at_once(folder):
    workers = [
        subprocess.Popen([sys.executable, "-c", WORKER], stderr=subprocess.PIPE) for _ in range(2)
    ]
    for worker in workers:
        _, errors = worker.communicate(timeout=100)
        assert worker.returncode == 0, errors.decode()
    assert not [path for path in folder.iterdir() if path.suffix == ".tmp"]
    for path in folder.iterdir():
        assert cache.load(path.stem) is not None
