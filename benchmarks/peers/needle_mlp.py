"""The MLP ResNet in Needle, eager and compiled."""

from __future__ import annotations

from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

import needle as ndl
from needle import nn
from needle.native import llvm
from needle.native.threads import Program
from needle.native.threads import threads as native_threads

from ..harness import problem
from ..harness.process import ROOT


def build(task: str, threads: int | None, **settings: Any) -> Any:
    """The contestant for a task."""
    if threads is not None:
        limit(threads, compiled=settings["compiled"])
    return {"training": Training, "epoch": Epoch, "inference": Inference}[task](**settings)


def limit(threads: int, *, compiled: bool) -> None:
    """Use so many threads; who cannot be held to a number has no row that claims one."""
    ndl.set_num_threads(1)
    if compiled and native_threads() != 1:
        raise RuntimeError("ndl.set_num_threads does not reach compiled programs")
    ndl.set_num_threads(threads)


def executor(function: Any) -> str:
    """What ran a function: "eager", "native", or why a program is not native."""
    programs = getattr(function, "programs", None)
    if programs is None:
        return "eager"
    return ", ".join(sorted({program.backend for program in programs})) or "no program was made"


class Clock:
    """Times native programs that are made while it is there, and calls of what runs them."""

    def __init__(self) -> None:
        self._native = 0.0
        run = Program.run

        def timed(program: Program) -> None:
            start = perf_counter()
            run(program)
            self._native += perf_counter() - start

        Program.run = timed

    def parts(self, call: Any, calls: int) -> dict[str, float]:
        """Median seconds of a call, of the native part, and of the rest."""
        whole, native = [], []
        for _ in range(calls):
            self._native = 0.0
            start = perf_counter()
            call()
            whole.append(perf_counter() - start)
            native.append(self._native)
        rest = [all_ - part for all_, part in zip(whole, native, strict=True)]
        return {"whole": median(whole), "native": median(native), "python": median(rest)}


def network(task: problem.Problem, dropout: float) -> Any:
    """Needle's own model with the problem's weights."""
    model = ndl.models.MLPResNet(problem.PIXELS, task.hidden, problem.BLOCKS, drop_prob=dropout)
    modules = [module for _, module in model.named_modules()]
    linears = [module for module in modules if isinstance(module, nn.Linear)]
    norms = [module for module in modules if isinstance(module, nn.BatchNorm1d)]
    for i, linear in enumerate(linears):
        _fill(linear.weight, task.weights[f"linear{i}.weight"])
        _fill(linear.bias, task.weights[f"linear{i}.bias"])
    for i, norm in enumerate(norms):
        _fill(norm.weight, task.weights[f"norm{i}.weight"])
        _fill(norm.bias, task.weights[f"norm{i}.bias"])
        _fill(norm.running_mean, task.weights[f"norm{i}.mean"])
        _fill(norm.running_var, task.weights[f"norm{i}.variance"])
    return model


