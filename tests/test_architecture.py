"""The rules of the house, checked on this repository; and the checker, on trees that break them."""

import textwrap
from functools import partial
from pathlib import Path

import pytest

from tests import architecture
from tests.architecture import Source

ROOT = Path(__file__).parents[1]

# The components of the package from the ground up. A component may import only from floors above
# its own line in this table; components on one floor do not know each other. A new one gets its
# place here.
FLOORS = (
    ("errors", "hints", "files", "allocator"),
    ("config", "shapes"),
    ("context",),
    ("streams", "native"),
    ("philox",),
    ("random", "threads"),
    ("backend_ndarray",),
    ("device",),
    ("backend_selection",),
    ("graph",),
    ("ops",),
    ("tensor",),
    ("tensor_tuple",),
    ("autograd", "check", "printing", "serialization"),
    ("init",),
    ("state",),
    ("jit",),
    ("nn", "optim", "data"),
    ("models",),
    ("training",),
    ("cli",),
    ("__main__",),
)
# The folders of `jit`, and the files of its own: `jit/` is a house in the house.
JIT_FLOORS = (
    ("objects",),
    ("guards",),
    ("tracing",),
    ("compiler",),
    ("programs",),
    ("methods", "occurrences", "dry_run"),
    ("rounding", "collection"),
    ("check",),
    ("api",),
    ("explain",),
)
MOST_LINES = 500  # of a module; aim at 100 to 300
MOST_LINES_OF_A_FUNCTION = 50

PACKAGE = Source(ROOT / "src" / "needle", "needle")
JIT = Source(ROOT / "src" / "needle" / "jit", "jit")
APPS = Source(ROOT / "apps", None)
TOOLS = [Source(ROOT / folder, None) for folder in ("apps", "benchmarks", "scripts", "tests")]

RULES = {
    "no import cycle": partial(architecture.import_cycles, PACKAGE),
    "no downward import": partial(architecture.downward_imports, PACKAGE, FLOORS),
    "no downward import in jit": partial(architecture.downward_imports, JIT, JIT_FLOORS),
    "no package import in a function": partial(architecture.imports_in_functions, PACKAGE),
    "only config reads the environment": partial(
        architecture.environment_reads, PACKAGE, ("config",)
    ),
    "import is silent": partial(architecture.prints_at_import, PACKAGE),
    "apps use the public API": partial(architecture.private_uses, APPS, PACKAGE),
}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
def test_the_house_keeps_the_rule(rule):
    expect_none(rule())


@pytest.mark.parametrize("source", [PACKAGE, *TOOLS], ids=lambda source: source.folder.name)
def test_no_star_import(source):
    if source is not TOOLS[0]:  # the course's programs are written with star imports
        expect_none(architecture.star_imports(source))


@pytest.mark.parametrize("source", [PACKAGE, *TOOLS], ids=lambda source: source.folder.name)
def test_modules_and_functions_are_short(source):
    expect_none(architecture.long_modules(source, MOST_LINES))
    expect_none(architecture.long_functions(source, MOST_LINES_OF_A_FUNCTION))


def expect_none(violations):
    """Fail with all violations, one a line, and nothing else."""
    if text := report(violations):
        pytest.fail(text, pytrace=False)


def report(violations):
    """All violations as one text."""
    return "\n".join(violations)


# The checker itself.

FLAT = (("low",), ("middle", "twin"), ("high",))

