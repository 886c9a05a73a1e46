"""Modules: what is found inside them, modes, state, errors with paths, and how they look."""

import copy
import gc
import pickle

import numpy as np
import pytest

import needle as ndl
from needle import nn


class Scale(nn.Module):
    """The dead-simple layer of the documentation."""

    def __init__(self, size):
        super().__init__()
        self.factor = nn.Parameter(np.ones(size))

    def forward(self, x):
        return x * self.factor.broadcast_to(x.shape)


class Everywhere(nn.Module):
    """Parameters and modules in every kind of place, one of them twice."""

    def __init__(self):
        super().__init__()
        self.own = nn.Parameter([1.0])
        self.blocks = [Scale(1), (Scale(2), {"deep": Scale(3), 7: Scale(4)})]
        self.count = ndl.Tensor([5.0], requires_grad=False)
        self.by_name = {"a": nn.Parameter([2.0]), "b": [nn.Parameter([3.0])]}
        self.again = self.blocks[0]
        self.other = ["text", None, 3, {1, 2}, np.ones(2)]
        self.cache = ndl.Tensor([6.0])  # neither learned nor kept: a plain tensor with a gradient
        self.parent = self

    def forward(self, x):
        return x


NAMES = [
    "own",
    "blocks.0.factor",
    "blocks.1.0.factor",
    "blocks.1.1.deep.factor",
    "blocks.1.1.7.factor",
    "by_name.a",
    "by_name.b.0",
]


def test_parameters_are_found_everywhere_once_in_order_of_definition():
    module = Everywhere()
    assert [name for name, _ in module.named_parameters()] == NAMES
    assert [p.size for p in module.parameters()] == [1, 1, 2, 3, 4, 1, 1]
    assert type(module.parameters()) is list
    assert all(type(p) is nn.Parameter for p in module.parameters())


def test_modules_are_found_everywhere_once():
    module = Everywhere()
    named = dict(module.named_modules())
    assert list(named) == ["", "blocks.0", "blocks.1.0", "blocks.1.1.deep", "blocks.1.1.7"]
    assert named[""] is module
    assert named["blocks.1.0"] is module.blocks[1][0]


def test_buffers_are_plain_tensors_without_gradient():
    assert [name for name, _ in Everywhere().named_buffers()] == ["count"]
    names = [name for name, _ in nn.BatchNorm1d(2).named_buffers()]
    assert names == ["running_mean", "running_var"]


def test_the_walk_is_made_at_call_time():
    module = nn.Sequential(Scale(1))
    module.late = [Scale(2)]
    assert [name for name, _ in module.named_parameters()] == ["modules.0.factor", "late.0.factor"]
    module.late.append(Scale(3))
    assert len(module.parameters()) == 3
    del module.late
    assert len(module.parameters()) == 1


def test_a_module_does_not_learn_what_its_optimiser_remembers():
    module = nn.Module()
    module.opt = ndl.optim.Adam([nn.Parameter([1.0])])
    module.layer = Scale(1)
    assert list(module.state_dict()) == ["layer.factor"]
    assert [name for name, _ in module.named_parameters()] == ["layer.factor"]


def test_cycles_end():
    one, other = nn.Module(), nn.Module()
    one.friend, other.friend = other, one
    other.weight = nn.Parameter([1.0])
    loop = [one]
    loop.append(loop)
    one.loop = loop
    assert [name for name, _ in one.named_parameters()] == ["friend.weight"]
    assert "(friend): ..." in repr(one)
    assert not one.eval().friend.training


def test_train_and_eval_reach_every_module():
    module = Everywhere()
    modules = [m for _, m in module.named_modules()]
    assert module.training
    assert module.eval() is module
    assert not any(m.training for m in modules)
    assert module.train() is module
    assert all(m.training for m in modules)
    module.train(False)
    assert not any(m.training for m in modules)