def training_step(model: Any, *, compiled: bool) -> Any:
    """A function (x, y) -> loss that trains the model."""
    loss_function = nn.SoftmaxLoss()
    optimizer = ndl.optim.Adam(model.parameters(), lr=problem.LR, weight_decay=problem.WEIGHT_DECAY)

    def step(x: Any, y: Any) -> Any:
        loss = loss_function(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.reset_grad()
        return loss.detach()

    return ndl.jit(step) if compiled else step


class Training:
    """Steps on a few batches in turn.

    Args:
        stream: "philox" after `ndl.seed(0)`, or "numpy", which is what Needle starts with.
    """

    def __init__(self, path: str, dropout: float, compiled: bool, stream: str = "philox") -> None:
        np.random.seed(0)  # noqa: NPY002 - the stream of the row that says so
        ndl.seed(0 if stream == "philox" else None)
        self._task = problem.read(path)
        self._compiled = compiled
        self._step = training_step(network(self._task, dropout), compiled=compiled)
        self._batches = [
            (ndl.Tensor(x, requires_grad=False), ndl.Tensor(y, requires_grad=False))
            for x, y in zip(self._task.x, self._task.y, strict=True)
        ]
        self._number = 0

    def executor(self) -> str:
        """What ran."""
        return executor(self._step)

    def run(self, count: int) -> None:
        """`count` steps."""
        for _ in range(count):
            self._number = (self._number + 1) % len(self._batches)
            self._step(*self._batches[self._number])

    def check(self, steps: int) -> list[float]:
        """Losses of the first steps without dropout."""
        step = training_step(network(self._task, 0), compiled=self._compiled)
        return [float(step(*self._batches[i])) for i in range(steps)]

    def parts_of_a_call(self, calls: int) -> dict[str, float]:
        """What calls of a newly compiled step take."""
        clock = Clock()
        self._step = training_step(network(self._task, problem.DROPOUT), compiled=True)
        self.run(20)
        return clock.parts(lambda: self.run(1), calls)

    def first_result(self) -> float:
        """Seconds from the call that compiles to its loss."""
        self._step(*self._batches[0])  # the eager call in which the optimiser's state appears
        llvm.unavailable()  # imports llvmlite
        start = perf_counter()
        float(self._step(*self._batches[1]))
        return perf_counter() - start


class Epoch:
    """Epochs of MNIST, with Needle's data set and loader."""

    def __init__(self, path: str, data: str, batch: int, compiled: bool) -> None:
        ndl.seed(0)
        model = nn.Sequential(nn.Flatten(), network(problem.read(path), problem.DROPOUT))
        self._step = training_step(model, compiled=compiled)
        files = [
            ROOT / "data" / f"train-{name}-ubyte.gz" for name in ("images-idx3", "labels-idx1")
        ]
        self._loader = ndl.data.DataLoader(ndl.data.MNISTDataset(*files), batch, shuffle=True)

    def executor(self) -> str:
        """What ran."""
        return executor(self._step)

    def epoch(self, batches: int) -> float:
        """So many steps over newly shuffled images; the mean loss."""
        losses = [
            self._step(*batch) for _, batch in zip(range(batches), self._loader, strict=False)
        ]
        return float(np.mean([float(loss) for loss in losses]))

    def loading(self, batches: int) -> None:
        """The same batches, and nothing done with them."""
        for _ in zip(range(batches), self._loader, strict=False):
            pass


class Inference:
    """Logits of one batch as an array, from an array."""

    def __init__(self, path: str, batch: int, compiled: bool) -> None:
        task = problem.read(path)
        model = network(task, 0).eval()
        self._model, self._compiled = model, compiled
        self._call = ndl.jit(model) if compiled else model
        self._x = np.ascontiguousarray(task.x.reshape(-1, problem.PIXELS)[:batch])

    def executor(self) -> str:
        """What ran."""
        return executor(self._call)

    def run(self, count: int) -> None:
        """`count` calls. Compiled functions take arrays; a model itself takes tensors."""
        call, x = self._call, self._x
        with ndl.no_grad():
            if self._compiled:
                for _ in range(count):
                    call(x).numpy()
            else:
                for _ in range(count):
                    call(ndl.Tensor.wrap(x)).numpy()

    def parts_of_a_call(self, calls: int) -> dict[str, float]:
        """What calls of the newly compiled model take, the result's array left out."""
        clock = Clock()
        call, x = ndl.jit(self._model), self._x
        with ndl.no_grad():
            for _ in range(20):
                call(x)
            return clock.parts(lambda: call(x), calls)

    def check(self) -> list[float]:
        """The logits."""
        with ndl.no_grad():
            results = [self._call(ndl.Tensor.wrap(self._x)).numpy() for _ in range(3)]
        return results[-1].ravel().tolist()


def _fill(tensor: Any, values: np.ndarray) -> None:
    tensor.data = ndl.Tensor(values.reshape(tensor.shape), requires_grad=False)
