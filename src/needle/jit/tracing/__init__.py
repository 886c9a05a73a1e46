"""Tracing: a function runs once, and what it did becomes a `Trace`, a value.

Read `recording.py` first: it names the files in the order in which a trace needs them. `trace.py`
is the result, and `interpret.py` what it means.
"""
