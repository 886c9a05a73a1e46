"""The stages of the compiler: golden texts of small graphs, and what each stage must not do."""

from __future__ import annotations

import functools
import re

import numpy as np
import pytest

import needle as ndl
from needle.graph.kinds import Elementwise
from needle.native import llvm
from tests.compiler.stages import compiled, expect_numpy, functions, simplified, traced

ones = ndl.init.ones


def kernels(function, *args):
    return ndl.explain(function, *args).kernels


# -- simplify --------------------------------------------------------------------------------------


def operators(graph):
    return [type(node.op).__name__ for node in graph.nodes]


def test_simplify_merges_equal_operators():
    graph = simplified(lambda x: x.exp() + x.exp(), ones(3))
    assert operators(graph) == ["Exp", "EWiseAdd"]


def test_simplify_keeps_operators_with_other_arguments_apart():
    graph = simplified(lambda x: (x * 2) + (x * 2.0), ones(3))
    assert operators(graph) == ["MulScalar", "MulScalar", "EWiseAdd"]


def test_simplify_never_merges_or_drops_draws():
    def f(x):
        ndl.init.rand(3)
        return x + ndl.init.rand(3) + ndl.init.rand(3)

    assert operators(simplified(f, ones(3))).count("Uniform") == 3


def test_simplify_passes_over_what_changes_nothing():
    graph = simplified(lambda x: x.detach().reshape(3).astype("float32") + 1, ones(3))
    assert operators(graph) == ["AddScalar"]


def test_simplify_folds_constants():
    graph = simplified(lambda x: x + (ndl.init.constant(3, c=2.0) * 4).exp(), ones(3))
    assert operators(graph) == ["Full", "EWiseAdd"]
    assert graph.nodes[0].op.value == pytest.approx(np.exp(np.float32(8)))


def test_simplify_folds_no_inputs():
    weight = ndl.Tensor(2.0)
    graph, _ = traced(lambda x: x * (weight * 3).broadcast_to(x.shape), ones(3))
    assert "EWiseMul" in operators(graph)


def test_simplify_writes_composites_out():
    graph = simplified(lambda x: x.logsumexp(1), ones(2, 3))
    assert "LogSumExp" not in operators(graph)
    assert "Max" in operators(graph)


INDEX = ndl.Tensor(np.array([1, 0, 2]), requires_grad=False)


def test_simplify_adds_nothing_where_all_indices_are_looked_at():
    graph = simplified(lambda x, i: x.take(i).exp().sum(), ones(3, 4), INDEX)
    assert operators(graph) == ["Take", "Exp", "Summation"]
    graph = simplified(lambda x, i: (x.take(i).sum(1)[:1], x.take(i)), ones(3, 4), INDEX)
    assert operators(graph) == ["Take", "Summation", "Slice"]

    def step(x, i):
        loss = ndl.cross_entropy(x.take(i), i)
        return ndl.grad(lambda x: ndl.cross_entropy(x.take(i), i))(x)[:2], loss

    names = operators(simplified(step, ones(3, 4), INDEX))
    assert [names.count(name) for name in ("Take", "Pick", "OneHot", "ScatterAdd")] == [1] * 4


def test_simplify_looks_at_the_indices_of_what_is_not_used_once():
    def f(x, i):
        ndl.one_hot(4, i)
        return x.take(i)[:1].sum() + x.exp().take(i)[1:2].sum() + x.pick(i)[0]

    graph = simplified(f, ones(3, 4), INDEX)
    assert operators(graph)[-6:] == ["Full", "Pick", "Summation", "Full", "Take", "Summation"]
    assert [node.spec.shape for node in graph.nodes[-6:]] == [(3, 4), (3,), (), (3,), (3,), ()]
    assert "OneHot" not in operators(graph)


