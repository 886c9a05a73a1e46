"""Terms: what an operator's `expression` computes with while a kernel is written out for people.

Equal terms are one object. So those that occur several times are known, and get a name::

    before: what two steps compute          after: `lines`

    a1[i] = Σ (x0[i, j] + -x1[j]) ** 2      t1[i, j] = x0[i, j] - x1[j]
    a2[i, j] = exp(x0[i, j] + -x1[j])       a1[i] = Σ t1[i, j] ** 2
                                            a2[i, j] = exp(t1[i, j])

Parentheses stand where Python needs them. A comparison counts as 0 or 1, as in NumPy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

LETTERS = "ijklmnopqrstuvwxyz"

_COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")
_COMPARED, _ADDED, _MULTIPLIED, _NEGATED, _RAISED = range(1, 6)
# How closely an operator binds, and how closely its operands have to, not to need parentheses.
_INFIX = {
    **dict.fromkeys(_COMPARISONS, (_COMPARED, _ADDED, _ADDED)),
    **dict.fromkeys("+-", (_ADDED, _ADDED, _MULTIPLIED)),
    **dict.fromkeys("*/", (_MULTIPLIED, _MULTIPLIED, _NEGATED)),
    "**": (_RAISED, _RAISED + 1, _NEGATED),
}


def _infix(sign: str, *, swapped: bool = False) -> Callable[[Term, Any], Term]:
    def method(self: Term, other: Any) -> Term:
        pair = (other, self) if swapped else (self, other)
        return self.terms.infix(sign, *[self.terms.term(operand, self.dtype) for operand in pair])

    return method


@dataclass(eq=False)
class Term:
    """A number or position, an element of a value, or an operator or function of other terms.

    Attributes:
        terms: Where equal terms are found.
        head: The text, sign or function; with "[" at its end, the value of which `parts` say where.
        parts: The operands.
        loops: The loops that it depends on.
        dtype: What NumPy would have here, as far as expressions ask for it.
    """

    terms: Terms
    head: str
    parts: Sequence[Term]
    loops: frozenset[int]
    dtype: Any

    __add__, __radd__ = _infix("+"), _infix("+", swapped=True)
    __sub__, __rsub__ = _infix("-"), _infix("-", swapped=True)
    __mul__, __rmul__ = _infix("*"), _infix("*", swapped=True)
    __truediv__, __rtruediv__ = _infix("/"), _infix("/", swapped=True)
    __pow__, __rpow__ = _infix("**"), _infix("**", swapped=True)
    __lt__, __le__, __gt__, __ge__ = map(_infix, ("<", "<=", ">", ">="))
    __eq__, __ne__ = map(_infix, ("==", "!="))  # pyright: ignore[reportAssignmentType]
    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __neg__(self) -> Term:
        return self.terms.make("-", self)

    @property
    def negated(self) -> Term | None:
        """x, if this is -x."""
        if self.head == "-" and len(self.parts) == 1:
            return self.parts[0]
        is_negative = not self.parts and self.head.startswith("-")
        return self.terms.make(self.head[1:]) if is_negative else None

    @property
    def is_simple(self) -> bool:
        """Whether a name would be no shorter: a number, an element, or either negated."""
        if self.head == "-" and len(self.parts) == 1:
            return self.parts[0].is_simple
        return not self.parts or (self.head.endswith("[") and not any(p.parts for p in self.parts))


class Assignment(NamedTuple):
    """A line `target = sign term`; the sign is that of a reduction, or empty."""

    target: str
    sign: str
    term: Term


class Terms:
    """The terms of a kernel, and the vocabulary of expressions: every function by its name."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], Term] = {}

    def make(self, head: str, *parts: Any, loops: Iterable[int] = (), dtype: Any = None) -> Term:
        """A term, or the equal one that is there; `dtype` is the first operand's if not given."""
        if dtype is None:
            dtype = next((part.dtype for part in parts if isinstance(part, Term)), None)
        operands = [self.term(part, dtype) for part in parts]
        key = (head, *map(id, operands))
        if key not in self._known:
            around = frozenset(loops).union(*[part.loops for part in operands])
            self._known[key] = Term(self, head, operands, around, dtype)
        return self._known[key]

    def term(self, x: Any, dtype: Any = None) -> Term:
        """A term as it is, or that of a number, in the digits that it has in a dtype."""
        if isinstance(x, Term):
            return x
        number = dtype.type(x) if isinstance(x, float) and dtype is not None else x
        return self.make(str(number).removesuffix(".0"), dtype=dtype)

    def infix(self, sign: str, a: Term, b: Term) -> Term:
        """a sign b; a + -b is written a - b."""
        if sign == "+" and (subtracted := b.negated) is not None:
            return self.infix("-", a, subtracted)
        if sign == "+" and (subtracted := a.negated) is not None:
            return self.infix("-", b, subtracted)
        if sign == "!=" and a.head in _COMPARISONS and b.head == "0":
            return a
        return self.make(sign, a, b)

    def cast(self, x: Term, dtype: Any) -> Term:
        """`x` in another dtype."""
        same = x.dtype == dtype or x.head in _COMPARISONS
        return x if same else self.make(str(dtype), x, dtype=dtype)

    def __getattr__(self, name: str) -> Callable[..., Term]:
        return partial(self.make, name)


