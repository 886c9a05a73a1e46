"""The base class: what it walks, users' own rules, clipping, and state that goes on bit for bit."""

import math
from contextlib import nullcontext

import numpy as np
import pytest

import needle as ndl
from needle import nn
from needle.optim import SGD, Adam, AdamW, Optimizer

KINDS = {
    "SGD": lambda params: SGD(params, lr=0.1),
    "momentum": lambda params: SGD(params, lr=0.1, momentum=0.9, weight_decay=0.01),
    "Adam": lambda params: Adam(params, lr=0.1, weight_decay=0.01),
    "AdamW": lambda params: AdamW(params, lr=0.1),
}


class SignSGD(Optimizer):
    """The dead-simple rule of the documentation."""

    def __init__(self, params, lr=0.01):
        super().__init__(params)
        self.lr = lr

    def update(self, param, grad, state):
        return param - grad.sign() * self.lr


class Normed(Optimizer):
    """A rule that remembers one number a parameter, and has hyperparameters of other kinds."""

    hyperparameters = ("lr", "betas", "nesterov")

    def __init__(self, params):
        super().__init__(params)
        self.lr, self.betas, self.nesterov = 0.5, (0.25, 0.75), True

    def update(self, param, grad, state):
        norm = (grad * grad).sum().sqrt()
        state["norm"] = state["norm"] * self.betas[0] + norm if "norm" in state else norm
        return param - grad * (self.lr / float(state["norm"]))


def model_and_data(dtype="float32"):
    np.random.seed(1)
    model = nn.Sequential(nn.Linear(3, 4, dtype=dtype), nn.Tanh(), nn.Linear(4, 2, dtype=dtype))
    return model, ndl.Tensor(np.random.randn(8, 3), dtype=dtype)


def train(model, optimizer, x, steps):
    for _ in range(steps):
        optimizer.reset_grad()
        (model(x) ** 2).sum().backward()
        optimizer.step()
    return [p.numpy().tobytes() for p in model.parameters()]


# -- parameters ----------------------------------------------------------------------------------


def test_parameters_may_come_from_a_generator_and_count_once():
    a, b = nn.Parameter([1.0]), nn.Parameter([2.0])
    optimizer = SGD((p for p in (a, b, a)), lr=1.0)
    assert optimizer.params == [a, b]
    a.grad = ndl.Tensor([1.0])
    optimizer.step()
    np.testing.assert_array_equal(a.numpy(), [0.0])


def test_plain_tensors_are_parameters_too():
    t = ndl.Tensor([1.0])
    (t * 3).backward()
    SGD([t], lr=1.0).step()
    np.testing.assert_array_equal(t.numpy(), [-2.0])
    assert t.requires_grad


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (nn.Linear(1, 1), r"SGD: params is a Linear\. Pass a list: model\.parameters\(\)"),
        (nn.Parameter([1.0]), r"SGD: params is a Parameter"),
        ([nn.Linear(1, 1)], r"SGD: params holds a Linear\. Pass tensors: model\.parameters\(\)"),
        ([{"params": []}], r"SGD: params holds a dict"),
        ([np.ones(1)], r"SGD: params holds a ndarray"),
        (
            nn.Linear(1, 1).parameters,
            r"SGD: params is a method\. Pass a list: model\.parameters\(\)",
        ),
        (None, r"SGD: params is a NoneType"),
    ],
)
def test_what_is_no_list_of_tensors_is_refused(params, message):
    with pytest.raises(ndl.ArgumentError, match=message):
        SGD(params)


