"""Whole programs: what they compute, with any number of threads, and how they grow."""

from __future__ import annotations

import re

import numpy as np
import pytest

import needle as ndl
from needle.jit.compiler import fuse
from needle.jit.compiler.compiled import Compiled
from needle.jit.compiler.fuse import LARGEST_KERNEL
from needle.jit.compiler.native_executor import NativeExecutor
from needle.native import llvm, threads
from tests.compiler.stages import compiled, expect_numpy, traced

LANES = pytest.mark.parametrize("lanes", [16, 8, 4])


@pytest.fixture
def tensor(rng):
    """Makes float64 tensors of normal numbers."""
    return lambda *shape: ndl.Tensor(rng.standard_normal(shape))


# -- what is read where ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "step",
    [
        lambda x, w: x @ w + x,
        lambda x, w: x @ w + w,
        lambda x, w: x @ w.transpose() + w.transpose(),
        lambda x, w: (x * 2).exp() @ w + (x * 2).exp(),
        lambda x, w: x @ w + (x @ w).transpose(),
        lambda x, w: x @ w + (x @ w).reshape((1, 4, 4)).sum(0),
    ],
)
def test_what_is_added_to_a_product_may_be_its_operand(step, tensor):
    expect_numpy(step, tensor(4, 4), tensor(4, 4), rtol=1e-12)


@pytest.mark.parametrize("columns", [1, 40])
@pytest.mark.parametrize(
    "step",
    [
        lambda x, w, v: (x @ w) @ v,
        lambda x, w, v: (x @ w) @ v.transpose().exp().transpose(),
        lambda x, w, v: x @ (w @ v),
    ],
)
def test_no_factor_is_packed_before_it_is_there(step, columns, rng):
    """Of a single column the first factor is packed, and here that takes longer than making it."""
    x, w, v = (rng.standard_normal(shape) for shape in ((33, 1), (1, 24), (24, columns)))
    expect_numpy(step, *map(ndl.Tensor, (x, w, v)), rtol=1e-10)


@pytest.mark.parametrize("shape", [(5, 7), (700, 40), (4, 5000)])
@pytest.mark.parametrize("axis", [0, 1])
def test_values_of_the_outer_position_read_single_elements_of_the_inner_loop(axis, shape, tensor):
    """As a token's state does that scales all tokens."""

    def f(x):
        y = x.exp()
        first = (y[3] if axis == 0 else y[:, 3]) + 1 / y.sum(axis)
        column = first.tanh().reshape((1, -1) if axis == 0 else (-1, 1))
        z = y * column.broadcast_to(shape)
        return y, column, z, z.sum(axis), z - (y[:, ::-1] if axis == 1 else y[::-1])

    expect_numpy(f, tensor(*shape), rtol=1e-10)


def test_an_element_of_a_tuple_may_be_an_operand(tensor):
    def f(x, w):
        a, b = ndl.ops.fused_add_scalars(x @ w, 1.0, 2.0).tuple()
        return a @ w, b

    expect_numpy(f, tensor(4, 4), tensor(4, 4), rtol=1e-12)


def test_long_chains_are_cut(tensor):
    def f(x):
        for _ in range(400):
            x = x * 1.01
        for _ in range(400):
            x = x.transpose()
        a, b = ndl.ops.fused_add_scalars(x, 1.0, 2.0).tuple()
        return a, b, x.exp()

    expect_numpy(f, tensor(3, 4), rtol=1e-12)


def test_slices_at_any_offset(tensor):
    def f(x):
        parts = [x[k : k + 3, ::-1] for k in range(4)]
        return [part * 2 for part in parts], parts[0] + parts[3], x[1] * x[2]

    expect_numpy(f, tensor(7, 5), rtol=1e-12)


# -- state -----------------------------------------------------------------------------------------


def swap(a, b):
    return b * 2, a * 3


def swap_with_a_result(a, b):
    return b * 2, a * 3, (b * 2).exp()


def swap_of_views(a, b):
    return b.reshape((2, 2)).reshape(4), a[::-1] * 1


def turned(a, b):
    return a[::-1] * 1, b + 1


def part_that_is_a_factor(a, b):
    """One part is in memory before, as a factor; the other is computed from the old `a`."""
    first, second = ndl.fused_add_scalars(a, 1, 2)
    return first, second, first.reshape((1, 4)) @ first.reshape((4, 1))


