"""Guards: what changes between two calls is honoured, by the program or by another one."""

import warnings

import numpy as np
import pytest

import needle as ndl
from needle import nn
from needle.jit.guards.news import News
from tests.jit.training import Training, expect_honoured, expect_same

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


def use_new_tensors(calls, times=10):
    """Call a function a few times with each of several tensors, which are dropped after that."""
    model = nn.Module()
    step = ndl.jit(lambda x: model.mask * x, warmup=0)
    for k in range(times):
        model.mask = ndl.Tensor([float(k)])
        for _ in range(calls):
            assert step(2.0).item() == 2 * k
    return step


def test_a_new_tensor_in_an_attribute_at_each_call_is_told():
    told = "jit: 8 programs of <lambda> in a row were gone after a call or two, the last one with "
    with pytest.warns(UserWarning, match=told + r"what model\.mask held") as warned:
        use_new_tensors(calls=1)
    assert len(warned) == 1
    assert "keep one tensor and assign its .data" in str(warned[0].message)
    assert warned[0].filename == __file__


def test_a_new_object_among_the_arguments_at_each_call_is_told():
    class Batch:
        scale = 2.0

    step, x = ndl.jit(lambda batch, x: x * batch.scale, warmup=0), ndl.Tensor(2.0)
    with pytest.warns(UserWarning, match="the last one with something that it had used"):
        assert [step(Batch(), x).item() for _ in range(10)] == [4.0] * 10


@pytest.mark.parametrize("layers", [1, 5])
def test_a_new_model_at_each_call_is_told_at_the_ninth(layers):
    """A program is gone once, however many of its tensors are."""
    world, x = {}, ndl.init.ones(1, 2)
    predict = ndl.jit(lambda x: world["model"](x), warmup=0)

    def call():
        world["model"] = nn.Sequential(*[nn.Linear(2, 2) for _ in range(layers)])
        predict(x)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(8):
            call()
    with pytest.warns(UserWarning, match="8 programs of <lambda> in a row were gone"):
        call()


def test_programs_that_were_used_for_long_may_go():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(use_new_tensors(calls=4).programs) == 1


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


@pytest.mark.parametrize(
    ("kept", "inner"),
    [
        (lambda a, b: [a, b], lambda held: held),
        (lambda a, b: {0: a, 1: b}, lambda held: held),
        (lambda a, b: ([a, b], 3), lambda held: held[0]),
    ],
)
def test_what_is_put_into_a_list_that_the_program_writes(kept, inner):
    """Each call gives the slot a new list, and no counter tells what becomes of that."""

    def run(compiling):
        model = nn.Module()

        def step(x):
            a, b = inner(model.h)[0], inner(model.h)[1]
            model.h = kept((a * 2).detach(), (b + a).detach())
            return (a @ a.T).sum() + b.sum() * x

        step = ndl.jit(step) if compiling else step
        model.h = kept(*[ndl.Tensor.wrap(np.ones((2, 3))) for _ in range(2)])
        results = [step(3.0).item() for _ in range(4)]
        for shape in ((2, 3), (3, 2)):
            for place in range(2):
                inner(model.h)[place] = ndl.Tensor.wrap(np.ones(shape))
            results += [step(3.0).item() for _ in range(3)]
        return results

    assert run(compiling=True) == run(compiling=False)


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


def test_attributes_that_no_program_uses_do_not_count():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
    step = ndl.jit(lambda x: model(x), warmup=0)
    x = ndl.init.ones(1, 2)
    step(x)
    guards = step.programs[0].guards
    model.epoch = 3
    model.note = "text"
    nn.Module().training = False
    assert guards.unchanged()
    model.modules = [*model.modules]
    assert not guards.unchanged()


@pytest.mark.parametrize("read_first", [False, True])
def test_a_slot_that_is_written_and_not_read_may_be_given_another_tensor(read_first):
    module, kept = nn.Module(), []
    module.h = ndl.Tensor([0.0], requires_grad=False)

    @ndl.jit
    def step(x):
        if read_first:
            x = x + module.h * 0
        module.h = (x * 2).detach()
        return x * 1

    for k in range(6):
        kept.append(module.h)
        step(ndl.Tensor([float(k)], requires_grad=False))
        assert module.h.tolist() == [2.0 * k]
        module.h = ndl.Tensor([-1.0], requires_grad=False)
        kept.append(module.h)
    assert [tensor.item() for tensor in kept[1::2]] == [-1.0] * 6


def test_news_of_what_is_as_it_was_do_not_matter():
    owner, news, found = object(), News(), []
    news.checks[id(owner), "x"] = lambda: found[-1] if found else None
    assert news.last is news.seen
    news.tell(owner, "x")
    assert news.last is not news.seen
    assert news.is_as_before()
    assert news.last is news.seen
    found.append("x changed")
    news.tell(owner, "x")
    assert not news.is_as_before()
    assert not news.is_as_before()  # nothing was taken away
    assert news.difference() == "x changed"
    found.clear()
    assert news.is_as_before()


def test_news_without_a_check_matter_until_they_are_seen_to():
    owner, news = object(), News()
    for tell in (lambda: news.tell(owner, "y"), news.distrust):
        tell()
        assert not news.is_as_before()
        heard = news.heard()
        tell()  # in another thread, which looks at the world meanwhile
        news.see_to(heard)
        assert not news.is_as_before()
        news.see_to(news.heard())
        assert news.is_as_before()


def test_an_attribute_that_is_deleted_and_set_again_is_another_one_to_who_goes_over_all():
    module = nn.Module()
    module.a, module.b = 1.0, 10.0

    @ndl.jit(warmup=0)
    def weighed(x):
        numbers = [number for number in vars(module).values() if isinstance(number, float)]
        return x * (numbers[0] - numbers[1])

    x = ndl.Tensor([1.0], requires_grad=False)
    assert weighed(x).item() == -9.0
    del module.a
    module.a = 1.0
    assert weighed(x).item() == 9.0
