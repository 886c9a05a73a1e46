"""Users' operators: compute and gradient, and what the library makes of mistakes in them."""

import numpy as np
import pytest

import needle as ndl
from needle.autograd import Tensor
from needle.errors import ArgumentError, DTypeError, GradientError, ShapeError
from needle.graph.kinds import Elementwise, ElementwiseTuple


def values(tensors):
    return [t.numpy().tolist() for t in tensors]


class Square(ndl.TensorOp):
    """As users write them: compute and gradient, nothing else."""

    def __init__(self, wrap=None):
        self.wrap = wrap or (lambda gradient: gradient)

    def compute(self, a):
        assert isinstance(a, np.ndarray)
        return a * a

    def gradient(self, out_grad, node):
        return self.wrap(out_grad * node.inputs[0] * 2)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("wrap", [None, lambda g: (g,), lambda g: [g]])
def test_users_operators(wrap, lazy, monkeypatch):
    monkeypatch.setattr(ndl.autograd, "LAZY_MODE", lazy)
    x = Tensor([1.0, 3.0])
    y = Square(wrap)(x)
    assert type(y) is Tensor
    assert (y.shape, y.dtype) == ((2,), np.float64)
    assert (y.op.name, repr(y.op)[:7]) == ("Square", "Square(")
    assert type(y.op.gradient_as_tuple(Tensor([1.0, 1.0]), y)) is tuple
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [2, 6])
    ndl.check_gradients(lambda t: ndl.exp(Square(wrap)(t)), [0.5, 1.0], order=2)


class Total(ndl.TensorOp):
    def compute(self, a):
        return a.sum()  # a NumPy scalar

    def gradient(self, out_grad, node):
        return out_grad.broadcast_to(node.inputs[0].shape)


def test_users_operators_may_return_numbers():
    x = Tensor([1.0, 2.0])
    y = Total()(x)
    assert (y.shape, type(y.cached_data)) == ((), np.ndarray)
    y.backward()
    np.testing.assert_array_equal(x.grad.numpy(), [1, 1])


class StackFirst(ndl.TensorOp):
    """Takes a tuple of tensors, as the course's Stack; the gradient is a 1-tuple of a tuple."""

    def compute(self, args):
        return np.stack(args)

    def gradient(self, out_grad, node):
        return (ndl.make_tuple(*[out_grad[i] for i in range(len(node.inputs[0]))]),)


class Rows(ndl.TensorTupleOp):
    def compute(self, a):
        return tuple(a[i] for i in range(a.shape[0]))

    def gradient(self, out_grad, node):
        return StackFirst()(out_grad)


@pytest.mark.parametrize("lazy", [False, True])
def test_users_operators_on_tuples(lazy, monkeypatch):
    monkeypatch.setattr(ndl.autograd, "LAZY_MODE", lazy)
    x = Tensor([[1.0, 2.0], [3.0, 4.0]])
    rows = Rows()(x)
    assert type(rows) is ndl.TensorTuple
    assert len(rows) == 2
    stacked = StackFirst()(rows)
    (stacked * stacked).backward()
    np.testing.assert_array_equal(x.grad.numpy(), [[2, 4], [6, 8]])
    ndl.check_gradients(lambda t: Rows()(t)[0] * Rows()(t)[1], np.random.randn(2, 2), order=2)


def test_users_operators_take_arrays_and_numbers():
    assert Square()(3.0).item() == 9
    np.testing.assert_array_equal(Square()(np.array([1.0, 2.0])).numpy(), [1, 4])


@pytest.mark.parametrize("operand", [None, "a", {"a": 1}])
def test_operands_that_are_no_tensors(operand):
    with pytest.raises(
        ArgumentError, match=r"Square: operand .* is not a tensor. Pass a Tensor, an"
    ):
        Square()(operand)


@pytest.mark.parametrize(
    "call", [ndl.exp, ndl.summation, lambda pair: ndl.add(pair, pair), lambda pair: pair[0] + pair]
)
def test_a_tuple_is_no_operand_of_an_operator_on_tensors(call):
    pair = ndl.make_tuple(Tensor([1.0]), Tensor([2.0]))
    with pytest.raises((ArgumentError, TypeError), match=r"TensorTuple(\. Pass one of its e|'$)"):
        call(pair)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("call", [ndl.make_tuple, ndl.summation, lambda p: ndl.add(p, p)])
def test_a_list_of_tensors_is_no_operand(call, lazy, monkeypatch):
    """It would become an array, and the gradient of its elements be lost in silence."""
    monkeypatch.setattr(ndl.autograd, "LAZY_MODE", lazy)
    with pytest.raises(ArgumentError, match=r": an operand is a list of tensors.*concatenate"):
        call([Tensor([1.0]), Tensor([2.0])])


