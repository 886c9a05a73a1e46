"""SGD, Adam and AdamW against their formulas, written out in NumPy, over ten steps."""

import numpy as np
import pytest

import needle as ndl
from needle import nn

DTYPES = ["float32", "float64"]
TOLERANCE = {"float32": {"rtol": 1e-5, "atol": 1e-6}, "float64": {"rtol": 1e-12, "atol": 1e-14}}
SHAPES = [(), (3,), (2, 3), (0, 2)]


def sgd(theta, gradients, lr=0.01, momentum=0.0, weight_decay=0.0):
    """θ after each step; `lr` is a number, or one for each step."""
    u = 0.0
    for gradient, rate in zip(gradients, np.broadcast_to(lr, len(gradients)), strict=True):
        g = gradient + weight_decay * theta
        u = momentum * u + (1 - momentum) * g
        theta = theta - rate * u
        yield theta


def adam(
    theta, gradients, lr=0.01, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, decoupled=0.0
):
    m = v = 0.0
    rates = np.broadcast_to(lr, len(gradients))
    for t, (gradient, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
        g = gradient + weight_decay * theta
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
        theta = theta - rate * decoupled * theta - rate * m_hat / (np.sqrt(v_hat) + eps)
        yield theta


def adamw(theta, gradients, weight_decay=0.01, **options):
    return adam(theta, gradients, decoupled=weight_decay, **options)


CASES = [
    (ndl.optim.SGD, sgd, {}),
    (ndl.optim.SGD, sgd, {"lr": 0.5}),
    (ndl.optim.SGD, sgd, {"lr": 0.1, "weight_decay": 0.3}),
    (ndl.optim.SGD, sgd, {"lr": 0.1, "momentum": 0.9}),
    (ndl.optim.SGD, sgd, {"lr": 0.1, "momentum": 0.5, "weight_decay": 0.2}),
    (ndl.optim.Adam, adam, {}),
    (ndl.optim.Adam, adam, {"lr": 0.1, "weight_decay": 0.3}),
    (ndl.optim.Adam, adam, {"lr": 0.05, "beta1": 0.5, "beta2": 0.7, "eps": 0.1}),
    (ndl.optim.Adam, adam, {"lr": 0.05, "beta1": 0.0, "beta2": 0.0}),
    (ndl.optim.AdamW, adamw, {}),
    (ndl.optim.AdamW, adamw, {"lr": 0.1, "weight_decay": 0.3, "beta1": 0.8, "eps": 1e-3}),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("kind", "formula", "options"), CASES)
def test_ten_steps_follow_the_formula(kind, formula, options, shape, dtype):
    start = np.asarray(np.random.randn(*shape), dtype)
    gradients = np.random.randn(10, *shape).astype(dtype)
    parameter = nn.Parameter(start)
    optimizer = kind([parameter], **options)
    expected = formula(start.astype("float64"), gradients.astype("float64"), **options)
    for gradient, theta in zip(gradients, expected, strict=True):
        kept = gradient.copy()
        parameter.grad = ndl.Tensor.wrap(gradient)
        optimizer.step()
        assert parameter.dtype == np.dtype(dtype)
        assert parameter.shape == shape
        np.testing.assert_allclose(parameter.numpy(), theta, **TOLERANCE[dtype])
        np.testing.assert_array_equal(gradient, kept)
    assert parameter.requires_grad
    assert parameter.is_leaf()


def test_defaults_are_the_published_ones():
    p = [nn.Parameter([1.0])]
    assert vars(ndl.optim.SGD(p)).items() >= {"lr": 0.01, "momentum": 0, "weight_decay": 0}.items()
    options = {"lr": 0.01, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
    assert vars(ndl.optim.Adam(p)).items() >= {**options, "weight_decay": 0.0}.items()
    assert vars(ndl.optim.AdamW(p)).items() >= {**options, "weight_decay": 0.01}.items()


def test_arguments_may_be_given_by_position():
    p = [nn.Parameter([1.0])]
    assert (
        vars(ndl.optim.SGD(p, 1, 0.2, 0.3)).items()
        >= {
            "lr": 1,
            "momentum": 0.2,
            "weight_decay": 0.3,
        }.items()
    )
    adam = ndl.optim.Adam(p, 1, 0.2, 0.3, 0.4, 0.5)
    names = ["lr", "beta1", "beta2", "eps", "weight_decay"]
    assert [getattr(adam, name) for name in names] == [1, 0.2, 0.3, 0.4, 0.5]


@pytest.mark.parametrize("kind", [ndl.optim.SGD, ndl.optim.Adam, ndl.optim.AdamW])
def test_parameters_without_a_gradient_are_skipped(kind):
    used, unused = nn.Parameter([1.0, 2.0]), nn.Parameter([3.0])
    optimizer = kind([used, unused], lr=0.1, weight_decay=0.5)
    (used * used).sum().backward()
    optimizer.step()
    np.testing.assert_array_equal(unused.numpy(), [3.0])
    assert not np.array_equal(used.numpy(), [1.0, 2.0])
    assert unused not in optimizer.state


@pytest.mark.parametrize(
    ("kind", "formula"),
    [(ndl.optim.SGD, sgd), (ndl.optim.Adam, adam), (ndl.optim.AdamW, adamw)],
)
def test_the_rate_may_change_between_steps(kind, formula):
    parameter = nn.Parameter([1.0, -2.0])
    optimizer = kind([parameter], lr=0.1)
    gradients = np.random.randn(6, 2)
    rates = [0.1, 0.1, 0.5, 0.01, 1, np.float64(0.25)]
    expected = formula(np.array([1.0, -2.0]), gradients, lr=rates)
    for rate, gradient, theta in zip(rates, gradients, expected, strict=True):
        optimizer.lr = rate
        parameter.grad = ndl.Tensor(gradient)
        optimizer.step()
        np.testing.assert_allclose(parameter.numpy(), theta, rtol=1e-12)


def test_weight_decay_and_momentum_may_change_between_steps():
    parameter = nn.Parameter([1.0])
    optimizer = ndl.optim.SGD([parameter], lr=0.5)
    theta, u = 1.0, 0.0
    for momentum, weight_decay in ((0.0, 0.0), (0.5, 0.0), (0.5, 0.25), (0.9, 0.125)):
        optimizer.momentum, optimizer.weight_decay = momentum, weight_decay
        parameter.grad = ndl.Tensor([2.0])
        optimizer.step()
        g = 2.0 + weight_decay * theta
        u = momentum * u + (1 - momentum) * g if momentum else 0.0
        theta -= 0.5 * (u if momentum else g)
        np.testing.assert_allclose(parameter.numpy(), [theta], rtol=1e-14)


def test_adam_shows_its_moments_and_counts_steps():
    one, other = nn.Parameter([1.0, 2.0]), nn.Parameter([3.0])
    optimizer = ndl.optim.Adam([one, other])
    assert (optimizer.t, optimizer.m, optimizer.v) == (0, {}, {})
    for _ in range(3):
        one.grad = ndl.Tensor([1.0, -2.0])
        optimizer.step()
    assert type(optimizer.t) is int
    assert optimizer.t == 3
    assert list(optimizer.m) == list(optimizer.v) == [one]
    g = np.array([1.0, -2.0])
    np.testing.assert_allclose(optimizer.m[one].numpy(), g * (1 - 0.9**3))
    np.testing.assert_allclose(optimizer.v[one].numpy(), g**2 * (1 - 0.999**3))
    assert not optimizer.m[one].requires_grad
    optimizer.t = 10
    assert optimizer.t == 10


def test_adam_counts_steps_without_any_gradient():
    optimizer = ndl.optim.Adam([nn.Parameter([1.0])])
    optimizer.step()
    assert optimizer.t == 1


def test_sgd_shows_its_momentum():
    parameter = nn.Parameter([1.0])
    optimizer = ndl.optim.SGD([parameter], momentum=0.9)
    parameter.grad = ndl.Tensor([10.0])
    assert optimizer.u == {}
    optimizer.step()
    np.testing.assert_allclose(optimizer.u[parameter].numpy(), [1.0])


class Nesterov(ndl.optim.SGD):
    """As a program writes it that keeps its own dictionary: (Sutskever et al. 2013), by step."""

    def __init__(self, params, **options):
        super().__init__(params, **options)
        self.u = {}

    def step(self):
        for p in self.params:
            self.u[p] = self.momentum * self.u.get(p, 0) + p.grad.data
            p.data = p.data - self.lr * (p.grad.data + self.momentum * self.u[p])


@pytest.mark.parametrize("wrap", [lambda f: f, ndl.jit], ids=["eager", "compiled"])
def test_a_subclass_may_keep_its_own_momentum(wrap):
    parameter = nn.Parameter([1.0, 2.0])
    optimizer = Nesterov([parameter], lr=0.1, momentum=0.9)

    @wrap
    def step():
        optimizer.reset_grad()
        (parameter * parameter).sum().backward()
        optimizer.step()

    theta, u = np.array([1.0, 2.0]), 0.0
    for _ in range(4):
        step()
        g = 2 * theta
        u = 0.9 * u + g
        theta = theta - 0.1 * (g + 0.9 * u)
    np.testing.assert_allclose(parameter.numpy(), theta, rtol=1e-12)
    np.testing.assert_allclose(optimizer.u[parameter].numpy(), u, rtol=1e-12)


def test_what_is_written_into_the_moments_counts():
    one, other = nn.Parameter([1.0]), nn.Parameter([1.0])
    optimizer = ndl.optim.SGD([one, other], lr=0.1, momentum=0.9)
    optimizer.u = {one: ndl.Tensor([10.0]), other: ndl.Tensor([20.0])}
    one.grad = other.grad = ndl.Tensor([0.0])
    optimizer.u[one] = ndl.Tensor([30.0])
    del optimizer.u[other]
    with pytest.raises(KeyError):
        del optimizer.u[other]
    with pytest.raises(KeyError):
        optimizer.u[other]
    assert (len(optimizer.u), list(optimizer.u)) == (1, [one])
    optimizer.step()
    np.testing.assert_allclose(one.numpy(), 1 - 0.1 * 0.9 * 30)
    assert other.item() == 1
    assert str(optimizer.u).startswith("{needle.Tensor([-1.7]")
    optimizer.u = {}
    assert optimizer.u == {}
    assert set(optimizer.state_dict()) == {"lr", "momentum", "weight_decay"}


@pytest.mark.parametrize("kind", [ndl.optim.SGD, ndl.optim.Adam, ndl.optim.AdamW])
def test_a_gradient_of_a_programs_own_is_cast_to_its_parameter(kind):
    """NumPy makes float32 times np.float64 a float64, which then becomes the gradient."""
    stepped = []
    for dtype in ("float32", "float64"):
        parameter = nn.Parameter([1.0], dtype="float32")
        parameter.grad = ndl.Tensor([0.5], dtype=dtype)
        optimizer = kind([parameter], lr=0.1)
        optimizer.clip_grad_norm(0.25)
        optimizer.step()
        stepped.append(parameter.item())
        assert parameter.dtype == np.float32
    assert stepped[0] == stepped[1]


def test_tiny_float32_gradients_still_move_adam():
    """g² = 1e-30 is representable; its square root over the bias corrections must not vanish."""
    parameter = nn.Parameter(np.ones(1, "float32"))
    parameter.grad = ndl.Tensor(np.full(1, 1e-15, "float32"))
    ndl.optim.Adam([parameter], lr=0.1, eps=0.0).step()
    np.testing.assert_allclose(parameter.numpy(), [0.9], rtol=1e-5)


@pytest.mark.parametrize(
    ("rule", "option", "value", "limit"),
    [
        (ndl.optim.SGD, "lr", -0.1, ""),
        (ndl.optim.SGD, "lr", float("nan"), ""),
        (ndl.optim.SGD, "momentum", 1, " and below 1"),
        (ndl.optim.SGD, "lr", float("inf"), ""),
        (ndl.optim.Adam, "lr", "0.1", ""),
        (ndl.optim.Adam, "eps", -1e-8, ""),
        (ndl.optim.Adam, "beta1", -0.5, " and below 1"),
        (ndl.optim.AdamW, "beta2", 1.0, " and below 1"),
        (ndl.optim.AdamW, "weight_decay", None, ""),
    ],
)
def test_hyperparameters_out_of_range_are_refused(rule, option, value, limit):
    message = f"{rule.__name__}: {option}={value!r}. Pass a finite number, 0 or more{limit}"
    with pytest.raises(ndl.ArgumentError) as caught:
        rule([nn.Parameter([1.0])], **{option: value})
    assert str(caught.value) == message
    optimizer = rule([nn.Parameter([1.0])])
    before = getattr(optimizer, option)
    with pytest.raises(ndl.ArgumentError) as caught:
        setattr(optimizer, option, value)
    assert str(caught.value) == message
    assert getattr(optimizer, option) == before
    state = optimizer.state_dict()
    state[option] = np.asarray(value)
    with pytest.raises(ndl.StateError, match=f"{option} is .* cannot replace {before}"):
        optimizer.load_state_dict(state)


@pytest.mark.parametrize("lr", [np.float32(0.5), np.array(0.5), ndl.Tensor(0.5), 0, 1])
def test_any_number_is_a_learning_rate(lr):
    w = nn.Parameter([2.0])
    w.grad = ndl.Tensor([1.0])
    ndl.optim.SGD([w], lr=lr).step()
    assert w.numpy() == 2 - float(lr)


def test_a_negative_number_of_steps_is_refused():
    optimizer = ndl.optim.Adam([nn.Parameter([1.0])])
    with pytest.raises(ndl.ArgumentError, match=r"Adam: t=-1. Pass a finite number, 0 or more"):
        optimizer.t = -1