def test_simplify_text():
    text = simplified(lambda x: (x * 2 + 1).sum(), ones(2, 3)).text()
    assert [line.split("  #")[0] for line in text.splitlines()] == [
        "%0 = input  float32[2, 3]",
        "%1 = MulScalar(scalar=2) %0  float32[2, 3]",
        "%2 = AddScalar(scalar=1) %1  float32[2, 3]",
        "%3 = Summation(axes=None, keepdims=False) %2  float32[]",
        "return %3",
    ]


# -- fuse ------------------------------------------------------------------------------------------


def test_a_chain_of_elementwise_operators_is_one_kernel():
    assert kernels(lambda x: (x * 2).tanh().exp(), ones(4, 5)) == (
        "# kernel1, level 1: for each (i < 4, j < 5)\na1[i, j] = exp(tanh(x0[i, j] * 2))"
    )


def test_a_batch_norm_is_one_kernel():
    def f(x):
        return ndl.standardize(x, axes=0, eps=0.5)

    assert kernels(f, ones(4, 5)).splitlines() == [
        "# kernel1, level 1: for each (j < 5), Σ over i < 4",
        "a1[0, j] = Σ x0[i, j]",
        "a2[0, j] = a1[0, j] / 4",
        "t1[i, j] = x0[i, j] - a2[0, j]",
        "a3[0, j] = Σ t1[i, j] * t1[i, j]",
        "a4[0, j] = 1 / (a3[0, j] / 4 + 0.5) ** 0.5",
        "a5[i, j] = t1[i, j] * a4[0, j]",
    ]


def test_rows_are_shifted_again_rather_than_kept():
    """Views cost nothing: three additions and what repeats their operands are a cheap value."""

    def f(x, b):
        shifted = x + b.broadcast_to(x.shape)
        centred = shifted - shifted.mean(0, keepdims=True).broadcast_to(x.shape)
        return (centred * centred).mean(0), centred.exp().sum(0)

    assert kernels(f, ones(4, 5), ones(5)).splitlines() == [
        "# kernel1, level 1: for each (j < 5), Σ over i < 4",
        "t1[i, j] = x0[i, j] + x1[j]",
        "a1[0, j] = Σ t1[i, j]",
        "a2[0, j] = a1[0, j] / 4",
        "t2[i, j] = t1[i, j] - a2[0, j]",
        "a3[j] = Σ t2[i, j] * t2[i, j]",
        "a4[j] = Σ exp(t2[i, j])",
        "a5[j] = a3[j] / 4",
        "a6[j] = a4[j]",
    ]


def test_bias_and_relu_go_into_the_epilogue_of_a_product():
    text = kernels(
        lambda x, w, b: (x @ w + b.broadcast_to((4, 3))).relu(), ones(4, 5), ones(5, 3), ones(3)
    )
    assert text.splitlines() == [
        "# phase1, level 1: for each (i < 4, j < 3), Σ over k < 5",
        "a1[i, j] = Σ x0[i, k] * x1[k, j]",
        "a2[i, j] = maximum(a1[i, j] + x2[j], 0)",
    ]


def test_views_cost_no_kernel():
    text = kernels(lambda x: x.transpose()[1:3, ::-1] * 2, ones(4, 5))
    assert text == "# kernel1, level 1: for each (i < 2, j < 4)\na1[i, j] = x0[3-j, 1+i] * 2"


def test_a_value_that_is_repeated_is_computed_once():
    text = kernels(lambda x, b: x + b.exp().broadcast_to(x.shape), ones(100, 5), ones(5))
    assert text.splitlines()[1] == "a1[i] = exp(x1[i])"


def test_new_state_is_one_assignment_from_the_old():
    weight = ndl.nn.Parameter(ones(3))
    optimizer = ndl.optim.Adam([weight], lr=0.01)

    def step(x):
        (weight * x).sum().backward()
        optimizer.step()

    step(ones(3))
    text = kernels(step, ones(3))
    assert [line for line in text.splitlines() if re.match(r"t\d\[|x\d\[", line)] == [
        "t1[i] = 1 * x0[i]",
        "t2[i] = x7[i] * x2 + t1[i] * a3",
        "t3[i] = x8[i] * x3 + t1[i] * t1[i] * a4",
        "x7[i], x8[i], x5[i] = t2[i], t3[i], x5[i] - t2[i] * a1 / (sqrt(t3[i]) + a2)",
    ]


