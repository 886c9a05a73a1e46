"""Ambient modes: nested, ended by errors, one set for each thread."""

import asyncio
import inspect
import threading

import pytest

import needle as ndl
from needle.context import ambient, ambient_set


def test_defaults():
    assert ambient.gradients
    assert not ambient.implicit_broadcasting


def test_modes_nest_and_end_with_their_block():
    with ambient_set(gradients=False):
        with ambient_set(gradients=True, implicit_broadcasting=True):
            assert (ambient.gradients, ambient.implicit_broadcasting) == (True, True)
        assert (ambient.gradients, ambient.implicit_broadcasting) == (False, False)
    assert ambient.gradients


def test_an_error_ends_a_block():
    with pytest.raises(KeyError), ambient_set(gradients=False):
        raise KeyError
    assert ambient.gradients


def test_an_unknown_mode():
    with pytest.raises(AttributeError, match="gradient"), ambient_set(gradient=False):
        pass


def test_threads_have_their_own():
    seen = []
    started, ready = threading.Event(), threading.Event()

    def other():
        with ambient_set(implicit_broadcasting=True):
            started.set()
            ready.wait(10)
            seen.append((ambient.gradients, ambient.implicit_broadcasting))

    thread = threading.Thread(target=other)
    with ambient_set(gradients=False):
        thread.start()
        started.wait(10)
        assert not ambient.implicit_broadcasting
        ready.set()
        thread.join()
    assert seen == [(True, True)]


def test_a_decorated_function_keeps_its_name_and_may_call_itself():
    @ambient_set(gradients=False)
    def depth(n):
        return [ambient.gradients, *(depth(n - 1) if n else [])]

    assert (depth(2), depth.__name__, ambient.gradients) == ([False] * 3, "depth", True)


def test_a_decorated_generator_function_has_the_modes_in_its_body_alone():
    seen = []

    @ndl.no_grad()
    def steps(n):
        seen.append(ambient.gradients)
        for k in range(n):
            with ndl.implicit_broadcasting():
                got = yield k
            seen.append((got, ambient.gradients))
        return "done"

    generator = steps(2)
    assert next(generator) == 0
    assert (ambient.gradients, seen) == (True, [False])
    assert generator.send("a") == 1
    with pytest.raises(StopIteration) as end:
        generator.send("b")
    assert end.value.value == "done"
    assert seen == [False, ("a", False), ("b", False)]
    assert ambient.gradients
    assert list(steps(3)) == [0, 1, 2]


def test_errors_and_the_end_of_a_decorated_generator():
    seen = []

    @ndl.no_grad()
    def steps():
        try:
            yield 1
        except KeyError:
            seen.append(ambient.gradients)
            yield 2
        finally:
            seen.append(ambient.gradients)

    generator = steps()
    next(generator)
    assert generator.throw(KeyError("k")) == 2
    assert ambient.gradients
    generator.close()
    assert (seen, ambient.gradients) == ([False, False], True)
    unfinished = steps()
    next(unfinished)
    with pytest.raises(ValueError, match="v"):
        unfinished.throw(ValueError("v"))
    assert ambient.gradients


def test_the_modes_of_a_decorated_coroutine_hold_in_its_body_alone():
    seen = []

    @ndl.no_grad()
    async def answer(x):
        seen.append(ambient.gradients)
        await asyncio.sleep(0)  # the others run
        seen.append(ambient.gradients)
        if x is None:
            raise ValueError("no x")
        return (x * 2).requires_grad

    async def beside():
        return ambient.gradients

    async def main():
        calls = answer(ndl.Tensor([1.0])), beside(), answer(None), beside()
        found = await asyncio.gather(*calls, return_exceptions=True)
        late = asyncio.ensure_future(answer(None))
        await asyncio.sleep(0)
        late.cancel()
        return [*found, *await asyncio.gather(late, return_exceptions=True), ambient.gradients]

    assert inspect.iscoroutinefunction(answer)
    first, one, failed, other, cancelled, after = asyncio.run(main())
    assert (first, one, other, after) == (False, True, True, True)
    assert isinstance(failed, ValueError)
    assert isinstance(cancelled, asyncio.CancelledError)
    assert seen == [False] * 5
