"""Losses that the course's public homework states, from the seeds and the data that it uses."""

import mlp_resnet
import numpy as np
import pytest

import needle as ndl
from needle import nn
from needle.optim import SGD, Adam
from tests.apps.mnist_files import DATA


def integers(*shape, high):
    np.random.seed(int(np.prod(shape)) * len(shape))
    return np.random.randint(0, high, size=shape)


def last_loss(optimizer, norm, compiled, options):
    """An epoch of 1024 samples in batches of 32, as in the homework on optimisers."""
    np.random.seed(42)
    between = [norm(32)] if norm else []
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), *between, nn.Linear(32, 16))
    loss_func = nn.SoftmaxLoss()
    opt = optimizer(model.parameters(), **options)

    def step(x, y):
        opt.reset_grad()
        loss = loss_func(model(x), y)
        loss.backward()
        opt.step()
        return loss

    run = ndl.jit(step) if compiled else step
    inputs = (integers(1024, 64, high=100) / 20).astype("float32")
    labels = integers(1024, high=16).astype(np.uint8)
    for x, y in zip(np.array_split(inputs, 32), np.array_split(labels, 32), strict=True):
        loss = run(ndl.Tensor(x), ndl.Tensor(y))
    return loss.numpy()


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize(
    ("optimizer", "norm", "options", "published"),
    [
        (SGD, None, {"lr": 0.01, "momentum": 0.0}, 3.207009),
        (SGD, None, {"lr": 0.01, "momentum": 0.9}, 3.311805),
        (SGD, None, {"lr": 0.01, "momentum": 0.0, "weight_decay": 0.01}, 3.202637),
        (SGD, None, {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.01}, 3.306993),
        (Adam, None, {"lr": 0.001}, 3.703999),
        (Adam, None, {"lr": 0.001, "weight_decay": 0.01}, 3.705134),
        (Adam, nn.BatchNorm1d, {"lr": 0.001, "weight_decay": 0.001}, 3.296256),
    ],
)
def test_an_epoch_of_a_small_network(optimizer, norm, options, published, compiled):
    loss = last_loss(optimizer, norm, compiled, options)
    np.testing.assert_allclose(loss, published, rtol=1e-5)


def loader(part, batch_size):
    files = [DATA / f"{part}-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1")]
    return ndl.data.DataLoader(ndl.data.MNISTDataset(*files), batch_size)


def test_an_untrained_residual_network_on_the_test_digits():
    np.random.seed(1)
    model = mlp_resnet.MLPResNet(784, 10)
    np.testing.assert_allclose(
        mlp_resnet.epoch(loader("t10k", 100), model), [0.9164, 4.137814], rtol=1e-5
    )


def test_an_epoch_of_a_residual_network():
    np.random.seed(1)
    model = mlp_resnet.MLPResNet(784, 5)
    opt = Adam(model.parameters(), lr=0.01, weight_decay=0.1)
    np.testing.assert_allclose(
        mlp_resnet.epoch(loader("train", 250), model, opt), [0.675267, 1.84043], rtol=1e-4
    )


@pytest.mark.fuzz
def test_two_epochs_of_a_residual_network():
    results = mlp_resnet.train_mnist(250, 2, SGD, 0.001, 0.01, 100, data_dir=DATA)
    np.testing.assert_allclose(results, [0.4875, 1.462595, 0.3245, 1.049429], rtol=1e-3)
