"""Batch and layer normalisation against their algorithms, written out with their gradients."""

import numpy as np
import pytest

import needle as ndl
from needle import nn

from .oracles import DTYPES, close, tensor


def normalised(x, axis, eps):
    """(x - mean) / root and the root, biased variance, eps inside."""
    root = np.sqrt(x.var(axis, keepdims=True) + eps)
    return (x - x.mean(axis, keepdims=True)) / root, root


def input_gradient(h, g, root, axis):
    """Through h = (x - mean) / root to x, for a gradient g of h (Ioffe & Szegedy 2015, page 4)."""
    h_part = h * (g * h).mean(axis, keepdims=True)
    return (g - g.mean(axis, keepdims=True) - h_part) / root


def with_random_parameters(layer):
    for parameter in layer.parameters():
        parameter.data = tensor(*parameter.shape, dtype=parameter.dtype)
    return layer


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(6, 3), (2, 1), (20, 5)])
@pytest.mark.parametrize(
    ("kind", "axis"), [(nn.BatchNorm1d, 0), (nn.LayerNorm1d, 1)], ids=["batch", "layer"]
)
def test_normalisation_and_its_gradients_in_training(kind, axis, shape, dtype):
    layer = with_random_parameters(kind(shape[1], eps=1e-3, dtype=dtype))
    x, out_grad = tensor(*shape, dtype=dtype, scale=2), tensor(*shape, dtype=dtype)
    X, G, w, b = (t.numpy().astype("float64") for t in (x, out_grad, layer.weight, layer.bias))
    h, root = normalised(X, axis, 1e-3)
    y = layer(x)
    close(y, h * w + b, dtype)
    y.backward(out_grad)
    close(layer.weight.grad, (G * h).sum(0), dtype)
    close(layer.bias.grad, G.sum(0), dtype)
    close(x.grad, input_gradient(h, G * w, root, axis), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_batch_norm_keeps_running_statistics(dtype):
    layer = nn.BatchNorm1d(3, momentum=0.3, dtype=dtype)
    mean, var = np.zeros(3), np.ones(3)
    for size in (5, 2, 1, 8):
        x = tensor(size, 3, dtype=dtype, scale=3)
        layer(x)
        X = x.numpy().astype("float64")
        mean = 0.7 * mean + 0.3 * X.mean(0)
        var = 0.7 * var + 0.3 * X.var(0)
        close(layer.running_mean, mean, dtype)
        close(layer.running_var, var, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [0, 1, 5])
def test_batch_norm_uses_running_statistics_in_evaluation(size, dtype):
    layer = with_random_parameters(nn.BatchNorm1d(3, eps=1e-4, dtype=dtype))
    for _ in range(3):
        layer(tensor(8, 3, dtype=dtype, scale=2) + 1)
    before = layer.state_dict()
    layer.eval()
    x, out_grad = tensor(size, 3, dtype=dtype), tensor(size, 3, dtype=dtype)
    y = layer(x)
    w, b, mean, var = (array.astype("float64") for array in before.values())
    root = np.sqrt(var + 1e-4)
    h = (x.numpy() - mean) / root
    close(y, h * w + b, dtype)
    y.backward(out_grad)
    G = out_grad.numpy()
    close(x.grad, G * w / root, dtype)
    close(layer.weight.grad, (G * h).sum(0), dtype)
    close(layer.bias.grad, G.sum(0), dtype)
    after = layer.state_dict()
    assert all(after[name].tobytes() == array.tobytes() for name, array in before.items())


def test_parameters_and_statistics_start_as_they_should():
    layer = nn.BatchNorm1d(2)
    assert [type(p) for p in layer.parameters()] == [nn.Parameter] * 2
    for part, value in (
        (layer.weight, 1),
        (layer.bias, 0),
        (layer.running_mean, 0),
        (layer.running_var, 1),
    ):
        close(part, [value, value], "float32")
    for statistic in (layer.running_mean, layer.running_var):
        assert type(statistic) is ndl.Tensor
        assert not statistic.requires_grad
    norm = nn.LayerNorm1d(2)
    close(norm.weight, [1, 1], "float32")
    close(norm.bias, [0, 0], "float32")


def test_statistics_hold_no_graph():
    layer = nn.BatchNorm1d(2)
    x = tensor(4, 2, dtype="float32")
    first = layer.running_mean
    for _ in range(3):
        layer(x)
    assert layer.running_mean is first
    assert layer.running_mean.is_leaf()
    assert layer.running_var.is_leaf()
    assert not layer.running_mean.requires_grad


def test_statistics_seen_before_a_batch_do_not_change_with_it():
    layer = nn.BatchNorm1d(2)
    layer(tensor(4, 2, dtype="float32"))
    seen, y = layer.running_mean.numpy().copy(), layer.eval()(ndl.init.ones(3, 2))
    kept = layer.running_mean.numpy()
    layer.train()(tensor(4, 2, dtype="float32"))
    np.testing.assert_array_equal(kept, seen)
    y.backward()  # the graph recorded in evaluation kept the statistics it was computed with
    assert np.isfinite(layer.weight.grad.numpy()).all()


def test_statistics_keep_their_dtype_with_float64_input():
    layer = nn.BatchNorm1d(2)
    assert layer(tensor(4, 2)).dtype == np.float64
    assert layer.running_mean.dtype == layer.running_var.dtype == np.float32


def test_a_batch_of_one_gives_the_bias():
    layer = nn.BatchNorm1d(3)
    close(layer(ndl.Tensor([[5.0, -2.0, 1e3]], dtype="float32")), np.zeros((1, 3)), "float32")


def test_normalisation_of_numbers_far_from_zero():
    """Centred before it is squared: E[x²] - E[x]² would lose every digit."""
    X = np.random.randn(64, 4) + 1e4
    x = ndl.Tensor(X, dtype="float32")
    exact = x.numpy().astype("float64")
    for layer, axis in ((nn.BatchNorm1d(4), 0), (nn.LayerNorm1d(4), 1)):
        np.testing.assert_allclose(
            layer(x).numpy(), normalised(exact, axis, 1e-5)[0], rtol=5e-3, atol=5e-3
        )


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(3, dtype="float64"), nn.LayerNorm1d(3)])
def test_normalisation_to_second_order(layer):
    ndl.check_gradients(layer, tensor(4, 3))


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.LayerNorm1d])
@pytest.mark.parametrize("shape", [(3,), (4, 2), (2, 3, 3), ()])
def test_normalisation_refuses_other_shapes(kind, shape):
    with pytest.raises(ndl.ShapeError, match=rf"^{kind.__name__}: input of shape .* for dim=3"):
        kind(3)(ndl.init.ones(*shape))