@pytest.mark.parametrize(
    "change",
    [swap, swap_with_a_result, swap_of_views, turned, part_that_is_a_factor],
)
def test_new_state_that_reads_old_state_which_others_overwrite(change, rng):
    old = [rng.standard_normal(4) for _ in range(2)]
    graph, _ = traced(change, *map(ndl.Tensor, old))
    state = dict(zip(graph.inputs, graph.outputs, strict=False))
    program = Compiled(graph.inputs, graph.nodes, graph.outputs[2:], state)
    fuse.verify(program.fused)
    memory = [array.copy() for array in old]
    executor = NativeExecutor(program)
    for place, array in enumerate(memory):
        executor.bind(place, array)
    results = executor()
    assert results is not None
    expected = change(*map(ndl.Tensor, old))
    left = dict(zip(program.handed, results, strict=True))
    for place, (node, value) in enumerate(zip(graph.outputs, expected, strict=True)):
        found = left[node] if node in left else memory[place]
        np.testing.assert_allclose(found, value.numpy(), rtol=1e-14)


# -- float64 against NumPy and finite differences --------------------------------------------------


@LANES
def test_the_gradients_of_a_step_against_finite_differences(lanes, rng):
    x, w, v = rng.standard_normal((6, 5)), rng.standard_normal((5, 7)), rng.standard_normal((7, 3))
    labels = rng.integers(0, 3, 6)

    def loss(x, w, v, y):
        h = ndl.standardize((x @ w).tanh(), 0)
        return ndl.nn.SoftmaxLoss()(h @ v + h.sum(1, keepdims=True).broadcast_to((6, 3)), y)

    def step(x, w, v, y):
        value = loss(x, w, v, y)
        value.backward()
        return value, x.grad, w.grad, v.grad

    arrays = [x, w, v]
    tensors = [ndl.Tensor(a) for a in arrays]
    graph, given = traced(step, *tensors, ndl.Tensor(labels, requires_grad=False))
    program = NativeExecutor(
        Compiled(graph.inputs, graph.nodes, graph.outputs, {}, llvm.host(lanes))
    )

    def run(*arrays):
        kept = [np.ascontiguousarray(a) for a in [*arrays, given[3]]]
        for place, array in enumerate(kept):
            program.bind(place, array)
        return program()

    results = run(*arrays)  # told apart by their shapes: their order is the trace's
    shapes = [result.shape for result in results]
    gradients = [results[shapes.index(array.shape)] for array in arrays]
    delta = 1e-6
    for which, gradient in enumerate(gradients):
        for place in np.ndindex(arrays[which].shape):
            values = []
            for sign in (1, -1):
                moved = [a.copy() for a in arrays]
                moved[which][place] += sign * delta
                values.append(float(run(*moved)[shapes.index(())]))
            slope = (values[0] - values[1]) / (2 * delta)
            assert gradient[place] == pytest.approx(slope, rel=1e-5, abs=1e-8)


# -- threads ---------------------------------------------------------------------------------------


@pytest.fixture
def _own_threads():
    before = threads.threads()
    yield
    threads.set_threads(None)
    assert threads.threads() == before


def training_run(count):
    """The results of three steps of a network whose kernels and products have several chunks."""
    threads.set_threads(count)
    ndl.seed(0)
    model = ndl.nn.Sequential(
        ndl.nn.Linear(300, 256),
        ndl.nn.BatchNorm1d(256),
        ndl.nn.ReLU(),
        ndl.nn.Dropout(0.3),
        ndl.nn.Linear(256, 10),
    )
    optimizer = ndl.optim.Adam(model.parameters(), lr=1e-3)
    loss_of = ndl.nn.SoftmaxLoss()

    def step(x, y):
        loss = loss_of(model(x), y)
        optimizer.reset_grad()
        loss.backward()
        optimizer.step()
        return loss

    numbers = np.random.default_rng(1)
    compiled_step = ndl.jit(step, warmup=0)
    losses = []
    for _ in range(3):
        x = ndl.Tensor(numbers.standard_normal((512, 300), np.float32), requires_grad=False)
        y = ndl.Tensor(numbers.integers(0, 10, 512), requires_grad=False)
        losses.append(compiled_step(x, y).numpy())
    (program,) = {program.backend: program for program in compiled_step.programs}.values()
    stages = [stage for stage in program.compiled.emitted.stages if isinstance(stage, list)]
    assert max(call.chunks for stage in stages for call in stage) > 4
    return [*losses, *model.state_dict().values(), *optimizer.state_dict().values()]


@pytest.mark.usefixtures("_own_threads")
def test_a_step_is_the_same_to_the_bit_for_any_number_of_threads_and_at_each_run():
    first = training_run(1)
    for count in (1, 2, 2, 3):
        for a, b in zip(first, training_run(count), strict=True):
            np.testing.assert_array_equal(a, b, strict=True)


