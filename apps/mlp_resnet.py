"""The course's MLP ResNet on MNIST: `python apps/mlp_resnet.py` trains it.

The functions have the course's names, seeds and numbers; the model itself is
`needle.models.MLPResNet`. Steps are compiled, for any model and optimiser that can be; with
`--eager`, or `NEEDLE_JIT=0` in the environment, none is.
"""

from __future__ import annotations

import argparse
import os
from weakref import WeakSet

import numpy as np

import needle as ndl
import needle.nn as nn
from needle.models import MLPResNet, ResidualBlock

__all__ = ["MLPResNet", "ResidualBlock", "epoch", "ndl", "nn", "np", "train_mnist"]

np.random.seed(0)


def step(model, opt, x, y):
    """Logits and loss of one batch; with an optimiser also one step of training."""
    logits = model(nn.Flatten()(x))
    loss = nn.SoftmaxLoss()(logits, y)
    if opt:
        opt.reset_grad()
        loss.backward()
        opt.step()
    return logits.detach(), loss.detach()


compiled_step = ndl.jit(step)
untraceable = WeakSet()


def run(model, opt, x, y):
    """The step as a program, or as it is where it does what a program could not repeat."""
    # Bound like a method, to both: compiled code dies with the model or the optimiser.
    bound, arguments = compiled_step.__get__(model), (None, x, y)
    if opt:
        bound, arguments = bound.__get__(opt), (x, y)
    if bound not in untraceable:
        try:
            return bound(*arguments)
        except (ndl.TraceError, ndl.CompileError):  # everything is as it was before the call
            untraceable.add(bound)
    return step(model, opt, x, y)


def epoch(dataloader, model, opt=None):
    """One pass over the data: training with an optimiser, evaluation without.

    Args:
        dataloader: Yields (images, labels); images are flattened.
        model: Gives logits.
        opt: Optimiser, or None.

    Returns:
        (error rate, mean loss over samples), as Python floats.
    """
    np.random.seed(4)
    model.train() if opt else model.eval()
    wrong, loss_sum, samples = 0, 0.0, 0
    for x, y in dataloader:
        logits, loss = run(model, opt, x, y)
        wrong += int((logits.numpy().argmax(axis=1) != y.numpy()).sum())
        loss_sum += float(loss) * y.shape[0]
        samples += y.shape[0]
    return wrong / samples, loss_sum / samples


def train_mnist(
    batch_size=100,
    epochs=10,
    optimizer=ndl.optim.Adam,
    lr=0.001,
    weight_decay=0.001,
    hidden_dim=100,
    data_dir="data",
):
    """Train the MLP ResNet on MNIST.

    Returns:
        (training error, training loss, test error, test loss) of the last epoch.
    """
    np.random.seed(4)
    train_set, test_set = (
        ndl.data.MNISTDataset(
            f"{data_dir}/{part}-images-idx3-ubyte.gz", f"{data_dir}/{part}-labels-idx1-ubyte.gz"
        )
        for part in ("train", "t10k")
    )
    train_loader = ndl.data.DataLoader(train_set, batch_size=batch_size, shuffle=True)
    test_loader = ndl.data.DataLoader(test_set, batch_size=batch_size)
    model = MLPResNet(784, hidden_dim=hidden_dim)
    opt = optimizer(model.parameters(), lr=lr, weight_decay=weight_decay)
    train_error = train_loss = float("nan")
    for _ in range(epochs):
        train_error, train_loss = epoch(train_loader, model, opt)
    test_error, test_loss = epoch(test_loader, model)
    return train_error, train_loss, test_error, test_loss


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train the MLP ResNet on MNIST.")
    parser.add_argument("data_dir", nargs="?", default="data", help="folder of the IDX files")
    parser.add_argument("--eager", action="store_true", help="run as written, without compiling")
    options = parser.parse_args()
    if options.eager:
        os.environ["NEEDLE_JIT"] = "0"
    results = train_mnist(data_dir=options.data_dir)
    labels = ("training error", "training loss", "test error", "test loss")
    for label, result in zip(labels, results, strict=True):
        print(f"{label:>14}: {result:.4f}")
