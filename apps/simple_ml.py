"""The course's first network: two layers and plain SGD, on MNIST."""

from __future__ import annotations

import numpy as np

import needle as ndl
import needle.nn as nn
from needle.data import MNISTDataset

__all__ = ["loss_err", "ndl", "nn", "nn_epoch", "np", "parse_mnist", "softmax_loss"]


def parse_mnist(image_filename, label_filename):
    """Read MNIST from its two files.

    Returns:
        (images, labels): float32 (n, 784) in [0, 1], and uint8 (n,).
    """
    digits = MNISTDataset(image_filename, label_filename)
    return digits.X.reshape(len(digits), -1).astype(np.float32) / np.float32(255), digits.y


def softmax_loss(Z, y_one_hot):
    """Mean of ln Σ exp(Z) - Z[y] over the batch, differentiable in both arguments.

    Args:
        Z: Logits, (batch, classes).
        y_one_hot: Tensor of the same shape, 1 at the right class and 0 elsewhere.
    """
    return (ndl.logsumexp(Z, axes=(1,)) - (Z * y_one_hot).sum(axes=(1,))).sum() / Z.shape[0]


def nn_epoch(X, y, W1, W2, lr=0.1, batch=100):
    """One epoch of SGD on relu(X W1) W2, over the samples in order.

    Args:
        X: Inputs, (n, dim) NumPy array.
        y: Class indices, (n,) NumPy array.
        W1, W2: Weights, as tensors.
        lr: Learning rate.
        batch: Batch size.

    Returns:
        The new (W1, W2).
    """
    classes = W2.shape[1]
    for start in range(0, X.shape[0], batch):
        x = ndl.Tensor(X[start : start + batch], requires_grad=False)
        labels = ndl.Tensor(y[start : start + batch], requires_grad=False)
        hit = ndl.one_hot(classes, labels, dtype=W2.dtype)
        loss = softmax_loss(ndl.relu(x @ W1) @ W2, hit)
        loss.backward()
        for W in (W1, W2):
            W.data = W.data - lr * W.grad.data
    return W1, W2


def loss_err(h, y):
    """Softmax loss and error rate of logits h for class indices y, as NumPy numbers."""
    y_one_hot = np.zeros((y.shape[0], h.shape[-1]))
    y_one_hot[np.arange(y.size), y] = 1
    loss = softmax_loss(h, ndl.Tensor(y_one_hot))
    return loss.numpy(), np.mean(h.numpy().argmax(axis=1) != y)
