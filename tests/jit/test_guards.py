"""Guards: what changes between two calls is honoured, by the program or by another one."""

import types
import warnings

import numpy as np
import pytest

import needle as ndl
from needle import nn


def network(dtype="float64"):
    return nn.Sequential(
        nn.Linear(4, 6, dtype=dtype), nn.BatchNorm1d(6, dtype=dtype), nn.ReLU(),
        nn.Dropout(0.25), nn.Linear(6, 3, dtype=dtype),
    )  # fmt: skip


class Training:
    """A model, its optimiser, and a step: eager, or compiled."""

    def __init__(self, optimizer=ndl.optim.Adam, compiled=False, **options):
        np.random.seed(3)
        self.model = model = network()
        self.opt = opt = optimizer(model.parameters(), **options)
        self.loss = nn.SoftmaxLoss()

        def step(x, y):
            loss = self.loss(model(x), y)
            loss.backward()
            opt.step()
            opt.reset_grad()
            return loss.detach()

        self.step = ndl.jit(step) if compiled else step

    def run(self, steps, start=0):
        """Losses of steps on batches that depend on their number alone."""
        losses = []
        for k in range(start, start + steps):
            random = np.random.RandomState(k)
            x = ndl.Tensor(random.randn(8, 4), requires_grad=False)
            y = ndl.Tensor(random.randint(0, 3, 8), requires_grad=False)
            np.random.seed(k)
            losses.append(self.step(x, y).item())
        return losses

    def state(self):
        return {**self.model.state_dict(), **self.opt.state_dict()}


def expect_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-9, atol=1e-12, err_msg=name)


def expect_honoured(change, programs, optimizer=ndl.optim.Adam, **options):
    """Train, change something, train on: compiled as eagerly. Returns the compiled training."""
    eager = Training(optimizer, **options)
    compiled = Training(optimizer, compiled=True, **options)
    for training in (eager, compiled):
        training.losses = training.run(4)
        change(training)
        training.losses += training.run(4, start=4)
    np.testing.assert_allclose(compiled.losses, eager.losses, rtol=1e-9)
    expect_same(compiled.state(), eager.state())
    assert len(compiled.step.programs) == programs
    return compiled


# -- hyperparameters ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        (ndl.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
        (ndl.optim.Adam, {"weight_decay": 0.01}),
        (ndl.optim.AdamW, {"weight_decay": 0.01}),
    ],
)
def test_hyperparameters_are_read_at_each_call(optimizer, options):
    names = optimizer.hyperparameters

    def change(training):
        for k, name in enumerate(names):
            setattr(training.opt, name, getattr(training.opt, name) * (0.5 + 0.05 * k))

    expect_honoured(change, 1, optimizer, **options)


@pytest.mark.parametrize("kind", [float, np.float32, np.float64, int])
def test_a_learning_rate_of_any_kind_of_number(kind):
    def change(training):
        training.opt.lr = kind(2)

    expect_honoured(change, 1, ndl.optim.SGD, lr=0.5)


def test_a_new_learning_rate_at_each_step_needs_one_program():
    training = Training(compiled=True)
    for k in range(20):
        training.opt.lr = 0.01 / (k + 1)
        training.run(1, start=k)
    assert len(training.step.programs) == 1


@pytest.mark.parametrize("schedule", ["cosine", "step", "warmup"])
def test_schedules(schedule):
    def train(compiled):
        training = Training(compiled=compiled)
        made = {
            "cosine": lambda: ndl.optim.CosineLR(training.opt, total=6),
            "step": lambda: ndl.optim.StepLR(training.opt, every=2),
            "warmup": lambda: ndl.optim.CosineLR(training.opt, total=4, low=1e-4, warmup=3),
        }[schedule]()
        for k in range(8):
            training.run(1, start=k)
            made.step()
        return training

    eager, compiled = train(False), train(True)
    expect_same(compiled.state(), eager.state())
    # The cosine ends at 0, which is a program of its own.
    assert len(compiled.step.programs) == (2 if schedule == "cosine" else 1)


@pytest.mark.parametrize("name", ["lr", "momentum", "weight_decay"])
def test_from_nothing_to_something_and_back(name):
    def change(training):
        value = getattr(training.opt, name)
        setattr(training.opt, name, 0.0 if value else 0.5)

    options = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}
    expect_honoured(change, 2, ndl.optim.SGD, **options)
    expect_honoured(change, 2, ndl.optim.SGD, **{**options, name: 0.0})


