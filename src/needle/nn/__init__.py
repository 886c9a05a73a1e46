"""Layers and losses."""

from __future__ import annotations

from .. import hints
from .activations import GELU, ReLU, Sigmoid, SiLU, Softmax, Tanh
from .basic import Dropout, Flatten, Identity, Linear, Residual, Sequential
from .loss import BCEWithLogitsLoss, MSELoss, SoftmaxLoss
from .module import Module, Parameter
from .normalization import BatchNorm1d, LayerNorm1d

__all__ = [
    "GELU", "BCEWithLogitsLoss", "BatchNorm1d", "Dropout", "Flatten", "Identity", "LayerNorm1d",
    "Linear", "MSELoss", "Module", "Parameter", "ReLU", "Residual", "Sequential", "SiLU", "Sigmoid",
    "Softmax", "SoftmaxLoss", "Tanh",
]  # fmt: skip

hints.give(__name__, hints.NN)
