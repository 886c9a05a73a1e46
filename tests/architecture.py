"""Reads source files with `ast` and yields, for each rule of the house, the lines that break it.

Nothing is imported or run. `tests/test_architecture.py` applies the rules to this repository, and
to small trees made to break them.
"""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

Floors = tuple[tuple[str, ...], ...]
FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
ENVIRONMENT = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}
TYPING_ONLY = ("TYPE_CHECKING", "typing.TYPE_CHECKING")


@dataclass(frozen=True)
class Import:
    """One imported name: `target` is a module of the source tree, or None for all others."""

    module: str
    name: str | None  # None for `import module`, "*" for a star
    line: int
    in_function: bool
    target: str | None


@dataclass(frozen=True)
class Module:
    """A parsed source file; `name` is dotted, `package.component.file`."""

    name: str
    path: Path
    is_package: bool

    @cached_property
    def text(self) -> str:
        """The file's text."""
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        """The file's syntax tree."""
        return ast.parse(self.text, str(self.path))

    @property
    def component(self) -> str:
        """Second part of the name: the file or folder right below the package."""
        return [*self.name.split("."), ""][1]

    def at(self, line: int, message: str) -> str:
        """A message with its place, clickable in most terminals."""
        return f"{self.path}:{line}: {message}"


@dataclass(frozen=True)
class Source:
    """All modules below a folder. `package` is their root: None for loose files such as apps/."""

    folder: Path
    package: str | None

    @cached_property
    def modules(self) -> dict[str, Module]:
        """Modules by dotted name."""
        found = {}
        for path in sorted(self.folder.rglob("*.py")):
            parts = path.relative_to(self.folder).with_suffix("").parts
            is_package = parts[-1] == "__init__"
            parts = ((self.package,) if self.package else ()) + parts[: -1 if is_package else None]
            name = ".".join(parts)
            found[name] = Module(name, path, is_package)
        return found

    def imports(self, module: Module) -> Iterator[Import]:
        """Every import that runs, one a name; those under `if TYPE_CHECKING` never do."""
        for node, in_function in running(module.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    target = alias.name if alias.name in self.modules else None
                    yield Import(alias.name, None, node.lineno, in_function, target)
            elif isinstance(node, ast.ImportFrom):
                base = absolute(module, node)
                for alias in node.names:
                    below = f"{base}.{alias.name}"
                    target = next((m for m in (below, base) if m in self.modules), None)
                    yield Import(base, alias.name, node.lineno, in_function, target)


def absolute(module: Module, node: ast.ImportFrom) -> str:
    """Name of the module that a `from … import` names, with the dots resolved."""
    if not node.level:
        return node.module or ""
    package = module.name.split(".")
    package = package[: len(package) - node.level + module.is_package]
    return ".".join([*package, *([node.module] if node.module else [])])


def running(tree: ast.AST, in_function: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """Every node that can run, with whether it does so inside a function (or at import)."""
    for child in ast.iter_child_nodes(tree):
        yield child, in_function
        if isinstance(child, ast.If) and ast.unparse(child.test) in TYPING_ONLY:
            for node in child.orelse:
                yield node, in_function
                yield from running(node, in_function)
        elif isinstance(child, FUNCTION):
            body = child.body if isinstance(child.body, list) else [child.body]
            for part in ast.iter_child_nodes(child):
                inside = in_function or part in body  # decorators and defaults run outside
                yield part, inside
                yield from running(part, inside)
        else:
            yield from running(child, in_function)


def import_cycles(source: Source) -> Iterator[str]:
    """Modules that import each other, however long the way round."""
    edges: dict[str, set[str]] = {
        name: {i.target for i in source.imports(module) if i.target and i.target != name}
        for name, module in source.modules.items()
    }
    # A module that imports nothing, or that nothing imports, is in no cycle: peel it off, repeat.
    while peel := {name for name, targets in edges.items() if not targets & edges.keys()} | (
        edges.keys() - set().union(*edges.values())
    ):
        edges = {name: targets - peel for name, targets in edges.items() if name not in peel}
    for name, targets in sorted(edges.items()):
        yield source.modules[name].at(1, f"import cycle through {', '.join(sorted(targets))}")


def downward_imports(source: Source, floors: Floors) -> Iterator[str]:
    """Imports of a component that is on no earlier floor; the package's root sees everything."""
    floor = {name: number for number, components in enumerate(floors) for name in components}
    for module in source.modules.values():
        name = module.component
        if not name:
            continue
        if name not in floor:
            yield module.at(1, f"component {name!r} is not in the table: give it a floor")
            continue
        for found in source.imports(module):
            target = source.modules[found.target] if found.target else None
            if target is None or target.component == name:
                continue
            if not target.component:
                yield module.at(found.line, "imports the package's root: import what is in it")
            elif floor.get(target.component, -1) >= floor[name]:
                message = f"{name} may not import {target.component}, which stands above it"
                yield module.at(found.line, message)


def imports_in_functions(source: Source) -> Iterator[str]:
    """The package's own modules imported inside a function: a cycle in hiding."""
    for module in source.modules.values():
        for found in source.imports(module):
            if found.in_function and found.target:
                yield module.at(found.line, f"imports {found.target} inside a function")


def star_imports(source: Source) -> Iterator[str]:
    """`from … import *`."""
    for module in source.modules.values():
        for found in source.imports(module):
            if found.name == "*":
                yield module.at(found.line, f"star import of {found.module}")


def environment_reads(source: Source, allowed: Iterable[str]) -> Iterator[str]:
    """`os.environ` and its relatives outside the components that are allowed to."""
    for module in source.modules.values():
        if module.component in allowed:
            continue
        for node in ast.walk(module.tree):
            names = {getattr(node, "attr", None)}
            if isinstance(node, ast.ImportFrom) and node.module == "os":
                names = {alias.name for alias in node.names}
            for name in names & ENVIRONMENT:
                yield module.at(node.lineno, f"os.{name} outside {', '.join(allowed)}")


def prints_at_import(source: Source) -> Iterator[str]:
    """`print(…)` that runs when the module is imported."""
    for module in source.modules.values():
        for node, in_function in running(module.tree):
            called = isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"
            if called and not in_function:
                yield module.at(node.lineno, "prints at import")


def long_modules(source: Source, most: int) -> Iterator[str]:
    """Files with more than `most` lines."""
    for module in source.modules.values():
        if (lines := len(module.text.splitlines())) > most:
            yield module.at(1, f"{lines} lines, more than {most}: split it by idea")


def long_functions(source: Source, most: int) -> Iterator[str]:
    """Functions with more than `most` lines, their docstring not counted."""
    for module in source.modules.values():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = node.end_lineno - node.lineno + 1
                if ast.get_docstring(node, clean=False) is not None:
                    lines -= node.body[0].end_lineno - node.body[0].lineno + 1
                if lines > most:
                    yield module.at(node.lineno, f"{node.name}: {lines} lines, more than {most}")


def public_names(module: Module) -> set[str]:
    """`__all__`, which is a literal list; without one, what the module itself defines."""
    defined: set[str] = set()
    for node in module.tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            defined.add(node.name)
        targets = getattr(node, "targets", [getattr(node, "target", None)])
        names = {target.id for target in targets if isinstance(target, ast.Name)}
        if "__all__" in names:
            return set(ast.literal_eval(node.value))
        defined |= names
    return {name for name in defined if not name.startswith("_")}


def private_uses(apps: Source, library: Source) -> Iterator[str]:
    """Names that apps take from the library without its offering them.

    Public are the names in the root's `__all__`; where one of them is a module, its names too.
    """
    root = library.modules[library.package]
    public = {root.name: public_names(root)}
    for name in public[root.name]:
        if (module := library.modules.get(f"{root.name}.{name}")) is not None:
            public[module.name] = public_names(module)
    for module in apps.modules.values():
        for line, dotted in sorted(names_of(root.name, module.tree)):
            if not is_public(dotted, public):
                yield module.at(line, f"{dotted} is not public")
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
                own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
                if not own and not node.attr.endswith("__"):
                    yield module.at(node.lineno, f"uses the private attribute {node.attr}")


def names_of(package: str, tree: ast.Module) -> set[tuple[int, str]]:
    """Every name of `package` that the file writes, dotted and in full, with its line."""
    bound: dict[str, str] = {}  # local name → what it stands for
    used: set[tuple[int, str]] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [
                (a.asname or package, a.name, a.name if a.asname else package) for a in node.names
            ]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            full = [
                (a, node.module if a.name == "*" else f"{node.module}.{a.name}") for a in node.names
            ]
            names = [(a.asname or a.name, dotted, dotted) for a, dotted in full]
        else:
            continue
        for local, dotted, meaning in names:
            if dotted.split(".")[0] == package:
                bound[local] = meaning
                used.add((node.lineno, dotted))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and (dotted := spelled(node, bound)):
            used.add((node.lineno, dotted))
    return used


def spelled(node: ast.expr, bound: dict[str, str]) -> str | None:
    """The full dotted name of a chain of attributes that starts at a bound name."""
    if isinstance(node, ast.Attribute):
        owner = spelled(node.value, bound)
        return owner and f"{owner}.{node.attr}"
    return bound.get(node.id) if isinstance(node, ast.Name) else None


def is_public(dotted: str, public: dict[str, set[str]]) -> bool:
    """Whether each module on the way offers the next part; attributes of objects are free."""
    owner, *parts = dotted.split(".")
    for part in parts:
        if owner in public and part not in public[owner] and not part.startswith("__"):
            return False
        owner = f"{owner}.{part}"
    return True
