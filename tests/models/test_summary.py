"""`summary`: what it counts, and that it leaves the model as it was."""

from contextlib import nullcontext

import numpy as np
import pytest

import needle as ndl
from needle import nn


def rows(model, shape, **options):
    return [tuple(row) for row in ndl.summary(model, shape, **options).rows]


def test_layers_in_the_order_in_which_they_ran():
    model = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Residual(nn.Linear(4, 4)))
    assert rows(model, (2, 6)) == [
        ("modules.0", "Linear", (2, 4), 28, 48),
        ("modules.1", "BatchNorm1d", (2, 4), 8, 0),
        ("modules.2.fn", "Linear", (2, 4), 20, 32),
    ]


def test_totals_agree_with_the_model():
    model = ndl.models.MLPResNet(784)
    found = ndl.summary(model, (100, 784))
    assert found.parameters == sum(p.size for p in model.parameters())
    assert found.multiply_adds == 100 * (784 * 100 + 3 * 2 * 100 * 50 + 100 * 10)
    assert f"{found.parameters:,}" in str(found)


def test_shared_layers_run_twice_and_count_once():
    layer = nn.Linear(3, 3, bias=False)
    assert rows(nn.Sequential(layer, layer), (1, 3)) == [
        ("modules.0", "Linear", (1, 3), 9, 9),
        ("modules.0", "Linear", (1, 3), 0, 9),
    ]


class Own(nn.Module):
    """Parameters in a list and a product of its own, beside a layer that it never calls."""

    def __init__(self):
        super().__init__()
        self.weights = [nn.Parameter(np.ones((3, 3), "float32")) for _ in range(2)]
        self.inner = nn.Linear(3, 2)
        self.spare = nn.Linear(1, 1)

    def forward(self, x):
        return self.inner(x @ self.weights[0] @ self.weights[1])


def test_parameters_and_products_outside_layers_and_layers_not_called():
    found = ndl.summary(Own(), (1, 3))
    assert [tuple(row) for row in found.rows] == [
        ("inner", "Linear", (1, 2), 8, 6),
        ("model", "Own", (1, 2), 18, 18),
        ("spare", "Linear", None, 2, 0),
    ]
    assert found.parameters == 28
    assert "-" in str(found).splitlines()[-3]


def test_a_module_that_returns_no_tensor():
    class Pair(nn.Module):
        def forward(self, x):
            return x, x

    assert rows(Pair(), (1, 2)) == [("model", "Pair", None, 0, 0)]


def test_the_dtype_of_the_input_may_be_chosen():
    class Rows(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Parameter(np.ones((5, 2)))

        def forward(self, index):
            return ndl.take(self.table, index)

    assert rows(Rows(), (3,), dtype="int64") == [("model", "Rows", (3, 2), 10, 0)]


def test_the_model_is_left_as_it_was():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout())
    model.modules[1].eval()
    own_forward = model.modules[0].forward
    model.modules[0].forward = own_forward
    before = model.state_dict()
    np.random.seed(1)
    wrong = pytest.raises(ndl.ShapeError, match=r"^modules\.0 \(Linear\)")
    for shape, outcome in (((2, 3), nullcontext()), ((2, 4), wrong)):
        with outcome:
            ndl.summary(model, shape)
        after = model.state_dict()
        assert all(np.array_equal(after[name], before[name]) for name in before)
        assert [m.training for _, m in model.named_modules()] == [True, True, False, True]
        assert vars(model.modules[0])["forward"] is own_forward
        assert "forward" not in vars(model.modules[1])
    drawn = np.random.rand()
    np.random.seed(1)
    assert np.random.rand() == drawn


def test_a_wrong_shape_is_refused():
    with pytest.raises(ndl.ArgumentError, match="summary: shape must be an integer"):
        ndl.summary(nn.ReLU(), (1, 2.5))
