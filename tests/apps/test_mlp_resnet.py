"""apps/mlp_resnet.py against the whole of it in NumPy, seeds and draws included."""

import gc
import subprocess
import sys
import weakref

import mlp_resnet
import numpy as np
import pytest

import needle as ndl
from needle import nn

from . import numpy_resnet
from .mnist_files import DATA, cut, read


@pytest.fixture(scope="module")
def small_mnist(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mnist")
    return folder, cut(folder, "train", 450), cut(folder, "t10k", 130)


@pytest.mark.parametrize(
    ("optimizer", "oracle", "options"),
    [
        (ndl.optim.Adam, numpy_resnet.adam, {"lr": 0.001, "weight_decay": 0.001}),
        (ndl.optim.SGD, numpy_resnet.sgd, {"lr": 0.05, "weight_decay": 0.01}),
    ],
)
@pytest.mark.parametrize(("batch", "epochs", "hidden"), [(100, 3, 20), (32, 1, 33)])
def test_training_gives_the_numbers_of_the_algorithm(
    small_mnist, optimizer, oracle, options, batch, epochs, hidden
):
    folder, train, test = small_mnist
    results = mlp_resnet.train_mnist(
        batch, epochs, optimizer, **options, hidden_dim=hidden, data_dir=folder
    )
    np.random.seed(4)
    model = numpy_resnet.MLPResNet(784, hidden)
    step = oracle(model.parameters, **options)
    for _ in range(epochs):
        expected = numpy_resnet.epoch(model, *train, batch, step)
    expected += numpy_resnet.epoch(model, *test, batch)
    assert [type(number) for number in results] == [float] * 4
    np.testing.assert_allclose(results, expected, atol=1e-4)


@pytest.mark.fuzz
def test_two_epochs_of_all_of_mnist_give_the_numbers_of_the_algorithm():
    results = mlp_resnet.train_mnist(250, 2, ndl.optim.SGD, 0.001, 0.01, 100, DATA)
    np.random.seed(4)
    model = numpy_resnet.MLPResNet(784, 100)
    step = numpy_resnet.sgd(model.parameters, 0.001, 0.01)
    (x, y), (x_test, y_test) = read("train"), read("t10k")
    for _ in range(2):
        expected = numpy_resnet.epoch(model, x / 255, y, 250, step)
    expected += numpy_resnet.epoch(model, x_test / 255, y_test, 250)
    np.testing.assert_allclose(results, expected, atol=1e-3)


def test_all_arguments_have_their_published_names_and_defaults(small_mnist):
    defaults = dict(
        zip(
            mlp_resnet.train_mnist.__code__.co_varnames,
            mlp_resnet.train_mnist.__defaults__,
            strict=False,
        )
    )
    assert defaults == {
        "batch_size": 100,
        "epochs": 10,
        "optimizer": ndl.optim.Adam,
        "lr": 0.001,
        "weight_decay": 0.001,
        "hidden_dim": 100,
        "data_dir": "data",
    }
    folder = small_mnist[0]
    once = [mlp_resnet.train_mnist(epochs=1, hidden_dim=8, data_dir=str(folder)) for _ in range(2)]
    assert once[0] == once[1]  # each call seeds itself


class Counting:
    """A loader that notes what was drawn before it is iterated."""

    def __init__(self, batches):
        self.batches = batches
        self.drawn = []

    def __iter__(self):
        self.drawn.append(np.random.rand())
        return iter(self.batches)


def test_epoch_seeds_itself_before_the_loader_is_iterated():
    x, y = ndl.Tensor(np.random.randn(4, 2, 3), dtype="float32"), ndl.Tensor([0, 1, 2, 0])
    loader = Counting([(x, y)])
    model = nn.Sequential(nn.Linear(6, 3), nn.Dropout(0.5))
    np.random.seed(99)
    mlp_resnet.epoch(loader, model)
    mlp_resnet.epoch(loader, model, ndl.optim.SGD(model.parameters()))
    np.random.seed(4)
    assert loader.drawn == [np.random.rand()] * 2


def test_epoch_trains_with_an_optimiser_and_evaluates_without():
    x, y = ndl.Tensor(np.random.randn(5, 3), dtype="float32"), ndl.Tensor([0, 1, 2, 0, 1])
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    before = model.state_dict()
    result = mlp_resnet.epoch([(x, y)], model)
    assert not model.training
    assert not model.modules[1].training
    after = model.state_dict()
    assert all(np.array_equal(after[name], before[name]) for name in before)
    assert all(p.grad is None for p in model.parameters())
    z = model(x).numpy()
    assert result[0] == (z.argmax(1) != y.numpy()).mean()
    mlp_resnet.epoch([(x, y)], model, ndl.optim.SGD(model.parameters(), lr=0.1))
    assert model.training
    after = model.state_dict()
    for name in ("modules.0.weight", "modules.1.weight", "modules.1.running_mean"):
        assert not np.array_equal(after[name], before[name])


def test_loss_and_error_are_means_over_samples_not_batches():
    logits = np.array([[9.0, 0], [9, 0], [9, 0]])
    batches = [
        (ndl.Tensor(logits[:2]), ndl.Tensor([0, 0])),
        (ndl.Tensor(logits[2:]), ndl.Tensor([1])),
    ]
    error, loss = mlp_resnet.epoch(batches, nn.Identity())
    right, wrong = np.log(1 + np.exp(-9.0)), np.log(1 + np.exp(9.0))
    assert error == 1 / 3
    assert loss == pytest.approx((2 * right + wrong) / 3, rel=1e-12)


def test_star_import_gives_the_names_that_programs_use():
    names = {}
    exec("from mlp_resnet import *", names)
    assert names["np"] is np
    assert names["ndl"] is ndl
    assert names["nn"] is nn
    assert {"ResidualBlock", "MLPResNet", "epoch", "train_mnist"} <= names.keys()


# What students write: steps that can be compiled, and steps that cannot.


class CountingMomentum(ndl.optim.Optimizer):
    """Counts its steps in a Python number."""

    def __init__(self, params, lr=0.1):
        super().__init__(params)
        self.lr, self.t, self.u = lr, 0, {}

    def step(self):
        self.t += 1
        for i, param in enumerate(self.params):
            self.u[i] = self.u.get(i, 0) * 0.9 + 0.1 * param.grad.data
            param.data = param.data - self.lr * self.u[i] / (1 - 0.9**self.t)


class DecayingSGD:
    """No optimiser of ours at all."""

    def __init__(self, params):
        self.params, self.t = params, 0

    def reset_grad(self):
        for param in self.params:
            param.grad = None

    def step(self):
        self.t += 1
        for param in self.params:
            param.data = param.data - param.grad.data * (0.1 / self.t)


class NumPySGD(DecayingSGD):
    """Leaves the graph and comes back."""

    def step(self):
        for param in self.params:
            param.data = ndl.Tensor(param.numpy() - 0.1 * param.grad.numpy(), dtype="float32")


class Momentum(DecayingSGD):
    """A dictionary that is filled in the first step: this one can be compiled."""

    def __init__(self, params):
        super().__init__(params)
        self.u = {}

    def step(self):
        for i, param in enumerate(self.params):
            old = self.u[i] * 0.9 if i in self.u else 0
            self.u[i] = (param.grad.data * 0.1 + old).detach()
            param.data = param.data - self.u[i]


def batches():
    """Three batches in two shapes."""
    rng = np.random.RandomState(3)
    for size in (20, 20, 7):
        x, y = rng.randn(size, 2, 3).astype("float32"), rng.randint(3, size=size)
        yield ndl.Tensor(x), ndl.Tensor(y)


def small_model():
    np.random.seed(1)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3))


