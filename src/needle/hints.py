"""Functions and classes that PyTorch has and Needle has not, and what to write instead.

Such a name is an AttributeError like any other that is not there; its message has the fix.
"""

from __future__ import annotations

import sys
from typing import NoReturn

NEEDLE = {
    "sub mul div pow neg subtract": "x + y, x - y, x * y, x / y, x**y or -x",
    "square rsqrt reciprocal": "x * x, x**-0.5 or 1 / x",
    "eq ne lt le gt ge": "x.equal(y), or not_equal, less, less_equal, greater, greater_equal",
    "logical_and logical_or logical_not": "a * b, a.maximum(b) or a.equal(False) for masks",
    "clamp": "x.clip(low, high)",
    "amax amin argmin": "x.max(axis), x.min(axis) or (-x).argmax(axis)",
    "std norm": "x.var(axes).sqrt() or (x * x).sum().sqrt()",
    "log_softmax": "x.logsoftmax()",
    "flatten squeeze unsqueeze ravel": "x.reshape(shape)",
    "t swapaxes": "x.T, or x.transpose(0, 1)",
    "tile": "x.broadcast_to(shape), or ndl.concatenate([x, x])",
    "split chunk unbind flip": "slices: x[:2], x[2:], or x[::-1]",
    "mm bmm mv dot": "x @ y",
    "masked_fill": "ndl.where(mask, value, x)",
    "gather index_select": "x.pick(index) for one a row, or x.take(index, axis)",
    "clone": "x alone, or x.detach(), whose values stay when x is a parameter and is trained",
    "numel": "x.size",
    "all any isnan isinf isfinite round floor sort topk cumsum prod": (
        "NumPy's function of x.numpy(), which has no gradient"
    ),
    "cat hstack vstack": "ndl.concatenate([a, b], axis)",
    "stack": "ndl.concatenate([a[None], b[None]])",
    "sum": "ndl.summation(x, axes)",
    "from_numpy as_tensor": "ndl.Tensor(array), or ndl.Tensor.wrap(array) without a copy",
    "FloatTensor LongTensor": 'ndl.Tensor(values, dtype="float32")',
    "float16 float32 float64 float int32 int64 long int bool": 'dtype="float32", as text',
    "manual_seed": "ndl.seed(n)",
    "empty": "ndl.zeros(shape)",
    "eye linspace tril triu randint randperm": "ndl.Tensor(array) of NumPy's function",
    "rand_like randn_like": "ndl.rand(*x.shape) or ndl.randn(*x.shape)",
    "allclose isclose": "NumPy's function, which takes tensors",
    "is_tensor": "isinstance(x, ndl.Tensor)",
    "set_grad_enabled inference_mode": "ndl.no_grad() or ndl.enable_grad()",
    "compile": "ndl.jit(step)",
    "utils": "ndl.data.DataLoader",
}

NN = {
    "CrossEntropyLoss NLLLoss": "nn.SoftmaxLoss(), which takes logits",
    "BCELoss": "nn.BCEWithLogitsLoss(), which takes logits",
    "L1Loss": "(x - y).abs().mean()",
    "ModuleList ParameterList ModuleDict ParameterDict": "a list or dict as an attribute",
    "LayerNorm": "nn.LayerNorm1d(dim)",
    "LogSoftmax": "x.logsoftmax()",
    "LeakyReLU ELU Softplus": "a function: Sequential takes functions, too",
    "functional": "ndl.relu(x) and the like",
    "init": "ndl.init, which makes tensors",
    "utils": "optimizer.clip_grad_norm(max_norm)",
}

OPTIM = {
    "lr_scheduler": "ndl.optim.StepLR, ndl.optim.CosineLR or ndl.optim.Schedule",
    "CosineAnnealingLR": "ndl.optim.CosineLR(optimizer, total)",
    "LambdaLR ExponentialLR MultiStepLR OneCycleLR": (
        "a subclass of ndl.optim.Schedule with factor(step)"
    ),
    "RMSprop Adagrad Adadelta Adamax NAdam RAdam LBFGS": (
        "a subclass of ndl.optim.Optimizer with update(param, grad, state)"
    ),
}

DATA = {
    "TensorDataset": "ndl.data.NDArrayDataset(x, y)",
    "Subset random_split ConcatDataset": "ndl.data.NDArrayDataset(x[indices], y[indices])",
}


def by_name(table: dict[str, str]) -> dict[str, str]:
    """What to write instead of each name of a table."""
    return {name: instead for names, instead in table.items() for name in names.split()}


def give(name: str, table: dict[str, str]) -> None:
    """Let a module say what to write instead of names that it has not.

    Type checkers see nothing of it, and go on to report such names.
    """
    module, hints = sys.modules[name], by_name(table)

    def __getattr__(asked: str) -> NoReturn:  # noqa: N807
        fix = f". Write {hints[asked]}" if asked in hints else ""
        message = f"module {name!r} has no attribute {asked!r}{fix}"
        raise AttributeError(message, name=asked, obj=module)

    vars(module)["__getattr__"] = __getattr__
