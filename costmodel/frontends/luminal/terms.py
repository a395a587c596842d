"""Terms of luminal's loop language, and a strict reader of its S-expressions.

Every term is kept once: what is written twice, or bound with `let` and used twice, is one object. Operators, how many arguments
they take and of which sort, are checked while a term is made; nothing is evaluated.

Source: luminal, commit 7c259f4 (August 2025), crates/luminal_2/src/code.lisp (the language), extract.rs (what is no program).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

from costmodel.errors import DescriptionError, UnsupportedError

__all__ = ["BINARY", "HELPERS", "OPERATORS", "UNARY", "Argument", "Term", "Terms", "read_text"]

UNARY = ("Exp2", "Log2", "Sqrt", "Sin", "Recip", "Neg")
BINARY = ("Add", "Mul", "Max", "Mod", "LessThan")
_ARITHMETIC = ("MAdd", "MSub", "MMul", "MDiv", "MMod", "MMin", "MMax", "MAnd", "MOr", "MGte", "MLt", "MFloorTo")
OPERATORS: dict[str, tuple[str, tuple[str, ...]]] = {
    "GMEM": ("IR", ("text",)),
    "SMEM": ("IR", ()),
    "LoopIn": ("IR", ("IR", "Loop", "Expression")),
    "LoopOut": ("IR", ("IR", "Loop", "Expression")),
    "SMEMLoad": ("IR", ("IR", "IR")),
    "SMEMRead": ("IR", ("IR", "IR")),
    "FusedLoops": ("IR", ("IR", "Expression")),
    "TCMatmul": ("IR", ("IR", "IR", *["Expression"] * 6)),
    "Unary": ("IR", ("text", "IR")),
    "Binary": ("IR", ("text", "IR", "IR")),
    **dict.fromkeys(UNARY, ("IR", ("IR",))),
    **dict.fromkeys(BINARY, ("IR", ("IR", "IR"))),
    "Loop": ("Loop", ("text", "Expression")),
    "MNum": ("Expression", ("number",)),
    "MVar": ("Expression", ("text",)),
    "MAccum": ("Expression", ("text",)),
    **dict.fromkeys(_ARITHMETIC, ("Expression", ("Expression", "Expression"))),
}
"""The sort of each operator's result, and of its arguments."""
HELPERS = frozenset(
    {"SwapLoops", "TileLoop", "UnpadLoop", "MergeLoops", "PropOneArg", "PropTwoArgs", "MReplace"}
    | {"TiledMatmulInputA", "TiledMatmulInputB", "TiledMatmulAcc"}
)
"""Operators of luminal's rewrite rules that are no program."""
_DEEPEST = 500


@dataclass(frozen=True, slots=True, eq=False)
class Term:
    """An operator and its arguments; equal terms of one reading are one object."""

    op: str
    args: tuple[Argument, ...]
    where: str
    """Where it was read first."""

    def child(self, n: int) -> Term:
        """An argument that is a term."""
        found = self.args[n]
        assert isinstance(found, Term)
        return found

    def text(self, n: int = 0) -> str:
        """An argument that is text."""
        return str(self.args[n])

    def refuse(self, why: str) -> NoReturn:
        """Say that this term cannot become part of a kernel, and why."""
        raise UnsupportedError(f"luminal: {self.where}: {self.op}: {why}")


Argument = Term | int | str


class Terms:
    """Makes terms, each once."""

    def __init__(self) -> None:
        self._made: dict[tuple[object, ...], Term] = {}

    def make(self, op: str, args: tuple[Argument, ...], where: str) -> Term:
        """The term with this operator and these arguments.

        Raises:
            UnsupportedError: the operator is no part of the language, or a helper of its search.
            DescriptionError: arguments of wrong number or sort.
        """
        if op in HELPERS:
            raise UnsupportedError(
                f"luminal: {where}: {op} is a helper of the search, no program; choose another member of its e-class"
            )
        if op not in OPERATORS:
            raise UnsupportedError(f"luminal: {where}: unknown operator {op!r}; known: {', '.join(sorted(OPERATORS))}")
        expected = OPERATORS[op][1]
        given = tuple(_sort(a) for a in args)
        if given != expected:
            raise DescriptionError(f"luminal: {where}: {op} takes ({' '.join(expected)}), got ({' '.join(given)})")
        key = (op, *(id(a) if isinstance(a, Term) else (type(a), a) for a in args))
        return self._made.setdefault(key, Term(op, args, where))


