"""Modules of the user's own: their variables are watched; and variables that are found late."""

import sys
import types

import pytest

import needle as ndl
from needle import nn

SETTINGS = """
import numpy as np

temperature = 1.0
options = {"k": 1.0}
rng = np.random.default_rng(0)
count = 0
state = None

class Scales:
    inner = 2.0

def scaled(x):
    return x * temperature

def noisy(x):
    return x + rng.normal()

def counting(x):
    global count
    count += 1
    return x * count

def adds_up(x):
    global state
    state = x if state is None else state + x
    return state
"""


@pytest.fixture
def make_settings(monkeypatch):
    """A new module of the user's own, imported as `my_settings`."""

    def make():
        module = types.ModuleType("my_settings")
        exec(SETTINGS, vars(module))
        module.inner = types.ModuleType("my_settings.inner")
        module.inner.factor = 1.0
        monkeypatch.setitem(sys.modules, "my_settings", module)
        return module

    return make


def imports_it(x):
    import my_settings

    return x * my_settings.temperature


@pytest.mark.parametrize(
    ("function", "change"),
    [
        (lambda m, x: x * m.temperature, lambda m, k: setattr(m, "temperature", k)),
        (lambda m, x: x * getattr(m, "new", 1.0), lambda m, k: setattr(m, "new", k)),
        (lambda m, x: x * vars(m).get("new", 1.0), lambda m, k: setattr(m, "new", k)),
        (lambda m, x: x * m.options["k"], lambda m, k: m.options.update(k=k)),
        (lambda m, x: x * m.Scales.inner, lambda m, k: setattr(m.Scales, "inner", k)),
        (lambda m, x: x * m.inner.factor, lambda m, k: setattr(m.inner, "factor", k)),
        (lambda m, x: m.scaled(x), lambda m, k: setattr(m, "temperature", k)),
        (lambda m, x: m.scaled(x), lambda m, k: setattr(m, "scaled", lambda x: x * k)),
        (lambda m, x: imports_it(x), lambda m, k: setattr(m, "temperature", k)),
        (lambda m, x: m.adds_up(x), lambda m, k: setattr(m, "state", m.state * k)),
    ],
    ids=["read", "new", "vars", "dict", "class", "inner", "used", "replaced", "import", "state"],
)
def test_the_variables_of_a_module_of_ones_own(make_settings, function, change):
    results = []
    for compiling in (False, True):
        settings, found = make_settings(), []

        def step(x, settings=settings):
            return function(settings, x)

        called = ndl.jit(step) if compiling else step
        x = ndl.Tensor([1.0, 2.0])
        for k in (1.0, 3.0, 4.0, 5.0):
            found += [called(x).tolist() for _ in range(2)]
            change(settings, k)
        results.append(found)
        assert type(settings) is types.ModuleType
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("name", "message"),
    [("noisy", "drawn from Generator"), ("counting", r"my_settings\.count|count changed")],
)
def test_what_a_module_does_that_a_program_would_not(make_settings, name, message):
    settings, x = make_settings(), ndl.Tensor([1.0, 2.0])
    step = ndl.jit(lambda x: getattr(settings, name)(x), warmup=0)
    with pytest.raises(ndl.TraceError, match=message):
        step(x)
    assert settings.count == 0
    assert type(settings) is types.ModuleType


def test_a_module_of_constants_may_refuse_assignments():
    class Constants(types.ModuleType):
        def __setattr__(self, name, value):
            raise AttributeError(f"{name} is a constant")

    settings, x = Constants("my_constants"), ndl.Tensor([1.0])
    vars(settings)["rate"] = 2.0
    step = ndl.jit(lambda x: x * settings.rate, warmup=0)
    assert step(x).item() == 2.0
    assert type(settings) is Constants
    vars(settings)["rate"] = 3.0
    assert step(x).item() == 3.0


