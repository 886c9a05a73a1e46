"""Each verifier refuses a value that is broken by hand, in every way that it looks for."""

from __future__ import annotations

import numpy as np
import pytest

import needle as ndl
from needle.errors import CompileError
from needle.graph.node import Node
from needle.jit.compiler import fuse, plan, schedule
from needle.jit.compiler.compiled import Compiled
from needle.jit.compiler.graph import Graph
from needle.jit.compiler.kernels import Kernel, Product, Special
from needle.ops.arithmetic import AddScalar, EWiseAdd
from needle.ops.contraction import MatMul
from needle.shapes import Spec
from tests.compiler.stages import compiled, traced

ones = ndl.init.ones
FLOATS = Spec((3,), np.dtype("float32"))


def leaf():
    return Node(None, (), None, False, FLOATS)


def made(op, *inputs, spec=FLOATS):
    return Node(op, inputs, None, False, spec)


# -- graphs ----------------------------------------------------------------------------------------


def test_a_graph_in_order_passes():
    x = leaf()
    y = made(AddScalar(1), x)
    Graph([x], [y], [y]).verify()


def test_a_graph_whose_node_comes_before_its_input():
    x = leaf()
    y = made(AddScalar(1), x)
    z = made(EWiseAdd(), x, y)
    graph = Graph([x], [y, z], [z])
    graph.nodes.reverse()
    with pytest.raises(CompileError, match=r"EWiseAdd.* uses a value made later or nowhere"):
        graph.verify()


def test_a_graph_with_a_wrong_shape():
    x = leaf()
    y = made(AddScalar(1), x, spec=Spec((4,), FLOATS.dtype))
    with pytest.raises(CompileError, match=r"AddScalar.* gives Spec\(shape=\(3,\).*not.*\(4,\)"):
        Graph([x], [y], [y]).verify()


def test_a_graph_whose_output_nobody_makes():
    x = leaf()
    with pytest.raises(CompileError, match="an output is not made"):
        Graph([x], [], [leaf()]).verify()


def test_a_graph_that_computes_a_node_without_an_operator():
    x = leaf()
    graph = Graph([], [], [])
    graph.nodes.append(x)
    with pytest.raises(CompileError, match="has no operator"):
        graph.verify()


# -- kernels ---------------------------------------------------------------------------------------


@pytest.fixture
def fused():
    """y = tanh(x @ w), and its mean over the columns: a product and a kernel."""

    def f(x, w):
        y = (x @ w).tanh()
        return y, y.sum(0) / 4

    return compiled(f, ones(4, 5), ones(5, 6)).fused


def test_fused_kernels_at_one_level(fused):
    for work in fused.works:
        work.level = 1
    with pytest.raises(CompileError, match="is read at level 1, made at 1"):
        fuse.verify(fused)


def test_fused_values_that_are_made_twice(fused):
    fused.works.append(fused.works[0])
    with pytest.raises(CompileError, match="is made twice"):
        fuse.verify(fused)


def test_fused_values_that_nobody_makes(fused):
    fused.works = [work for work in fused.works if isinstance(work, Kernel)]
    with pytest.raises(CompileError, match="is read, and nothing makes it"):
        fuse.verify(fused)


def test_fused_steps_in_the_wrong_order(fused):
    kernel = next(work for work in fused.works if isinstance(work, Kernel))
    assert len(kernel.steps) > 1
    kernel.steps = dict(reversed(kernel.steps.items()))
    with pytest.raises(CompileError, match="reads what a later step of its kernel makes"):
        fuse.verify(fused)


def test_fused_state_that_is_read_while_it_is_overwritten():
    graph, _ = traced(lambda a, b: (a * 2, b.exp()), ones(3), ones(3))
    state = dict(zip(graph.inputs, graph.outputs, strict=True))
    fused = Compiled(graph.inputs, graph.nodes, [], state).fused
    fuse.verify(fused)
    first, second = fused.state
    fused.state = {first: fused.state[second], second: fused.state[first]}
    with pytest.raises(CompileError, match="read while another kernel overwrites it"):
        fuse.verify(fused)


def test_fused_results_that_are_stored_in_one_place(fused):
    first, second = fused.results
    fused.results[second] = fused.results[first]
    with pytest.raises(CompileError, match="is handed out where"):
        fuse.verify(fused)


# -- schedules -------------------------------------------------------------------------------------


@pytest.fixture
def chained():
    """A product, column sums, and what is done row by row: two stages, the first one a chain."""

    def f(x, w):
        y = x @ w
        return (y - (y.sum(0) / 400).reshape((1, 100)).broadcast_to(y.shape)).tanh()

    return compiled(f, ones(400, 50), ones(50, 100))