def lines(statements: Sequence[Sequence[Assignment]]) -> list[str]:
    """The lines of a kernel; the assignments of one statement happen at once."""
    return _Writer(statements).lines


class _Writer:
    """Writes terms, and before the first use of one that is used again a line with its name."""

    def __init__(self, statements: Sequence[Sequence[Assignment]]) -> None:
        self.lines: list[str] = []
        self._names: dict[int, str] = {}
        self._seen: set[int] = set()
        self._uses: Counter[int] = Counter()
        self._temporaries = 0
        for assignment in [assignment for statement in statements for assignment in statement]:
            self._count(assignment.term)
        for statement in statements:
            self._write(statement)

    def _count(self, term: Term) -> None:
        self._uses[id(term)] += 1
        if self._uses[id(term)] == 1:
            for part in term.parts:
                self._count(part)

    def _write(self, statement: Sequence[Assignment]) -> None:
        first = statement[0]
        stores = len(statement) == 1 and not first.sign  # the name of its term from here on
        for assignment in statement:
            for term in assignment.term.parts if stores else [assignment.term]:
                self._name(term)
        targets = ", ".join([assignment.target for assignment in statement])
        values = ", ".join([self._value(assignment) for assignment in statement])
        self.lines.append(f"{targets} = {values}")
        if stores and not first.term.is_simple:
            self._names.setdefault(id(first.term), first.target)

    def _name(self, term: Term) -> None:
        """Give names to what is used again, operands first."""
        if id(term) in self._seen or id(term) in self._names:
            return
        self._seen.add(id(term))
        for part in term.parts:
            self._name(part)
        if self._uses[id(term)] > 1 and not term.is_simple:
            self._temporaries += 1
            name = element(f"t{self._temporaries}", [LETTERS[k] for k in sorted(term.loops)])
            self.lines.append(f"{name} = {self._text(term)}")
            self._names[id(term)] = name

    def _value(self, assignment: Assignment) -> str:
        _, sign, term = assignment
        return f"{sign} {self._text(term, _MULTIPLIED)}" if sign else self._text(term)

    def _text(self, term: Term, closeness: int = 0) -> str:
        """A term, in parentheses if it binds less closely than it has to."""
        head, parts = term.head, term.parts
        if id(term) in self._names:
            return self._names[id(term)]
        if not parts:
            own, text = _NEGATED if head.startswith("-") else _RAISED + 1, head
        elif head not in _INFIX:
            inner = ", ".join(map(self._text, parts))
            return f"{head}{inner}]" if head.endswith("[") else f"{head}({inner})"
        elif len(parts) == 1:
            own, text = _NEGATED, f"-{self._text(parts[0], _NEGATED)}"
        else:
            own, *sides = _INFIX[head]
            left, right = map(self._text, parts, sides)
            text = f"{left} {head} {right}"
        return text if own >= closeness else f"({text})"


def element(name: str, places: Iterable[str]) -> str:
    """The text of an element: a scalar is written without brackets."""
    inside = ", ".join(places)
    return f"{name}[{inside}]" if inside else name