def course_epoch(model, opt=None):
    """The loop as the course has it."""
    np.random.seed(4)
    model.train() if opt else model.eval()
    losses, wrong, samples = [], 0, 0
    for x, y in batches():
        logits = model(x.reshape((x.shape[0], 6)))
        loss = nn.SoftmaxLoss()(logits, y)
        if opt:
            opt.reset_grad()
            loss.backward()
            opt.step()
        losses.append(float(loss.numpy()) * y.shape[0])
        wrong += (logits.numpy().argmax(axis=1) != y.numpy()).sum()
        samples += y.shape[0]
    return wrong / samples, sum(losses) / samples


STUDENTS = [CountingMomentum, DecayingSGD, NumPySGD, Momentum]


@pytest.mark.parametrize("optimizer", [*STUDENTS, ndl.optim.SGD, ndl.optim.Adam])
def test_any_optimizer_trains_as_in_the_loop_of_the_course(optimizer):
    results = []
    for run in (mlp_resnet.epoch, lambda loader, model, opt=None: course_epoch(model, opt)):
        model = small_model()
        opt = optimizer(model.parameters())
        results.append([run(batches(), model, opt) for _ in range(3)])
        results[-1].append(run(batches(), model))
        results[-1].append(getattr(opt, "t", None))
        assert all(param.grad is not None for param in model.parameters())
    ours, theirs = results
    assert ours.pop() == theirs.pop()  # as many steps
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)


