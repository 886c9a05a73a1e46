"""Layers as students write them, from `ops` and `init`, agree with the library's own."""

import numpy as np
import pytest

import needle as ndl
import needle.init as init
import needle.nn as nn
from needle import ops


class StudentLinear(nn.Module):
    def __init__(self, in_features, out_features, bias=True, device=None, dtype="float32"):
        super().__init__()
        self.weight = nn.Parameter(
            init.kaiming_uniform(in_features, out_features, device=device, dtype=dtype)
        )
        self.bias = None
        if bias:
            self.bias = nn.Parameter(
                ops.transpose(init.kaiming_uniform(out_features, 1, device=device, dtype=dtype))
            )

    def forward(self, X):
        out = ops.matmul(X, self.weight)
        if self.bias:
            out += ops.broadcast_to(self.bias, out.shape)
        return out


class StudentFlatten(nn.Module):
    def forward(self, X):
        return ops.reshape(X, (X.shape[0], np.prod(X.shape[1:])))


class StudentBatchNorm(nn.Module):
    def __init__(self, dim, eps=1e-5, momentum=0.1, device=None, dtype="float32"):
        super().__init__()
        self.dim, self.eps, self.momentum = dim, eps, momentum
        self.weight = nn.Parameter(init.ones(dim, requires_grad=True, dtype=dtype))
        self.bias = nn.Parameter(init.zeros(dim, requires_grad=True, dtype=dtype))
        self.running_mean = init.zeros(dim, dtype=dtype)
        self.running_var = init.ones(dim, dtype=dtype)

    def forward(self, x):
        batch = x.shape[0]
        weight = ops.broadcast_to(ops.reshape(self.weight, (1, self.dim)), x.shape)
        bias = ops.broadcast_to(self.bias.reshape((1, self.dim)), x.shape)
        if not self.training:
            mean = self.running_mean.reshape((1, self.dim)).broadcast_to(x.shape)
            var = self.running_var.reshape((1, self.dim)).broadcast_to(x.shape)
            return weight * ((x - mean) / (var + self.eps) ** 0.5) + bias
        mean = ops.summation(x, axes=0) / batch
        centred = x - ops.broadcast_to(mean.reshape((1, self.dim)), x.shape)
        var = ops.divide_scalar(ops.summation(ops.power_scalar(centred, 2), axes=(0,)), batch)
        keep = 1 - self.momentum
        self.running_mean = keep * self.running_mean + self.momentum * mean.detach()
        self.running_var.data = keep * self.running_var.data + self.momentum * var.data
        std = ops.power_scalar(ops.add_scalar(var, self.eps), 0.5)
        return weight * (centred / std.reshape((1, self.dim)).broadcast_to(x.shape)) + bias


class StudentLayerNorm(nn.Module):
    def __init__(self, dim, eps=1e-5, dtype="float32"):
        super().__init__()
        self.dim, self.eps = dim, eps
        self.weight = nn.Parameter(init.ones(dim, dtype=dtype))
        self.bias = nn.Parameter(init.zeros(dim, dtype=dtype))

    def forward(self, x):
        rows = (x.shape[0], 1)
        mean = (x.sum((1,)) / x.shape[1]).reshape(rows).broadcast_to(x.shape)
        var = (((x - mean) ** 2).sum((1,)) / x.shape[1]).reshape(rows).broadcast_to(x.shape)
        normal = (x - mean) / ((var + self.eps) ** (1 / 2))
        return self.weight.broadcast_to(x.shape) * normal + self.bias.broadcast_to(x.shape)


class StudentDropout(nn.Module):
    def __init__(self, p=0.5):
        super().__init__()
        self.p = p

    def forward(self, x):
        if not self.training:
            return x
        return x * init.randb(*x.shape, p=1 - self.p, device=x.device) / (1 - self.p)


class StudentSoftmaxLoss(nn.Module):
    def forward(self, logits, y):
        n, classes = logits.shape
        hit = init.one_hot(classes, y, device=logits.device)
        return ops.summation(ops.logsumexp(logits, (1,)) - ops.summation(logits * hit, 1)) / n


