"""`step = ndl.jit(fn)`: which call runs eagerly, which traces, which runs the program."""

import inspect

import numpy as np
import pytest

import needle as ndl
from needle import nn


def counted(function):
    """The function, and a list that grows whenever its Python code runs."""
    runs = []

    def wrapper(*args, **kwargs):
        runs.append("run")
        return function(*args, **kwargs)

    return wrapper, runs


def square(x):
    return (x * x).sum()


def test_first_call_is_eager_second_traces_later_ones_run_the_program():
    function, runs = counted(square)
    step = ndl.jit(function)
    results, made = [], []
    for k in range(5):
        results.append(float(step(ndl.Tensor([1.0, k]))))
        made.append((len(runs), len(step.programs)))
    assert results == [1.0 + k * k for k in range(5)]
    assert made == [(1, 0), (2, 1), (2, 1), (2, 1), (2, 1)]
    assert step.programs[0].calls == 4


def test_a_batch_shape_that_occurs_once_is_never_compiled():
    step = ndl.jit(square)
    for n in (4, 4, 4, 3):
        assert float(step(ndl.init.ones(n))) == n
    assert len(step.programs) == 1


def test_without_warm_up_the_first_call_traces():
    function, runs = counted(square)
    step = ndl.jit(function, warmup=0)
    assert float(step(ndl.Tensor([3.0]))) == 9.0
    assert float(step(ndl.Tensor([4.0]))) == 16.0
    assert len(runs) == 1
    assert len(step.programs) == 1


def test_more_warm_up_calls():
    function, runs = counted(square)
    step = ndl.jit(function, warmup=3)
    for _ in range(6):
        step(ndl.Tensor([3.0]))
    assert len(runs) == 4


def test_decorator_with_and_without_arguments():
    @ndl.jit
    def plain(x):
        """What it does."""
        return x + 1

    @ndl.jit(warmup=0)
    def traced(x):
        return x + 1

    for _ in range(3):
        assert plain(ndl.Tensor([1.0])).tolist() == [2.0]
        assert traced(ndl.Tensor([1.0])).tolist() == [2.0]
    assert len(plain.programs) == len(traced.programs) == 1
    assert plain.__name__ == "plain"
    assert plain.__doc__ == "What it does."
    assert list(inspect.signature(plain).parameters) == ["x"]
    assert repr(plain) == "jit(plain, 1 programs)"


def test_what_cannot_be_called_is_refused():
    with pytest.raises(ndl.ArgumentError, match=r"jit: 3 cannot be called\. Pass"):
        ndl.jit(3)
    with pytest.raises(ndl.ArgumentError, match=r"jit: 3 cannot be called\. Pass"):
        ndl.jit(warmup=0)(3)


@pytest.mark.parametrize("warmup", [-1, 1.5, "1"])
def test_warm_up_is_a_number_of_calls(warmup):
    with pytest.raises(ndl.ArgumentError, match=r"jit: warmup"):
        ndl.jit(lambda x: x, warmup=warmup)


@pytest.mark.parametrize("kind", [classmethod, property])
def test_class_methods_and_properties_are_made_of_jitted_functions(kind):
    for decorator in (ndl.jit, ndl.jit(warmup=0)):
        with pytest.raises(ndl.ArgumentError, match=rf"Write @{kind.__name__} above @ndl\.jit"):
            decorator(kind(lambda cls: None))


def test_a_model_is_compiled_as_it_is():
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    predict = ndl.jit(model)
    x = ndl.init.randn(5, 4)
    for _ in range(3):
        np.testing.assert_allclose(predict(x).numpy(), model(x).numpy(), rtol=1e-5, atol=1e-6)
    assert len(predict.programs) == 1


def test_a_compiled_layer_is_a_layer_of_the_model_around_it():
    def built(compile_it):
        ndl.seed(0)
        inner = compile_it(nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5)))
        return nn.Sequential(compile_it(compile_it(nn.Linear(4, 3))), nn.Residual(nn.Tanh()), inner)

    plain, model = built(lambda layer: layer), built(lambda layer: ndl.jit(layer, warmup=0))
    assert list(model.state_dict()) == list(plain.state_dict())
    assert repr(model) == repr(plain)
    opt, x = ndl.optim.SGD(model.parameters(), lr=0.5), ndl.init.randn(5, 4)
    for _ in range(3):
        before = model.eval()(x)
        np.testing.assert_allclose(before.numpy(), model(x).numpy())  # no dropout
        model.train()(x).sum().backward()
        opt.step()
        assert not np.allclose(before.numpy(), model.eval()(x).numpy())
    with pytest.raises(ndl.ShapeError, match=r"modules\.0 \(Linear\)"):
        model(ndl.init.randn(5, 3))


def test_programs_tell_why_they_were_made_and_what_runs(backend):
    step = ndl.jit(square, warmup=0)
    step(ndl.Tensor([1.0]))
    (program,) = step.programs
    assert program.reason == "first call with this signature"
    assert program.backend.startswith(backend)
    assert repr(program).startswith("Program(first call with this signature; 1 calls; ")


