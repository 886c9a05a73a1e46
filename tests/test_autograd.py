"""Gradients: what backward sets, on whom, and what the graph keeps."""

import threading

import numpy as np
import pytest

import needle as ndl
from needle.autograd import Tensor, compute_gradient_of_variables, find_topo_sort
from needle.errors import ArgumentError, GradientError, ShapeError


def values(tensors):
    return [t.numpy().tolist() for t in tensors]


# backward


def test_backward_sets_leaves_and_held_intermediates():
    x, y = Tensor([1.0, 2.0]), Tensor([3.0, 4.0])
    z = x * y
    w = z + x
    w.backward()
    np.testing.assert_array_equal(x.grad.numpy(), [4, 5])
    np.testing.assert_array_equal(y.grad.numpy(), [1, 2])
    np.testing.assert_array_equal(z.grad.numpy(), [1, 1])
    np.testing.assert_array_equal(w.grad.numpy(), [1, 1])


def test_backward_overwrites_and_the_graph_survives():
    x = Tensor([3.0])
    y = x * x
    for _ in range(3):
        y.backward()
        assert x.grad.item() == 6
    (x * 2).backward()
    assert x.grad.item() == 2


@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (0,)])
def test_backward_without_an_argument_means_ones(shape):
    x = Tensor(np.random.randn(*shape), dtype="float32")
    y = x * 2
    y.backward()
    assert (y.grad.shape, y.grad.dtype) == (shape, np.float32)
    np.testing.assert_array_equal(x.grad.numpy(), np.full(shape, 2))


def test_out_grad():
    x = Tensor([1.0, 2.0])
    y = x * 3
    for out_grad in (Tensor([1.0, 10.0]), np.array([1.0, 10.0]), [1, 10]):
        y.backward(out_grad)
        np.testing.assert_array_equal(x.grad.numpy(), [3, 30])
    compute_gradient_of_variables(y, Tensor([2.0, 0.0]))
    np.testing.assert_array_equal(x.grad.numpy(), [6, 0])


def test_an_out_grad_of_another_shape():
    y = Tensor([1.0, 2.0]) * 3
    message = r"backward: the output has shape \(2,\), out_grad \(3,\). Pass an out_grad of shape"
    with pytest.raises(ShapeError, match=message):
        y.backward(Tensor([1.0, 2.0, 3.0]))


def test_one_element_fits_one_element():
    """A published loss of shape (1,) is ours of shape ()."""
    x = Tensor([2.0, 3.0])
    x.sum().backward(Tensor([10.0]))
    np.testing.assert_array_equal(x.grad.numpy(), [10, 10])


def test_nothing_to_differentiate():
    x = Tensor([1.0], requires_grad=False)
    for y in (x, x * 2, Tensor([1.0]).detach(), Tensor([1.0]).greater(0)):
        with pytest.raises(GradientError, match="backward: the output requires no gradient"):
            y.backward()


def test_backward_of_a_tuple():
    x, y = Tensor([1.0, 2.0]), Tensor(3.0, dtype="float32")
    pair = ndl.make_tuple(x * 2, y * y)
    compute_gradient_of_variables(pair, None)
    assert values([x.grad, y.grad]) == [[2, 2], 6]
    compute_gradient_of_variables(pair, ndl.make_tuple(Tensor([1.0, 3.0]), Tensor(0.5)))
    assert values([x.grad, y.grad]) == [[2, 6], 3]
    assert y.grad.dtype == np.float32


@pytest.mark.parametrize(
    ("out_grad", "message"),
    [
        (Tensor([1.0]), r"a tuple of shapes \[\(1,\), \(\)\], out_grad is no TensorTuple. Pass a"),
        (
            ndl.make_tuple(Tensor([1.0])),
            r"out_grad is one of shapes \[\(1,\)\]. Pass a Ten",
        ),
    ],
)
def test_an_out_grad_that_is_no_tuple_of_these_shapes(out_grad, message):
    pair = ndl.make_tuple(Tensor([1.0]), Tensor(2.0))
    with pytest.raises(ShapeError, match=message):
        compute_gradient_of_variables(pair, out_grad)
    with pytest.raises(ShapeError, match=r"the output is one tensor, out_grad a tuple. Pass one"):
        pair[0].backward(ndl.make_tuple(Tensor([1.0])))


