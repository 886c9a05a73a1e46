"""From a function to the stages of its program, for the tests of the stages."""

from __future__ import annotations

import re

import numpy as np

import needle as ndl
from needle.jit.compiler import fuse, plan, schedule
from needle.jit.compiler.compiled import Compiled
from needle.jit.compiler.graph import Graph
from needle.jit.compiler.native_executor import NativeExecutor
from needle.jit.compiler.simplify import simplify
from needle.jit.tracing.interpret import Interpreter, gathers
from needle.jit.tracing.recording import trace
from needle.jit.tracing.signature import signature


def traced(function, *args):
    """The recorded graph of a function, and the arrays that it is given."""
    leaves, _ = signature(args, {})
    found = trace(function, args, {}, leaves)
    arrays = [leaf.numpy() if isinstance(leaf, ndl.Tensor) else np.asarray(leaf) for leaf in leaves]
    return Graph(found.arguments, found.nodes, found.wanted(), gathers(found.nodes)), arrays


def simplified(function, *args):
    """The graph after the first stage."""
    return simplify(traced(function, *args)[0])


def compiled(function, *args, host=None):
    """All stages, each verified."""
    graph, _ = traced(function, *args)
    program = Compiled(graph.inputs, graph.nodes, graph.outputs, {}, host)
    program.traced.verify()
    program.graph.verify()
    fuse.verify(program.fused)
    schedule.verify(program.schedule, program.fused)
    plan.verify(program.plan, program.fused, program.schedule)
    return program


def expect_numpy(function, *args, rtol, host=None):
    """Run the compiled graph and its NumPy meaning on the same arrays, and compare."""
    graph, arrays = traced(function, *args)
    expected = Interpreter(graph.inputs, graph.nodes, graph.outputs)(arrays)
    executor = NativeExecutor(compiled(function, *args, host=host))
    for place, array in enumerate(arrays):
        executor.bind(place, np.ascontiguousarray(array))
    results = executor()
    assert results is not None
    for result, reference in zip(results, expected, strict=True):
        assert result.shape == reference.shape
        assert result.dtype == reference.dtype
        np.testing.assert_allclose(result, reference, rtol=rtol, atol=rtol)


def functions(ir):
    """The functions of a module by name."""
    parts = re.split(r"^(?=define )", ir, flags=re.MULTILINE)[1:]
    return {re.match(r"define .*?@([\w.]+)", part)[1]: part for part in parts}
