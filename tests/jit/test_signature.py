"""The signature: what of a call's arguments, and of the modes around it, a program depends on."""

import collections
import copy
import enum
import gc
import math
import re
import statistics
import types
import warnings
import weakref

import numpy as np
import pytest

import needle as ndl
from needle import nn

Pair = collections.namedtuple("Pair", "first second")


def made(step):
    return len(step.programs)


# -- tensors and arrays -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        ndl.init.ones(3),
        ndl.init.ones(2, 1),
        ndl.init.ones(2, dtype="float64"),
        ndl.init.ones(2, requires_grad=True),
        np.ones(2, "float32"),
    ],
    ids=["shape", "axes", "dtype", "requires_grad", "array"],
)
def test_shape_dtype_and_requires_grad_count(other):
    step = ndl.jit(lambda x: x + x, warmup=0)
    step(ndl.init.ones(2))
    assert made(step) == 1
    result = step(other)
    assert made(step) == 2
    assert (result.shape, result.dtype) == (other.shape, other.dtype)
    assert (result.numpy() == 2).all()


def test_a_ragged_last_batch_is_a_program_of_its_own():
    model = nn.Linear(3, 2)
    step = ndl.jit(lambda x: model(x).sum(), warmup=0)
    for n in (8, 8, 5, 8, 5):
        x = ndl.init.randn(n, 3)
        np.testing.assert_allclose(step(x).numpy(), model(x).sum().numpy(), rtol=1e-4, atol=1e-5)
    assert made(step) == 2


@pytest.mark.parametrize("calls", [1, 2, 3])
def test_an_array_arrives_as_a_tensor_without_gradient(calls):
    kinds = []

    @ndl.jit
    def step(x):
        kinds.append((isinstance(x, ndl.Tensor), x.requires_grad, x.dtype))
        return x * 2

    array = np.arange(3.0)
    for _ in range(calls):
        result = step(array)
    assert set(kinds) == {(True, False, np.dtype("float64"))}
    assert result.tolist() == [0.0, 2.0, 4.0]
    array[:] = 7  # what the caller does with the array afterwards changes nothing
    assert result.tolist() == [0.0, 2.0, 4.0]
    assert step(array).tolist() == [14.0] * 3


@pytest.mark.parametrize("warmup", [0, 1])
@pytest.mark.parametrize("number", [np.array(2.0), np.array([2.0])])
def test_an_array_of_one_element_is_no_number_at_any_call(number, warmup):
    add, x = ndl.jit(lambda x, c: x + c, warmup=warmup), ndl.Tensor([1.0, 2.0])
    for _ in range(3):
        with pytest.raises(ndl.ShapeError, match=r"shapes \(2,\) and \(1?,?\) differ"):
            add(x, number)
        assert add(x, float(number.item())).tolist() == [3.0, 4.0]


@pytest.mark.parametrize("warmup", [0, 1])
def test_an_array_that_is_returned_or_kept_is_not_the_callers(warmup):
    keeper = nn.Module()
    keeper.last = ndl.Tensor([0.0])

    @ndl.jit(warmup=warmup)
    def step(x):
        keeper.last = x
        return x

    array = np.ones(1)
    for k in range(3):
        array[0] = k
        result = step(array)
    array[0] = 99
    assert isinstance(result, ndl.Tensor)
    assert result.tolist() == [2.0]
    assert keeper.last.tolist() == [2.0]


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12.0).reshape(3, 4).T,
        np.arange(12.0)[::-2],
        np.broadcast_to(np.arange(3.0), (2, 3)),
        np.arange(4.0).astype(">f8"),
        np.array(3.0),
        np.zeros((0, 3)),
        np.array([True, False]),
        np.array([1, 2], np.int8),
    ],
    ids=["transposed", "reversed", "broadcast", "swapped", "0-d", "empty", "bool", "int8"],
)
def test_arrays_of_any_layout(array):
    step = ndl.jit(lambda x: (x + x, x.reshape((-1,))), warmup=0)
    for _ in range(2):
        doubled, flat = step(array)
        np.testing.assert_array_equal(doubled.numpy(), array + array)
        np.testing.assert_array_equal(flat.numpy(), array.reshape(-1))
    tensor = ndl.Tensor.wrap(array)
    np.testing.assert_array_equal(step(tensor)[0].numpy(), array + array)


# -- numbers ------------------------------------------------------------------------------------