def test_a_class_that_keeps_a_layer_frozen_is_asked_wherever_it_stands():
    class Frozen(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.drop = nn.BatchNorm1d(2), nn.Dropout()

        def train(self, mode=True):
            super().train(mode)
            self.norm.eval()
            return self

    frozen = Frozen()
    model = nn.Sequential(nn.ReLU(), nn.Residual(frozen))
    model.more = {"again": [frozen]}
    assert model.train().training
    assert (frozen.training, frozen.drop.training, frozen.norm.training) == (True, True, False)
    assert not model.eval().training
    assert frozen.training is frozen.drop.training is False


@pytest.mark.parametrize("wrap", [nn.Sequential, lambda learner: learner])
def test_a_method_called_train_that_does_something_else_is_named(wrap):
    class Learner(nn.Module):
        def train(self, data, epochs):
            return data * epochs

    with pytest.raises(TypeError, match="epochs") as raised:
        wrap(Learner()).eval()
    (note,) = raised.value.__notes__
    assert "Learner.train(mode), which switches" in note


def test_a_layer_that_forgets_super_init_works():
    class Forgetful(nn.Module):
        def __init__(self):
            self.layer = nn.Dropout(1.0)

        def forward(self, x):
            return self.layer(x)

    module = Forgetful()
    x = ndl.Tensor([1.0, 2.0])
    assert module.training
    assert not module(x).numpy().any()
    np.testing.assert_array_equal(module.eval()(x).numpy(), x.numpy())
    assert not module.training


def test_a_simple_layer_learns():
    module = Scale(2)
    x = ndl.Tensor([[1.0, 2.0], [3.0, 4.0]])
    module(x).sum().backward()
    np.testing.assert_array_equal(module.factor.grad.numpy(), [4, 6])
    module.zero_grad()
    assert module.factor.grad is None


def test_calls_pass_all_arguments_on():
    class Weighted(nn.Module):
        def forward(self, x, *, weight):
            return x * weight, weight

    product, weight = Weighted()(ndl.Tensor([2.0]), weight=3)
    assert (product.item(), weight) == (6.0, 3)


def test_results_with_parameters_are_plain_tensors():
    p = nn.Parameter([1.0], dtype="float32")
    assert p.requires_grad
    assert isinstance(p, ndl.Tensor)
    assert {type(t) for t in (p * 2, p + p, p.detach(), p.data, p.reshape((1, 1)))} == {ndl.Tensor}
    assert not isinstance(p.detach(), nn.Parameter)


# -- state ---------------------------------------------------------------------------------------


def small_model(dtype="float32"):
    return nn.Sequential(
        nn.Linear(3, 4, dtype=dtype),
        nn.BatchNorm1d(4, dtype=dtype),
        nn.Residual(nn.Linear(4, 4, dtype=dtype)),
    )


def test_state_has_parameters_and_buffers_in_order_of_definition():
    assert list(small_model().state_dict()) == [
        "modules.0.weight",
        "modules.0.bias",
        "modules.1.weight",
        "modules.1.bias",
        "modules.1.running_mean",
        "modules.1.running_var",
        "modules.2.fn.weight",
        "modules.2.fn.bias",
    ]


@pytest.mark.parametrize(
    ("by_name", "name"),
    [
        ({1: Scale(2), "1": Scale(3)}, "by_name.1.factor"),
        ({"a.factor": nn.Parameter([1.0]), "a": Scale(2)}, "by_name.a.factor"),
        ({(5, 6): Scale(2), 0: Scale(3)}, "by_name.0.factor"),
    ],
)
def test_two_tensors_of_one_name_are_refused_not_lost(by_name, name):
    module = nn.Module()
    module.by_name = by_name
    assert len(module.parameters()) == 2
    for use in (module.state_dict, lambda: module.load_state_dict({})):
        with pytest.raises(ndl.StateError, match=rf"{name} is the name of two tensors in Module"):
            use()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_state_makes_the_round_trip(dtype):
    source, target = small_model(dtype), small_model(dtype)
    source(ndl.Tensor(np.random.randn(5, 3), dtype=dtype))
    state = source.state_dict()
    assert {array.dtype for array in state.values()} == {np.dtype(dtype)}
    target.load_state_dict(state)
    x = ndl.Tensor(np.random.randn(5, 3), dtype=dtype)
    for mode in (True, False):
        ours, theirs = source.train(mode)(x).numpy(), target.train(mode)(x).numpy()
        assert ours.tobytes() == theirs.tobytes()


def test_state_is_copied_out_and_in():
    module = nn.Linear(2, 2)
    state = module.state_dict()
    before = state["weight"].copy()
    module.weight.cached_data += 1
    np.testing.assert_array_equal(state["weight"], before)
    module.load_state_dict(state)
    state["weight"] += 5
    np.testing.assert_array_equal(module.weight.numpy(), before)
    assert module.weight.requires_grad
    assert module.weight.is_leaf()


def test_loading_keeps_the_tensors_and_converts_the_values():
    module = nn.Linear(2, 3)
    weight, optimizer = module.weight, ndl.optim.SGD(module.parameters())
    module.load_state_dict({"weight": np.ones((2, 3)), "bias": ndl.Tensor([[1, 2, 3]])})
    assert module.weight is weight is optimizer.params[0]
    assert module.weight.dtype == module.bias.dtype == np.float32
    np.testing.assert_array_equal(module.bias.numpy(), [[1, 2, 3]])


def test_what_does_not_fit_is_named_in_one_message_and_nothing_is_loaded():
    module = small_model()
    state = {name: array + 1 for name, array in module.state_dict().items()}
    before = module.state_dict()
    del state["modules.0.bias"], state["modules.1.running_var"]
    state["modules.0.weight"] = np.ones((4, 3))
    state["extra"] = np.ones(1)
    state["modules.3.weight"] = "no array at all"
    with pytest.raises(ndl.StateError, match="load_state_dict: Sequential does not fit") as caught:
        module.load_state_dict(state)
    for part in (
        "modules.0.bias is missing; modules.1.running_var is missing; ",
        "extra is unexpected; modules.3.weight is unexpected; ",
        "modules.0.weight has shape (4, 3), the module's (3, 4). ",
        "pass strict=False",
    ):
        assert part in str(caught.value)
    with pytest.raises(ndl.StateError, match=r"does not fit: modules\.0\.weight has") as caught:
        module.load_state_dict(state, strict=False)
    assert "missing" not in str(caught.value)
    after = module.state_dict()
    assert all(after[name].tobytes() == array.tobytes() for name, array in before.items())


@pytest.mark.parametrize("entry", ["text", None, 1j, [[1], [1, 2]], ndl.make_tuple()])
def test_what_is_no_array_is_refused_before_anything_is_loaded(entry):
    module = nn.Linear(2, 1)
    before = module.weight.numpy().copy()
    message = "Linear does not fit: bias is .*, which is no array of real numbers. Build the module"
    with pytest.raises(ndl.StateError, match=message):
        module.load_state_dict({"weight": np.ones((2, 1)), "bias": entry})
    np.testing.assert_array_equal(module.weight.numpy(), before)


def test_without_strictness_names_are_passed_over():
    module = nn.Linear(2, 1)
    bias = module.bias.numpy().copy()
    module.load_state_dict({"weight": np.ones((2, 1)), "other": np.ones(3)}, strict=False)
    np.testing.assert_array_equal(module.weight.numpy(), [[1], [1]])
    np.testing.assert_array_equal(module.bias.numpy(), bias)


def test_shared_parameters_are_saved_once():
    module = nn.Sequential(Scale(2), nn.ReLU())
    module.head = module.modules[0]
    assert list(module.state_dict()) == ["modules.0.factor"]
    module.load_state_dict({"modules.0.factor": np.full(2, 3.0)})
    np.testing.assert_array_equal(module.head.factor.numpy(), [3, 3])


# -- copies --------------------------------------------------------------------------------------


def test_a_deep_copy_is_independent_and_keeps_sharing():
    module = small_model()
    module.tied = module.modules[2].fn.weight
    x = ndl.Tensor(np.random.randn(5, 3), dtype="float32")
    module(x).sum().backward()
    twin = copy.deepcopy(module)
    assert twin.tied is twin.modules[2].fn.weight
    assert type(twin.tied) is nn.Parameter
    assert not set(module.parameters()) & set(twin.parameters())
    for (name, one), (same_name, other) in zip(
        module.named_parameters(), twin.named_parameters(), strict=True
    ):
        assert name == same_name
        np.testing.assert_array_equal(one.grad.numpy(), other.grad.numpy())
    before = twin.state_dict()
    ndl.optim.SGD(module.parameters(), lr=1.0).step()
    module(x)
    after = twin.state_dict()
    assert all(after[name].tobytes() == array.tobytes() for name, array in before.items())


def test_an_optimiser_copied_with_its_model_goes_on_with_the_copy():
    module = nn.Linear(2, 2)
    optimizer = ndl.optim.Adam(module.parameters(), lr=0.1)
    x = ndl.Tensor(np.random.randn(4, 2), dtype="float32")

    def step(module, optimizer):
        module(x).sum().backward()
        optimizer.step()
        return module.weight.numpy().copy()

    step(module, optimizer)
    twin, twin_optimizer = copy.deepcopy((module, optimizer))
    assert step(module, optimizer).tobytes() == step(twin, twin_optimizer).tobytes()
    assert step(module, optimizer).tobytes() == step(twin, twin_optimizer).tobytes()


def test_modules_are_not_pickled():
    with pytest.raises(TypeError, match=r"ndl\.save"):
        pickle.dumps(nn.Linear(2, 2))


# -- errors --------------------------------------------------------------------------------------


def test_an_error_names_the_path_of_the_module_it_came_from():
    inner = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Residual(inner))
    with pytest.raises(ndl.ShapeError) as caught:
        model(ndl.init.ones(2, 3))
    assert str(caught.value) == (
        "modules.2.fn.modules.0 (Linear): input of shape (2, 3) for in_features=4. "
        "Pass shape (batch, 4)"
    )