def test_a_hyperparameter_that_becomes_a_tensor():
    def change(training):
        training.opt.lr = ndl.Tensor(0.05, requires_grad=False)

    class Plain(ndl.optim.Optimizer):
        def __init__(self, params, lr):
            super().__init__(params)
            self.lr = lr

        def update(self, param, grad, state):
            rate = self.lr
            if isinstance(rate, ndl.Tensor):
                rate = rate.astype(param.dtype).broadcast_to(param.shape)
            return param - grad * rate

    eager, compiled = Training(Plain, lr=0.1), Training(Plain, compiled=True, lr=0.1)
    for training in (eager, compiled):
        training.run(4)
        change(training)
        training.run(3, start=4)
        training.opt.lr.data = ndl.Tensor(0.01)
        training.run(3, start=7)
    expect_same(compiled.model.state_dict(), eager.model.state_dict())
    assert len(compiled.step.programs) == 2


def test_a_learning_rate_that_the_function_changes():
    def make(compiled):
        w = nn.Parameter([1.0])
        opt = ndl.optim.SGD([w], lr=0.5)

        def step(x):
            (w * x).sum().backward()
            opt.step()
            opt.reset_grad()
            opt.lr = opt.lr * 0.5
            return w

        return w, opt, ndl.jit(step) if compiled else step

    (w, opt, step), (w2, opt2, step2) = make(False), make(True)
    for _ in range(6):
        x = ndl.Tensor([1.0])
        step(x)
        step2(x)
        assert (w2.item(), opt2.lr) == (w.item(), opt.lr)
        assert type(opt2.lr) is float
    assert len(step2.programs) == 1


# -- modes, layers, flags -----------------------------------------------------------------------


def test_train_and_eval():
    def change(training):
        training.model.eval()

    expect_honoured(change, 2)

    def there_and_back(training):
        training.model.eval()
        training.run(2, start=20)
        training.model.train()

    compiled = expect_honoured(there_and_back, 2)
    assert [program.reason for program in compiled.step.programs] == [
        "self.model.modules[1].training changed" if False else program.reason
        for program in compiled.step.programs
    ]
    assert "training changed" in compiled.step.programs[0].reason


def test_a_part_of_the_model_in_another_mode():
    def change(training):
        training.model.modules[3].eval()

    expect_honoured(change, 2)


def test_a_number_of_a_layer():
    def change(training):
        training.model.modules[3].p = 0.75
        training.model.modules[1].momentum = 0.5

    expect_honoured(change, 2)


def test_a_swapped_parameter_is_read():
    model = nn.Linear(2, 2)
    predict = ndl.jit(model)
    x = ndl.init.ones(1, 2)
    for _ in range(3):
        predict(x)
    for k in range(3):
        model.weight = nn.Parameter(ndl.init.constant(2, 2, c=float(k)))
        np.testing.assert_allclose(predict(x).numpy(), model(x).numpy(), rtol=1e-6)
    model.bias = None
    np.testing.assert_allclose(predict(x).numpy(), model(x).numpy(), rtol=1e-6)
    model.weight = ndl.init.ones(2, 5)  # a plain tensor of another shape
    np.testing.assert_allclose(predict(x).numpy(), model(x).numpy(), rtol=1e-6)


def test_a_swapped_layer_is_used():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    predict = ndl.jit(lambda x: model(x))
    x = ndl.init.randn(3, 2)
    for k in range(4):
        predict(x)
        model.modules = (nn.Linear(2, 2 + k), nn.Tanh() if hasattr(nn, "Tanh") else nn.ReLU())
        np.testing.assert_allclose(predict(x).numpy(), model(x).numpy(), rtol=1e-5, atol=1e-6)


def test_another_shape_of_a_captured_tensor():
    w = nn.Parameter([1.0, 2.0])
    step = ndl.jit(lambda x: (w * w).sum() + x, warmup=0)
    x = ndl.Tensor(0.0)
    assert step(x).item() == 5.0
    w.data = ndl.Tensor([1.0, 2.0, 3.0])
    assert step(x).item() == 14.0
    assert len(step.programs) == 2
    assert "has shape (3,) now" in step.programs[0].reason