BROKEN = {
    "cycle of two": (
        architecture.import_cycles,
        {"low.py": "from . import high", "high.py": "from .low import x"},
        "import cycle through",
    ),
    "cycle of three, by absolute names": (
        architecture.import_cycles,
        {
            "a.py": "import house.b",
            "b/__init__.py": "from .inner import x",
            "b/inner.py": "from house import c",
            "c.py": "from .a import x",
        },
        "import cycle through",
    ),
    "cycle inside a package": (
        architecture.import_cycles,
        {"a/__init__.py": "from .b import x", "a/b.py": "from ..a import y"},
        "import cycle through house.a",
    ),
    "downward": (
        partial(architecture.downward_imports, floors=FLAT),
        {"low.py": "\n\nfrom .high import x", "high.py": ""},
        "low.py:3: low may not import high",
    ),
    "downward from inside a component": (
        partial(architecture.downward_imports, floors=FLAT),
        {"low/deep.py": "from ..high.deep import x", "high/deep.py": ""},
        "low may not import high",
    ),
    "same floor": (
        partial(architecture.downward_imports, floors=FLAT),
        {"middle.py": "import house.twin", "twin.py": ""},
        "middle may not import twin",
    ),
    "root": (
        partial(architecture.downward_imports, floors=FLAT),
        {"high.py": "from . import x"},
        "imports the package's root",
    ),
    "unknown component": (
        partial(architecture.downward_imports, floors=FLAT),
        {"attic.py": ""},
        "'attic' is not in the table",
    ),
    "import in a function": (
        architecture.imports_in_functions,
        {
            "high.py": "class C:\n  def f(self):\n    if self:\n      from .low import x",
            "low.py": "",
        },
        "high.py:4: imports house.low inside a function",
    ),
    "star import": (
        architecture.star_imports,
        {"high.py": "from math import *"},
        "high.py:1: star import of math",
    ),
    "environment": (
        partial(architecture.environment_reads, allowed=("low",)),
        {"high.py": "import os\ndef f(): return os.environ['X']"},
        "high.py:2: os.environ outside low",
    ),
    "environment by import": (
        partial(architecture.environment_reads, allowed=("low",)),
        {"high.py": "from os import getenv as read"},
        "os.getenv outside low",
    ),
    "print": (
        architecture.prints_at_import,
        {"high.py": "if 1:\n  print('hello')"},
        "high.py:2: prints at import",
    ),
    "print in a class": (
        architecture.prints_at_import,
        {"high.py": "class C:\n  print('hello')"},
        "high.py:2: prints at import",
    ),
    "print in a default": (
        architecture.prints_at_import,
        {"high.py": "def f(x=print()): pass"},
        "high.py:1: prints at import",
    ),
    "long module": (
        partial(architecture.long_modules, most=3),
        {"high.py": "x = 1\n" * 4},
        "high.py:1: 4 lines, more than 3",
    ),
    "long function": (
        partial(architecture.long_functions, most=3),
        {"high.py": "def f():\n  '''One\n\n  two.'''\n  x = 1\n  y = 2\n  z = 3\n"},
        "high.py:1: f: 4 lines, more than 3",
    ),
}

SOUND = {
    "low.py": """
        import os
        print_later = lambda: print(os.environ)
        """,
    "middle/__init__.py": """
        from .one import x
        from .two import y
        """,
    "middle/one.py": """
        from __future__ import annotations
        from typing import TYPE_CHECKING
        from .. import low
        from ..low import print_later
        if TYPE_CHECKING:
            from ..high import Top
        """,
    "middle/two.py": """
        from .one import x
        def f():
            import json
            print(json)
        """,
    "high.py": "from .middle import x, two",
    "__init__.py": "from . import high\nfrom .low import print_later",
}


def build(folder, files):
    """A source tree named `house`, with these files."""
    for name, text in {"__init__.py": "", **files}.items():
        path = folder / "house" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
    return Source(folder / "house", "house")


@pytest.mark.parametrize(("check", "files", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_the_checker_catches(check, files, message, tmp_path):
    assert message in report(check(build(tmp_path, files)))


@pytest.mark.parametrize("check", [case[0] for case in BROKEN.values()], ids=BROKEN.keys())
def test_the_checker_lets_sound_trees_pass(check, tmp_path):
    if "most" in getattr(check, "keywords", {}):
        check = partial(check, most=10)
    assert not report(check(build(tmp_path, SOUND)))


LIBRARY = {
    "__init__.py": "from . import public, hidden\n__all__ = ['Thing', 'public']",
    "public.py": "__all__ = ['Offered']",
    "hidden.py": "",
}


@pytest.mark.parametrize(
    ("app", "message"),
    [
        ("import house.hidden", "house.hidden is not public"),
        ("from house import hidden", "house.hidden is not public"),
        ("from house.hidden import x", "house.hidden.x is not public"),
        ("import house as h\nh.hidden", "app.py:2: house.hidden is not public"),
        ("import house.public\nhouse.public.inner", "app.py:2: house.public.inner is not public"),
        ("from house import public as p\np.inner()", "app.py:2: house.public.inner is not public"),
        ("x = object()\nx._secret", "app.py:2: uses the private attribute _secret"),
    ],
)
def test_the_checker_catches_apps_that_use(app, message, tmp_path):
    assert message in report(private_uses(app, tmp_path))


@pytest.mark.parametrize(
    "app",
    [
        "import os.path\nimport house\nhouse.Thing.anything\nhouse.public.Offered()",
        "from house.public import Offered as O\nfrom house import Thing, public\npublic.Offered",
        "from house import *",
        "class C:\n  def f(self): return self._mine, type(self).__name__",
    ],
)
def test_the_checker_lets_apps_use_what_is_public(app, tmp_path):
    assert not report(private_uses(app, tmp_path))


def private_uses(app, folder):
    """What the checker says of one app over the library above."""
    library = build(folder, LIBRARY)
    (folder / "apps").mkdir()
    (folder / "apps" / "app.py").write_text(app, encoding="utf-8")
    return architecture.private_uses(Source(folder / "apps", None), library)
