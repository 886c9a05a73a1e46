"""Operators: one class each, with its function right below it.

Operands of an elementwise operator have equal shapes; only `power` broadcasts by itself.
"""

from ..graph.node import Value
from ..graph.op import Op, TensorOp, TensorTupleOp
from . import functions, reduction
from .activations import GELU, ReLU, ReLUGradient, SiLU, Step, gelu, relu, silu, step
from .affine import Affine, FeatureDot, Scale, ScaleShift, affine, scale_shift
from .arithmetic import (
    AddScalar,
    DivScalar,
    EWiseAdd,
    EWiseDiv,
    EWiseMul,
    MulScalar,
    Negate,
    add,
    add_scalar,
    divide,
    divide_scalar,
    mul_scalar,
    multiply,
    negate,
)
from .batch_norm import BatchNorm, BatchNormGradient, BatchStatistics, batch_norm
from .comparison import (
    Cast,
    Clip,
    Equal,
    Less,
    LessEqual,
    Maximum,
    Minimum,
    NotEqual,
    StopGradient,
    Where,
    clip,
    equal,
    greater,
    greater_equal,
    less,
    less_equal,
    maximum,
    minimum,
    not_equal,
    where,
)
from .contraction import MatMul, TransposedMatMul, matmul
from .creation import Arange, Full, arange, full
from .einsum import einsum
from .exponential import LogSoftmax, LogSumExp, Softmax, logsoftmax, logsumexp, softmax
from .functions import (
    Abs,
    Cos,
    Erf,
    Exp,
    Log,
    Sigmoid,
    Sign,
    Sin,
    Sqrt,
    Tanh,
    cos,
    erf,
    exp,
    log,
    sigmoid,
    sign,
    sin,
    sqrt,
    tanh,
)
from .indexing import OneHot, Pick, ScatterAdd, Take, one_hot, pick, take
from .loss import BCEWithLogits, CrossEntropy, CrossEntropyGradient, bce_with_logits, cross_entropy
from .movement import (
    BroadcastTo,
    Permute,
    Reshape,
    Transpose,
    broadcast_to,
    permute,
    reshape,
    transpose,
)
from .normalization import Moments, Standardize, StandardizeGradient, moments, standardize
from .power import EWisePow, PowerScalar, power, power_scalar
from .random import Bernoulli, Normal, Uniform
from .reduction import (
    ArgMax,
    Max,
    Min,
    Summation,
    argmax,
    mean,
    summation,
    var,
)
from .slicing import Concatenate, Slice, Unslice, concatenate, pad
from .tuples import (
    FusedAddScalars,
    MakeTensorTuple,
    TupleGetItem,
    fused_add_scalars,
    make_tuple,
    tuple_get_item,
)
from .update import (
    AdamDecayUpdate,
    AdamEps,
    AdamRate,
    AdamUpdate,
    AdamWUpdate,
    MomentumUpdate,
    SGDUpdate,
)

# Not in __all__: a star import leaves Python's own functions alone, as NumPy's does.
abs, max, min = functions.abs, reduction.max, reduction.min

__all__ = [
    "GELU", "Abs", "AdamDecayUpdate", "AdamEps", "AdamRate", "AdamUpdate", "AdamWUpdate",
    "AddScalar", "Affine", "Arange", "ArgMax", "BCEWithLogits", "BatchNorm", "BatchNormGradient",
    "BatchStatistics", "Bernoulli", "BroadcastTo", "Cast", "Clip", "Concatenate", "Cos",
    "CrossEntropy", "CrossEntropyGradient", "DivScalar", "EWiseAdd", "EWiseDiv", "EWiseMul",
    "EWisePow", "Equal", "Erf", "Exp", "FeatureDot", "Full", "FusedAddScalars", "Less", "LessEqual",
    "Log", "LogSoftmax", "LogSumExp", "MakeTensorTuple", "MatMul", "Max", "Maximum", "Min",
    "Minimum", "Moments", "MomentumUpdate", "MulScalar", "Negate", "Normal", "NotEqual", "OneHot",
    "Op", "Permute", "Pick", "PowerScalar", "ReLU", "ReLUGradient", "Reshape", "SGDUpdate", "Scale",
    "ScaleShift", "ScatterAdd", "SiLU", "Sigmoid", "Sign", "Sin", "Slice", "Softmax", "Sqrt",
    "Standardize", "StandardizeGradient", "Step", "StopGradient", "Summation", "Take", "Tanh",
    "TensorOp", "TensorTupleOp", "Transpose", "TransposedMatMul", "TupleGetItem", "Uniform",
    "Unslice", "Value", "Where", "add", "add_scalar", "affine", "arange", "argmax", "batch_norm",
    "bce_with_logits", "broadcast_to", "clip", "concatenate", "cos", "cross_entropy", "divide",
    "divide_scalar", "einsum", "equal", "erf", "exp", "full", "fused_add_scalars", "gelu",
    "greater", "greater_equal", "less", "less_equal", "log", "logsoftmax", "logsumexp",
    "make_tuple", "matmul", "maximum", "mean", "minimum", "moments", "mul_scalar", "multiply",
    "negate", "not_equal", "one_hot", "pad", "permute", "pick", "power", "power_scalar", "relu",
    "reshape", "scale_shift", "sigmoid", "sign", "silu", "sin", "softmax", "sqrt", "standardize",
    "step", "summation", "take", "tanh", "transpose", "tuple_get_item", "var", "where",
]  # fmt: skip
