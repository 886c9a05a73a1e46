"""Values that programs change in place: who changes them, and until when a copy is good."""

import pytest

import needle as ndl
from needle.graph.node import Live


class Program:
    """What counts its calls."""

    calls = 0


@pytest.fixture
def w() -> ndl.Tensor:
    tensor = ndl.Tensor([1.0, 2.0], requires_grad=False)
    tensor.node = Live(tensor.numpy(), requires_grad=False)
    return tensor


def test_a_copy_is_good_until_a_program_has_run_or_went(w):
    first, second = Program(), Program()
    copies = [w.node.copy(w)]
    assert w.node.copy(w) is copies[0]
    w.node.changed_by(first)
    w.node.changed_by(second)
    copies.append(w.node.copy(w))
    first.calls += 1
    copies.append(w.node.copy(w))
    assert w.node.copy(w) is copies[-1]
    del first
    copies.append(w.node.copy(w))
    assert len(set(copies)) == len(copies)


def test_programs_that_went_are_forgotten(w):
    for _ in range(3):
        w.node.changed_by(program := Program())
    assert w.node.programs() == [program]
    assert len(w.node._programs) == 1


def test_who_reads_is_not_disturbed_by_a_program_that_another_thread_makes(w):
    live, made = w.node, []

    class Slow(Program):
        """Where its calls are read, another thread makes a program."""

        @property
        def calls(self):
            made.append(Program())
            live.changed_by(made[-1])
            return 0

    live.changed_by(slow := Slow())
    assert (w * 1).tolist() == [1.0, 2.0]
    assert set(live.programs()) == {slow, *made}
