"""Needle: a small, clear, exact and fast deep-learning library for the CPU.

Tensors record how they were computed; `backward` derives gradients, which are tensors of the graph
too.

>>> import needle as ndl
>>> x = ndl.Tensor([1.0, 2.0, 3.0])
>>> (x * x).sum().backward()
>>> x.grad.numpy()
array([2., 4., 6.])
"""

from __future__ import annotations

from . import (
    allocator,
    autograd,
    backend_selection,
    data,
    hints,
    init,
    models,
    nn,
    ops,
    optim,
    random,
    training,
)
from .check import check_gradients
from .context import enable_grad, implicit_broadcasting, no_grad
from .device import Device, all_devices, cpu, cpu_numpy, cuda, default_device
from .errors import (
    ArgumentError,
    BackendError,
    CheckpointError,
    CompileError,
    DataError,
    DTypeError,
    GradientError,
    IndexRangeError,
    NeedleError,
    NonFiniteError,
    ShapeError,
    StateError,
    TraceError,
)
from .graph.evaluate import check_finite
from .graph.gradient import grad, value_and_grad
from .graph.node import Value
from .graph.op import Op, TensorOp, TensorTupleOp
from .init import ones, ones_like, rand, randn, zeros, zeros_like
from .jit import explain, jit
from .models import summary
from .ops import (
    GELU,
    Abs,
    AdamDecayUpdate,
    AdamEps,
    AdamRate,
    AdamUpdate,
    AdamWUpdate,
    AddScalar,
    Affine,
    Arange,
    ArgMax,
    BatchNorm,
    BatchNormGradient,
    BatchStatistics,
    BCEWithLogits,
    Bernoulli,
    BroadcastTo,
    Cast,
    Clip,
    Concatenate,
    Cos,
    CrossEntropy,
    CrossEntropyGradient,
    DivScalar,
    Equal,
    Erf,
    EWiseAdd,
    EWiseDiv,
    EWiseMul,
    EWisePow,
    Exp,
    FeatureDot,
    Full,
    FusedAddScalars,
    Less,
    LessEqual,
    Log,
    LogSoftmax,
    LogSumExp,
    MakeTensorTuple,
    MatMul,
    Max,
    Maximum,
    Min,
    Minimum,
    Moments,
    MomentumUpdate,
    MulScalar,
    Negate,
    Normal,
    NotEqual,
    OneHot,
    Permute,
    Pick,
    PowerScalar,
    ReLU,
    ReLUGradient,
    Reshape,
    Scale,
    ScaleShift,
    ScatterAdd,
    SGDUpdate,
    Sigmoid,
    Sign,
    SiLU,
    Sin,
    Slice,
    Softmax,
    Sqrt,
    Standardize,
    StandardizeGradient,
    Step,
    StopGradient,
    Summation,
    Take,
    Tanh,
    Transpose,
    TransposedMatMul,
    TupleGetItem,
    Uniform,
    Unslice,
    Where,
    add,
    add_scalar,
    affine,
    arange,
    argmax,
    batch_norm,
    bce_with_logits,
    broadcast_to,
    clip,
    concatenate,
    cos,
    cross_entropy,
    divide,
    divide_scalar,
    einsum,
    equal,
    erf,
    exp,
    full,
    fused_add_scalars,
    gelu,
    greater,
    greater_equal,
    less,
    less_equal,
    log,
    logsoftmax,
    logsumexp,
    make_tuple,
    matmul,
    maximum,
    mean,
    minimum,
    moments,
    mul_scalar,
    multiply,
    negate,
    not_equal,
    one_hot,
    pad,
    permute,
    pick,
    power,
    power_scalar,
    relu,
    reshape,
    scale_shift,
    sigmoid,
    sign,
    silu,
    sin,
    softmax,
    sqrt,
    standardize,
    step,
    summation,
    take,
    tanh,
    transpose,
    tuple_get_item,
    var,
    where,
)
from .printing import graph_text, print_graph
from .random import seed
from .serialization import load, save
from .tensor import Tensor
from .tensor_tuple import TensorTuple
from .threads import get_num_threads, set_num_threads

__version__ = "0.1.0"

allocator.keep_freed_memory()

# Not in __all__: a star import leaves Python's own functions alone, as NumPy's does.
abs, max, min = ops.abs, ops.max, ops.min

hints.give(__name__, hints.NEEDLE)

__all__ = [
    "GELU", "Abs", "AdamDecayUpdate", "AdamEps", "AdamRate", "AdamUpdate", "AdamWUpdate",
    "AddScalar", "Affine", "Arange", "ArgMax", "ArgumentError", "BCEWithLogits", "BackendError",
    "BatchNorm", "BatchNormGradient", "BatchStatistics", "Bernoulli", "BroadcastTo", "Cast",
    "CheckpointError", "Clip", "CompileError", "Concatenate", "Cos", "CrossEntropy",
    "CrossEntropyGradient", "DTypeError", "DataError", "Device", "DivScalar", "EWiseAdd",
    "EWiseDiv", "EWiseMul", "EWisePow", "Equal", "Erf", "Exp", "FeatureDot", "Full",
    "FusedAddScalars", "GradientError", "IndexRangeError", "Less", "LessEqual", "Log", "LogSoftmax",
    "LogSumExp", "MakeTensorTuple", "MatMul", "Max", "Maximum", "Min", "Minimum", "Moments",
    "MomentumUpdate", "MulScalar", "NeedleError", "Negate", "NonFiniteError", "Normal", "NotEqual",
    "OneHot", "Op", "Permute", "Pick", "PowerScalar", "ReLU", "ReLUGradient", "Reshape",
    "SGDUpdate", "Scale", "ScaleShift", "ScatterAdd", "ShapeError", "SiLU", "Sigmoid", "Sign",
    "Sin", "Slice", "Softmax", "Sqrt", "Standardize", "StandardizeGradient", "StateError", "Step",
    "StopGradient", "Summation", "Take", "Tanh", "Tensor", "TensorOp", "TensorTuple",
    "TensorTupleOp", "TraceError", "Transpose", "TransposedMatMul", "TupleGetItem", "Uniform",
    "Unslice", "Value", "Where", "add", "add_scalar", "affine", "all_devices", "arange", "argmax",
    "autograd", "backend_selection", "batch_norm", "bce_with_logits", "broadcast_to",
    "check_finite", "check_gradients", "clip", "concatenate", "cos", "cpu", "cpu_numpy",
    "cross_entropy", "cuda", "data", "default_device", "divide", "divide_scalar", "einsum",
    "enable_grad", "equal", "erf", "exp", "explain", "full", "fused_add_scalars", "gelu",
    "get_num_threads", "grad", "graph_text", "greater", "greater_equal", "implicit_broadcasting",
    "init", "jit", "less", "less_equal", "load", "log", "logsoftmax", "logsumexp", "make_tuple",
    "matmul", "maximum", "mean", "minimum", "models", "moments", "mul_scalar", "multiply", "negate",
    "nn", "no_grad", "not_equal", "one_hot", "ones", "ones_like", "ops", "optim", "pad", "permute",
    "pick", "power", "power_scalar", "print_graph", "rand", "randn", "random", "relu", "reshape",
    "save", "scale_shift", "seed", "set_num_threads", "sigmoid", "sign", "silu", "sin", "softmax",
    "sqrt", "standardize", "step", "summary", "summation", "take", "tanh", "training", "transpose",
    "tuple_get_item", "value_and_grad", "var", "where", "zeros", "zeros_like",
]  # fmt: skip