@pytest.mark.parametrize("reset", ["reset_grad", "zero_grad"])
def test_gradients_are_reset_to_none(reset):
    a, b = nn.Parameter([1.0]), nn.Parameter([2.0])
    (a * 2).backward()
    optimizer = SGD([a, b])
    getattr(optimizer, reset)()
    assert a.grad is None
    assert b.grad is None


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_a_step_records_no_graph_and_leaves_the_gradient_alone(make):
    parameter = nn.Parameter(np.random.randn(3))
    optimizer = make([parameter])
    for _ in range(3):
        (parameter**3).sum().backward()
        gradient = parameter.grad
        before = gradient.numpy().copy()
        optimizer.step()
        assert parameter.grad is gradient
        np.testing.assert_array_equal(gradient.numpy(), before)
        assert parameter.is_leaf()
        assert parameter.requires_grad
    assert not any(t.requires_grad for state in optimizer.state.values() for t in state.values())


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_a_graph_from_before_the_step_keeps_its_values(make):
    parameter = nn.Parameter([2.0])
    y = parameter * parameter
    y.backward()
    make([parameter]).step()
    assert parameter.numpy()[0] != 2.0
    y.backward()
    np.testing.assert_array_equal(parameter.grad.numpy(), [4.0])


@pytest.mark.parametrize("broadcasting", [False, True])
@pytest.mark.parametrize("act", [lambda o: o.step(), lambda o: o.clip_grad_norm()])
@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_a_gradient_of_another_shape_is_refused(make, act, broadcasting):
    first, second = nn.Parameter([1.0]), nn.Parameter([[1.0, 2.0]])
    first.grad, second.grad = ndl.Tensor([1.0]), ndl.Tensor([1.0, 2.0])
    optimizer = make([first, second])
    message = r"^\w+: parameter 1 of shape \(1, 2\) has a gradient of shape \(2,\). Give"
    allowed = ndl.implicit_broadcasting() if broadcasting else nullcontext()
    with allowed, pytest.raises(ndl.ShapeError, match=message):
        act(optimizer)
    assert (first.tolist(), second.tolist()) == ([1.0], [[1.0, 2.0]])


@pytest.mark.parametrize("act", [lambda o: o.step(), lambda o: o.clip_grad_norm()])
def test_a_parameter_of_integers_is_refused(act):
    parameter = nn.Parameter([1, 2])
    parameter.grad = ndl.Tensor([1.0, 2.0])
    with pytest.raises(ndl.DTypeError, match=r"SGD: a parameter of int64 cannot take"):
        act(SGD([parameter]))


# -- users' own rules ----------------------------------------------------------------------------


def test_a_simple_rule_of_ones_own():
    parameter = nn.Parameter([1.0, -1.0, 0.0])
    optimizer = SignSGD([parameter], lr=0.25)
    (parameter * parameter).sum().backward()
    optimizer.step()
    np.testing.assert_array_equal(parameter.numpy(), [0.75, -0.75, 0.0])
    assert optimizer.state_dict() == {"lr": 0.25}


def test_a_rule_with_state_of_any_shape_makes_the_round_trip():
    model, x = model_and_data("float64")
    optimizer = Normed(model.parameters())
    train(model, optimizer, x, 2)
    saved, weights = optimizer.state_dict(), model.state_dict()
    assert saved["norm.0"].shape == ()
    ahead = train(model, optimizer, x, 3)
    model.load_state_dict(weights)
    other = Normed(model.parameters())
    other.betas = (9, 9)
    other.load_state_dict(saved)
    assert tuple(other.betas) == (0.25, 0.75)
    assert train(model, other, x, 3) == ahead


def test_a_rule_has_to_be_defined():
    parameter = nn.Parameter([1.0])
    (parameter * 2).backward()
    with pytest.raises(NotImplementedError, match=r"Optimizer: define update\(self, param, grad"):
        Optimizer([parameter]).step()


def test_a_step_may_be_replaced_as_a_whole():
    class Plain(Optimizer):
        def __init__(self, params, lr):
            super().__init__(params)
            self.lr, self.t, self.u = lr, 0, {}

        def step(self):
            self.t += 1
            for p in self.params:
                self.u[p] = self.u.get(p, 0) * 0.5 + p.grad.data
                p.data = p.data - self.lr * self.u[p]

    parameter = nn.Parameter([1.0], dtype="float32")
    optimizer = Plain([parameter], 0.5)
    for _ in range(2):
        optimizer.reset_grad()
        (parameter * 2).backward()
        optimizer.step()
    np.testing.assert_array_equal(parameter.numpy(), [1 - 0.5 * 2 - 0.5 * 3])
    assert optimizer.t == 2


