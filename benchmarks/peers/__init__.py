"""The same work in each library. Every module here runs in a process of its own.

A module has `build(task, **settings)`, which returns an object whose methods the benchmarks call by
name through `harness.worker`; `run(count)` does the work `count` times and waits until it is done.
"""
