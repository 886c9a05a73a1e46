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
