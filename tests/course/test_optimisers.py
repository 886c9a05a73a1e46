"""Optimisers as students write them, with every form of assignment that is in the wild."""

from collections import defaultdict

import numpy as np
import pytest

import needle as ndl
import needle.nn as nn
from needle.optim import Optimizer


class StudentSGD(Optimizer):
    def __init__(self, params, lr=0.01, momentum=0.0, weight_decay=0.0):
        super().__init__(params)
        self.lr = lr
        self.momentum = momentum
        self.u = {}
        self.weight_decay = weight_decay

    def step(self):
        for param in self.params:
            if param.grad is None:
                continue
            grad = ndl.Tensor(param.grad, dtype=param.dtype).data + self.weight_decay * param.data
            self.u[param] = self.momentum * self.u.get(param, 0) + (1 - self.momentum) * grad
            param.data = param.data - self.lr * self.u[param]


class IndexedSGD(StudentSGD):
    """Momenta by position in a defaultdict, NumPy arithmetic, a new tensor assigned."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.u = defaultdict(float)

    def step(self):
        for i, p in enumerate(self.params):
            grad = p.grad.numpy() + self.weight_decay * p.numpy()
            self.u[i] = self.momentum * self.u[i] + (1 - self.momentum) * grad
            p.data = ndl.Tensor(p.numpy() - self.lr * self.u[i], dtype=p.dtype, device=p.device)


class StorageSGD(StudentSGD):
    """The storage rebound."""

    def step(self):
        for p in self.params:
            grad = p.grad.cached_data + self.weight_decay * p.cached_data
            self.u[hash(p)] = self.momentum * self.u.get(hash(p), 0.0) + (1 - self.momentum) * grad
            p.cached_data = p.cached_data - self.lr * self.u[hash(p)]


class InPlaceSGD(StudentSGD):
    """The storage written in place, through both its names."""

    def step(self):
        for p in self.params:
            grad = p.grad.realize_cached_data() + self.weight_decay * p.realize_cached_data()
            self.u[p] = self.momentum * self.u.get(p, 0) + (1 - self.momentum) * grad
            half = 0.5 * self.lr * self.u[p]
            p.cached_data -= half
            p.realize_cached_data()[...] -= half


class AugmentedSGD(StudentSGD):
    """`-=` on the data."""

    def step(self):
        for p in self.params:
            grad = p.grad.detach() + p.detach() * self.weight_decay
            self.u[p] = self.u.get(p, ndl.init.zeros(*p.shape)) * self.momentum
            self.u[p] += (1 - self.momentum) * grad
            p.data -= self.lr * self.u[p]


class StudentAdam(Optimizer):
    def __init__(self, params, lr=0.01, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0):
        super().__init__(params)
        self.lr, self.beta1, self.beta2, self.eps = lr, beta1, beta2, eps
        self.weight_decay = weight_decay
        self.t = 0
        self.m = {}
        self.v = {}

    def step(self):
        self.t += 1
        for w in self.params:
            grad = w.grad.data + w.data * self.weight_decay
            if w not in self.m:
                self.m[w] = ndl.init.zeros_like(w)
                self.v[w] = ndl.init.zeros(*w.shape, dtype=w.dtype)
            self.m[w] = self.beta1 * self.m[w] + (1 - self.beta1) * grad
            self.v[w] = self.beta2 * self.v[w] + (1 - self.beta2) * grad * grad
            m_hat = self.m[w] / (1 - self.beta1**self.t)
            v_hat = self.v[w] / (1 - self.beta2**self.t)
            w.data = w.data - self.lr * m_hat / (ndl.ops.power_scalar(v_hat, 0.5) + self.eps)


SGD_OPTIONS = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}
ADAM_OPTIONS = {"lr": 0.02, "beta1": 0.8, "weight_decay": 0.01}


def learn(optimizer, epochs=3, **options):
    """The loop of the published optimiser tests, with their check that gradients stay."""
    np.random.seed(42)
    model = nn.Sequential(
        nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Residual(nn.Linear(16, 16)),
        nn.LayerNorm1d(16), nn.Dropout(0.1), nn.Linear(16, 4),
    )  # fmt: skip
    X, y = np.random.randn(64, 8), np.random.randint(4, size=64).astype(np.uint8)
    loss_func = nn.SoftmaxLoss()
    opt = optimizer(model.parameters(), **options)
    for _ in range(epochs):
        for X0, y0 in zip(np.array_split(X, 4), np.array_split(y, 4), strict=True):
            opt.reset_grad()
            loss = loss_func(
                model(ndl.Tensor(X0, dtype="float32")), ndl.Tensor(y0, dtype="float32")
            )
            loss.backward()
            before = model.parameters()[0].grad.detach().cached_data.copy()
            opt.step()
            after = model.parameters()[0].grad.detach().cached_data
            np.testing.assert_array_equal(before, after)
    return np.array(loss.cached_data), model.state_dict()


@pytest.mark.parametrize("student", [StudentSGD, IndexedSGD, StorageSGD, InPlaceSGD, AugmentedSGD])
def test_students_sgd_is_the_librarys(student):
    same(learn(student, **SGD_OPTIONS), learn(ndl.optim.SGD, **SGD_OPTIONS))


def test_students_adam_is_the_librarys():
    same(learn(StudentAdam, **ADAM_OPTIONS), learn(ndl.optim.Adam, **ADAM_OPTIONS))


def same(mine, theirs):
    np.testing.assert_allclose(mine[0], theirs[0], rtol=1e-3)
    for name, array in theirs[1].items():
        assert mine[1][name].dtype == np.float32
        np.testing.assert_allclose(mine[1][name], array, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("optimizer", [StudentSGD, IndexedSGD, StudentAdam, ndl.optim.Adam])
def test_a_training_loop_keeps_few_tensors_alive(optimizer):
    before = ndl.autograd.TENSOR_COUNTER
    learn(optimizer, epochs=1)
    assert ndl.autograd.TENSOR_COUNTER - before <= 5


def test_the_counter_does_not_grow_within_a_loop():
    model = nn.Linear(3, 2)
    opt = StudentAdam(model.parameters())
    counts = []
    for _ in range(4):
        opt.reset_grad()
        (model(ndl.Tensor(np.ones((2, 3)), dtype="float32")) ** 2).sum().backward()
        opt.step()
        counts.append(ndl.autograd.TENSOR_COUNTER)
    assert len(set(counts[1:])) == 1


def test_students_clip_gradients_themselves():
    def clip(params, max_norm):
        norms = [np.linalg.norm(p.grad.detach().numpy()).reshape((1,)) for p in params]
        coefficient = max_norm / (np.linalg.norm(np.concatenate(norms)) + 1e-6)
        coefficient = np.asscalar(coefficient) if hasattr(np, "asscalar") else coefficient.item()
        for p in params:
            p.grad = p.grad.detach() * min(coefficient, 1.0)

    params = [nn.Parameter(np.full(3, 2.0)), nn.Parameter([[5.0]])]
    for p in params:
        (p * p).sum().backward()
    clip(params, 0.5)
    mine = [p.grad.numpy().copy() for p in params]
    for p in params:
        (p * p).sum().backward()
    ndl.optim.SGD(params).clip_grad_norm(0.5)
    for ours, theirs in zip(mine, params, strict=True):
        np.testing.assert_allclose(ours, theirs.grad.numpy(), rtol=1e-6)
    params[0].grad.data = params[0].grad.data * 0.5
    np.testing.assert_allclose(params[0].grad.numpy(), mine[0] / 2, rtol=1e-6)


def test_assigning_data_of_another_dtype_says_what_to_write():
    p = nn.Parameter(np.ones(2, "float32"))
    with pytest.raises(ndl.DTypeError, match=r'assigned one of float64\. Write value\.astype\("fl'):
        p.data = ndl.Tensor([1.0, 2.0])