# -- large graphs ----------------------------------------------------------------------------------


# -- work that is shared out -----------------------------------------------------------------------


def standardised(x):
    """Columns with mean 0 and variance 1, and their means: two sums, one after the other."""
    mean = x.mean(0)
    centred = x - mean.reshape((1, -1)).broadcast_to(x.shape)
    variance = (centred * centred).mean(0)
    scale = (1 / (variance + 0.1) ** 0.5).reshape((1, -1)).broadcast_to(x.shape)
    return centred * scale, mean, variance


def run_with(function, count, *tensors):
    """Results of a program that is run by `count` threads."""
    _, arrays = traced(function, *tensors)
    executor = NativeExecutor(compiled(function, *tensors))
    for place, array in enumerate(arrays):
        executor.bind(place, np.ascontiguousarray(array))
    threads.set_threads(count)
    return executor()


def expect_the_same_bits(function, *tensors):
    """One, two and three threads give the same results, to the bit."""
    one, two, three = (run_with(function, count, *tensors) for count in (1, 2, 3))
    for a, b, c in zip(one, two, three, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)


def symbols(program, kind):
    """For each stage, how many of its calls are of a kind."""
    stages = [[call for each in stage for call in each.calls] for stage in program.emitted.stages]
    return [sum(call.symbol.startswith(kind) for call in stage) for stage in stages]


@pytest.mark.usefixtures("_own_threads")
@pytest.mark.parametrize(
    ("function", "shapes"),
    [
        (standardised, [(203, 37)]),
        (standardised, [(1000, 3)]),
        (lambda x: (x.sum(), (x * x).sum(0), x.max()), [(500, 70)]),
        (lambda x: x.sum((0, 2)), [(40, 33, 50)]),
        (lambda x, y: x.transpose() @ y, [(3000, 7), (3000, 20)]),
        (lambda x, y: (x @ y + 1).tanh(), [(9, 4000), (4000, 30)]),
    ],
)
def test_what_is_added_up_in_parts(function, shapes, tensor):
    tensors = [tensor(*shape) for shape in shapes]
    expect_numpy(function, *tensors, rtol=1e-11)
    expect_the_same_bits(function, *tensors)


@pytest.mark.usefixtures("_own_threads")
@pytest.mark.parametrize(
    "shapes",
    [
        [(99, 16), (300, 99), (16, 300)],
        [(2048, 9), (17, 2048), (9, 17)],
        [(3, 40, 7), (3, 20, 40), (3, 7, 20)],
    ],
)
def test_products_of_two_transposed_operands(shapes, tensor):
    def function(x, y, z):
        return (x * 2).transpose() @ y.transpose() + z.tanh()

    tensors = [tensor(*shape) for shape in shapes]
    expect_numpy(function, *tensors, rtol=1e-10)
    expect_the_same_bits(function, *tensors)


def test_column_sums_take_a_pass_for_each_sum_and_its_use(tensor):
    assert symbols(compiled(standardised, tensor(203, 37)), "kernel") == [1, 1, 1]
    assert symbols(compiled(standardised, tensor(8, 37)), "kernel") == [1]


def test_an_operand_that_is_old_is_packed_beside_earlier_work(tensor):
    x, y, w = tensor(60, 40), tensor(40, 50), tensor(60, 50)
    early = compiled(lambda x, y, w: (x @ y) @ w.transpose(), x, y, w)
    assert symbols(early, "phase") == [2, 1]
    fresh = compiled(lambda x, y, w: (x @ y) @ (w * 2).transpose(), x, y, w)
    assert symbols(fresh, "phase") == [1, 1, 1]


def unrolled(steps):
    """A recurrent network over `steps` inputs, its loss and gradients."""

    def f(xs, w, u, b):
        h = ndl.init.zeros(4, 8, dtype="float64")
        for k in range(steps):
            h = (xs[k] @ w + h @ u + b.broadcast_to((4, 8))).tanh()
        loss = (h * h).sum()
        loss.backward()
        return loss, w.grad, u.grad, b.grad

    rng = np.random.default_rng(0)
    shapes = [(steps, 4, 6), (6, 8), (8, 8), (8,)]
    return f, [ndl.Tensor(rng.standard_normal(shape) / 4) for shape in shapes]


def test_an_unrolled_network_of_a_thousand_nodes():
    f, tensors = unrolled(50)
    assert len(traced(f, *tensors)[0].nodes) > 1000
    expect_numpy(f, *tensors, rtol=1e-10)


