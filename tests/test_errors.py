"""Arguments of the wrong kind, everywhere: one message of ours, never a bare error from inside."""

from __future__ import annotations

import math
import operator
import tempfile

import numpy as np
import pytest

import needle as ndl
from needle import data, init, nn
from needle.errors import ArgumentError, DTypeError, GradientError, ShapeError, StateError

MATRIX = ndl.Tensor([[1.0, 2.0], [3.0, 4.0]])
HUGE = 2**70
NO_NUMBER = "'a' is not one real number"

REFUSED = {
    "Dropout": (lambda: nn.Dropout("a"), ArgumentError, f"Dropout: {NO_NUMBER}"),
    "flip": (lambda: data.RandomFlipHorizontal(None), ArgumentError, "None is not one real"),
    "randb": (lambda: init.randb(2, p="a"), ArgumentError, f"randb: {NO_NUMBER}"),
    "low": (lambda: init.rand(2, low="a"), ArgumentError, f"rand: {NO_NUMBER}"),
    "high": (lambda: init.rand(2, high=[1, 2]), ArgumentError, "not one real number"),
    "mean": (lambda: init.randn(2, mean="a"), ArgumentError, f"randn: {NO_NUMBER}"),
    # Its gradient would be lost.
    "std": (lambda: init.randn(2, 2, std=MATRIX), ArgumentError, "not one real number"),
    "fan": (lambda: init.kaiming_normal("a", 2), ArgumentError, f"kaiming_normal: {NO_NUMBER}"),
    "fans": (lambda: init.xavier_normal(2, None), ArgumentError, "xavier_normal: None is not one"),
    "gain": (lambda: init.xavier_uniform(2, 3, "a"), ArgumentError, f"xavier_uniform: {NO_NUMBER}"),
    "normal gain": (lambda: init.xavier_normal(2, 3, "a"), ArgumentError, NO_NUMBER),
    "batch norm's eps": (
        lambda: nn.BatchNorm1d(2, "a"),
        ArgumentError,
        f"BatchNorm1d: {NO_NUMBER}",
    ),
    "momentum": (lambda: nn.BatchNorm1d(2, momentum=None), ArgumentError, "None is not one real"),
    "row eps": (
        lambda: nn.LayerNorm1d(2, "a"),
        ArgumentError,
        f"LayerNorm1d: {NO_NUMBER}",
    ),
    "blocks": (lambda: ndl.models.MLPResNet(4, 4, "a"), ArgumentError, "num_blocks must be an int"),
    "ragged number": (lambda: ndl.full((2,), [[1, 2], [3]]), ArgumentError, "not one real number"),
    "dtype": (lambda: MATRIX.astype({"a": 1}), DTypeError, "dtype {'a': 1} is not known"),
    "masked": (
        lambda: ndl.Tensor(np.ma.masked_array([1.0, 9.0], [False, True])),
        DTypeError,
        r"^Tensor: 1 of 2 elements are masked, .* array\.filled\(value\)$",
    ),
    "masked operand": (lambda: MATRIX + np.ma.masked_equal(np.eye(2), 0), DTypeError, "2 of 4"),
    "masked number": (lambda: MATRIX * np.ma.masked, DTypeError, "^mul_scalar: 1 of 1 elements"),
    "masked bound": (lambda: MATRIX.maximum(np.ma.masked_equal([1.0], 1)), DTypeError, "1 of 1"),
    "masked data": (
        lambda: data.NDArrayDataset(np.ma.masked_equal([1, 2], 2)),
        DTypeError,
        "NDArrayDataset: 1 of 2 elements are masked",
    ),
    "mean of losses": (
        lambda: ndl.mean([MATRIX.sum(), MATRIX.sum()]),
        ArgumentError,
        "mean: an operand is a list of tensors, whose graphs would be lost",
    ),
    "keepdims for an axis": (
        lambda: MATRIX.sum(0, 1),
        ArgumentError,
        r"summation: keepdims must be True or False, got 1\. Write bool\(keepdims\)",
    ),
    "axis for keepdims": (
        lambda: MATRIX.sum(True),
        ArgumentError,
        r"summation: axis must be an integer, got True\. Write int\(axis\)",
    ),
    "batch size for shuffle": (
        lambda: data.DataLoader([1, 2], True),
        ArgumentError,
        "DataLoader: batch_size must be an integer, got True",
    ),
    "axes without an order": (lambda: MATRIX.sum({0}), ArgumentError, r"integer, got \{0\}"),
    "shape by name": (lambda: init.zeros({}), ArgumentError, r"must be an integer, got \{\}"),
    "mode": (
        lambda: nn.ReLU().train("eval"),
        ArgumentError,
        "train: mode must be True or False, got 'eval'",
    ),
    "standardize's eps": (
        lambda: ndl.standardize(MATRIX, 0, -1.0),
        ArgumentError,
        r"standardize: eps=-1\.0\. Pass a finite number, 0 or more",
    ),
    "batch's momentum": (
        lambda: ndl.batch_norm(MATRIX, [1, 1], [0, 0], [0, 0], [1, 1], momentum=2),
        ArgumentError,
        r"batch_norm: momentum=2\. Pass a finite number, 0 or more and at most 1",
    ),
    "shape without axes": (lambda: init.zeros(np.array("a")), ArgumentError, "must be an integer"),
    "axis without axes": (lambda: MATRIX.sum(np.array("a")), ArgumentError, "must be an integer"),
    "endless arange": (
        lambda: ndl.arange(math.inf),
        ArgumentError,
        "to inf in steps of 1 there is no end",
    ),
    "one width": (lambda: ndl.pad(MATRIX, 1), ShapeError, r"widths \[\(1,\)\] do not fit"),
    "a width an axis": (lambda: ndl.pad(MATRIX, [1, 1]), ShapeError, r"\[\(1,\), \(1,\)\] do not"),
    "einsum": (
        lambda: ndl.einsum(MATRIX, MATRIX),
        ArgumentError,
        "a Tensor, not text",
    ),
    "grad": (lambda: ndl.grad(MATRIX), ArgumentError, "grad: a Tensor is no function. Pass one"),
    "summary": (lambda: ndl.summary(nn.ReLU, (1,)), ArgumentError, "summary: ReLU is no module"),
    "no model": (lambda: ndl.summary(None, (1,)), ArgumentError, "summary: NoneType is no module"),
    "loader": (
        lambda: data.DataLoader(None),
        ArgumentError,
        "a NoneType is no data set",
    ),
    "state": (
        lambda: nn.Linear(2, 2).load_state_dict(nn.Linear(2, 2)),
        StateError,
        "load_state_dict: a Linear is no state by name. Pass what state_dict",
    ),
    "keep": (
        lambda: ndl.training.CheckpointFolder(tempfile.gettempdir(), keep="a"),
        ArgumentError,
        "CheckpointFolder: keep must be an integer, got 'a'",
    ),
    "every_steps": (
        lambda: ndl.training.Checkpoints(tempfile.gettempdir(), every_steps=1.5),
        ArgumentError,
        "Checkpoints: every_steps must be an integer, got 1.5",
    ),
    "norm": (
        lambda: ndl.optim.SGD([nn.Parameter([1.0])]).clip_grad_norm("a"),
        ArgumentError,
        f"clip_grad_norm: {NO_NUMBER}",
    ),
    "params": (
        lambda: ndl.optim.SGD(np.array("a")),
        ArgumentError,
        r"SGD: params is a ndarray\. Pass a list: model\.parameters",
    ),
    "params without an order": (
        lambda: ndl.optim.SGD({nn.Parameter([1.0])}),
        ArgumentError,
        r"SGD: params is a set\. Pass a list",
    ),
    "no params": (
        lambda: ndl.optim.Adam(nn.ReLU().parameters()),
        ArgumentError,
        r"Adam: params is empty, so no step would change anything\. Pass model\.parameters",
    ),
    "params by name": (
        lambda: ndl.optim.SGD(nn.Linear(1, 1).state_dict()),
        ArgumentError,
        r"SGD: params is a dict\. Pass a list",
    ),
    "optimiser's state": (
        lambda: ndl.optim.SGD([nn.Parameter([1.0])]).load_state_dict(None),
        StateError,
        "load_state_dict: a NoneType is no state by name",
    ),
    "graph's order": (
        lambda: ndl.autograd.find_topo_sort("a"),
        ArgumentError,
        r"find_topo_sort: a str is no tensor\. Pass tensors",
    ),
    "gradient of no tensor": (
        lambda: ndl.autograd.compute_gradient_of_variables(1.0, None),
        ArgumentError,
        r"backward: a float is no tensor\. Pass the tensor to derive",
    ),
    "no graph": (lambda: ndl.autograd.find_topo_sort(None), ArgumentError, "a NoneType is no ten"),
    "graph's text": (
        lambda: ndl.print_graph("a"),
        ArgumentError,
        r"graph_text: a str is no tensor\. Pass tensors",
    ),
    "check": (
        lambda: ndl.check_gradients("a", [1.0]),
        ArgumentError,
        r"check_gradients: a str is no function\. Pass one",
    ),
    "check's result": (
        lambda: ndl.check_gradients(lambda x: 1, [1.0]),
        GradientError,
        "the function returned int without a tensor in it",
    ),
    "check's order": (
        lambda: ndl.check_gradients(ndl.exp, [1.0], order="a"),
        ArgumentError,
        "check_gradients: order must be an integer, got 'a'",
    ),
    "no order": (
        lambda: ndl.check_gradients(ndl.exp, [1.0], order=0),
        ArgumentError,
        r"check_gradients: order=0\. Give 1 or more",
    ),
    "error rate": (
        lambda: ndl.training.error_rate("a", "b"),
        ShapeError,
        r"error_rate: output of shape \(\) and target of shape \(\)\. Give one row of scores",
    ),
    "classes in a column": (
        lambda: ndl.training.error_rate(np.ones((3, 2)), np.ones((3, 1))),
        ShapeError,
        r"output of shape \(3, 2\) and target of shape \(3, 1\)",
    ),
    "power of a tuple": (
        lambda: ndl.power(MATRIX, ndl.make_tuple(MATRIX)),
        ArgumentError,
        "a TensorTuple is not one array. Pass one of its elements",
    ),
    "product with a tuple": (
        lambda: ndl.matmul(MATRIX, ndl.make_tuple(MATRIX)),
        ArgumentError,
        "a TensorTuple is not one array",
    ),
    "element": (
        lambda: ndl.tuple_get_item(None, 0),
        ArgumentError,
        "tuple_get_item: a NoneType is no TensorTuple. Pass one, as make_tuple returns it",
    ),
    "concatenate": (
        lambda: ndl.concatenate(None),
        ArgumentError,
        r"concatenate: a NoneType is no list of tensors\. Pass one: \[a, b\]",
    ),
    "tuples in a list": (
        lambda: ndl.concatenate([ndl.make_tuple(MATRIX), ndl.make_tuple(MATRIX)]),
        ArgumentError,
        r"concatenate: the list holds a TensorTuple\. Pass its elements: \[\*t\]",
    ),
    "pad beyond memory": (
        lambda: ndl.pad(MATRIX, [(HUGE, 0), (0, 0)]),
        ShapeError,
        r"pad: shape \(\d+, 2\) has more elements than an array can",
    ),
    "classes beyond memory": (
        lambda: ndl.one_hot(HUGE, ndl.Tensor([1])),
        ShapeError,
        r"one_hot: shape \(\d+,\) has more elements",
    ),
    "arange beyond memory": (
        lambda: ndl.arange(HUGE),
        ShapeError,
        r"arange: from 0 to \d+ in steps of 1 are more numbers than an array can have\. Take larg",
    ),
    "threads": (
        lambda: ndl.set_num_threads(HUGE),
        ArgumentError,
        r"set_num_threads: \d+ is no number of threads",
    ),
}


