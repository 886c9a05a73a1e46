"""The benchmarks' pure functions, and Needle's side of them for two steps. No time is asserted."""

import doctest
import importlib
import json
import sys

import numpy as np
import pytest

import needle as ndl
from benchmarks import bars, step, summary
from benchmarks.harness import figures, problem, table
from benchmarks.harness.process import Contestant, Process, environment
from benchmarks.harness.rounds import field_of
from benchmarks.peers import needle_mlp, needle_operators, numpy_mlp, numpy_operators

FLOAT32 = 1e-5  # of a loss: a few hundred roundings of 6e-8


@pytest.fixture(autouse=True)
def _streams():
    yield
    ndl.seed(None)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("problem")
    return str(problem.write(folder / "problem.npz", batch=20, hidden=16, batches=2))


@pytest.mark.parametrize("name", ["figures", "problem", "table"])
def test_the_examples_of_the_harness_are_true(name):
    module = importlib.import_module(f"benchmarks.harness.{name}")
    failed, tried = doctest.testmod(module)
    assert tried
    assert not failed


def test_a_summary_has_median_best_and_count():
    assert figures.summary([5.0, 1.0, 3.0, 4.0]) == {"median": 3.5, "best": 1.0, "count": 4}


def test_a_ratio_needs_both_sides():
    assert figures.ratio(6.0, 2.0) == 3.0
    assert figures.ratio(None, 2.0) is None
    assert figures.ratio(6.0, None) is None


def test_a_table_without_a_place_is_refused():
    with pytest.raises(KeyError, match="no place for step"):
        table.filled("<!-- table: other -->\n<!-- end -->", {"step": "|"})


def test_bars_that_were_not_measured_say_so():
    assert all("not measured" in bar.line({}) for bar in bars.BARS)


@pytest.mark.parametrize(("value", "word"), [(5.0, "yes"), (3.0, "**no**"), (None, "not measured")])
def test_a_bar_says_whether_it_was_reached(value, word):
    bar = bars.Bar("text", "part", 4, True, lambda result: result)
    assert bar.line({"part": value})[-1] == word


def test_a_row_beyond_its_threads_does_not_count_unless_it_is_a_peer_s():
    rows = {
        "Needle jit, 1 thread": {"median": 1.0, "threads": 1, "processors": 1.8},
        "Needle eager, 1 thread": {"median": 9.0, "threads": 1, "processors": 1.0},
        "JAX jit, 1 thread": {"median": 2.0, "threads": 1, "processors": 1.8},
        "PyTorch, 1 thread": {"median": 3.0, "threads": 1, "processors": 1.0},
    }
    assert step.needle_and_peers(rows) == ("Needle eager, 1 thread", "JAX jit, 1 thread")
    named = {name: step.label(name, row) for name, row in rows.items()}
    assert "not counted: kept 1.8 cores busy" in named["Needle jit, 1 thread"]
    assert "not counted" not in named["JAX jit, 1 thread"]


def test_the_bar_on_all_products_needs_the_sweep():
    steps = {"bars": {"product": {"needle": 1.0, "openblas": 2.0}}}
    last = bars.BARS[-1]
    assert last.line({"products": steps})[-1] == "not measured"
    assert last.line({"products": {**steps, "sweep": steps["bars"]}})[-1] == "yes"


def test_the_front_page_has_the_best_row_of_each_library():
    def row(median, threads=1):
        return {"median": median, "threads": threads, "processors": 1.0}

    rows = {
        "Needle jit, 1 thread": row(2e-3), "Needle jit, 2 threads": row(1e-3, 2),
        "PyTorch eager, 1 thread": row(9e-3), "PyTorch compile, 1 thread": row(8e-3),
        "JAX jit, 1 thread": row(4e-3),
    }  # fmt: skip
    machine = {"processor": "P", "cores": 2, "packages": {"jax": "1.0"}}
    found = summary.table(
        {"epoch": {"result": {"rows": rows}, "machine": machine, "date": "2026-01-01"}}
    )
    line, note = found.splitlines()[2], found.splitlines()[-1]
    assert [cell.strip() for cell in line.split("|")[2:-1]] == [
        "1.00 ms", "8.00 ms", "4.00 ms", "–", "4.00×",
    ]  # fmt: skip
    assert note == "P, 2 cores, 2026-01-01; jax 1.0."