# -- clipping ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", [SGD, Adam, SignSGD])
@pytest.mark.parametrize("max_norm", [0.25, 3.0, 1e3, math.inf])
def test_clipping_scales_all_gradients_by_their_joint_norm(kind, max_norm, dtype):
    params = [nn.Parameter(np.ones(shape, dtype)) for shape in [(3,), (2, 2), ()]]
    unused = nn.Parameter([1.0])
    gradients = [np.asarray(np.random.randn(*p.shape), dtype) for p in params]
    kept = [gradient.copy() for gradient in gradients]
    for p, gradient in zip(params, gradients, strict=True):
        p.grad = ndl.Tensor.wrap(gradient)
    norm = kind([*params, unused]).clip_grad_norm(max_norm)
    expected = math.sqrt(sum((g.astype("float64") ** 2).sum() for g in gradients))
    np.testing.assert_allclose(float(norm), expected, rtol=1e-6)
    scale = max_norm / expected if expected > max_norm else 1.0
    for p, gradient, before in zip(params, gradients, kept, strict=True):
        assert p.grad.dtype == np.dtype(dtype)
        np.testing.assert_allclose(p.grad.numpy(), before * scale, rtol=1e-6)
        np.testing.assert_array_equal(gradient, before)
        if scale == 1.0:
            assert p.grad.numpy().tobytes() == before.tobytes()
    assert unused.grad is None


def test_the_published_default_is_a_quarter():
    parameter = nn.Parameter([1.0])
    (parameter * 3).backward()
    SGD([parameter]).clip_grad_norm()
    np.testing.assert_allclose(parameter.grad.numpy(), [0.25])


def test_clipping_of_exploding_zero_and_no_gradients():
    parameter = nn.Parameter(np.ones(4, "float32"))
    optimizer = SGD([parameter])
    assert float(optimizer.clip_grad_norm(1.0)) == 0.0
    parameter.grad = ndl.Tensor(np.full(4, 1e30, "float32"))
    assert float(optimizer.clip_grad_norm(1.0)) == pytest.approx(2e30)
    np.testing.assert_allclose(parameter.grad.numpy(), np.full(4, 0.5), rtol=1e-6)
    parameter.grad = ndl.Tensor(np.zeros(4, "float32"))
    assert float(optimizer.clip_grad_norm(1.0)) == 0.0
    assert not parameter.grad.numpy().any()


@pytest.mark.parametrize("max_norm", [np.float32(0.25), ndl.Tensor(0.25), ndl.Tensor([0.25])])
def test_the_largest_norm_may_be_any_one_number(max_norm):
    parameter = nn.Parameter([1.0])
    parameter.grad = ndl.Tensor([3.0])
    SGD([parameter]).clip_grad_norm(max_norm)
    np.testing.assert_allclose(parameter.grad.numpy(), [0.25])


@pytest.mark.parametrize("max_norm", [0, -1.0, math.nan])
def test_a_norm_that_is_not_positive_is_refused(max_norm):
    with pytest.raises(ndl.ArgumentError, match=f"clip_grad_norm: max_norm={max_norm} is not pos"):
        SGD([nn.Parameter([1.0])]).clip_grad_norm(max_norm)


# -- state ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_state_makes_the_round_trip_and_goes_on_bit_for_bit(make, dtype):
    model, x = model_and_data(dtype)
    optimizer = make(model.parameters())
    train(model, optimizer, x, 3)
    optimizer.lr = 1 / 3
    saved, weights = optimizer.state_dict(), model.state_dict()
    assert all(type(array) is np.ndarray for array in saved.values())
    ahead = train(model, optimizer, x, 4)

    model, _ = model_and_data(dtype)
    model.load_state_dict(weights)
    optimizer = make(model.parameters())
    optimizer.load_state_dict(saved)
    assert optimizer.lr == 1 / 3
    assert train(model, optimizer, x, 4) == ahead


