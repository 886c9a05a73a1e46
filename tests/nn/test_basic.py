"""Linear, containers, activations and dropout against written-out NumPy."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

import needle as ndl
from needle import nn

from .oracles import DTYPES, close, tensor

# -- Linear --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", [(5,), (1,), (0,), (2, 3), (2, 1, 4), ()])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_and_its_gradients(batch, bias, dtype):
    layer = nn.Linear(3, 4, bias=bias, dtype=dtype)
    x, out_grad = tensor(*batch, 3, dtype=dtype), tensor(*batch, 4, dtype=dtype)
    X, W, G = x.numpy(), layer.weight.numpy(), out_grad.numpy()
    y = layer(x)
    close(y, X @ W + (layer.bias.numpy()[0] if bias else 0), dtype)
    y.backward(out_grad)
    close(x.grad, G @ W.T, dtype)
    close(layer.weight.grad, X.reshape(-1, 3).T @ G.reshape(-1, 4), dtype)
    if bias:
        close(layer.bias.grad, G.reshape(-1, 4).sum(0)[None], dtype)
    else:
        assert layer.bias is None
        assert len(layer.parameters()) == 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_linear_draws_its_weight_then_its_bias(dtype):
    np.random.seed(11)
    layer = nn.Linear(3, 5, dtype=dtype)
    after = np.random.rand()
    np.random.seed(11)
    a = math.sqrt(2) * math.sqrt(3 / 3)
    weight = np.random.rand(3, 5) * (a - -a) + -a
    b = math.sqrt(2) * math.sqrt(3 / 5)
    bias = (np.random.rand(5, 1) * (b - -b) + -b).reshape(1, 5)
    assert np.random.rand() == after
    assert layer.weight.numpy().tobytes() == weight.astype(dtype).tobytes()
    assert layer.bias.numpy().tobytes() == bias.astype(dtype).tobytes()
    assert layer.bias.shape == (1, 5)
    assert layer.weight.is_leaf()
    assert layer.bias.is_leaf()


def test_linear_without_bias_draws_nothing_for_it():
    np.random.seed(0)
    nn.Linear(3, 5, bias=False)
    after = np.random.rand()
    np.random.seed(0)
    np.random.rand(15)
    assert np.random.rand() == after


@pytest.mark.parametrize("batch", [(4,), (2, 3), ()])
def test_a_flat_bias_may_be_assigned(batch):
    layer = nn.Linear(3, 2)
    layer.bias.data = ndl.Tensor([10.0, 20.0], dtype="float32")
    assert layer.bias.shape == (2,)
    x = tensor(*batch, 3, dtype="float32")
    y = layer(x)
    close(y, x.numpy() @ layer.weight.numpy() + [10, 20], "float32")
    y.backward()
    close(layer.bias.grad, np.full(2, math.prod(batch)), "float32")
    optimizer = ndl.optim.Adam(layer.parameters())
    optimizer.step()
    assert layer(x).shape == (*batch, 2)


def test_plain_tensors_may_be_assigned_over_the_parameters():
    layer = nn.Linear(2, 1)
    layer.weight = ndl.Tensor([[1.0], [2.0]])
    layer.bias = ndl.Tensor([[0.5]])
    close(layer(ndl.Tensor([[1.0, 1.0]])), [[3.5]])


def test_linear_takes_integers():
    layer = nn.Linear(2, 1, dtype="float64")
    close(layer(ndl.Tensor([[1, 2]])), [[1, 2]] @ layer.weight.numpy() + layer.bias.numpy())


@pytest.mark.parametrize("batch", [(), (4,)])
def test_a_subclass_of_linear_runs_its_forward_once(batch):
    """A single sample went through it twice."""

    class Doubled(nn.Linear):
        def forward(self, x):
            return super().forward(x) * 2

    layer, x = Doubled(3, 2), tensor(*batch, 3, dtype="float32")
    expected = (x.numpy() @ layer.weight.numpy() + layer.bias.numpy()[0]) * 2
    close(layer(x), expected, "float32")
    assert [row.parameters for row in ndl.summary(layer, (*batch, 3)).rows] == [8]


@pytest.mark.parametrize("shape", [(), (4,), (5, 4), (3, 5, 4)])
def test_linear_refuses_other_widths(shape):
    with pytest.raises(ndl.ShapeError, match=r"input of shape .* for in_features=3"):
        nn.Linear(3, 2)(ndl.init.ones(*shape))


# -- containers ----------------------------------------------------------------------------------


def test_sequential_applies_its_modules_in_order():
    layers = nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)
    model = nn.Sequential(*layers)
    x = tensor(5, 3, dtype="float32")
    close(model(x), layers[2](layers[1](layers[0](x))).numpy(), "float32")
    assert model.modules == layers
    assert len(model) == 3
    assert model[0] is layers[0]
    assert model[-1] is layers[2]
    assert tuple(model) == layers


def test_a_slice_of_a_sequential_is_one():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).eval()
    body = model[:-1]
    x = tensor(5, 3, dtype="float32")
    close(model[-1](body(x)), model(x).numpy(), "float32")
    assert body.modules == model.modules[:-1]
    assert body.parameters() == model[0].parameters()
    assert not body.training
    assert model[5:](x) is x


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (([nn.ReLU()],), r"Sequential: argument 0 is a list\. Pass modules \(of a list, with a"),
        ((nn.ReLU(), nn.Tanh), r"argument 1 is the class Tanh\. Make a module of it: Tanh\(…\)"),
        ((nn.ReLU(), None), r"Sequential: argument 1 is a NoneType\. Pass modules$"),
    ],
)
def test_sequential_refuses_what_it_could_not_call(layers, message):
    with pytest.raises(ndl.ArgumentError, match=message):
        nn.Sequential(*layers)


@pytest.mark.parametrize(
    ("fn", "message"), [(3, "fn is a int. Pass modules"), (nn.Linear, "fn is the class Linear")]
)
def test_residual_refuses_what_it_could_not_call(fn, message):
    with pytest.raises(ndl.ArgumentError, match=f"Residual: {message}"):
        nn.Residual(fn)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((2.5, 3), "in_features must be an integer"),
        (("3", 2), "in_features must be an integer"),
        ((0, 2), "in_features=0. Give 1 or more"),
        ((3, 0), "out_features=0. Give 1 or more"),
        ((3, -2), "out_features=-2. Give 1 or more"),
    ],
)
def test_linear_refuses_sizes_that_are_no_positive_integers(sizes, message, bias):
    with pytest.raises(ndl.ArgumentError, match=f"Linear: {message}"):
        nn.Linear(*sizes, bias=bias)


def test_an_empty_sequential_and_identity_change_nothing():
    x = tensor(2, 3)
    assert nn.Sequential()(x) is x
    assert nn.Identity()(x) is x


def test_residual_adds_its_input():
    fn = nn.Linear(3, 3, dtype="float64")
    x = tensor(5, 3)
    close(nn.Residual(fn)(x), fn(x).numpy() + x.numpy())
    close(nn.Residual(ndl.exp)(x), np.exp(x.numpy()) + x.numpy())


def test_residual_names_a_wrong_shape():
    with pytest.raises(ndl.ShapeError, match=r"^Residual: add: shapes \(5, 2\) and \(5, 3\)"):
        nn.Residual(nn.Linear(3, 2))(ndl.init.ones(5, 3))


@pytest.mark.parametrize(
    ("shape", "flat"), [((2, 3, 4), (2, 12)), ((5,), (5, 1)), ((0, 3, 2), (0, 6)), ((2, 0), (2, 0))]
)
def test_flatten_keeps_the_first_axis(shape, flat):
    x = tensor(*shape)
    y = nn.Flatten()(x)
    close(y, x.numpy().reshape(flat))
    y.backward()
    close(x.grad, np.ones(shape))


def test_flatten_needs_a_batch_axis():
    with pytest.raises(ndl.ShapeError, match=r"^Flatten: input of shape .* has no batch axis"):
        nn.Flatten()(ndl.Tensor(1.0))


# -- activations ---------------------------------------------------------------------------------

ACTIVATIONS = {
    "ReLU": (nn.ReLU(), lambda x: np.maximum(x, 0)),
    "Tanh": (nn.Tanh(), np.tanh),
    "Sigmoid": (nn.Sigmoid(), special.expit),
    "GELU": (nn.GELU(), lambda x: x * special.ndtr(x)),
    "GELU tanh": (
        nn.GELU("tanh"),
        lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    ),
    "SiLU": (nn.SiLU(), lambda x: x * special.expit(x)),
    "Softmax": (nn.Softmax(), lambda x: special.softmax(x, axis=-1)),
    "Softmax 0": (nn.Softmax(0), lambda x: special.softmax(x, axis=0)),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("layer", "formula"), ACTIVATIONS.values(), ids=ACTIVATIONS)
def test_activations(layer, formula, dtype):
    x = tensor(4, 5, dtype=dtype, scale=3)
    close(layer(x), formula(x.numpy().astype("float64")), dtype)
    assert not layer.parameters()


@pytest.mark.parametrize(("layer", "formula"), ACTIVATIONS.values(), ids=ACTIVATIONS)
def test_activations_have_the_right_gradient_and_stay_finite(layer, formula):
    ndl.check_gradients(layer, tensor(3, 4))
    far = ndl.Tensor([[-1e4, -50.0, 0.0, 50.0, 1e4]], dtype="float32")
    y = layer(far)
    y.backward()
    assert np.isfinite(y.numpy()).all()
    assert np.isfinite(far.grad.numpy()).all()


def test_gelu_refuses_an_unknown_form():
    with pytest.raises(ndl.ArgumentError, match="approximate"):
        nn.GELU("erf")(tensor(2))


# -- dropout -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("shape", [(), (7,), (3, 4), (2, 3, 4), (0, 2)])
def test_dropout_multiplies_by_one_draw_of_the_inputs_shape(shape, p, dtype):
    x, layer = tensor(*shape, dtype=dtype), nn.Dropout(p)
    np.random.seed(5)
    y = layer(x)
    after = np.random.rand()
    np.random.seed(5)
    mask = np.random.rand(*shape) <= 1 - p
    assert np.random.rand() == after
    close(y, x.numpy() * mask / (1 - p), dtype)
    y.backward()
    close(x.grad, mask / (1 - p), dtype)


def test_dropout_of_everything_and_of_nothing():
    x = tensor(4, 5)
    assert not nn.Dropout(1.0)(x).numpy().any()
    assert nn.Dropout(0.0)(x).numpy().tobytes() == x.numpy().tobytes()


@given(st.floats(0, 1))
def test_dropout_draws_nothing_in_evaluation(p):
    x, layer = tensor(3, 4), nn.Dropout(p).eval()
    np.random.seed(1)
    assert layer(x) is x
    after = np.random.rand()
    np.random.seed(1)
    assert np.random.rand() == after


def test_dropout_reads_p_at_each_call():
    layer = nn.Dropout(1.0)
    layer.p = 0.0
    x = tensor(3)
    close(layer(x), x.numpy())


@pytest.mark.parametrize("p", [-0.1, 1.5, math.nan])
def test_dropout_refuses_what_is_no_probability(p):
    with pytest.raises(ndl.ArgumentError, match=f"Dropout: p={p} is no probability"):
        nn.Dropout(p)


def test_dropout_keeps_the_mean():
    y = nn.Dropout(0.25)(ndl.init.ones(100_000)).numpy()
    assert abs(y.mean() - 1) < 0.01
    assert set(np.unique(y)) == {0, np.float32(1 / np.float32(0.75))}