def test_passes_and_parts_are_named():
    def f(x, w, y):
        return ndl.standardize(x @ w, 0), y.transpose() @ y

    shown = ndl.explain(f, ones(2000, 16), ones(16, 100), ones(2000, 16))
    assert [row.part for row in shown.rows] == [
        *["", "pass 1 of 3", "k in 2 parts"],
        *["adds parts", "pass 2 of 3"],
        "pass 3 of 3",
    ]
    multiplies, adds = shown.rows[2:4]
    assert multiplies.bytes == 4 * (2000 * 16 + 16 * 16)
    assert adds.bytes == 2 * 4 * 16 * 16  # the parts, counted once, and the product
    last = shown.rows[-1]
    assert (
        f"{last.name}, level 2: for each (j < 100), Σ over i < 2000, in 3 passes" in shown.kernels
    )


# -- plan ------------------------------------------------------------------------------------------


def test_memory_is_used_again():
    def chain(x, w):
        for _ in range(10):
            x = (x @ w).tanh()
        return x

    arena = compiled(chain, ones(64, 64), ones(64, 64)).plan.arena
    assert arena <= 5 * 64 * 64 * 4  # ten products with an epilogue each would take twenty


def test_plan_text():
    def f(x, w):
        return ((x @ w).tanh() @ w).sum()

    text = compiled(f, ones(8, 16), ones(16, 16)).plan.text()
    assert text.splitlines() == [
        "arena of 1,088 bytes, 7 pointers",
        "           0         512  float32[8, 16] MatMul()",
        "         512         512  float32[8, 16] Tanh()",
        "           0         512  float32[8, 16] MatMul()",  # the first one is not read again
        "       1,024           4  float32[] Summation(axes=None, keepdims=False)",
    ]


def test_draws_of_numpys_lie_in_the_order_of_the_program():
    """So a program is the same in each process, and its code is found on disk."""
    program = compiled(lambda: [ndl.init.rand(7) * 2 for _ in range(12)])
    draws = [node for node in program.graph.nodes if not node.inputs]
    slots = [program.plan.slot[node] for node in draws]
    assert len(slots) == 12
    assert slots == sorted(slots)


@pytest.mark.parametrize("columns", (100, 200))
def test_small_memory_is_used_again_by_values_of_its_size_alone(columns):
    """So each thread meets its own rows; what is larger shares memory as it fits."""

    def f(x, wide, narrow):
        for _ in range(4):
            x = ((x @ wide).tanh() @ narrow).tanh()
        return x

    x, wide, narrow = ones(100, columns), ones(columns, 2 * columns), ones(2 * columns, columns)
    layout = compiled(f, x, wide, narrow).plan
    blocks = [
        (offset, offset + layout.bytes[slot])
        for slot, offset in layout.offsets.items()
        if layout.bytes[slot] > 1000
    ]
    shared = [(a, b) for a in blocks for b in blocks if a[0] < b[1] and b[0] < a[1] and a != b]
    assert len(blocks) > len(set(blocks))  # memory is used again
    assert bool(shared) == (columns == 200)


# -- emit ------------------------------------------------------------------------------------------


def test_ir_of_a_kernel():
    found = functions(compiled(lambda x: x * 2, ones(96), host=llvm.host(8)).emitted.ir)
    assert list(found) == ["kernel1"]
    whole = found["kernel1"].split("body.36:")[1].split("end.37:")[0]
    assert [line.strip() for line in whole.splitlines() if line] == [
        "%.40 = getelementptr inbounds float, ptr %.14, i64 %.38",
        "%.41 = load <8 x float>, ptr %.40, align 4",
        "%.42 = fmul <8 x float> %.41, splat (float 0x4000000000000000)",
        "%.43 = getelementptr inbounds float, ptr %.7, i64 %.38",
        "store <8 x float> %.42, ptr %.43, align 4",
        "%.44 = add i64 %.38, 8",
        "br label %loop.35",
    ]


