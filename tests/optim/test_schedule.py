"""Learning-rate schedules against their formulas."""

import json
import math

import pytest

import needle as ndl
from needle.errors import ArgumentError
from needle.optim import SGD, CosineLR, Schedule, StepLR


def optimizer(lr=0.8):
    return SGD([ndl.nn.Parameter([1.0])], lr=lr)


def rates(make, steps):
    opt = optimizer()
    schedule = make(opt)
    found = [opt.lr]
    for _ in range(steps):
        schedule.step()
        found.append(opt.lr)
    return found


def test_steps():
    found = rates(lambda opt: StepLR(opt, every=3, gamma=0.5), 7)
    assert found == pytest.approx([0.8] * 3 + [0.4] * 3 + [0.2] * 2, rel=1e-15)


def test_cosine():
    found = rates(lambda opt: CosineLR(opt, total=4, low=0.2), 6)
    wave = [0.2 + 0.6 * (1 + math.cos(math.pi * k / 4)) / 2 for k in range(5)]
    assert found == pytest.approx([*wave, 0.2, 0.2], rel=1e-15)
    assert rates(lambda opt: CosineLR(opt, total=2), 2)[-1] == 0.0


def test_cosine_from_zero_rises_to_the_lowest_rate():
    opt = optimizer(lr=0.0)
    schedule = CosineLR(opt, total=2, low=0.1)
    found = [opt.lr]
    for _ in range(3):
        schedule.step()
        found.append(opt.lr)
    assert found == pytest.approx([0.0, 0.05, 0.1, 0.1])


def test_a_cosine_is_a_schedule_like_others():
    """Its factor can be asked for, and another one defined; `rate` is a name as good as any."""

    class Halved(CosineLR):
        def __init__(self, optimizer, rate):
            self.rate = rate
            super().__init__(optimizer, total=4, low=0.2)

        def factor(self, step):
            return super().factor(step) * self.rate

    assert [CosineLR(optimizer(), 4, 0.2).factor(k) for k in (0, 2, 9)] == [1.0, 0.625, 0.25]
    found = rates(lambda opt: Halved(opt, 0.5), 4)
    assert found == pytest.approx(
        [rate / 2 for rate in rates(lambda opt: CosineLR(opt, 4, 0.2), 4)]
    )


def test_a_rate_that_overflows_is_refused_by_the_optimiser():
    opt = optimizer()
    schedule = StepLR(opt, every=1, gamma=10.0)
    for _ in range(308):
        schedule.step()
    assert opt.lr == pytest.approx(0.8e308)
    with pytest.raises(ArgumentError, match="SGD: lr=inf"):
        schedule.step()


def test_constant_after_a_warm_up():
    found = rates(lambda opt: Schedule(opt, warmup=3), 5)
    assert found == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8, 0.8])
    assert rates(Schedule, 2) == [0.8] * 3


@pytest.mark.parametrize(
    "make",
    [
        lambda opt, **options: StepLR(opt, every=2, gamma=0.1, **options),
        lambda opt, **options: CosineLR(opt, total=5, low=0.1, **options),
    ],
)
def test_a_warm_up_goes_before_any_schedule(make):
    warm = rates(lambda opt: make(opt, warmup=4), 10)
    assert warm[:4] == pytest.approx([0.8 * (k + 1) / 5 for k in range(4)])
    assert warm[4:] == rates(make, 6)


def test_a_schedule_of_ones_own():
    class Inverse(Schedule):
        def factor(self, step):
            return 1 / (1 + step)

    assert rates(Inverse, 3) == pytest.approx([0.8, 0.4, 0.8 / 3, 0.2])


def test_a_rate_of_zero_stays_zero():
    opt = optimizer(lr=0)
    schedule = CosineLR(opt, total=3)
    schedule.step()
    assert opt.lr == 0