def returning(tensor):
    """An operator whose gradient is a tensor that somebody else holds."""

    class Given(ndl.TensorOp):
        def compute(self, a):
            return a * 1

        def gradient(self, out_grad, node):
            return tensor

    return Given()


@pytest.mark.parametrize("given_grad", [True, False])
def test_every_gradient_has_its_own_handle(given_grad):
    x, y, out_grad = Tensor([1.0]), Tensor([2.0]), Tensor([5.0], requires_grad=given_grad)
    z = x + y
    z.backward(out_grad)
    x.grad.data = Tensor([7.0])
    z.grad.data = Tensor([8.0])
    assert values([x.grad, y.grad, z.grad, out_grad]) == [[7], [5], [8], [5]]
    other = Tensor([3.0])
    returning(other)(x).backward()
    returning(y)(y).backward()
    x.grad.data = y.grad.data = Tensor([9.0])
    assert values([other, y]) == [[3], [2]]


def test_a_gradient_reaches_the_out_grad_it_was_made_from():
    x, y, out_grad = Tensor([1.0]), Tensor([2.0]), Tensor([5.0])
    (x + y).backward(out_grad)
    (x.grad * y.grad * y.grad).backward()
    assert out_grad.grad.item() == 3 * 5**2


def test_only_what_requires_a_gradient_gets_one():
    x, y = Tensor([1.0]), Tensor([2.0], requires_grad=False)
    (x * y).backward()
    assert (x.grad.item(), y.grad) == (2, None)


def test_float64_out_grad_for_a_float32_result():
    x = Tensor([1.0, 2.0], dtype="float32")
    y = ndl.tanh(x)
    y.backward(Tensor([1.0, 1.0], dtype="float64"))
    assert x.grad.dtype == np.float32
    (gradient,) = y.op.gradient_as_tuple(Tensor(np.ones(2)), y)
    np.testing.assert_allclose(gradient.numpy(), 1 - np.tanh([1, 2]) ** 2, rtol=1e-6)


def test_mixed_dtypes_get_their_own():
    a, b = Tensor([1.0], dtype="float32"), Tensor([2.0], dtype="float64")
    y = a * b
    assert y.dtype == np.float64
    y.backward()
    assert (a.grad.dtype, b.grad.dtype) == (np.float32, np.float64)


def test_integers_have_gradients():
    x2, x3 = Tensor([6]), Tensor([0])
    y = x2 * x2 + x2 * x3
    y.backward()
    grad_x2, grad_x3 = x2.grad, x3.grad
    assert (grad_x2.item(), grad_x3.item()) == (12, 6)
    grad_x2.backward()
    assert (x2.grad.item(), x3.grad.item()) == (2, 1)
    grad_x3.backward()
    assert x2.grad.item() == 1


def test_gradients_of_gradients():
    x = Tensor([2.0])
    value = x**4
    for expected in (32, 48, 48, 24):
        value.backward()
        assert x.grad.item() == expected
        value = x.grad


def test_second_backward_through_a_gradient():
    """A penalty on the gradient's norm: d/dx (2xw)² = 8xw²."""
    x, w = Tensor([3.0]), Tensor([0.5])
    (x * x * w).backward()
    penalty = (x.grad * x.grad).sum()
    penalty.backward()
    np.testing.assert_allclose(x.grad.numpy(), 8 * 3 * 0.25)
    np.testing.assert_allclose(w.grad.numpy(), 8 * 9 * 0.5)


def test_a_value_used_many_times_sums_its_gradients():
    x = Tensor([2.0])
    y = x + x + x * x + x
    y.backward()
    assert x.grad.item() == 7
    z = x + x
    assert z.inputs[0] is x
    assert z.inputs[1] is x


def test_a_diamond():
    x = Tensor([1.0, 2.0])
    left, right = ndl.exp(x), ndl.tanh(x)
    (left * right + left).sum().backward()
    ndl.check_gradients(lambda t: ndl.exp(t) * ndl.tanh(t) + ndl.exp(t), [1.0, 2.0], order=2)
    assert left.grad is not None


def test_new_data_between_two_uses():
    """Each use keeps the values it was recorded with; the tensor's gradient is the sum."""
    x = Tensor([2.0])
    first = x * x
    x.data = Tensor([5.0])
    second = x * x
    (first + second).backward()
    assert (first.item(), second.item()) == (4, 25)
    assert x.grad.item() == 2 * 2 + 2 * 5


