"""Programs: a trace that can be run again.

Read `program.py` first. A call finds its inputs (`inputs.py`, `binding.py`), runs, and only then
writes what it changed (`commit.py`). `shortcut.py` is the short way of a call in an unchanged
world, `differentiate.py` the gradient of a call.
"""