def test_a_new_signature_at_each_call_is_told_once():
    step, x = ndl.jit(lambda i, x: x * i), ndl.Tensor([1.0])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for i in range(200):
            step(i, x)
    (warning,) = caught
    assert re.search(r"64 different signatures, .* eager\. .* pass numbers", str(warning.message))
    assert warning.filename == __file__
    batched = ndl.jit(lambda batch: batch.x * 2)
    for _ in range(63):
        batched(types.SimpleNamespace(x=x))
    with pytest.warns(UserWarning, match=r"objects of your own .* a batch as a tuple or dict"):
        batched(types.SimpleNamespace(x=x))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other = ndl.jit(lambda i, x: x * i)
        for i in range(200):
            other(i % 5, x)
            other(float(i), x)


def test_floats_are_run_time_scalars():
    step = ndl.jit(lambda x, k: (x * k, x + k, x**k, k * 2, x / k), warmup=0)
    x = ndl.Tensor([2.0, 3.0], dtype="float32")
    for k in (0.5, 2.0, -3.0, np.float32(1.5), np.float64(4.0)):
        result = step(x, k)
        expected = [x * float(k), x + float(k), x ** float(k), float(k) * 2, x / float(k)]
        for ours, eager in zip(result, expected, strict=True):
            if isinstance(eager, float):
                assert type(ours) is float
                assert ours == eager
            else:
                assert ours.dtype == eager.dtype == np.float32
                np.testing.assert_allclose(ours.numpy(), eager.numpy(), rtol=1e-6)
    assert made(step) == 1


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "int64", "bool"])
def test_floats_are_weak_beside_tensors(dtype):
    step = ndl.jit(lambda x, k: x * k + k, warmup=0)
    x = ndl.Tensor([1, 0, 1], dtype=dtype)
    assert step(x, 0.1).dtype == (x * 0.1 + 0.1).dtype
    np.testing.assert_allclose(step(x, 0.1).numpy(), (x * 0.1 + 0.1).numpy(), rtol=1e-6)


def test_floats_are_weak_beside_tensors_of_shape_nothing():
    def scaled(x, k):
        loss = x.sum()
        return loss * k, k * loss + k, loss - k, loss / k, k / loss, loss**k

    x = ndl.Tensor([1.0, 2.0], dtype="float32")
    for ours, eager in zip(ndl.jit(scaled, warmup=0)(x, 0.3), scaled(x, 0.3), strict=True):
        assert ours.dtype == eager.dtype == np.float32
        np.testing.assert_allclose(ours.numpy(), eager.numpy(), rtol=1e-6)