def test_recorded_graphs_keep_their_values():
    x = Tensor([2.0])
    y = x * x
    x.data = Tensor([100.0])
    assert values(y.inputs) == [[2], [2]]
    y.backward()
    assert x.grad.item() == 4


def test_a_gradient_is_not_written_by_a_later_backward():
    x = Tensor([1.0])
    (x * 3).backward()
    kept = x.grad
    (x * 5).backward()
    assert (kept.item(), x.grad.item()) == (3, 5)


def test_detached_values_stop_gradients():
    x = Tensor([2.0])
    for cut in (x.detach(), x.data):
        (x * cut).backward()
        assert x.grad.item() == 2


def test_inputs_are_the_live_handles():
    x = Tensor([1.0])
    y = x * 2
    z = y + x
    assert z.inputs == (y, x)
    assert values(z.inputs) == [[2], [1]]
    del y
    assert values(z.inputs) == [[2], [1]]
    assert z.inputs[0].op.scalar == 2


def test_leaves():
    x = Tensor([1.0])
    assert x.is_leaf()
    assert not (x * 2).is_leaf()
    assert (x * 2).detach().is_leaf()


# find_topo_sort


def test_find_topo_sort_is_post_order_left_to_right():
    a, b = Tensor([[0.88282157]]), Tensor([[0.90170084]])
    c = 3 * a * a + 4 * b * a - a
    x, y = a.item(), b.item()
    expected = [
        x, 3 * x, 3 * x * x, y, 4 * y, 4 * y * x, 3 * x * x + 4 * y * x, -x,
        3 * x * x + 4 * y * x - x,
    ]  # fmt: skip
    np.testing.assert_allclose([t.item() for t in find_topo_sort([c])], expected, rtol=1e-14)


def test_find_topo_sort_of_several_values():
    a, b = Tensor([1.0]), Tensor([2.0])
    c = a * b
    d = b + 1
    assert find_topo_sort([c, d]) == [a, b, c, d]
    assert find_topo_sort([d, c]) == [b, d, a, c]
    assert find_topo_sort(iter([d, c])) == [b, d, a, c]
    assert find_topo_sort(d) == [b, d]
    assert find_topo_sort([a, a]) == [a]
    assert find_topo_sort([]) == []


# grad and value_and_grad


def test_grad_and_value_and_grad():
    def f(x, y, power=2):
        return (x**power * y).sum()

    x, y = Tensor([1.0, 2.0]), Tensor([3.0, 4.0])
    np.testing.assert_array_equal(ndl.grad(f)(x, y).numpy(), [6, 16])
    np.testing.assert_array_equal(ndl.grad(f, argnums=1)(x, y, power=3).numpy(), [1, 8])
    np.testing.assert_array_equal(ndl.grad(f, -1)(x, y).numpy(), [1, 4])
    value, gradients = ndl.value_and_grad(f, (0, 1))(x, y)
    assert value.item() == 19
    assert values(gradients) == [[6, 16], [1, 4]]
    assert type(gradients) is tuple
    assert type(ndl.grad(f, (1,))(x, y)) is tuple
    assert values(ndl.grad(f, [1, np.int64(0)])(x, y)) == [[1, 4], [6, 16]]
    assert (x.grad, y.grad) == (None, None)


@pytest.mark.parametrize("argument", [2.0, [2.0], np.array(2.0), Tensor(2.0, requires_grad=False)])
def test_grad_takes_what_a_tensor_is_made_from(argument):
    assert ndl.grad(lambda x: x * x)(argument).sum().item() == 4


def test_grad_of_grad():
    third = ndl.grad(ndl.grad(ndl.grad(lambda x: x**4)))
    assert third(Tensor(2.0)).item() == 48
    x = Tensor(3.0)
    ndl.grad(lambda t: t**3)(x).backward()
    assert x.grad.item() == 18


def test_grad_of_more_than_one_number_is_that_of_the_sum():
    np.testing.assert_array_equal(ndl.grad(lambda x: x * x)(Tensor([1.0, 2.0])).numpy(), [2, 4])


