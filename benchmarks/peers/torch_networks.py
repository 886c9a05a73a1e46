"""The networks other than MNIST's in PyTorch: eager and compiled, with fused optimisers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from ..harness.networks import (
    BETA1,
    BETA2,
    EPS,
    NETWORKS,
    NORM_EPS,
    Arrays,
    Layer,
    Network,
    Turns,
)


def build(network: str, threads: int | None, **settings: Any) -> Training:
    """The contestant for a network."""
    if threads is not None:
        torch.set_num_threads(threads)
    return Training(NETWORKS[network], **settings)


class Functions(nn.Module):
    """The words in which networks are described."""

    relu, tanh, sigmoid, exp, gelu = (
        staticmethod(function)
        for function in (torch.relu, torch.tanh, torch.sigmoid, torch.exp, nn.functional.gelu)
    )
    broadcast_to = staticmethod(torch.broadcast_to)
    cross_entropy = staticmethod(nn.functional.cross_entropy)
    squared_error = staticmethod(nn.functional.mse_loss)
    binary_cross_entropy = staticmethod(nn.functional.binary_cross_entropy_with_logits)

    def __init__(self, network: Network, weights: dict[str, Arrays]) -> None:
        super().__init__()
        self.layers = nn.ModuleDict({name: _layer(x) for name, x in network.layers.items()})
        with torch.no_grad():
            for name, arrays in weights.items():
                for key, array in arrays.items():
                    transposed = network.layers[name].kind == "linear" and key == "weight"
                    values = torch.from_numpy(array.T.copy() if transposed else array)
                    getattr(self.layers[name], key).copy_(values)

    def layer(self, name: str, x: Any) -> Any:
        """A layer's output."""
        return self.layers[name](x)

    def weight(self, name: str) -> Any:
        """A layer's weight."""
        return self.layers[name].weight

    @staticmethod
    def attention(q: Any, k: Any, v: Any) -> Any:
        """Causal attention of (batch, length, heads, width)."""
        heads = (x.transpose(1, 2) for x in (q, k, v))
        mixed = nn.functional.scaled_dot_product_attention(*heads, is_causal=True)
        return mixed.transpose(1, 2)


def _layer(layer: Layer) -> nn.Module:
    if layer.kind == "linear":
        return nn.Linear(*layer.sizes, bias=layer.bias)
    if layer.kind == "norm":
        return nn.LayerNorm(*layer.sizes, eps=NORM_EPS)
    return nn.Embedding(*layer.sizes)


def training_step(network: Network, f: Functions, *, compiled: bool) -> Any:
    """A function (*batch) -> loss that trains the network."""
    if network.optimizer == "Adam":
        optimizer: Any = torch.optim.Adam(
            f.parameters(), lr=network.lr, betas=(BETA1, BETA2), eps=EPS, fused=True
        )
    else:
        optimizer = torch.optim.SGD(f.parameters(), lr=network.lr, fused=True)

    def loss_of(*batch: Any) -> Any:
        return network.loss(f, *batch)

    forward = torch.compile(loss_of) if compiled else loss_of

    def step(*batch: Any) -> Any:
        optimizer.zero_grad()
        loss = forward(*batch)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


class Training(Turns):
    """Steps on a few batches in turn."""

    def __init__(self, network: Network, compiled: bool, dtype: str = "float32") -> None:
        weights, batches = network.draw()
        f = Functions(network, weights).to(getattr(torch, dtype))
        step = training_step(network, f, compiled=compiled)
        super().__init__(step, [tuple(_tensor(array, dtype) for array in b) for b in batches])


def _tensor(array: np.ndarray, dtype: str) -> Any:
    tensor = torch.from_numpy(array)
    return tensor.to(getattr(torch, dtype)) if tensor.is_floating_point() else tensor.long()