def test_requires_grad_of_captured_tensors_and_arguments():
    w = nn.Parameter([3.0])

    @ndl.jit(warmup=0)
    def step(x):
        y = (x * w).sum()
        if y.requires_grad:
            y.backward()
        return y

    x = ndl.Tensor([2.0], requires_grad=False)
    step(x)
    assert w.grad.tolist() == [2.0]
    w.grad = None
    w.requires_grad = False
    step(x)
    assert w.grad is None
    x.requires_grad = True
    step(x)
    assert (w.grad, x.grad.tolist()) == (None, [3.0])
    w.requires_grad = True
    step(x)
    assert w.grad.tolist() == [2.0]
    assert len(step.programs) == 4


def test_freezing_layers_between_steps():
    def change(training):
        for p in training.model.modules[0].parameters():
            p.requires_grad = False

    expect_honoured(change, 2)


def test_a_parameter_that_is_added_to_the_optimiser():
    extra = [nn.Parameter([1.0]), nn.Parameter([1.0])]

    def change(training):
        training.opt.params.append(extra.pop())
        training.opt.params[-1].grad = ndl.Tensor([0.5])

    eager, compiled = Training(), Training(compiled=True)
    for training in (eager, compiled):
        training.run(4)
        change(training)
        training.run(4, start=4)
    expect_same(compiled.state(), eager.state())


# -- lists, dicts, names, other objects ---------------------------------------------------------


def test_lists_and_dicts():
    layers = [nn.Linear(2, 2), nn.ReLU()]
    options = {"scale": 2.0, "names": ["a"]}

    def function(x):
        for layer in layers:
            x = layer(x)
        return x * options["scale"] * len(options["names"])

    step = ndl.jit(function)
    x = ndl.init.randn(3, 2)

    def expect_fresh():
        for _ in range(2):
            np.testing.assert_allclose(step(x).numpy(), function(x).numpy(), rtol=1e-5, atol=1e-6)

    expect_fresh()
    layers.append(nn.Linear(2, 3))
    expect_fresh()
    layers[0] = nn.Linear(2, 2)
    expect_fresh()
    layers[0], layers[1] = layers[1], layers[0]
    expect_fresh()
    options["scale"] = 3.0
    expect_fresh()
    options["names"].append("b")
    expect_fresh()
    options["names"] = ["c"]
    expect_fresh()
    del layers[:2]
    expect_fresh()
    count = len(step.programs)
    options["scale"] = 3  # an int: it could make another dtype
    expect_fresh()
    options["scale"] = 3.0
    expect_fresh()
    assert len(step.programs) <= count + 1


scale = 2.0
table = ndl.Tensor([1.0])


def helper(x):
    return x * scale + table


def test_names(monkeypatch):
    shift, weights = 1.0, ndl.Tensor([10.0])
    module = types.SimpleNamespace(power=2)

    def function(x):
        return helper(x) * weights + shift**module.power

    step = ndl.jit(function, warmup=0)
    x = ndl.Tensor([1.0])

    def expect_fresh():
        assert step(x).tolist() == function(x).tolist()

    expect_fresh()
    monkeypatch.setitem(globals(), "scale", 3.0)
    expect_fresh()
    monkeypatch.setitem(globals(), "table", ndl.Tensor([5.0]))
    expect_fresh()
    shift = 2.0
    expect_fresh()
    weights = ndl.Tensor([20.0])
    expect_fresh()
    module.power = 3
    expect_fresh()
    monkeypatch.setitem(globals(), "helper", lambda x: x - scale)
    expect_fresh()
    count = len(step.programs)
    expect_fresh()
    assert len(step.programs) == count


class Settings:
    shared = 1.0

    def __init__(self):
        self.factor = 2.0
        self.unread = 0
        self.log = []
        self.inner = {"offset": 1.0}

    @property
    def total(self):
        return self.factor + self.inner["offset"]

    def scaled(self, x):
        return x * self.total * self.shared * scale


def test_attributes_of_other_objects_that_are_read(monkeypatch):
    settings = Settings()
    step = ndl.jit(lambda x: settings.scaled(x), warmup=0)
    x = ndl.Tensor([1.0])

    def expect_fresh(programs):
        assert step(x).tolist() == settings.scaled(x).tolist()
        assert len(step.programs) == programs

    expect_fresh(1)
    settings.unread += 1
    settings.log.append(3.0)
    settings.new = 1
    expect_fresh(1)  # nothing of it is read
    settings.factor = 3.0
    expect_fresh(2)
    settings.inner["offset"] = 5.0
    expect_fresh(3)
    settings.shared = 10.0  # hides the attribute of the class
    expect_fresh(4)
    monkeypatch.setitem(globals(), "scale", 7.0)
    expect_fresh(5)
    settings.factor, settings.inner["offset"] = 2.0, 1.0
    del settings.shared
    monkeypatch.undo()
    expect_fresh(5)  # as it was at first
    assert type(settings) is Settings