class Unfinished(ndl.TensorOp):
    pass


class NoGradient(ndl.TensorOp):
    def compute(self, a):
        return a.copy()


def test_an_operator_without_compute():
    message = r"Unfinished: define compute\(self, \*arrays\)"
    with pytest.raises(NotImplementedError, match=message):
        Unfinished()(Tensor([1.0]))


def test_an_operator_without_a_gradient():
    message = r"NoGradient has no gradient. Call detach\(\) on its input, or define gradient"
    with pytest.raises(GradientError, match=message):
        NoGradient()(Tensor([1.0])).backward()


WRONG_GRADIENTS = {
    "too many": (
        lambda g: (g, g),
        "Square: gradient returned 2 gradients for 1 inputs",
    ),
    "too few": (lambda g: (), "Square: gradient returned 0 gradients for 1 inputs"),
    "another shape": (
        lambda g: g.sum(),
        r"Square: gradient of shape \(\) for an input of shape \(2,\). A gradient has its input's",
    ),
    "an array": (
        lambda g: g.numpy(),
        "Square: gradient returned ndarray. Return tensors computed from out_grad",
    ),
}


@pytest.mark.parametrize(("wrap", "message"), WRONG_GRADIENTS.values(), ids=WRONG_GRADIENTS.keys())
def test_gradients_that_do_not_fit(wrap, message):
    y = Square(wrap)(Tensor([1.0, 2.0]))
    with pytest.raises(GradientError, match=message):
        y.backward()


class Half(ndl.TensorOp):
    """An operand without a gradient: None says so."""

    def compute(self, a, mask):
        return np.where(mask, a, a / 2)

    def gradient(self, out_grad, node):
        mask = node.inputs[1]
        return out_grad.where(mask, out_grad / 2), None


def test_none_is_no_gradient():
    x, mask = Tensor([1.0, 1.0]), Tensor([True, False])
    y = Half()(x, mask)
    y.backward()
    np.testing.assert_array_equal(x.grad.numpy(), [1, 0.5])
    assert mask.grad is None
    assert len(y.op.gradient_as_tuple(y, y)) == 2


# gradient_as_tuple on any result


X, Y = np.random.RandomState(0).randn(3, 4), np.random.RandomState(1).randn(3, 4)
RESULTS = {
    "a - b": lambda a, b: a - b,
    "a / b": lambda a, b: a / (b * b + 1),
    "mean": lambda a, b: (a * b).mean(),
    "var": lambda a, b: (a + b).var(0),
    "softmax": lambda a, b: ndl.softmax(a * b),
    "einsum": lambda a, b: ndl.einsum("ij,kj->ik", a, b),
    "subscript": lambda a, b: (a * b)[1:, [0, 2]],
    "concatenate": lambda a, b: ndl.concatenate([a, b], 1),
    "where": lambda a, b: ndl.where(a.greater(b), a, b),
    "clip": lambda a, b: (a * b).clip(-1, 1),
    "through a tuple": lambda a, b: ndl.make_tuple(a, b)[1] * a,
    "fused": lambda a, b: ndl.fused_add_scalars(a * b, 1.0, 2.0)[0],
    "logsoftmax": lambda a, b: ndl.logsoftmax(a + b),
    "max": lambda a, b: (a * b).max(1),
    "vectors": lambda a, b: a[0] @ b[1],
}


@pytest.mark.parametrize("f", RESULTS.values(), ids=RESULTS.keys())
def test_gradient_as_tuple_on_any_result(f):
    result = f(Tensor(X), Tensor(Y))
    gradients = result.op.gradient_as_tuple(Tensor(np.ones(result.shape)), result)
    assert len(gradients) == len(result.inputs)
    for gradient, value in zip(gradients, result.inputs, strict=True):
        if isinstance(gradient, Tensor):
            assert gradient.shape == value.shape
    ndl.check_gradients(f, X, Y, order=2)


def test_gradient_as_tuple_gives_those_that_need_none_too():
    x, c = Tensor([2.0]), Tensor([3.0], requires_grad=False)
    y = x * c
    assert values(y.op.gradient_as_tuple(Tensor([1.0]), y)) == [[3], [2]]
    assert not c.requires_grad


# What compute returns.


class Returns(ndl.TensorOp):
    """Whatever it was given."""

    def __init__(self, result):
        self.result = result

    def compute(self, a):
        return self.result