def test_state_has_numbers_by_name_and_moments_by_position():
    model, x = model_and_data()
    optimizer = Adam(model.parameters())
    options = ["t", "lr", "beta1", "beta2", "eps", "weight_decay"]
    assert list(optimizer.state_dict()) == options
    train(model, optimizer, x, 2)
    state = optimizer.state_dict()
    assert list(state) == options + [f"{name}.{i}" for i in range(4) for name in "mv"]
    assert (int(state["t"]), float(state["beta2"])) == (2, 0.999)
    assert state["v.2"].shape == (4, 2)


def test_state_is_copied_out_and_in():
    model, x = model_and_data()
    optimizer = Adam(model.parameters())
    train(model, optimizer, x, 1)
    state = optimizer.state_dict()
    before = {name: array.copy() for name, array in state.items()}
    train(model, optimizer, x, 1)
    assert all(np.array_equal(state[name], array) for name, array in before.items())
    optimizer.load_state_dict(state)
    for array in state.values():
        array += 7
    after = optimizer.state_dict()
    assert all(np.array_equal(after[name], array) for name, array in before.items())


def test_loaded_state_goes_into_the_tensors_that_are_there():
    """A compiled step holds on to them."""
    model, x = model_and_data()
    optimizer = Adam(model.parameters())
    train(model, optimizer, x, 1)
    saved = optimizer.state_dict()
    train(model, optimizer, x, 1)
    states, tensors = list(optimizer.state.values()), list(optimizer.m.values())
    outer, before = optimizer.state, tensors[0].data
    optimizer.load_state_dict(saved)
    assert optimizer.state is outer
    for now, then in zip(optimizer.state.values(), states, strict=True):
        assert now is then
    for k, tensor in enumerate(tensors):
        assert states[k]["m"] is tensor
        np.testing.assert_array_equal(tensor.numpy(), saved[f"m.{k}"])
    assert not np.array_equal(before.numpy(), saved["m.0"])  # what was read before stays


def test_loaded_state_that_is_new_other_or_gone():
    a, b = nn.Parameter([1.0]), nn.Parameter([2.0])
    optimizer = Normed([a, b])
    a.grad = ndl.Tensor([1.0])
    optimizer.step()
    optimizer.state[a]["more"] = ndl.Tensor([1.0])
    saved = {name: optimizer.state_dict()[name] for name in ("lr", "betas", "nesterov")}
    optimizer.load_state_dict({**saved, "norm.0": np.ones((2, 2)), "norm.1": np.ones(())})
    assert [list(state) for state in optimizer.state.values()] == [["norm"], ["norm"]]
    assert optimizer.state[a]["norm"].shape == (2, 2)
    optimizer.load_state_dict({**saved, "norm.1": np.zeros((), "float32")})
    assert list(optimizer.state) == [b]
    assert optimizer.state[b]["norm"].dtype == np.float32


def test_state_of_parameters_that_were_skipped_is_absent():
    used, unused = nn.Parameter([1.0]), nn.Parameter([2.0])
    optimizer = Adam([unused, used])
    used.grad = ndl.Tensor([1.0])
    optimizer.step()
    state = optimizer.state_dict()
    assert "m.1" in state
    assert "m.0" not in state
    other = Adam([unused, used])
    other.load_state_dict(state)
    assert list(other.m) == [used]


def test_what_does_not_fit_is_named_in_one_message_and_nothing_is_loaded():
    model, x = model_and_data()
    optimizer = Adam(model.parameters())
    train(model, optimizer, x, 1)
    state = optimizer.state_dict()
    before = optimizer.state_dict()
    del state["t"], state["eps"], state["v.1"]
    state["lr"] = "fast"
    state["beta1"] = np.ones(3)
    state["m.0"] = np.ones((4, 3))
    state["m.4"] = state["m.x"] = state["momentum"] = state["²"] = state["a.²"] = np.ones(1)
    with pytest.raises(ndl.StateError, match="load_state_dict: Adam does not fit: ") as caught:
        optimizer.load_state_dict(state)
    for part in (
        "t is missing; eps is missing; ",
        "lr is 'fast', which cannot replace 0.01; ",
        "beta1 is array([1., 1., 1.]), which cannot replace 0.9; ",
        "m.0 has shape (4, 3), its parameter (3, 4); ",
        "m.4 is unexpected; m.x is unexpected; momentum is unexpected; ² is unexpected; ",
        "v.1 is missing. Build the same optimiser",
    ):
        assert part in str(caught.value)
    after = optimizer.state_dict()
    assert all(np.array_equal(after[name], array) for name, array in before.items())


