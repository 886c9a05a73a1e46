"""apps/mlp_resnet.py against the whole of it in NumPy, seeds and draws included."""

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