def _sort(argument: Argument) -> str:
    if isinstance(argument, Term):
        return OPERATORS[argument.op][0]
    return "number" if isinstance(argument, int) else "text"


_TOKEN = re.compile(r';[^\n]*|\s+|(?P<open>\()|(?P<close>\))|"(?P<text>(?:[^"\\]|\\.)*)"|(?P<atom>[^\s()";]+)')


def read_text(text: str) -> Term:
    """The program of a text: `(let name term)` bindings, then the term itself; without one, the last that was bound.

    Raises:
        DescriptionError: malformed; says line and column.
        UnsupportedError: an operator that is no part of the language.
    """
    terms, bound = Terms(), dict[str, Term]()
    root: Term | None = None
    open_forms: list[tuple[str, list[Argument | _Atom]]] = []
    made: Argument | _Atom
    for kind, value, where in _tokens(text):
        if kind == "open":
            if len(open_forms) == _DEEPEST:
                raise DescriptionError(f"luminal: {where}: nested deeper than {_DEEPEST}; bind parts with (let name …)")
            open_forms.append((where, []))
            continue
        if kind == "close":
            if not open_forms:
                raise DescriptionError(f"luminal: {where}: ')' without '('")
            begun, parts = open_forms.pop()
            if not open_forms and parts and isinstance(parts[0], _Atom) and parts[0].value == "let":
                name, last = _binding(parts, bound, begun)
                bound[name] = last
                continue
            made, where = _form(parts, bound, terms, begun), begun
        else:
            made = value if kind == "text" else _Atom(value, where)
        if open_forms:
            open_forms[-1][1].append(made)
        elif root is not None:
            raise DescriptionError(f"luminal: {where}: a second term; expected (let name term) bindings and one term")
        else:
            root = _resolved(made, bound, where)
    if open_forms:
        raise DescriptionError(f"luminal: {open_forms[-1][0]}: '(' is never closed")
    if root is None and bound:
        root = list(bound.values())[-1]
    if root is None:
        raise DescriptionError("luminal: the text has no term")
    return root


@dataclass(frozen=True, slots=True)
class _Atom:
    """A name or a number, not in quotes."""

    value: str
    where: str


def _tokens(text: str) -> Iterator[tuple[str, str, str]]:
    """Kind, value and place of each token."""
    at, line, line_start = 0, 1, 0
    while at < len(text):
        where = f"line {line}, column {at - line_start + 1}"
        match = _TOKEN.match(text, at)
        if match is None:
            raise DescriptionError(f"luminal: {where}: text in quotes is never closed")
        if match.lastgroup is not None:
            yield match.lastgroup, match[match.lastgroup], where
        newlines = match[0].count("\n")
        if newlines:
            line, line_start = line + newlines, at + match[0].rindex("\n") + 1
        at = match.end()


def _binding(parts: list[Argument | _Atom], bound: dict[str, Term], where: str) -> tuple[str, Term]:
    if len(parts) != 3 or not isinstance(parts[1], _Atom):
        raise DescriptionError(f"luminal: {where}: expected (let name term)")
    return parts[1].value, _resolved(parts[2], bound, where)


def _resolved(part: Argument | _Atom, bound: dict[str, Term], where: str) -> Term:
    if isinstance(part, _Atom):
        if part.value not in bound:
            raise DescriptionError(f"luminal: {part.where}: {part.value!r} is not bound; bound: {', '.join(bound) or 'nothing'}")
        return bound[part.value]
    if not isinstance(part, Term):
        raise DescriptionError(f"luminal: {where}: expected a term, got {part!r}")
    return part


def _form(parts: list[Argument | _Atom], bound: dict[str, Term], terms: Terms, where: str) -> Term:
    if not parts or not isinstance(parts[0], _Atom):
        raise DescriptionError(f"luminal: {where}: expected an operator after '('")
    args: list[Argument] = []
    for part in parts[1:]:
        if isinstance(part, _Atom):
            args.append(int(part.value) if re.fullmatch(r"-?\d{1,19}", part.value) else _resolved(part, bound, where))
        else:
            args.append(part)
    return terms.make(parts[0].value, tuple(args), where)