def test_conditions_stay_masks():
    ir = compiled(lambda x: ndl.where(x.greater(0), x, 1), ones(96)).emitted.ir
    assert "fcmp" in ir
    assert "zext" not in ir


def test_the_text_is_the_same_at_each_compilation():
    def f(x, w):
        return ((x @ w).tanh().sum(0), ndl.standardize(x, 0))

    first, second = (compiled(f, ones(20, 30), ones(30, 40)).emitted.ir for _ in range(2))
    assert first == second


@pytest.mark.parametrize("lanes", [16, 8, 4])
@pytest.mark.parametrize(
    "shape", [(), (1,), (0,), (3, 0), (5,), (1, 1), (37, 19), (3, 1, 5), (2, 3, 4, 5)]
)
def test_every_width_of_vectors_and_every_shape(lanes, shape, rng):
    x = ndl.Tensor(rng.uniform(0.5, 2.0, shape).astype(np.float32))

    def f(x):
        y = (x * 2 + 1).tanh() / x
        return y, y.sum(), [y.sum(axis) for axis in range(y.ndim)], (y * y).mean() if y.size else y

    expect_numpy(f, x, rtol=2e-6, host=llvm.host(lanes))


@pytest.mark.parametrize("lanes", [16, 8, 4])
def test_a_training_step_at_every_width(lanes, rng):
    x = ndl.Tensor(rng.standard_normal((13, 21)).astype(np.float32), requires_grad=False)
    w = ndl.Tensor(rng.standard_normal((21, 10)).astype(np.float32))
    y = ndl.Tensor(rng.integers(0, 10, 13), requires_grad=False)

    def f(x, w, y):
        loss = ndl.nn.SoftmaxLoss()(ndl.standardize((x @ w).relu(), 0), y)
        loss.backward()
        return loss, w.grad

    expect_numpy(f, x, w, y, rtol=1e-5, host=llvm.host(lanes))


# -- run -------------------------------------------------------------------------------------------


class Halved(ndl.TensorOp):
    """An operator without a shape rule and without code."""

    def compute(self, x):
        return x / 2

    def gradient(self, out_grad, node):
        return out_grad / 2


def test_operators_without_code_are_called_between_kernels(rng):
    x = ndl.Tensor(rng.standard_normal((4, 5)))

    def f(x):
        y = Halved()(x * 2).exp()
        return y, y.argmax(1), Halved()(y.transpose() @ y).sum(0)

    expect_numpy(f, x, rtol=1e-12)


def test_an_index_out_of_range_raises_the_eager_message_and_writes_no_state():
    table = ndl.nn.Parameter(np.ones((5, 2), np.float32))
    count = ndl.Tensor(0.0, requires_grad=False)

    def look_up(index):
        count.data = count + 1
        return table.take(index).sum()

    step = ndl.jit(look_up, warmup=0)
    step(np.array([1, 2]))
    with pytest.raises(ndl.IndexRangeError, match="index 7 at position"):
        step(np.array([1, 7]))
    assert float(count) == 1.0


class OwnExp(Elementwise):
    def expression(self, e, a):
        return e.exp(a)


class Half(Elementwise):
    def expression(self, e, a):
        return 0.5

    def compute(self, a):
        return np.full_like(a, 0.5)

    def infer(self, a):
        return a


class NumPysSine(Elementwise):
    def expression(self, e, a):
        return np.sin(a)


class Twice(ndl.TensorTupleOp):
    def compute(self, a):
        return a, a