@pytest.mark.parametrize("shape", [HUGE, (2, HUGE), (2**31, 2**31), 2**60], ids=str)
@pytest.mark.parametrize(
    "create",
    [init.zeros, init.rand, init.randn, init.randb, lambda *n: MATRIX.sum().broadcast_to(n)],
    ids=["zeros", "rand", "randn", "randb", "broadcast_to"],
)
def test_sizes_beyond_all_memory_are_refused(create, shape):
    sizes = shape if isinstance(shape, tuple) else (shape,)
    with pytest.raises(
        ShapeError, match=r"shape \(.*\) has more elements than an array can\. Give"
    ):
        create(*sizes)


@pytest.mark.parametrize(("call", "error", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


LAYERS = {
    "Linear": nn.Linear(2, 3),
    "Flatten": nn.Flatten(),
    "Dropout": nn.Dropout(),
    "Dropout in evaluation": nn.Dropout().eval(),
    "BatchNorm1d": nn.BatchNorm1d(2),
    "LayerNorm1d": nn.LayerNorm1d(2),
    "SoftmaxLoss": lambda x: nn.SoftmaxLoss()(x, [0, 1]),
    "labels": lambda y: nn.SoftmaxLoss()(MATRIX, y),
    "MSELoss": lambda x: nn.MSELoss()(x, MATRIX),
    "BCEWithLogitsLoss": lambda x: nn.BCEWithLogitsLoss()(x, MATRIX),
}


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS.keys())
@pytest.mark.parametrize("x", [None, "a", object(), ndl.make_tuple(MATRIX, MATRIX)])
def test_layers_refuse_what_is_no_array(layer, x):
    with pytest.raises(ndl.NeedleError):
        layer(x)


@pytest.mark.parametrize("name", [name for name in LAYERS if name != "labels"])
def test_layers_take_arrays_and_lists_as_operators_do(name):
    layer = LAYERS[name]
    results = []
    for x in (MATRIX, MATRIX.numpy(), MATRIX.tolist()):
        np.random.seed(0)
        results.append(layer(x).numpy())
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


def test_labels_may_be_a_list():
    expected = nn.SoftmaxLoss()(MATRIX, ndl.Tensor([1, 0])).numpy()
    np.testing.assert_array_equal(nn.SoftmaxLoss()(MATRIX, [1, 0]).numpy(), expected)


@pytest.mark.parametrize("other", [[1, 2], (1, 2), "ab", b"ab"])
def test_a_tensor_of_one_integer_repeats_no_sequence(other):
    for compute in (lambda: ndl.Tensor(2) * other, lambda: other * ndl.Tensor(2)):
        with pytest.raises(TypeError, match=f"multiply: a {type(other).__name__} is no operand"):
            compute()


def test_an_array_of_another_library_is_no_operand_and_named_in_full():
    class Theirs:
        def __dlpack__(self, **kwargs):
            raise AssertionError

        def __radd__(self, other):
            raise AssertionError("computes without the graph")

    for compute in (
        lambda: MATRIX + Theirs(),
        lambda: Theirs() * MATRIX,
        lambda: MATRIX - Theirs(),
        lambda: Theirs() / MATRIX,
        lambda: MATRIX @ Theirs(),
    ):
        with pytest.raises(TypeError, match=rf": a {__name__}.Theirs is no operand .* ndl.Tensor"):
            compute()


def test_sizes_and_axes_may_be_arrays_without_axes():
    assert init.zeros(np.array(3)).shape == (3,)
    assert MATRIX.reshape(np.array(4)).shape == MATRIX.reshape(ndl.Tensor(4)).shape == (4,)
    assert MATRIX.sum(np.array(1)).shape == (2,)


def test_likes_take_what_becomes_a_tensor():
    np.testing.assert_array_equal(ndl.ones_like([2.0, 3.0]).numpy(), np.ones(2))
    np.testing.assert_array_equal(ndl.zeros_like(3).numpy(), np.zeros((), int))


OF_INTEGERS = ["floordiv", "mod", "and_", "or_", "xor", "lshift", "rshift"]


@pytest.mark.parametrize("other", [2, np.int64(2), np.array([1, 2])], ids=str)
@pytest.mark.parametrize("apply", [divmod, *(getattr(operator, name) for name in OF_INTEGERS)])
def test_operators_of_integers_are_refused(apply, other):
    """NumPy's numbers and arrays would take the tensor for an array: its graph would be lost."""
    t = ndl.Tensor([3, 5])
    with pytest.raises(TypeError, match=r"a tensor has no //, .*\. Use t\.numpy\(\)"):
        apply(t, other)
    with pytest.raises(TypeError):
        apply(other, t)


def test_what_is_written_for_masks_instead_of_operators_of_bits():
    a, b = ndl.Tensor([False, False, True, True]), ndl.Tensor([False, True, False, True])
    with pytest.raises(TypeError, match=r"for masks a \* b, a\.maximum\(b\), a\.equal\(False\)$"):
        _ = ~a

    def written(a, b):
        return a * b, a.maximum(b), a.equal(False)

    x, y = a.numpy(), b.numpy()
    for results in (written(a, b), ndl.jit(written, warmup=0)(a, b)):
        for result, expected in zip(results, (x & y, x | y, ~x), strict=True):
            np.testing.assert_array_equal(result.numpy(), expected, strict=True)


def test_a_mask_that_hides_nothing_is_no_mask():
    np.testing.assert_array_equal(ndl.Tensor(np.ma.masked_array([1.0, 2.0])).numpy(), [1.0, 2.0])


def test_an_operand_of_another_kind_on_the_left_of_a_difference():
    with pytest.raises(TypeError, match=r"for -: 'NoneType' and 'Tensor'"):
        operator.sub(None, MATRIX)
