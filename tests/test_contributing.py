"""What the pages say of the source holds: the operator they add, their links, line counts."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]

# Before the contract tests are collected, the page's operator becomes part of the library, as its
# author would make it: defined in a module of needle.ops, and exported.
PLUGIN = """
import sys, types
import needle, needle.ops

module = types.ModuleType("needle.ops.softplus")
sys.modules[module.__name__] = module
exec(CODE, vars(module))
module.softplus.__doc__ += EXAMPLE
for package in (needle, needle.ops):
    package.Softplus, package.softplus = module.Softplus, module.softplus
"""

EXAMPLE = """
    Example:
        >>> import needle as ndl
        >>> ndl.softplus(ndl.Tensor([0.0])).numpy().round(4)
        array([0.6931])
"""


def test_the_pages_operator_passes_the_contract_tests(tmp_path):
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?class Softplus.*?)^```$", page, re.MULTILINE | re.DOTALL)
    plugin = tmp_path / "softplus_plugin.py"
    plugin.write_text(f"CODE = {code!r}\nEXAMPLE = {EXAMPLE!r}\n{PLUGIN}", encoding="utf-8")
    options = ["-q", "-p", "softplus_plugin", "-p", "no:cacheprovider", "-k", "Softplus"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "tests/contract"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"PYTHONPATH": str(tmp_path), "PATH": ""},
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert int(re.search(r"(\d+) passed", run.stdout)[1]) >= 50  # each property on each sample


def anchors(page):
    """The names under which a page's headings can be linked to, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    dead = []
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        target, _, anchor = link.partition("#")
        path = page.parent / target if target else page
        if "://" not in link and not (path.exists() and (not anchor or anchor in anchors(path))):
            dead.append(link)
    assert dead == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_files_that_a_page_names_are_there(page):
    bases = [ROOT, ROOT / "src", ROOT / "src" / "needle", ROOT / "src" / "needle" / "jit"]
    named = re.findall(r"`(\w[\w./]*/\w+\.py)`", page.read_text(encoding="utf-8"))
    lost = [name for name in named if not any((base / name).is_file() for base in bases)]
    assert lost == [] or page.name == "CHANGELOG.md"  # which tells of files that were there once


def test_the_tours_line_counts_are_about_right():
    tour = (ROOT / "docs" / "tour.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\|[^|]*\| `(\S+?)` \|[^|]*\| *(\d+) *\|$", tour, re.MULTILINE)
    assert len(rows) > 20
    wrong = []
    for name, count in rows:
        path = ROOT / "src" / "needle" / name
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
        lines = sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files)
        if abs(lines - int(count)) > max(20, lines // 5):
            wrong.append(f"{name} has {lines} lines, the tour says {count}")
    assert wrong == []