@pytest.mark.parametrize(
    "place", [lambda m: {"a": [m]}, lambda m: [{"a": m}], lambda m: ({5: m},), lambda m: m]
)
def test_a_path_goes_through_containers(place):
    class Holder(nn.Module):
        def __init__(self):
            super().__init__()
            self.part = place(nn.Linear(2, 2))

        def forward(self, x):
            return dict(self.named_modules()).popitem()[1](x)

    module = Holder()
    name = [name for name, _ in module.named_modules()][-1]
    with pytest.raises(ndl.ShapeError, match=rf"^{name} \(Linear\): input of shape \(3,\)"):
        module(ndl.init.ones(3))


def test_the_path_names_the_operator_where_a_users_layer_fails():
    class Wrong(nn.Module):
        def forward(self, x):
            return x + x.sum(0)

    with pytest.raises(ndl.ShapeError, match=r"^modules\.1 \(Wrong\): add: shapes \(2, 3\) and"):
        nn.Sequential(nn.ReLU(), Wrong())(ndl.init.ones(2, 3))
    with pytest.raises(ndl.ShapeError, match=r"^Wrong: add: shapes"):
        Wrong()(ndl.init.ones(2, 3))


def test_a_module_that_was_made_on_the_way_has_no_path():
    class Maker(nn.Module):
        def forward(self, x):
            return nn.Linear(5, 5)(x)

    with pytest.raises(ndl.ShapeError, match=r"^modules\.0 \(Linear\): input of shape"):
        nn.Sequential(Maker())(ndl.init.ones(2, 3))


