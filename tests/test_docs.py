"""Runs what the documentation shows: code of README.md and docs/, and the docstrings' examples."""

import doctest
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
MODULES = [
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted((SOURCE / "needle").rglob("*.py"))
    if path.stem != "__main__"
]
FENCE = re.compile(r"^```(?:python|pycon)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    """Examples run where they can write, with the repository's data/ beside them."""
    (tmp_path / "data").symlink_to(ROOT / "data")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_page(page):
    """Every fenced `python` block, in order and in one namespace; with `>>>`, also its output."""
    run_page(page.read_text(encoding="utf-8"), page)


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name):
    module = importlib.import_module(name)
    for test in doctest.DocTestFinder(exclude_empty=True).find(module, name):
        run_doctest(test)


def run_page(text, path):
    """Run the code of a page; line numbers in tracebacks are the page's own."""
    namespace = {"__name__": path.stem}
    for block in FENCE.finditer(text):
        code, line = block[1], text.count("\n", 0, block.start(1))
        if ">>> " in code:
            parser = doctest.DocTestParser()
            test = parser.get_doctest(code, namespace, path.name, str(path), line)
            run_doctest(test)
            namespace |= test.globs
        else:
            exec(compile("\n" * line + code, str(path), "exec"), namespace)


def run_doctest(test):
    """Run one example's lines and fail with doctest's own report."""
    report = []
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    runner.run(test, out=report.append, clear_globs=False)
    if runner.failures:
        pytest.fail("".join(report), pytrace=False)


WRONG = {
    "statement": ("```python\n1 / 0\n```\n", ZeroDivisionError, "division by zero"),
    "later block": (
        "```python\nx = 1\n```\ntext\n```python\nassert x == 2, 'not 2'\n```\n",
        AssertionError,
        "not 2",
    ),
    "output": (
        "```python\nx = 1\n```\n```pycon\n>>> x\n2\n```\n",
        pytest.fail.Exception,
        "page.md.*, line 5(.|\n)*Expected:\n    2\nGot:\n    1",
    ),
}


@pytest.mark.parametrize(("text", "error", "message"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_page_fails(text, error, message, tmp_path):
    with pytest.raises(error, match=message):
        run_page(text, tmp_path / "page.md")


def test_blocks_of_a_page_share_one_namespace(tmp_path):
    text = "```python\nx = 1\n```\n```python\n>>> y = x + 1\n>>> y\n2\n```\n```python\nz = y\n```\n"
    run_page(text + "```sh\nnot python\n```\n", tmp_path / "page.md")