def test_a_module_that_is_imported_during_a_trace_stays(make_settings):
    settings = make_settings()

    def step(x):
        settings.later = types.ModuleType("my_settings.later")
        return x * settings.temperature

    ndl.jit(step, warmup=0)(ndl.Tensor([1.0]))
    assert isinstance(settings.later, types.ModuleType)


def test_the_variables_of_a_module_that_the_function_imports_first(tmp_path, monkeypatch):
    (tmp_path / "my_late_settings.py").write_text("temperature = 1.0")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_late_settings", raising=False)

    def function(x):
        import my_late_settings

        return x * my_late_settings.temperature

    step, x = ndl.jit(function, warmup=0), ndl.Tensor([1.0])
    for temperature in (1.0, 2.0, 3.0):
        assert [step(x).item() for _ in range(3)] == [temperature] * 3
        sys.modules["my_late_settings"].temperature = temperature + 1.0


def test_a_package_that_is_read_through_asks_for_no_other_program(make_settings):
    settings, x, scale = make_settings(), ndl.Tensor([1.0]), ndl.Tensor([2.0])
    step = ndl.jit(lambda x: x * settings.inner.factor * settings.temperature * scale)
    for k in range(6):
        scale.data = ndl.Tensor([float(k)])  # everything is looked at
        assert step(x).item() == k
    assert len(step.programs) == 1


def test_installed_packages_are_not_watched(make_settings):
    settings, x = make_settings(), ndl.Tensor([1.0])
    settings.__file__ = "/somewhere/lib/site-packages/my_settings.py"
    step = ndl.jit(lambda x: x * settings.temperature, warmup=0)
    assert step(x).item() == 1
    settings.temperature = 2.0
    assert step(x).item() == 1


# -- variables that are found late --------------------------------------------------------------

total = ndl.Tensor([1.0])
mode = "a"


class Late(nn.Module):
    """Names a global that the step has assigned by then."""

    def __init__(self, forward):
        super().__init__()
        self.forward = forward


def test_state_in_a_global_that_two_functions_name():
    model, results = Late(lambda x: x * total), []

    def step(x):
        global total
        total = total + x
        return model(x)

    for called in (step, ndl.jit(step, warmup=0)):
        globals()["total"] = ndl.Tensor([1.0])
        results.append([called(ndl.Tensor([k])).tolist() for k in (1.0, 2.0, 3.0, 4.0)])
    assert results[0] == results[1]


def test_a_constant_in_a_global_that_two_functions_name():
    model = Late(lambda x: x * (2 if mode == "b" else 3))

    def step(x):
        global mode
        mode = "b"
        return model(x)

    compiled, x = ndl.jit(step, warmup=0), ndl.Tensor([1.0])
    for _ in range(6):
        globals()["mode"] = "a"
        assert compiled(x).tolist() == [2.0]
    assert len(compiled.programs) <= 2


def test_a_global_that_comes_to_hide_a_builtin(monkeypatch):
    step = ndl.jit(lambda x: x * max(1.0, 2.0), warmup=0)
    x = ndl.Tensor([1.0])
    assert [step(x).item() for _ in range(2)] == [2.0, 2.0]
    monkeypatch.setitem(globals(), "max", lambda *numbers: sum(numbers))
    assert step(x).item() == 3.0
    monkeypatch.delitem(globals(), "max")
    assert step(x).item() == 2.0


def test_what_a_module_computes_that_is_asked_for_a_name(make_settings):
    settings = make_settings()
    exec("def __getattr__(name): return options[name]", vars(settings))
    step = ndl.jit(lambda x: x * settings.k, warmup=0)
    x, found = ndl.Tensor([1.0]), []
    found += [step(x).item()]
    settings.options["k"] = 3.0
    found += [step(x).item()]
    settings.k = 5.0
    found += [step(x).item()]
    del settings.k
    vars(settings)["__getattr__"] = lambda name: 7.0
    found += [step(x).item()]
    assert found == [1.0, 3.0, 5.0, 7.0]
