"""Ctrl-C at a chosen moment."""

import sys

import pytest


def interrupt(call, name, time=1):
    """Make a call that Ctrl-C ends where the function of this name is called for the n-th time."""
    times = iter(range(1, time))

    def interrupting(frame, event, arg):
        if event == "call" and frame.f_code.co_name == name and next(times, None) is None:
            sys.setprofile(None)
            raise KeyboardInterrupt

    sys.setprofile(interrupting)
    try:
        with pytest.raises(KeyboardInterrupt):
            call()
    finally:
        sys.setprofile(None)


def interrupt_line(call, name, line):
    """Let Ctrl-C end a call at the n-th line of functions of this name; False if there are less."""
    lines = iter(range(1, line))

    def in_function(frame, event, arg):
        if event == "line" and next(lines, None) is None:
            sys.settrace(None)
            raise KeyboardInterrupt
        return in_function

    sys.settrace(lambda frame, event, arg: in_function if frame.f_code.co_name == name else None)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)
    return False