def test_environment_switches_it_off(monkeypatch):
    monkeypatch.setenv("NEEDLE_JIT", "0")
    function, runs = counted(square)
    step = ndl.jit(function, warmup=0)
    for _ in range(3):
        assert float(step(ndl.Tensor([3.0]))) == 9.0
    assert len(runs) == 3
    assert step.programs == []


def test_python_side_effects_happen_once_a_trace():
    printed = []

    @ndl.jit
    def step(x):
        printed.append(x.shape)
        return x + 1

    for _ in range(5):
        step(ndl.init.ones(2))
    assert printed == [(2,), (2,)]
    for _ in range(5):
        step(ndl.init.ones(3))
    assert printed == [(2,), (2,), (3,), (3,)]
    assert len(step.programs) == 2


def test_under_other_evaluators_it_runs_as_written(monkeypatch):
    function, runs = counted(square)
    step = ndl.jit(function, warmup=0)
    with ndl.check_finite():
        step(ndl.Tensor([3.0]))
    with monkeypatch.context() as patch:
        patch.setattr(ndl.autograd, "LAZY_MODE", True)
        assert float(step(ndl.Tensor([3.0]))) == 9.0
    assert len(runs) == 2
    assert step.programs == []
    with ndl.check_finite(), pytest.raises(ndl.NonFiniteError, match="multiply"):
        step(ndl.Tensor([np.inf]))


def test_partials_and_callable_objects():
    from functools import partial

    class Scale:
        def __init__(self, factor):
            self.factor = ndl.Tensor(factor)

        def __call__(self, x):
            return x * self.factor.broadcast_to(x.shape)

    scale = Scale(2.0)
    jitted = ndl.jit(scale, warmup=0)
    halved = ndl.jit(partial(lambda k, x: x / k, 2), warmup=0)
    for _ in range(2):
        assert jitted(ndl.Tensor([1.0])).tolist() == [2.0]
        assert halved(ndl.Tensor([1.0])).tolist() == [0.5]
    scale.factor = ndl.Tensor(3.0)
    assert jitted(ndl.Tensor([1.0])).tolist() == [3.0]
    assert type(scale) is Scale


# -- jitted functions inside jitted functions ------------------------------------------------------


def training():
    """A loss with running statistics, a step that calls it, and their state."""
    ndl.seed(3)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.2), nn.Linear(6, 3))
    opt, loss_fn = ndl.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), nn.SoftmaxLoss()

    def loss(x, y):
        return loss_fn(model(x), y)

    def make_step(loss):
        def step(x, y):
            value = loss(x, y)
            value.backward()
            opt.step()
            opt.reset_grad()
            return value

        return step

    return loss, make_step, model


@pytest.mark.parametrize("order", ["lllssss", "ssssllls", "lsLlSlLsLSlsLS", "slslslsl", "LLssll"])
@pytest.mark.parametrize("mode", ["1", "0"])
def test_a_function_that_is_called_on_its_own_too_is_differentiated_inside(
    order, mode, monkeypatch
):
    if mode == "0":
        monkeypatch.setenv("NEEDLE_JIT", "0")
    shapes = {"l": 8, "L": 5, "s": 8, "S": 5}  # two signatures
    data = {
        n: (
            ndl.Tensor(np.random.rand(n, 4), dtype="float32"),
            ndl.Tensor(np.arange(n) % 3, requires_grad=False),
        )
        for n in (8, 5)
    }

    def run(compile_it):
        loss, make_step, model = training()
        loss = compile_it(loss)
        step = compile_it(make_step(loss))
        results = [(loss if c in "lL" else step)(*data[shapes[c]]).item() for c in order]
        return results, list(model.state_dict().values())

    expected, state = run(lambda f: f)
    for compile_it in (ndl.jit, lambda f: ndl.jit(f, check=True), lambda f: ndl.jit(f, warmup=0)):
        results, ours = run(compile_it)
        np.testing.assert_allclose(results, expected, rtol=1e-4)
        for mine, theirs in zip(ours, state, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-5)


def test_a_function_inside_another_is_no_program_of_its_own(backend):
    inner = ndl.jit(lambda x: x * 2, warmup=0)
    outer = ndl.jit(lambda x: inner(x).sum())
    x = ndl.Tensor([1.0])
    inner(x)
    for _ in range(3):
        assert outer(x).item() == 2.0
    assert inner.programs[0].calls == 1
    if backend == "native":
        assert "Summation" in ndl.explain(outer, x).traced
    assert inner(x).tolist() == [2.0]
    assert inner.programs[0].calls == 2


def test_an_array_of_another_library_may_be_filled_anew():
    class Buffer:
        """As a tensor of PyTorch: what is in it is no attribute."""

        __module__ = "numpy.buffers"
        __slots__ = ()

        def __array__(self, *args, **kwargs):
            return np.array(content)

        def __dlpack__(self, **kwargs):
            raise AssertionError

    total, buffer, sums = ndl.jit(lambda x: (ndl.Tensor(x) * 2).sum()), Buffer(), []
    for number in range(4):
        content = [float(number)] * 3
        sums.append(float(total(buffer)))
    assert sums == [0, 6, 12, 18]