@pytest.mark.parametrize(
    "make",
    [
        lambda opt: Schedule(opt, warmup=5),
        lambda opt: StepLR(opt, every=2, gamma=0.3, warmup=1),
        lambda opt: CosineLR(opt, total=7, low=0.01),
    ],
)
def test_state_survives_json_and_goes_on_bit_for_bit(make):
    opt = optimizer(lr=1 / 3)
    schedule = make(opt)
    for _ in range(4):
        schedule.step()
    state = json.loads(json.dumps(schedule.state_dict()))
    resumed = optimizer(lr=opt.lr)  # built after the optimiser's state, with its rate of now
    again = make(resumed)
    again.load_state_dict(state)
    for _ in range(6):
        assert resumed.lr == opt.lr
        schedule.step()
        again.step()


def test_the_optimiser_uses_the_rate():
    parameter = ndl.nn.Parameter([0.0])
    opt = SGD([parameter], lr=1.0)
    schedule = StepLR(opt, every=1, gamma=0.5)
    for _ in range(3):
        parameter.grad = ndl.Tensor([1.0])
        opt.step()
        schedule.step()
    assert parameter.numpy()[0] == -1.75


ERRORS = {
    "warm-up": (lambda: Schedule(optimizer(), warmup=-1), "Schedule: warmup=-1 is negative"),
    "every": (lambda: StepLR(optimizer(), every=0), "StepLR: every=0 is not positive"),
    "total": (lambda: CosineLR(optimizer(), total=0), "CosineLR: total=0 is not positive"),
    "state": (
        lambda: StepLR(optimizer(), 1).load_state_dict(CosineLR(optimizer(), 1).state_dict()),
        "load_state_dict: state of a CosineLR for a StepLR",
    ),
    "optimiser": (lambda: Schedule("a"), "Schedule: a str has no lr. Pass an optimiser"),
    "no warm-up": (lambda: Schedule(optimizer(), "a"), "Schedule: warmup must be an integer"),
    "no every": (lambda: StepLR(optimizer(), "a"), "StepLR: every must be an integer, got 'a'"),
    "no gamma": (lambda: StepLR(optimizer(), 1, "a"), "StepLR: 'a' is not one real number"),
    "gamma": (
        lambda: StepLR(optimizer(), 1, float("nan")),
        "StepLR: gamma=nan. Pass a finite number, 0 or more",
    ),
    "low": (lambda: CosineLR(optimizer(), 1, -0.5), "CosineLR: low=-0.5. Pass a finite number"),
    "no total": (lambda: CosineLR(optimizer(), 1.5), "CosineLR: total must be an integer, got 1.5"),
    "no low": (lambda: CosineLR(optimizer(), 1, "a"), "CosineLR: 'a' is not one real number"),
    "no state": (
        lambda: Schedule(optimizer()).load_state_dict(None),
        "load_state_dict: a NoneType is no state by name",
    ),
    "no steps": (
        lambda: Schedule(optimizer()).load_state_dict({"kind": "Schedule", "base_lr": 1.0}),
        r"load_state_dict: no state of a Schedule \(KeyError: 'steps'\)\. Pass what state_dict",
    ),
    "rate": (
        lambda: Schedule(optimizer()).load_state_dict(
            {"kind": "Schedule", "steps": 1, "base_lr": None}
        ),
        r"no state of a Schedule \(TypeError: float",
    ),
    "steps below zero": (
        lambda: CosineLR(optimizer(), 4).load_state_dict(
            {"kind": "CosineLR", "steps": -2, "base_lr": 1.0}
        ),
        r"no state of a CosineLR \(ValueError: steps=-2, base_lr=1.0\)\. Pass what state_dict",
    ),
    "a rate that is none": (
        lambda: Schedule(optimizer()).load_state_dict(
            {"kind": "Schedule", "steps": 1, "base_lr": float("nan")}
        ),
        r"no state of a Schedule \(ValueError: steps=1, base_lr=nan\)\. Pass what state_dict",
    ),
}


@pytest.mark.parametrize(("call", "message"), ERRORS.values(), ids=ERRORS)
def test_wrong_arguments_are_refused(call, message):
    with pytest.raises(ndl.NeedleError, match=message):
        call()