class StudentResidual(nn.Module):
    def __init__(self, fn):
        super().__init__()
        self.fn = fn

    def forward(self, x):
        return ops.add(x, self.fn(x))


def network(linear, norm, dropout, residual, dtype="float32"):
    np.random.seed(5)
    inner = nn.Sequential(linear(6, 4, dtype=dtype), norm(4, dtype=dtype), nn.ReLU(), dropout(0.25))
    block = residual(nn.Sequential(inner, linear(4, 6, dtype=dtype)))
    return nn.Sequential(block, nn.Tanh(), linear(6, 3, bias=False, dtype=dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("mine", "theirs"),
    [(StudentBatchNorm, nn.BatchNorm1d), (StudentLayerNorm, nn.LayerNorm1d)],
)
def test_a_network_of_students_layers_is_the_librarys(mine, theirs, dtype):
    student = network(StudentLinear, mine, StudentDropout, StudentResidual, dtype)
    library = network(nn.Linear, theirs, nn.Dropout, nn.Residual, dtype)
    tolerance = (
        {"rtol": 1e-4, "atol": 1e-5} if dtype == "float32" else {"rtol": 1e-10, "atol": 1e-12}
    )
    for mode in (True, True, False):
        x = ndl.Tensor(np.random.randn(8, 6), dtype=dtype)
        y = ndl.Tensor(np.random.randint(3, size=8))
        losses = []
        for model, loss in ((student, StudentSoftmaxLoss()), (library, nn.SoftmaxLoss())):
            model.train() if mode else model.eval()
            np.random.seed(6)
            losses.append(loss(model(x), y))
            losses[-1].backward()
        np.testing.assert_allclose(losses[0].numpy(), losses[1].numpy(), **tolerance)
        for p, q in zip(student.parameters(), library.parameters(), strict=True):
            assert p.shape == q.shape
            np.testing.assert_array_equal(p.numpy(), q.numpy())
            np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), **tolerance)


def test_flatten_with_a_numpy_size():
    x = init.randn(2, 3, 4, requires_grad=True)
    assert StudentFlatten()(x).shape == nn.Flatten()(x).shape == (2, 12)


def test_published_linear_is_the_formula_after_a_seed():
    np.random.seed(199)
    layer = nn.Linear(7, 4)
    np.random.seed(199)
    bound = np.sqrt(2) * np.sqrt(3 / 7)
    weight = (np.random.rand(7, 4) * (2 * bound) - bound).astype("float32")
    bound = np.sqrt(2) * np.sqrt(3 / 4)
    bias = (np.random.rand(4, 1) * (2 * bound) - bound).astype("float32").T
    np.testing.assert_allclose(layer.weight.numpy(), weight, rtol=1e-6)
    np.testing.assert_allclose(layer.bias.numpy(), bias, rtol=1e-6)
    x = np.random.randn(10, 7)
    y = layer(ndl.Tensor(x, dtype="float32"))
    np.testing.assert_allclose(y.numpy(), x @ weight + bias, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("model", ["library", "student"])
def test_gradient_as_tuple_works_on_every_value_of_a_network(model):
    if model == "library":
        net, loss = ndl.models.MLPResNet(6, 4, num_blocks=1, num_classes=3), nn.SoftmaxLoss()
    else:
        net = network(StudentLinear, StudentBatchNorm, StudentDropout, StudentResidual)
        loss = StudentSoftmaxLoss()
    out = loss(net(init.randn(5, 6, requires_grad=True)), ndl.Tensor(np.array([0, 1, 2, 0, 1])))
    nodes = [node for node in ndl.autograd.find_topo_sort([out]) if not node.is_leaf()]
    assert len(nodes) > 12
    for node in nodes:
        if not isinstance(node, ndl.Tensor):
            continue
        out_grad = ndl.Tensor(np.random.randn(*node.shape))
        gradients = node.op.gradient_as_tuple(out_grad, node)
        assert type(gradients) is tuple
        assert len(gradients) == len(node.inputs)
        for gradient, value in zip(gradients, node.inputs, strict=True):
            assert gradient is None or gradient.shape == value.shape
        assert np.isfinite(node.numpy()).all()
    assert out.backward() is None