def stepped_adam():
    model, x = model_and_data()
    optimizer = Adam(model.parameters())
    train(model, optimizer, x, 1)
    return optimizer


@pytest.mark.parametrize("entry", ["text", None, 1j, [[1], [1, 2]]])
def test_what_is_no_array_is_refused_by_name(entry):
    optimizer = stepped_adam()
    state = optimizer.state_dict()
    message = "Adam does not fit: m.0 is .*, which is no array of real numbers. Build the same"
    with pytest.raises(ndl.StateError, match=message):
        optimizer.load_state_dict({**state, "m.0": entry})
    with pytest.raises(ndl.StateError, match=r"Adam does not fit: lr is .*, which cannot replace"):
        optimizer.load_state_dict({**state, "lr": entry})


@pytest.mark.parametrize("key", [1, None, "1", "m.01", ("m", 0)])
def test_what_names_no_state_is_unexpected(key):
    optimizer = stepped_adam()
    with pytest.raises(ndl.StateError, match=r"fit: .* is unexpected. Build the same"):
        optimizer.load_state_dict({**optimizer.state_dict(), key: np.ones((3, 4))})


def test_the_state_of_another_rule_is_refused():
    params = [nn.Parameter([1.0])]
    with pytest.raises(ndl.StateError, match=r"beta1 is missing.*momentum is unexpected"):
        Adam(params).load_state_dict(SGD(params, momentum=0.5).state_dict())


def test_repr_shows_the_rule_and_its_numbers():
    params = [nn.Parameter([1.0])]
    assert repr(SignSGD(params, lr=0.5)) == "SignSGD(lr=0.5)"
    sgd = SGD(params, lr=0.1, momentum=0.9)
    assert repr(sgd) == "SGD(lr=0.1, momentum=0.9, weight_decay=0.0)"
    sgd.lr = 0.2
    assert repr(sgd).startswith("SGD(lr=0.2, ")


@pytest.mark.parametrize(
    ("result", "given"),
    [(lambda new: new.sum(), r"Tensor of shape \(\)"), (lambda new: None, "NoneType")],
)
def test_update_returns_the_parameters_new_value(result, given):
    class Mistaken(Optimizer):
        def update(self, param, grad, state):
            return result(param - grad)

    weight = nn.Parameter([1.0, 2.0])
    (weight * weight).sum().backward()
    with pytest.raises(ndl.ShapeError, match=f"Mistaken: update returned a {given} for a"):
        Mistaken([weight]).step()
    assert weight.tolist() == [1, 2]


def test_state_that_is_no_tensor_is_named_when_it_is_saved():
    class Counting(Optimizer):
        hyperparameters = ()

        def update(self, param, grad, state):
            state["count"] = 1
            return param - grad

    weight = nn.Parameter([1.0])
    (weight * weight).backward()
    optimizer = Counting([weight])
    optimizer.step()
    with pytest.raises(ndl.StateError, match=r"count\.0 is a int, .*Keep tensors in state"):
        optimizer.state_dict()


def test_a_hyperparameter_that_is_no_attribute_is_named_when_it_is_saved():
    class Plain(Optimizer):
        def update(self, param, grad, state):
            return param - grad

    with pytest.raises(
        ndl.StateError, match=r"lr is among the hyperparameters of Plain, .* = \(\)"
    ):
        Plain([nn.Parameter([1.0])]).state_dict()
