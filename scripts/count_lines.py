"""Prints how many lines of code the components of Needle have: what a reader has to read.

Blank lines, comments and docstrings are not counted.
"""

import ast
import io
import tokenize
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "src" / "needle"

# Part, lines it should stay near, components.
PARTS = (
    ("core", 3500, ("graph", "ops", "tensor", "init", "nn", "optim", "data")),
    ("native + jit", 4000, ("native", "jit")),
)
LAYOUT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


def code_lines(text: str) -> int:
    """Number of lines that hold code."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in LAYOUT:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        owner = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if owner and ast.get_docstring(node, clean=False) is not None:
            docstring = node.body[0]
            lines.difference_update(range(docstring.lineno, docstring.end_lineno + 1))
    return len(lines)


def components(package: Path) -> dict[str, int]:
    """Lines of code by component: the folder or file right below the package."""
    counts: dict[str, int] = {}
    for path in sorted(package.rglob("*.py")):
        component = path.relative_to(package).parts[0].removesuffix(".py")
        counts[component] = counts.get(component, 0) + code_lines(path.read_text(encoding="utf-8"))
    return counts


def main() -> None:
    """Print one line a part, then everything else and the sum."""
    counts = components(PACKAGE)
    total = rest = sum(counts.values())
    for part, aim, names in PARTS:
        lines = sum(counts.get(name, 0) for name in names)
        rest -= lines
        shares = ", ".join(f"{name} {counts[name]}" for name in names if name in counts)
        print(f"{part:<13}{lines:>6} lines of code (about {aim}): {shares}")
    print(f"{'all else':<13}{rest:>6}")
    print(f"{'in all':<13}{total:>6}")


if __name__ == "__main__":
    main()