def test_attributes_of_modules_that_are_not_read():
    model = nn.Linear(2, 2)
    predict = ndl.jit(lambda x: model(x))
    x = ndl.init.randn(3, 2)
    for k in range(20):
        model.epoch = k
        predict(x)
    assert len(predict.programs) == 1


# -- loading ------------------------------------------------------------------------------------


def test_state_of_the_model_is_loaded():
    other = Training().model.state_dict()

    def change(training):
        training.model.load_state_dict(other)

    expect_honoured(change, 1)


@pytest.mark.parametrize("optimizer", [ndl.optim.Adam, ndl.optim.SGD])
def test_state_of_the_optimiser_is_loaded(optimizer):
    options = {"momentum": 0.9} if optimizer is ndl.optim.SGD else {}
    earlier = Training(optimizer, **options)
    earlier.run(3)

    def change(training):
        training.opt.load_state_dict(earlier.opt.state_dict())

    eager = Training(optimizer, **options)
    compiled = Training(optimizer, compiled=True, **options)
    for training in (eager, compiled):
        training.run(4)
        change(training)
        training.run(4, start=4)
    expect_same(compiled.state(), eager.state())


def test_checkpoints_go_to_and_fro(tmp_path):
    def train(compiled):
        training = Training(compiled=compiled)
        training.run(4)
        path = str(tmp_path / f"{compiled}.safetensors")
        ndl.save(path, training.state())
        after = training.run(4, start=4)
        loaded = ndl.load(path)
        names = training.model.state_dict().keys()
        arrays = {k: v.numpy() if isinstance(v, ndl.Tensor) else v for k, v in loaded.items()}
        training.model.load_state_dict({k: v for k, v in arrays.items() if k in names})
        training.opt.load_state_dict({k: v for k, v in arrays.items() if k not in names})
        assert training.run(4, start=4) == after  # bit for bit, within one way to run
        return after

    np.testing.assert_allclose(train(True), train(False), rtol=1e-9)


def test_eager_steps_in_between():
    eager, compiled = Training(), Training(compiled=True)
    for k in range(12):
        eager.run(1, start=k)
        if k % 5 == 4:
            step, compiled.step = compiled.step, compiled.step.__wrapped__
            compiled.run(1, start=k)
            compiled.step = step
        else:
            compiled.run(1, start=k)
    expect_same(compiled.state(), eager.state())
    assert len(compiled.step.programs) == 1


# -- many programs ------------------------------------------------------------------------------


def test_after_eight_programs_a_warning_names_the_guard():
    options = {"k": 0}
    step = ndl.jit(lambda x: x + options["k"], warmup=0)
    x = ndl.Tensor([1.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for k in range(8):
            options["k"] = k
            step(x)
    options["k"] = 8
    with pytest.warns(
        UserWarning, match=r"has 9 programs, the last because: options\['k'\] changed"
    ):
        assert step(x).tolist() == [9.0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        options["k"] = 9
        step(x)


def test_programs_list_the_reason_each_was_made():
    options = {"k": 0}
    step = ndl.jit(lambda x: x + options["k"], warmup=0)
    step(ndl.Tensor([1.0]))
    options["k"] = 1
    step(ndl.Tensor([1.0]))
    step(ndl.Tensor([1.0, 2.0]))
    assert sorted(program.reason for program in step.programs) == [
        "first call with this signature",
        "first call with this signature",
        "options['k'] changed",
    ]


@pytest.mark.filterwarnings("ignore:jit. .* has 9 programs")
def test_the_number_of_programs_is_bounded():
    step = ndl.jit(lambda x, k: x + k, warmup=0)
    x = ndl.Tensor([1.0])
    for k in range(80):
        assert step(x, k).tolist() == [1.0 + k]
    assert len(step.programs) == 64
    assert step(x, 79).tolist() == [80.0]
    assert step(x, 0).tolist() == [1.0]
    assert len(step.programs) == 64