def test_code_for_each_further_step_is_a_few_short_functions():
    short, long = (len(compiled(*flat(unrolled(steps))).emitted.ir) for steps in (20, 40))
    assert (long - short) / 20 < 12_000  # all of the code is several times as long


def gated(steps):
    """A network whose gates are slices of one product, over slices of one input; all gradients."""

    def f(xs, w, u):
        h, states = ndl.init.zeros(4, 8, dtype="float64"), []
        for k in range(steps):
            z = xs[:, k] @ w + h @ u
            gate = z[:, :8].sigmoid()
            h = h * gate + z[:, 8:].tanh() * (1 - gate)
            states.append(h)
        out = ndl.concatenate(states, 0)
        (out * out).sum().backward()
        return xs.grad, w.grad, u.grad

    rng = np.random.default_rng(0)
    shapes = [(4, steps, 6), (6, 16), (8, 16)]
    return f, [ndl.Tensor(rng.standard_normal(shape) / 4) for shape in shapes]


def test_gradients_of_slices_are_put_together_in_one_array():
    small, large = (compiled(*flat(gated(steps))).plan.arena for steps in (20, 80))
    assert large < 6 * small  # an array as large as the input for each step: 16 times


def test_the_gradient_of_a_weight_is_added_up_as_it_goes_along(tensor):
    def repeated(steps):
        def f(h, w):
            for _ in range(steps):
                h = (h @ w).tanh()
            h.sum().backward()
            return w.grad

        return f

    tensors = tensor(1, 64), ndl.Tensor(tensor(64, 64).numpy() / 16)
    weight = 64 * 64 * 8
    for steps in (20, 40):
        assert compiled(repeated(steps), *tensors).plan.arena < 16 * weight
    expect_numpy(repeated(40), *tensors, rtol=1e-9)


@pytest.mark.parametrize("columns", [1, 3, 20])
def test_sums_of_slices_that_overlap_or_are_used_elsewhere(columns, tensor):
    def f(x):
        parts = [x[k : k + 3, ::-1].exp() * k for k in range(5)]
        parts += [x[::2].tanh(), x[1:2, :1].sin()]
        total = sum([part.sum() for part in parts])
        total.backward()
        zeros = ndl.pad(x, [(1, 0), (0, 2)])
        return x.grad, zeros + ndl.pad(x, [(0, 1), (2, 0)]), zeros + zeros, zeros

    expect_numpy(f, tensor(8, columns), rtol=1e-12)


def test_further_steps_need_no_further_functions():
    short, long = (compiled(*flat(gated(steps))) for steps in (12, 24))
    assert len(functions(long)) == len(functions(short))
    expect_numpy(*flat(gated(24)), rtol=1e-10)


def flat(pair):
    function, tensors = pair
    return function, *tensors


def chain(operators, *, backward):
    """Elementwise operators one after the other, and the gradient."""

    def f(x):
        y = x
        for k in range(operators):
            y = y.tanh() if k % 10 == 0 else y * 1.01
        if not backward:
            return y
        y.sum().backward()
        return y, x.grad

    return f, [ndl.Tensor(np.linspace(-1, 1, 40).reshape(5, 8))]


def functions(program):
    """The code of each function of a program."""
    return re.split(r"^(?=define )", program.emitted.ir, flags=re.MULTILINE)[1:]


@pytest.mark.parametrize("backward", [False, True])
def test_a_long_chain_is_cut_into_kernels_that_share_their_code(backward):
    short, long = (compiled(*flat(chain(n, backward=backward))) for n in (1000, 3000))
    largest = max(map(len, functions(short)))
    assert max(map(len, functions(long))) < 1.2 * largest
    assert largest < 300_000  # a tanh is a hundred lines, and the ragged end has it again
    assert len(long.emitted.ir) < 1.8 * len(short.emitted.ir)
    assert all(work.size <= LARGEST_KERNEL for work in long.fused.works)
    expect_numpy(*flat(chain(3000, backward=backward)), rtol=1e-10)


def test_a_long_chain_over_a_product_is_cut_too():
    def f(x, w):
        y = x @ w
        for _ in range(1000):
            y = y * 1.01 + x
        return y

    tensors = [ndl.Tensor(np.linspace(-1, 1, 16).reshape(4, 4)) for _ in range(2)]
    assert all(work.size <= LARGEST_KERNEL for work in compiled(f, *tensors).fused.works)
    expect_numpy(f, *tensors, rtol=1e-11)
