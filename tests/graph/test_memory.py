"""Memory goes with the last handle, without the cycle collector, however deep the graph."""

import gc
import sys
import weakref

import numpy as np
import pytest

import needle as ndl
from needle.autograd import Tensor

LONG = 100_000


@pytest.fixture
def _no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


no_collector = pytest.mark.usefixtures("_no_collector")


def count():
    return ndl.autograd.TENSOR_COUNTER


@no_collector
def test_the_counter_is_true():
    before = count()
    x = Tensor([1.0])
    assert count() == before + 1
    y = x * 2 + 1
    assert count() == before + 3
    z = y.detach()
    del y
    assert count() == before + 2
    del x, z
    assert count() == before


@no_collector
def test_the_counter_counts_gradients():
    before = count()
    x = Tensor([1.0, 2.0])
    (x * x).sum().backward()
    assert count() > before + 1
    x.grad = None
    assert count() == before + 1


def train_by_hand(steps):
    w = Tensor(np.ones((3, 2)))
    for _ in range(steps):
        loss = ((Tensor(np.ones((4, 3))) @ w) ** 2).sum()
        loss.backward()
        w.data = w.data - 0.01 * w.grad.data
        yield


def train_a_model(steps):
    model = ndl.models.MLPResNet(8, hidden_dim=8, num_blocks=1, num_classes=3)
    optimizer = ndl.optim.Adam(model.parameters(), lr=0.01)
    loss_function = ndl.nn.SoftmaxLoss()
    for _ in range(steps):
        x, y = ndl.randn(4, 8), Tensor([0, 1, 2, 0])
        optimizer.reset_grad()
        loss = loss_function(model(x), y)
        loss.backward()
        optimizer.step()
        yield


def train_with_second_order(steps):
    w = Tensor([1.0, 2.0])
    for _ in range(steps):
        (w**3).sum().backward()
        (w.grad * w.grad).sum().backward()
        w.data = w.data - 1e-3 * w.grad.data
        yield


@no_collector
@pytest.mark.parametrize("train", [train_by_hand, train_a_model, train_with_second_order])
@pytest.mark.parametrize("lazy", [False, True])
def test_training_does_not_grow(train, lazy, monkeypatch):
    monkeypatch.setattr(ndl.autograd, "LAZY_MODE", lazy)
    counts = [count() for _ in train(8)]
    assert len(set(counts[3:])) == 1
    assert gc.collect() == 0  # nothing was left for it


@no_collector
def test_errors_leave_nothing_behind():
    x = Tensor([1.0, 2.0])
    before = count()
    for _ in range(5):
        with pytest.raises(ndl.ShapeError):
            (x * 2) + Tensor([1.0])
    gc.collect()  # tracebacks hold frames in cycles of Python's own
    assert count() == before


@no_collector
def test_a_leaf_whose_gradient_is_a_graph_over_it_makes_no_cycle():
    x = Tensor(np.ones(1000))
    y = x * x * x
    y.backward()
    assert not x.grad.is_leaf()
    seen = [weakref.ref(value) for value in (x, y, x.grad, y.grad)]
    del x, y
    assert [ref() for ref in seen] == [None] * 4


def test_held_gradients_survive_their_graph():
    x = Tensor([2.0])
    (x * x).backward()
    gradient = x.grad
    del x
    assert gradient.item() == 4


@pytest.mark.parametrize("lazy", [False, True])
def test_a_chain_of_100_000_operators(lazy, monkeypatch):
    """Forward, order, backward, freeing: nothing recursive, nothing quadratic."""
    monkeypatch.setattr(ndl.autograd, "LAZY_MODE", lazy)
    before = count()
    x = y = Tensor([1.0])
    for _ in range(LONG):
        y = y + 1.0
    assert y.item() == 1.0 + LONG
    y.backward()
    assert x.grad.item() == 1
    assert len(ndl.autograd.find_topo_sort([y])) == LONG + 1
    del x, y
    assert count() == before


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(
    "step", [lambda y: y.reshape((1,)), lambda y: ndl.make_tuple(y)[0]], ids=["views", "tuples"]
)
def test_long_chains_of_views_and_tuples(step, lazy, monkeypatch):
    monkeypatch.setattr(ndl.autograd, "LAZY_MODE", lazy)
    before = count()
    x = y = Tensor([1.0])
    for _ in range(LONG // 10):
        y = step(y)
    assert len(ndl.graph_text(y).splitlines()) > LONG // 10
    assert y.item() == 1
    y.backward()
    assert x.grad.item() == 1
    del x, y
    assert count() == before


def test_a_chain_through_both_operands_is_not_exponential():
    x = y = Tensor([1.0])
    for _ in range(1000):
        y = (y + y) * 0.5
    y.backward()
    assert (y.item(), x.grad.item()) == (1, 1)


def test_gradient_of_the_gradient_of_a_long_chain():
    x = Tensor([1.0])
    y = x
    for _ in range(5_000):
        y = y * x
        y = y / y.detach()
    y.backward()
    x.grad.sum().backward()
    assert np.isfinite(x.grad.item())


def test_deep_graphs_with_a_low_recursion_limit():
    limit = sys.getrecursionlimit()
    x = Tensor([1.0])
    sys.setrecursionlimit(200)
    try:
        y = x
        for _ in range(3000):
            y = y * 1.0
        y.backward()
        del y
    finally:
        sys.setrecursionlimit(limit)
    assert x.grad.item() == 1