def test_a_model_that_cannot_be_compiled_trains():
    class Peek(nn.Module):
        def forward(self, x):
            return x * 2 if float(x.sum()) > 0 else x

    model = nn.Sequential(nn.Linear(6, 3), Peek())
    opt = ndl.optim.SGD(model.parameters(), lr=0.1)
    losses = [mlp_resnet.epoch(batches(), model, opt)[1] for _ in range(5)]
    assert losses[-1] < losses[0]
    assert mlp_resnet.epoch(batches(), model)[1] < losses[0]


def programs(model, opt):
    return mlp_resnet.compiled_step.__get__(model).__get__(opt).programs


@pytest.mark.parametrize("optimizer", [ndl.optim.Adam, Momentum])
def test_epochs_share_their_programs(optimizer):
    model = small_model()
    opt = optimizer(model.parameters())
    for _ in range(4):
        mlp_resnet.epoch(batches(), model, opt)
        mlp_resnet.epoch(batches(), model)
    assert len(programs(model, opt)) == 2
    assert len(mlp_resnet.compiled_step.__get__(model).programs) == 2


@pytest.mark.parametrize("optimizer", [ndl.optim.Adam, CountingMomentum])
@pytest.mark.parametrize("first", ["model", "optimizer"])
def test_an_epoch_keeps_neither_model_nor_optimizer_alive(optimizer, first):
    model = small_model()
    opt = optimizer(model.parameters())
    for _ in range(2):
        mlp_resnet.epoch(batches(), model, opt)
        mlp_resnet.epoch(batches(), model)
    references = {"model": weakref.ref(model), "optimizer": weakref.ref(opt)}
    if first == "model":
        del model
    else:
        del opt
    gc.collect()
    assert references[first]() is None


@pytest.fixture(scope="module")
def default_results(small_mnist):
    return mlp_resnet.train_mnist(data_dir=small_mnist[0])


@pytest.mark.parametrize("flag", [(), ("--eager",)])
def test_the_program_trains_and_prints_four_numbers(small_mnist, default_results, flag):
    folder = small_mnist[0]
    command = [sys.executable, "-W", "error", mlp_resnet.__file__, str(folder), *flag]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    names, numbers = zip(*[line.split(": ") for line in output.splitlines()], strict=True)
    assert [name.strip() for name in names] == [
        "training error",
        "training loss",
        "test error",
        "test loss",
    ]
    np.testing.assert_allclose([float(number) for number in numbers], default_results, atol=0.02)