def test_what_is_computed_from_floats_alone_is_weak_too():
    def scaled(x, k):
        positive = x.greater(0)
        weak = x * (1 / k), x * 2**k, ndl.where(positive, x, k), ndl.where(positive, 0.5 * k, x)
        return *weak, ndl.where(positive, k, 1), 2**k

    x = ndl.Tensor([1.0, -2.0], dtype="float32")
    for ours, eager in zip(ndl.jit(scaled, warmup=0)(x, 3.0), scaled(x, 3.0), strict=True):
        assert type(ours) is type(eager)
        if isinstance(eager, ndl.Tensor):
            assert ours.dtype == eager.dtype
            np.testing.assert_allclose(ours.numpy(), eager.numpy(), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64", "bool"])
def test_a_float_beside_numbers_alone_has_a_numbers_dtype(dtype):
    def chosen(x, k):
        numbers = ndl.where(x, k, 1), ndl.where(x, 1, k), ndl.where(x.sum(), k, 2 * k)
        return *numbers, ndl.broadcast_to(k, (3,)), x * ndl.broadcast_to(k, (3,))

    x = ndl.Tensor([1, 0, 1], dtype=dtype)
    for ours, eager in zip(ndl.jit(chosen, warmup=0)(x, 0.3), chosen(x, 0.3), strict=True):
        assert ours.dtype == eager.dtype == np.float64
        np.testing.assert_array_equal(ours.numpy(), eager.numpy())


def test_that_a_hyperparameter_is_not_zero_is_known():
    opt = ndl.optim.SGD([nn.Parameter([1.0])], lr=0.5)

    def rate(x):
        return x * opt.lr if opt.lr and opt.lr != 0 and opt.lr is not None else x

    step = ndl.jit(rate, warmup=0)
    for lr in (0.5, 0.25, 0.0):
        opt.lr = lr
        assert step(ndl.Tensor([1.0])).tolist() == [lr or 1.0]
    opt.lr = 0.5
    with pytest.raises(ndl.TraceError, match="a float is compared"):
        ndl.jit(lambda x: x if opt.lr == 0.5 else -x, warmup=0)(ndl.Tensor([1.0]))


def test_a_float_that_is_returned_is_a_float():
    step = ndl.jit(lambda x, k: (x + 1, k, {"half": k / 2}), warmup=0)
    assert step(ndl.Tensor([1.0]), 3.0)[1:] == (3.0, {"half": 1.5})
    assert step(ndl.Tensor([1.0]), 5.0)[1:] == (5.0, {"half": 2.5})


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copy_of_a_float_is_that_float(copied):
    opt = ndl.optim.SGD([ndl.nn.Parameter([1.0])], lr=0.5)
    step = ndl.jit(lambda x, k: x * copied(k) * copied(opt).lr, warmup=0)
    assert step(ndl.Tensor([1.0]), 3.0).tolist() == [1.5]
    opt.lr = 0.25
    assert step(ndl.Tensor([1.0]), 5.0).tolist() == [1.25]
    assert len(step.programs) == 1


@pytest.mark.parametrize(
    "compare",
    [
        lambda k: k > 0,
        lambda k: k <= 1,
        lambda k: k == 0.5,
        lambda k: k != 0,
        lambda k: k,
        lambda k: k in (0.5, 1.0),
        lambda k: {0.5: True}.get(k),
        lambda k: 1 / k == 2,
    ],
)
def test_the_value_of_a_float_is_not_known(compare):
    step = ndl.jit(lambda x, k: x if compare(k) else -x, warmup=0)
    with pytest.raises(
        ndl.TraceError, match=r"a float is compared .* pass a bool, or use ndl\.where"
    ):
        step(ndl.Tensor([1.0]), 0.5)


@pytest.mark.parametrize(
    "use",
    [
        float,
        math.exp,
        np.sqrt,
        round,
        lambda k: k // 1,
        lambda k: 2 % k,
        "{:.2f}".format,
        lambda k: k.item(),
        lambda k: k.is_integer(),
        lambda k: k.real,
        lambda k: k.conjugate(),
        math.trunc,
        lambda k: statistics.mean([k, 1.0]),
        lambda k: ndl.arange(k),
        lambda k: ndl.init.randn(2, std=k),
        lambda k: ndl.init.rand(2, low=-k, high=k),
        lambda k: ndl.init.randb(2, p=k),
        lambda k: ndl.fused_add_scalars(ndl.ones(2), k, 1.0),
    ],
)
def test_where_a_number_has_to_be_known_a_float_is_refused(use):
    with pytest.raises(ndl.TraceError, match=r"a float is .* read .* read it from a variable"):
        ndl.jit(use, warmup=0)(0.5)


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (1, 2),
        (True, False),
        (1, True),
        (0, False),
        ("a", "b"),
        (None, 0),
        (b"a", b"b"),
        (np.int64(1), np.int64(2)),
        (np.int64(1), np.int32(1)),
        (np.bool_(True), np.bool_(False)),
        (np.dtype("int8"), np.dtype("int64")),
        (slice(0, 2), slice(1, 2)),
        (range(2), range(3)),
        (range(0, 3, 2), range(0, 4, 2)),
        (complex(1.0, 0.0), complex(1.0, -0.0)),
        ((1, 2), (1, 3)),
        ({"a": 1}, {"a": 2}),
        ({"a": 1}, {"b": 1}),
        (Colour.RED, Colour.BLUE),
        (ndl.relu, ndl.tanh),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_other_values_are_static(first, second):
    seen = []
    step = ndl.jit(lambda x, option: (seen.append(option), x + 1)[1], warmup=0)
    for option in (first, second, first, second):
        step(ndl.Tensor([1.0]), option)
    assert len(seen) == 2
    assert made(step) == 2


def test_other_objects_count_by_identity_and_are_not_kept_alive():
    class Batch:
        def __init__(self, x):
            self.x = x

    step = ndl.jit(lambda batch: batch.x * 2, warmup=0)
    first, second = Batch(ndl.Tensor([1.0])), Batch(ndl.Tensor([2.0]))
    for _ in range(2):
        assert step(first).tolist() == [2.0]
        assert step(second).tolist() == [4.0]
    assert made(step) == 2
    assert type(first) is Batch
    gone = weakref.ref(second)
    del second
    gc.collect()
    assert gone() is None
    assert made(step) == 1


def test_models_and_optimisers_as_arguments():
    def step(model, opt, x):
        loss = (model(x) ** 2).mean()
        loss.backward()
        opt.step()
        opt.reset_grad()
        return loss

    jitted = ndl.jit(step)
    model = nn.Linear(3, 1, dtype="float64")
    twin = nn.Linear(3, 1, dtype="float64")
    twin.load_state_dict(model.state_dict())
    opts = [ndl.optim.SGD(m.parameters(), lr=0.1, momentum=0.9) for m in (model, twin)]
    for k in range(5):
        x = ndl.init.randn(4, 3, dtype="float64")
        opts[0].lr = opts[1].lr = 0.1 / (k + 1)
        compiled, eager = jitted(model, opts[0], x), step(twin, opts[1], x)
        np.testing.assert_allclose(compiled.numpy(), eager.numpy(), rtol=1e-12)
    np.testing.assert_allclose(model.weight.numpy(), twin.weight.numpy(), rtol=1e-12)
    assert made(jitted) == 1


# -- modes --------------------------------------------------------------------------------------


def test_the_ambient_modes_count():
    w = ndl.nn.Parameter([2.0])
    step = ndl.jit(lambda x: (x * w).sum(), warmup=0)
    x = ndl.Tensor([3.0], requires_grad=False)
    assert step(x).requires_grad
    with ndl.no_grad():
        assert not step(x).requires_grad
    assert step(x).requires_grad
    assert made(step) == 2
    ndl.seed(0)
    step(x)
    assert made(step) == 3
    ndl.seed(None)
    step(x)
    assert made(step) == 3


def test_implicit_broadcasting_counts():
    step = ndl.jit(lambda a, b: a + b, warmup=0)
    a, b = ndl.init.ones(2, 1), ndl.init.ones(3)
    with pytest.raises(ndl.ShapeError, match=r"shapes \(2, 1\) and \(3,\) differ"):
        step(a, b)
    with ndl.implicit_broadcasting():
        assert step(a, b).shape == (2, 3)
    with pytest.raises(ndl.ShapeError):
        step(a, b)


# -- aliasing -----------------------------------------------------------------------------------


def test_one_tensor_passed_twice_is_another_program():
    def step(a, b):
        (a * a * b).sum().backward()
        return a.grad, b.grad

    jitted = ndl.jit(step, warmup=0)
    a, b = ndl.Tensor([2.0]), ndl.Tensor([5.0])
    assert [g.tolist() for g in jitted(a, b)] == [[20.0], [4.0]]
    assert [g.tolist() for g in jitted(a, a)] == [[12.0], [12.0]]
    assert [g.tolist() for g in jitted(a, b)] == [[20.0], [4.0]]
    assert made(jitted) == 2


def test_an_argument_that_is_captured_too():
    w = nn.Parameter([3.0])

    def step(x):
        (x * w * w).sum().backward()
        return w.grad, x.grad

    jitted = ndl.jit(step, warmup=0)
    x = ndl.Tensor([2.0])
    assert [g.tolist() for g in jitted(x)] == [[12.0], [9.0]]
    assert [g.tolist() for g in jitted(w)] == [[27.0], [27.0]]
    assert [g.tolist() for g in jitted(x)] == [[12.0], [9.0]]
    assert [g.tolist() for g in jitted(w)] == [[27.0], [27.0]]
    assert made(jitted) == 2


def test_an_argument_that_is_state_too():
    keeper = nn.Module()
    keeper.h = ndl.Tensor([1.0], requires_grad=False)

    @ndl.jit(warmup=0)
    def step(x):
        keeper.h = keeper.h + x
        return keeper.h * 1

    x = ndl.Tensor([10.0], requires_grad=False)
    assert step(keeper.h).tolist() == [2.0]
    assert step(x).tolist() == [12.0]
    assert step(keeper.h).tolist() == [24.0]
    assert step(x).tolist() == [34.0]


def test_returning_arguments_captured_tensors_and_constants():
    w = nn.Parameter([3.0])

    @ndl.jit(warmup=0)
    def step(x):
        return x, w, ndl.Tensor([1.0, 2.0]), ndl.init.zeros(2), x.reshape((1, 1)), w.detach()

    x = ndl.Tensor([5.0])
    for _ in range(3):
        same, captured, constant, zeros, view, snapshot = step(x)
        assert same is x
        assert captured is w
        assert constant.tolist() == [1.0, 2.0]
        assert zeros.tolist() == [0.0, 0.0]
        assert view.tolist() == [[5.0]]
        assert snapshot.tolist() == [3.0]
        constant.cached_data[:] = 9
        zeros.cached_data[:] = 9  # results are the caller's own


@pytest.mark.parametrize("write", [str, "{}".format, "%s".__mod__, lambda k: f"lr={k}", print])
def test_a_float_is_not_written_as_text(write):
    def function(x, number):
        return x * 2, write(number)

    step = ndl.jit(function)
    step(ndl.Tensor([1.0]), 0.5)
    with pytest.raises(ndl.TraceError, match="a float is compared or read while"):
        step(ndl.Tensor([1.0]), 0.5)


def test_what_stands_for_a_float_can_be_looked_at():
    texts = []

    def function(x, number):
        texts.append(repr(number))
        return x * number

    ndl.jit(function, warmup=0)(ndl.Tensor([1.0]), 0.5)
    assert texts == ["needle.Tensor(shape=(), dtype=float64, traced)"]