def test_a_compiled_row_that_is_not_native_says_so():
    row = {"median": 1.0, "threads": 1, "processors": 1.0, "executor": "llvmlite is missing"}
    assert "not native: llvmlite is missing" in step.label("Needle jit, 1 thread", row)


def test_stand_ins_for_the_processor_are_taken_away(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    variables = environment(Contestant("name", "module", {}, 2))
    assert "OPENBLAS_CORETYPE" not in variables
    assert variables["OMP_NUM_THREADS"] == "2"
    assert "OMP_NUM_THREADS" not in environment(Contestant("name", "module", {}))


def test_a_contestant_times_one_of_its_methods():
    with Process(Contestant("NumPy", "numpy_operators", {}, 1)) as process:
        process.ask("select", operator="add", size=1, backward=False)
        done = process.ask("timed", method="check")
        assert done["result"] == process.ask("check")
        assert done["seconds"] > 0


@pytest.mark.parametrize("compiled", [False, True])
def test_two_steps_of_needle_agree_with_float64_by_hand(path, compiled):
    wanted = numpy_mlp.Training(path, 0, "float64").check(2)
    training = needle_mlp.Training(path, problem.DROPOUT, compiled)
    np.testing.assert_allclose(training.check(2), wanted, rtol=FLOAT32)
    training.run(2)


@pytest.mark.parametrize("compiled", [False, True])
def test_inference_agrees_with_numpy(path, compiled):
    wanted = numpy_mlp.Inference(path, 20).check()
    found = needle_mlp.Inference(path, 20, compiled).check()
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("operator", numpy_operators.FORWARD)
@pytest.mark.parametrize("size", [1, 1000])
def test_single_operators_agree_with_numpy(operator, size):
    ours, theirs = needle_operators.Operators(), numpy_operators.Operators()
    for side in (ours, theirs):
        side.select(operator, size, backward=True)
    np.testing.assert_allclose(ours.check(), theirs.check(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("at_once", [1, 3])
def test_who_cannot_be_built_or_asked_is_out_and_the_others_keep_their_order(at_once):
    contestants = [
        Contestant("first", "numpy_operators", {}, 1),
        Contestant("lost", "no_such_module", {}, 1),
        Contestant("second", "needle_operators", {}, 1),
        Contestant("third", "needle_networks", {"network": "tiny", "compiled": False}, 1),
    ]
    with field_of(contestants, at_once) as field:
        assert list(field.processes) == ["first", "second", "third"]
        answers = field.ask("select", operator="add", size=1, backward=False)
        assert list(answers) == list(field.processes) == ["first", "second"]
        assert "No module named" in field.missing["lost"]
        assert "no attribute 'select'" in field.missing["third"]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The module that writes results and READMEs, with copies of them to write to."""
    monkeypatch.setattr(sys, "path", ["", *sys.path])  # of which the module sets the first
    module = importlib.import_module("benchmarks.run")
    for name in ("RESULTS", "README", "FRONT"):
        copy = tmp_path / name
        copy.write_bytes(getattr(module, name).read_bytes())
        monkeypatch.setattr(module, name, copy)
    return module


def test_the_tables_are_those_of_the_results(run):
    files = [run.RESULTS, run.README, run.FRONT]
    before = [path.read_bytes() for path in files]
    run.write(json.loads(run.RESULTS.read_bytes()))
    assert [path.read_bytes() for path in files] == before


def test_tables_have_the_order_of_what_was_measured_when_they_are_written_again(run):
    results = json.loads(run.RESULTS.read_bytes())
    calls = results["calls"]["result"]
    results["calls"]["result"] = dict(sorted(calls.items(), reverse=True))
    run.write(results)
    fresh = run.README.read_bytes()
    run.write(json.loads(run.RESULTS.read_bytes()))
    assert run.README.read_bytes() == fresh