def test_grad_by_an_argument_that_is_not_used():
    gradients = ndl.grad(lambda x, y: x * 2, (0, 1))(Tensor([1.0]), Tensor([1.0, 2.0], dtype="f4"))
    assert values(gradients) == [[2], [0, 0]]
    assert gradients[1].dtype == np.float32
    assert ndl.grad(lambda x: Tensor(1.0))(Tensor([5.0])).item() == 0
    assert ndl.grad(lambda x: x.detach() * 2)(Tensor([5.0])).item() == 0


def test_grad_is_by_the_argument_alone():
    """The same tensor as another argument, or seen by f from outside, is a constant."""
    x = Tensor([3.0])
    assert ndl.grad(lambda a, b: a * b)(x, x).item() == 3
    assert values(ndl.grad(lambda a, b: a * a * b, (0, 1))(x, x)) == [[18], [9]]
    assert ndl.grad(lambda a: a * x)(x).item() == 3
    y = x * 2
    assert ndl.grad(lambda a: a * y)(y).item() == 6


def test_grad_inside_no_grad():
    with ndl.no_grad():
        gradient = ndl.grad(ndl.grad(lambda x: x**3))(Tensor([2.0]))
    assert gradient.item() == 12
    assert not gradient.requires_grad


@pytest.mark.parametrize("argnums", [1, -2, (0, 1)])
def test_argnums_that_name_nothing(argnums):
    with pytest.raises(
        ArgumentError, match=r"grad: argnums -?\d names no argument of a call with 1"
    ):
        ndl.grad(lambda x: x, argnums)(Tensor([1.0]))


@pytest.mark.parametrize("argnums", ["x", 0.0, None, [0, 1.0]])
def test_argnums_that_are_no_integers(argnums):
    with pytest.raises(ArgumentError, match=r"grad: argnums must be an integer, got"):
        ndl.grad(lambda x, y: x, argnums)


@pytest.mark.parametrize("kind", [list, tuple])
def test_a_list_of_tensors_is_no_argument_to_differentiate_by(kind):
    """It was copied, and the outer gradient, 1 here, was 0."""

    def outer(x):
        return ndl.grad(lambda pair: pair[0] * pair[1])(kind([x, x]))[0]

    with pytest.raises(ArgumentError, match=r"grad: an operand is a \w+ of tensors.*one by one"):
        ndl.grad(outer)(Tensor(3.0))


@pytest.mark.parametrize("result", [None, 1.0, [Tensor(1.0)], ndl.make_tuple(Tensor(1.0))])
def test_functions_that_return_no_tensor(result):
    with pytest.raises(GradientError, match=r"grad: the function returned .*. Return one tensor"):
        ndl.grad(lambda x: result)(Tensor([1.0]))


# no_grad


def test_no_grad_records_nothing():
    x = Tensor([1.0])
    with ndl.no_grad():
        y = x * 2
        with ndl.enable_grad():
            z = x * 2
            with ndl.no_grad():
                assert not (x * 2).requires_grad
        assert not (x * 2).requires_grad
    assert (y.requires_grad, y.is_leaf(), y.inputs) == (False, True, ())
    assert z.requires_grad
    assert (x * 2).requires_grad


def test_no_grad_ends_with_an_error():
    with pytest.raises(ZeroDivisionError), ndl.no_grad():
        raise ZeroDivisionError
    assert (Tensor([1.0]) * 2).requires_grad


def test_no_grad_decorates():
    @ndl.no_grad()
    def double(x):
        return x * 2

    assert not double(Tensor([1.0])).requires_grad
    assert not double(Tensor([1.0])).requires_grad
    assert (Tensor([1.0]) * 2).requires_grad


def test_modes_belong_to_their_thread(monkeypatch):
    seen = {}

    def other():
        seen["gradients"] = (Tensor([1.0]) * 2).requires_grad
        seen["lazy"] = ndl.autograd.LAZY_MODE
        try:
            Tensor([[1.0]]) + Tensor([1.0])
        except ShapeError:
            seen["strict"] = True

    monkeypatch.setattr(ndl.autograd, "LAZY_MODE", True)
    with ndl.no_grad(), ndl.implicit_broadcasting():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert seen == {"gradients": True, "lazy": False, "strict": True}


# the module


def test_the_module_keeps_its_docstring_and_names():
    from needle import autograd

    assert "TENSOR_COUNTER" in autograd.__doc__
    assert {"Op", "TensorOp", "TensorTupleOp", "TensorTuple", "Value"} <= set(dir(autograd))
    assert isinstance(autograd.TENSOR_COUNTER, int)