def test_a_schedule_in_which_a_chain_reads_other_rows(chained):
    first = chained.schedule.stages[0].chains[0]
    assert len(first.tasks) == 2
    chained.schedule.by_rows.clear()
    with pytest.raises(
        CompileError, match=r"Summation.* pass 1 of 2 reads MatMul\(\) before it is"
    ):
        schedule.verify(chained.schedule, chained.fused)


def test_a_schedule_in_which_a_chain_reads_rows_turned_around():
    program = compiled(lambda x, w: (x @ w)[::-1] + 1, ones(400, 50), ones(50, 100))
    first, second = program.schedule.stages
    (chain,), (turned,) = first.chains, second.tasks
    turned.chunks = chain.chunks
    chain.tasks += second.chains.pop().tasks
    with pytest.raises(CompileError, match=r"reads MatMul\(\) before it is there"):
        schedule.verify(program.schedule, program.fused)


def test_a_schedule_that_does_not_wait(chained):
    stages = chained.schedule.stages
    stages[0].chains += stages.pop(1).chains
    with pytest.raises(CompileError, match="pass 2 of 2 does not wait for what comes before it"):
        schedule.verify(chained.schedule, chained.fused)


def test_a_schedule_that_calls_an_operator_too_early():
    class Negated(ndl.TensorOp):
        def compute(self, x):
            return -x

    program = compiled(lambda x, w: Negated()(x @ w), ones(4, 5), ones(5, 6))
    first, second, *_ = program.schedule.stages
    first.called, second.called = second.called, []
    with pytest.raises(CompileError, match=r"Negated.* is called before MatMul\(\)"):
        schedule.verify(program.schedule, program.fused)


def test_a_schedule_with_uneven_chains(chained):
    chained.schedule.stages[0].chains[0].tasks[1].chunks += 1
    with pytest.raises(CompileError, match="has other chunks than its chain"):
        schedule.verify(chained.schedule, chained.fused)


def test_a_schedule_that_makes_a_value_twice(chained):
    stages = chained.schedule.stages
    stages.append(stages[0])
    with pytest.raises(CompileError, match=r"MatMul\(\) is made twice"):
        schedule.verify(chained.schedule, chained.fused)


def test_a_schedule_that_forgets_what_is_read(chained):
    for task in [task for stage in chained.schedule.stages for task in stage.tasks]:
        task.reads = [read for read in task.reads if not isinstance(read[0].op, MatMul)]
    with pytest.raises(CompileError, match=r"Summation.* does not say it reads MatMul\(\)"):
        schedule.verify(chained.schedule, chained.fused)


def test_a_schedule_with_tiles_of_what_is_written():
    program = compiled(lambda x, y: x + y.transpose(), ones(20, 30), ones(30, 20))
    (nest,) = program.schedule.nests.values()
    (made,) = nest.kernel.made
    nest.tiling = nest.tiling._replace(reads=[(made, nest.kernel.steps[made].home)])
    with pytest.raises(CompileError, match="is copied in tiles by what writes it"):
        schedule.verify(program.schedule, program.fused)


# -- plans -----------------------------------------------------------------------------------------


@pytest.fixture
def program():
    """Two products that are alive at the same time."""
    return compiled(lambda x, w: (x @ w).exp() @ w + x @ w, ones(4, 4), ones(4, 4))


def test_a_plan_whose_values_overlap(program):
    layout = program.plan
    for slot in layout.offsets:
        layout.offsets[slot] = 0
    with pytest.raises(CompileError, match="overlap in the arena"):
        plan.verify(layout, program.fused, program.schedule)


def test_a_plan_whose_arena_is_too_small(program):
    program.plan.arena = 64
    with pytest.raises(CompileError, match="lies beyond the end of the arena"):
        plan.verify(program.plan, program.fused, program.schedule)


def test_a_plan_that_forgets_a_value(program):
    del program.plan.slot[program.graph.inputs[0]]
    with pytest.raises(CompileError, match="is read and has no place"):
        plan.verify(program.plan, program.fused, program.schedule)


def test_a_plan_whose_scratch_memory_overlaps_a_value():
    program = compiled(lambda x, w: (x @ w.transpose()).exp(), ones(64, 64), ones(64, 64))
    layout = program.plan
    (scratch,) = (slot for work, slot in layout.slot.items() if isinstance(work, Product))
    product = next(work for work in program.fused.works if not isinstance(work, Special))
    layout.offsets[layout.slot[product.made[0]]] = layout.offsets[scratch]
    with pytest.raises(CompileError, match=r"scratch memory of MatMul\(\) and MatMul\(\) overlap"):
        plan.verify(layout, program.fused, program.schedule)