@pytest.mark.parametrize(
    ("function", "dtype", "reason"),
    [
        (lambda x: x * 2, "float16", "there is no native code for float16"),
        (lambda x: x @ x, "int64", "there is no native code for matmul of int64"),
        (lambda x: x**x, "int64", "powers of integers"),
        (lambda x: ndl.ScatterAdd((2, 2), 0)(x, x[0]), "int64", "scatter_add of integers"),
        (lambda x: x + x, "bool", "add of bools"),
        (lambda x: x.max(0), "bool", "extremes of bools"),
        (lambda x: ndl.maximum(x, x), "bool", "extremes of bools"),
        (OwnExp(), "int64", "functions of int64"),
        (lambda x: Twice()(x)[0], "float64", "Twice() gives a tuple and is called in Python"),
        (Half(), "float64", "the expression of Half() gave a float"),
        (NumPysSine(), "float64", "the expression of NumPysSine() has no code: "),
    ],
)
def test_what_has_no_code_runs_through_numpy(function, dtype, reason):
    step = ndl.jit(function, warmup=0)
    x = ndl.Tensor(np.eye(2), dtype=dtype, requires_grad=False)
    result, expected = step(x), function(x)
    assert result.dtype == expected.dtype
    np.testing.assert_array_equal(result.numpy(), expected.numpy())
    assert step.programs[0].backend.startswith(f"numpy: {reason}")


# -- explain ---------------------------------------------------------------------------------------


def test_explain_changes_nothing_and_shows_every_stage():
    model = ndl.nn.Linear(3, 2)
    optimizer = ndl.optim.SGD(model.parameters(), lr=0.1)

    def step(x):
        loss = model(x).sum()
        loss.backward()
        optimizer.step()
        return loss

    before = model.state_dict()
    found = ndl.explain(step, ones(4, 3), profile=True)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    assert all(p.grad is None for p in model.parameters())
    assert all(row.microseconds > 0 for row in found.rows)
    product = next(row for row in found.rows if row.kind == "product")
    assert product.flops == 2 * 4 * 3 * 2
    for part in ("traced graph", "simplified graph", "kernels", "memory", "work", "code"):
        assert f"== {part} ==" in str(found)
    assert "define" in found.ir
    assert ".text" in found.assembly


@pytest.mark.parametrize("seed", [None, 5])
def test_a_profile_draws_no_numbers(seed):
    drop, x = ndl.nn.Dropout(0.5), ones(4, 30)

    def drawn(profile):
        np.random.seed(0)
        ndl.seed(seed)
        try:
            ndl.explain(drop, x, profile=profile)
            return drop(x).tolist()
        finally:
            ndl.seed(None)

    assert drawn(profile=True) == drawn(profile=False)


def test_explain_says_when_state_is_not_there_yet():
    optimizer = ndl.optim.Adam([ndl.nn.Parameter([1.0])])

    def step():
        (optimizer.params[0] * 2).backward()
        optimizer.step()

    with pytest.raises(
        ndl.TraceError, match=r"comes into being in this call\. Call the function once"
    ):
        ndl.explain(step)


def test_explain_names_what_has_no_native_code():
    with pytest.raises(ndl.TraceError, match="no native code to show"):
        ndl.explain(lambda x: x * 2, ndl.Tensor([1.0], dtype="float16"))


def test_explain_names_the_line_of_a_function_whose_code_has_no_lines():
    def doubled(x):
        return x * 2

    code = doubled.__code__ = doubled.__code__.replace(co_linetable=b"")
    line = f"{code.co_filename}:{code.co_firstlineno}\n"
    assert line in ndl.explain(doubled, ones(3)).traced


def test_explain_takes_a_function_as_it_is_called():
    @functools.wraps(abs)
    def doubled(x):
        return x * 2

    doubled.__wrapped__ = lambda x: x
    texts = [kernels(f, ones(3)) for f in (doubled, ndl.jit(doubled))]
    assert texts[0] == texts[1]
    assert "* 2" in texts[0]
    with pytest.raises(ndl.ArgumentError, match=r"explain: 3 cannot be called\. Pass a function"):
        ndl.explain(3, ones(3))
