"""The networks other than MNIST's in Needle, eager and compiled."""

from __future__ import annotations

from typing import Any

import numpy as np

import needle as ndl
from needle import nn

from ..harness.networks import NETWORKS, NORM_EPS, Arrays, Layer, Network, Turns
from .needle_mlp import executor, limit


def build(network: str, threads: int | None, **settings: Any) -> Training:
    """The contestant for a network."""
    if threads is not None:
        limit(threads, compiled=settings["compiled"])
    return Training(NETWORKS[network], **settings)


class Table(nn.Module):
    """Rows of a matrix that is learned."""

    def __init__(self, rows: int, width: int, dtype: str) -> None:
        super().__init__()
        self.weight = nn.Parameter(ndl.zeros(rows, width, dtype=dtype))

    def forward(self, index: Any) -> Any:
        """(…,) → (…, width)."""
        return self.weight.take(index)


class Functions(nn.Module):
    """The words in which networks are described."""

    relu, tanh, sigmoid, gelu, exp = (
        staticmethod(function) for function in (ndl.relu, ndl.tanh, ndl.sigmoid, ndl.gelu, ndl.exp)
    )
    broadcast_to = staticmethod(ndl.broadcast_to)
    cross_entropy, squared_error = nn.SoftmaxLoss(), nn.MSELoss()
    binary_cross_entropy = nn.BCEWithLogitsLoss()

    def __init__(self, network: Network, weights: dict[str, Arrays], dtype: str) -> None:
        super().__init__()
        self.layers = {name: _layer(layer, dtype) for name, layer in network.layers.items()}
        for name, arrays in weights.items():
            for key, array in arrays.items():
                parameter = getattr(self.layers[name], key)
                values = array.reshape(parameter.shape)
                parameter.data = ndl.Tensor(values, dtype=dtype, requires_grad=False)

    def layer(self, name: str, x: Any) -> Any:
        """A layer's output."""
        return self.layers[name](x)

    def weight(self, name: str) -> Any:
        """A layer's weight."""
        return self.layers[name].weight

    def attention(self, q: Any, k: Any, v: Any) -> Any:
        """Causal attention of (batch, length, heads, width)."""
        length, width = q.shape[1], q.shape[3]
        scores = q.permute((0, 2, 1, 3)) @ k.permute((0, 2, 3, 1)) * width**-0.5
        ahead = np.triu(np.full((length, length), -1e9, q.dtype), 1)
        scores = scores + ndl.Tensor(ahead, requires_grad=False).broadcast_to(scores.shape)
        return (scores.softmax() @ v.permute((0, 2, 1, 3))).permute((0, 2, 1, 3))


def _layer(layer: Layer, dtype: str) -> Any:
    if layer.kind == "linear":
        return nn.Linear(*layer.sizes, bias=layer.bias, dtype=dtype)
    if layer.kind == "norm":
        return nn.LayerNorm1d(*layer.sizes, eps=NORM_EPS, dtype=dtype)
    return Table(*layer.sizes, dtype=dtype)


def training_step(network: Network, f: Functions, *, compiled: bool) -> Any:
    """A function (*batch) -> loss that trains the network."""
    optimizer = getattr(ndl.optim, network.optimizer)(f.parameters(), lr=network.lr)
    loss_of = network.loss

    def step(*batch: Any) -> Any:
        loss = loss_of(f, *batch)
        loss.backward()
        optimizer.step()
        optimizer.reset_grad()
        return loss.detach()

    return ndl.jit(step) if compiled else step


class Training(Turns):
    """Steps on a few batches in turn."""

    def __init__(self, network: Network, compiled: bool, dtype: str = "float32") -> None:
        ndl.seed(0)
        weights, batches = network.draw()
        step = training_step(network, Functions(network, weights, dtype), compiled=compiled)
        super().__init__(step, [tuple(_tensor(array, dtype) for array in b) for b in batches])

    def executor(self) -> str:
        """What ran."""
        return executor(self.step)


def _tensor(array: np.ndarray, dtype: str) -> Any:
    if array.dtype.kind == "f":
        array = array.astype(dtype)
    return ndl.Tensor(array, requires_grad=False)
