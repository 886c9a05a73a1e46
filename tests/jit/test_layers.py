"""Every layer and every optimiser, compiled: results, gradients and state as in eager mode."""

import inspect

import numpy as np
import pytest

import needle as ndl
from needle import nn
from tests.jit.agreement import expect_agreement

FLOATS = ("float32", "float64")


def images(*shape):
    return lambda random, dtype: random.randn(*shape).astype(dtype)


def labels(random, dtype):
    return random.randint(0, 4, 6)


LAYERS = {
    "BatchNorm1d": (lambda dtype: nn.BatchNorm1d(4, dtype=dtype), [images(6, 4)]),
    "Dropout": (lambda dtype: nn.Dropout(0.25), [images(6, 4)]),
    "LayerNorm1d": (lambda dtype: nn.LayerNorm1d(4, dtype=dtype), [images(6, 4)]),
    "Linear": (lambda dtype: nn.Linear(4, 5, dtype=dtype), [images(2, 3, 4)]),
    "MSELoss": (lambda dtype: nn.MSELoss(), [images(6, 4), images(6, 4)]),
    "Residual": (lambda dtype: nn.Residual(nn.Linear(4, 4, dtype=dtype)), [images(6, 4)]),
    "Sequential": (
        lambda dtype: nn.Sequential(
            nn.Linear(4, 8, dtype=dtype), nn.BatchNorm1d(8, dtype=dtype), nn.ReLU(),
            nn.Dropout(0.5), nn.Linear(8, 3, bias=False, dtype=dtype),
        ),
        [images(6, 4)],
    ),
    "SoftmaxLoss": (lambda dtype: nn.SoftmaxLoss(), [images(6, 4), labels]),
}  # fmt: skip
OPTIMIZERS = {
    "SGD": [{}, {"lr": 0.1, "momentum": 0.9}, {"momentum": 0.5, "weight_decay": 0.1}],
    "Adam": [{}, {"lr": 0.1, "beta1": 0.5, "weight_decay": 0.1}, {"eps": 1e-3}],
    "AdamW": [{}, {"lr": 0.1, "weight_decay": 0.5}],
}


def exported(module, base):
    classes = {name: getattr(module, name) for name in module.__all__}
    found = {n: c for n, c in classes.items() if inspect.isclass(c) and issubclass(c, base)}
    return {name: cls for name, cls in found.items() if cls is not base}


def takes_nothing(cls):
    parameters = inspect.signature(cls).parameters.values()
    return all(p.default is not p.empty or p.kind is p.VAR_POSITIONAL for p in parameters)


# A layer that is made without arguments needs no recipe.
for NAME, LAYER in exported(nn, nn.Module).items():
    if NAME not in LAYERS and takes_nothing(LAYER):
        COUNT = len(inspect.signature(LAYER.forward).parameters) - 1
        LAYERS[NAME] = (lambda dtype, layer=LAYER: layer(), [images(6, 4)] * COUNT)


def test_no_layer_and_no_optimiser_is_left_out():
    assert exported(nn, nn.Module).keys() - LAYERS.keys() == set()
    assert exported(ndl.optim, ndl.optim.Optimizer).keys() - OPTIMIZERS.keys() == set()


def everything(layer, inputs, result):
    """Result, gradients of inputs and parameters, and state, by name."""
    found = {"result": result.numpy(), **layer.state_dict()}
    found |= {f"grad of input {k}": x.grad.numpy() for k, x in enumerate(inputs) if x.grad}
    found |= {f"grad of {n}": p.grad.numpy() for n, p in layer.named_parameters() if p.grad}
    return {name: np.array(array) for name, array in found.items()}


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", LAYERS)
def test_layer(name, dtype, training):
    make, makers = LAYERS[name]
    worlds = []
    for compile_it in (lambda f: f, ndl.jit):
        np.random.seed(1)
        layer = make(dtype).train(training)

        def step(inputs, layer=layer):
            result = layer(*inputs)
            if result.requires_grad:
                ((result + 0.5) ** 2).sum().backward()
            return result.detach()

        step, steps = compile_it(step), []
        for k in range(4):
            random = np.random.RandomState(k)
            inputs = [ndl.Tensor(array) for array in (m(random, dtype) for m in makers)]
            for x in inputs:
                x.requires_grad = x.dtype.kind == "f"
            np.random.seed(k)
            steps.append(everything(layer, inputs, step(inputs)))
        worlds.append(steps)
    for eager, compiled in zip(*worlds, strict=True):
        assert compiled.keys() == eager.keys()
        for key in eager:
            expect_agreement(compiled[key], eager[key], 48, np.abs(eager[key]).max(initial=1.0))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("name", "options"),
    [(name, options) for name, found in OPTIMIZERS.items() for options in found],
)
def test_optimiser(name, options, dtype):
    states = []
    for compile_it in (lambda f: f, ndl.jit):
        np.random.seed(2)
        model = nn.Sequential(
            nn.Linear(3, 40, dtype=dtype), nn.ReLU(), nn.Linear(40, 1, dtype=dtype)
        )
        unused = nn.Parameter(np.ones(3))
        opt = getattr(ndl.optim, name)([*model.parameters(), unused], **options)

        @compile_it
        def step(x, model=model, opt=opt):
            loss = (model(x) ** 2).mean()
            loss.backward()
            norm = opt.clip_grad_norm(0.5)
            opt.step()
            opt.reset_grad()
            return loss.detach(), norm

        for k in range(6):
            x = ndl.Tensor(np.random.RandomState(k).randn(5, 3), dtype=dtype, requires_grad=False)
            loss, norm = step(x)
        results = {"loss": loss.numpy(), "norm": norm.numpy().astype(dtype)}
        states.append({**results, **model.state_dict(), **opt.state_dict()})
        assert unused.tolist() == [1.0] * 3
    eager, compiled = states
    assert compiled.keys() == eager.keys()
    for key in eager:
        expect_agreement(compiled[key], eager[key], 600, np.abs(eager[key]).max(initial=1e-3))


def test_ten_steps_of_an_mlp_resnet_agree_to_1e_5():
    """MLP ResNet, Adam, dropout, batch normalisation, in both random streams."""
    for stream in ("numpy", "philox"):
        losses = []
        for compile_it in (lambda f: f, ndl.jit):
            np.random.seed(0)
            ndl.seed(0 if stream == "philox" else None)
            model = ndl.models.MLPResNet(784, hidden_dim=100)
            opt = ndl.optim.Adam(model.parameters(), lr=0.001, weight_decay=0.001)
            loss_fn = nn.SoftmaxLoss()

            @compile_it
            def step(x, y, model=model, opt=opt, loss_fn=loss_fn):
                loss = loss_fn(model(x), y)
                loss.backward()
                opt.step()
                opt.reset_grad()
                return loss.detach()

            random = np.random.RandomState(7)
            found = []
            for _ in range(10):
                x = ndl.Tensor(random.rand(100, 784).astype("float32"), requires_grad=False)
                y = ndl.Tensor(random.randint(0, 10, 100), requires_grad=False)
                found.append(step(x, y).item())
            losses.append(found)
        np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