def test_batch_norm_of_no_samples_is_refused_in_training():
    layer = nn.BatchNorm1d(3)
    with pytest.raises(ndl.ShapeError, match=r"^BatchNorm1d: batch_statistics: shape \(0, 3\)"):
        layer(ndl.init.ones(0, 3))
    close(layer.running_mean, np.zeros(3), "float32")


@pytest.mark.parametrize("kind", ["BatchNorm1d", "LayerNorm1d"])
@pytest.mark.parametrize("dim", [2.5, (3,), "3"])
def test_a_dim_that_is_no_integer_is_refused(kind, dim):
    with pytest.raises(ndl.ArgumentError, match=f"{kind}: dim must be an integer, got"):
        getattr(nn, kind)(dim)


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.LayerNorm1d])
@pytest.mark.parametrize("eps", [-1, float("nan"), float("inf")])
def test_an_eps_that_makes_no_root_is_refused(kind, eps):
    with pytest.raises(ndl.ArgumentError, match=rf"{kind.__name__}: eps={eps}. Pass a finite numb"):
        kind(3, eps=eps)
    assert kind(3, eps=0).eps == 0


@pytest.mark.parametrize("momentum", [-0.1, 2, float("nan")])
def test_a_momentum_that_is_no_share_is_refused(momentum):
    with pytest.raises(ndl.ArgumentError, match=r"BatchNorm1d: momentum=.*0 or more and at most 1"):
        nn.BatchNorm1d(3, momentum=momentum)
    assert [nn.BatchNorm1d(3, momentum=share).momentum for share in (0, 1)] == [0, 1]


@pytest.mark.parametrize("dtype", ["int64", "bool", "uint8"])
@pytest.mark.parametrize("sizes", [(nn.Linear, 3, 2), (nn.BatchNorm1d, 3), (nn.LayerNorm1d, 3)])
def test_parameters_of_integers_are_refused(sizes, dtype):
    kind, *sizes = sizes
    with pytest.raises(ndl.DTypeError, match=rf"{kind.__name__}: parameters of {dtype} cannot be"):
        kind(*sizes, dtype=dtype)
