"""Calls on the short way through Python."""

import needle as ndl
from needle.context import ambient
from needle.jit.programs.shortcut import LONG_WAY


def leaf(values, **kwargs) -> ndl.Tensor:
    return ndl.Tensor(values, dtype="float32", requires_grad=False, **kwargs)


def warm(function, *args):
    """The compiled function, after so many calls that the next one is a short one."""
    compiled = ndl.jit(function)
    for _ in range(4):
        compiled(*args)
    return compiled


def taken(compiled, *args):
    """The result of the short way itself; None where it is given up."""
    (program,) = compiled.programs
    result = program.shortcut(program, args, ambient.__dict__)
    return None if result is LONG_WAY else result