def test_other_errors_pass_unchanged():
    class Broken(nn.Module):
        def forward(self, x):
            raise KeyError("mine")

    with pytest.raises(KeyError, match=r"^'mine'$"):
        nn.Sequential(Broken())(1)


def test_forward_has_to_be_defined():
    class Empty(nn.Module):
        pass

    with pytest.raises(NotImplementedError, match=r"Empty: define forward\(self, \.\.\.\)"):
        Empty()(1)


# -- how it looks --------------------------------------------------------------------------------


def test_repr_shows_the_layers():
    model = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Residual(nn.Dropout(0.25)))
    assert repr(model) == (
        "Sequential(\n"
        "  (modules.0): Linear(3, 4, bias=False)\n"
        "  (modules.1): Residual(\n"
        "    (fn): Dropout(p=0.25)\n"
        "  )\n"
        ")"
    )
    assert repr(nn.BatchNorm1d(4)) == "BatchNorm1d(4, eps=1e-05, momentum=0.1)"
    assert repr(nn.LayerNorm1d(4)) == "LayerNorm1d(4, eps=1e-05)"
    assert repr(nn.ReLU()) == "ReLU()"
    assert repr(nn.GELU()) == "GELU(approximate='none')"
    assert repr(nn.Softmax()) == "Softmax(axis=-1)"


def test_repr_shows_a_layers_own_text_above_what_it_holds():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = {"x": nn.ReLU()}

        def extra_repr(self):
            return "mine"

    assert repr(Named()) == "Named(\n  mine\n  (inner.x): ReLU()\n)"


def test_a_training_step_leaves_nothing_for_the_cycle_collector():
    model = small_model()
    optimizer = ndl.optim.Adam(model.parameters())
    x = ndl.Tensor(np.random.randn(5, 3), dtype="float32", requires_grad=False)

    def step():
        (model(x) ** 2).sum().backward()
        optimizer.step()
        optimizer.reset_grad()

    step()
    gc.collect()
    before = ndl.autograd.TENSOR_COUNTER
    gc.disable()
    try:
        for _ in range(5):
            step()
        assert before == ndl.autograd.TENSOR_COUNTER
    finally:
        gc.enable()