@pytest.mark.parametrize(
    ("result", "given"),
    [
        (None, "None"),
        ("a", "str"),
        (np.array([1j]).tolist(), "list"),
        ([[1], [1, 2]], "list"),
        (np.array([1j]), "ndarray of dtype complex128"),
        (np.array([None]), "ndarray of dtype object"),
    ],
)
@pytest.mark.parametrize("lazy", [False, True])
def test_what_is_no_array_is_refused(result, given, lazy, monkeypatch):
    monkeypatch.setattr(ndl.autograd, "LAZY_MODE", lazy)
    message = f"^Returns: compute returned {given}, which is no array of real numbers. Return a"
    with pytest.raises(DTypeError, match=message):
        Returns(result)(Tensor([1.0])).numpy()


class Both(ndl.TensorTupleOp):
    def compute(self, a):
        return [a + 1, a * 2]


class Holed(ndl.TensorTupleOp):
    def compute(self, a):
        return a, None


def test_a_tuple_with_something_else_in_it_is_refused():
    with pytest.raises(DTypeError, match="Holed: compute returned None, which is no array"):
        Holed()(Tensor([1.0]))


@pytest.mark.parametrize("lazy", [False, True])
def test_a_list_from_a_tuple_operator_is_a_tuple(lazy, monkeypatch):
    monkeypatch.setattr(ndl.autograd, "LAZY_MODE", lazy)
    pair = Both()(Tensor([3.0]))
    assert type(pair) is ndl.TensorTuple
    assert values(pair) == [[4], [6]]


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("kind", [list, tuple])
def test_several_numbers_from_a_tensor_operator_are_one_array(kind, lazy, monkeypatch):
    monkeypatch.setattr(ndl.autograd, "LAZY_MODE", lazy)
    assert values([Returns(kind([1.0, 2.0]))(Tensor([3.0]))]) == [[1, 2]]


class Rounded(ndl.TensorTupleOp):
    def compute(self, a):
        return a.astype(">f4"), np.array(a, ">i8")


@pytest.mark.parametrize("run", [lambda f: f, ndl.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("lazy", [False, True])
def test_results_are_in_the_machines_byte_order(lazy, run, monkeypatch):
    monkeypatch.setattr(ndl.autograd, "LAZY_MODE", lazy)
    call = run(lambda x: (Returns(np.array([1.5], ">f8"))(x), *Rounded()(x)))
    for _ in range(3):
        results = call(Tensor([2.0], requires_grad=False))
        assert [t.dtype.str[1:] for t in results] == ["f8", "f4", "i8"]
        assert all(t.dtype.isnative and t.cached_data.dtype.isnative for t in results)
        assert values(results) == [[1.5], [2], [2]]


class BothAtOnce(Elementwise):
    def expression(self, e, a):
        return a + 1, a * 2


@pytest.mark.parametrize("shape", [(), (2,)])
@pytest.mark.parametrize("op", [BothAtOnce(), Returns((np.ones(2), 1.0))])
@pytest.mark.parametrize("lazy", [False, True])
def test_several_results_from_a_tensor_operator_are_refused(op, shape, lazy, monkeypatch):
    monkeypatch.setattr(ndl.autograd, "LAZY_MODE", lazy)
    message = "^(BothAtOnce|Returns): compute returned a tuple of 2 results, and a TensorOp"
    with pytest.raises(DTypeError, match=message):
        list(op(ndl.init.ones(*shape)).realize_cached_data())


class BothInATuple(ElementwiseTuple):
    expression = BothAtOnce.expression


@pytest.mark.parametrize("lazy", [False, True])
def test_an_expression_with_two_results(lazy, monkeypatch):
    monkeypatch.setattr(ndl.autograd, "LAZY_MODE", lazy)
    assert values(BothInATuple()(Tensor(3.0))) == [4, 6]


class Scaled(ndl.TensorOp):
    """An operator with a run-time scalar."""

    scalars = 1

    def compute(self, a, factor):
        return np.matmul(a, a) * factor

    def infer(self, a, factor):
        if len(a.shape) != 2 or a.shape[0] != a.shape[1]:
            raise ShapeError(f"scaled: shape {a.shape} is not square, factor {factor}")
        return a


def test_errors_are_the_librarys_own_words_alone():
    message = r"scaled: shape \(2, 3\) is not square, factor Spec\(shape=\(\), dtype=.*float64"
    with pytest.raises(ShapeError, match=message) as caught:
        Scaled()(Tensor(np.ones((2, 3))), 0.5)
    assert caught.value.__suppress_context__
    with pytest.raises(ShapeError, match="matmul: inner sizes differ") as caught:
        Tensor(np.ones((2, 3))) @ Tensor(np.ones((2, 3)))
    assert caught.value.__suppress_context__


class Fails(ndl.TensorOp):
    def compute(self, a):
        raise KeyError("theirs") from ZeroDivisionError("first")


def test_a_users_own_error_passes_as_it_is():
    with pytest.raises(KeyError, match="theirs") as caught:
        Fails()(Tensor([1.0]))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
