"""Ambient modes: nested, ended by errors, one set for each thread."""

import threading

import pytest

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
