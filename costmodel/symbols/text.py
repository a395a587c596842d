"""Expressions as text and LaTeX, and back through a whitelisted grammar: nothing from a file is evaluated as code."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

import sympy
from sympy.printing.latex import LatexPrinter
from sympy.printing.str import StrPrinter

from costmodel.errors import DescriptionError
from costmodel.symbols.algebra import MOST_TERMS, CeilDiv, Condition, FloorDiv, Maximum, Minimum, Mod, Xor, expanded_terms

__all__ = ["parse", "parse_condition", "to_latex", "to_text"]


class _Text(StrPrinter):
    """Prints the grammar that `parse` reads."""

    def _print_FloorDiv(self, e: sympy.Basic) -> str:
        return f"floor_div({self._print(e.args[0])}, {self._print(e.args[1])})"

    def _print_CeilDiv(self, e: sympy.Basic) -> str:
        return f"ceil_div({self._print(e.args[0])}, {self._print(e.args[1])})"

    def _print_Mod(self, e: sympy.Basic) -> str:
        return f"mod({self._print(e.args[0])}, {self._print(e.args[1])})"

    def _print_Xor(self, e: sympy.Basic) -> str:
        return f"xor({self._print(e.args[0])}, {self._print(e.args[1])})"

    def _print_Minimum(self, e: sympy.Basic) -> str:
        return f"min({self._print(e.args[0])}, {self._print(e.args[1])})"

    def _print_Maximum(self, e: sympy.Basic) -> str:
        return f"max({self._print(e.args[0])}, {self._print(e.args[1])})"

    def _print_Distinct(self, e: sympy.Basic) -> str:
        return f"distinct({', '.join(self._print(a) for a in e.args)})"

    def _print_Passing(self, e: sympy.Basic) -> str:
        return f"passing({', '.join(self._print(a) for a in e.args)})"


class _Latex(LatexPrinter):
    def _print_FloorDiv(self, e: sympy.Basic, exp: str | None = None) -> str:
        body = rf"\left\lfloor \frac{{{self._print(e.args[0])}}}{{{self._print(e.args[1])}}} \right\rfloor"
        return f"{body}^{{{exp}}}" if exp else body

    def _print_CeilDiv(self, e: sympy.Basic, exp: str | None = None) -> str:
        body = rf"\left\lceil \frac{{{self._print(e.args[0])}}}{{{self._print(e.args[1])}}} \right\rceil"
        return f"{body}^{{{exp}}}" if exp else body

    def _print_Mod(self, e: sympy.Basic, exp: str | None = None) -> str:
        body = rf"\left({self._print(e.args[0])} \bmod {self._print(e.args[1])}\right)"
        return f"{body}^{{{exp}}}" if exp else body

    def _call(self, name: str, e: sympy.Basic, exp: str | None) -> str:
        body = rf"\{name}\left({', '.join(self._print(a) for a in e.args)}\right)"
        return f"{body}^{{{exp}}}" if exp else body

    def _print_Xor(self, e: sympy.Basic, exp: str | None = None) -> str:
        return self._call("operatorname{xor}", e, exp)

    def _print_Minimum(self, e: sympy.Basic, exp: str | None = None) -> str:
        return self._call("min", e, exp)

    def _print_Maximum(self, e: sympy.Basic, exp: str | None = None) -> str:
        return self._call("max", e, exp)

    def _print_Distinct(self, e: sympy.Basic, exp: str | None = None) -> str:
        return self._call("operatorname{distinct}", e, exp)

    def _print_Passing(self, e: sympy.Basic, exp: str | None = None) -> str:
        return self._call("operatorname{passing}", e, exp)


def to_text(expression: sympy.Expr) -> str:
    """Print an expression in the grammar of `parse`."""
    return str(_Text().doprint(expression))


def to_latex(expression: sympy.Expr) -> str:
    """Print an expression for Jupyter."""
    return str(_Latex().doprint(expression))


_CALLS: dict[str, Any] = {
    "floor_div": FloorDiv,
    "ceil_div": CeilDiv,
    "mod": Mod,
    "min": Minimum,
    "max": Maximum,
    "xor": Xor,
}
_FEW_DIGITS = 18
"""Of a number that is read without a syntax tree."""
_MOST_CHARACTERS, _MOST_NODES, _MOST_BITS = 20_000, 2_000, 256


def parse(text: str, symbols: Mapping[str, sympy.Symbol]) -> sympy.Expr:
    """Read an expression: integers, known names, `+ - * / **`, and floor_div, ceil_div, mod, min, max.

    Nothing is evaluated as code: the text becomes a syntax tree of which each node is checked, and its
    length, its size and the size of its numbers are bounded.

    Raises:
        DescriptionError: anything else in the text.
    """
    if isinstance(text, str) and text.isascii() and text.isdecimal() and len(text) <= _FEW_DIGITS:
        return sympy.Integer(int(text))
    return _walk(_tree(text), symbols, text)


def parse_condition(text: str, symbols: Mapping[str, sympy.Symbol]) -> Condition:
    """Read a comparison of two expressions.

    Raises:
        DescriptionError: the text is not `left OP right`.
    """
    node = _tree(text)
    signs = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="}
    if not isinstance(node, ast.Compare) or len(node.ops) != 1 or type(node.ops[0]) not in signs:
        raise DescriptionError(f"condition {text!r}: expected one comparison 'left < right'")
    return signs[type(node.ops[0])], _walk(node.left, symbols, text), _walk(node.comparators[0], symbols, text)


def _tree(text: str) -> ast.expr:
    if not isinstance(text, str) or len(text) > _MOST_CHARACTERS:
        raise DescriptionError(f"expression: expected text of at most {_MOST_CHARACTERS} characters, got {str(text)[:40]!r}")
    try:
        tree = ast.parse(text, mode="eval").body
        nodes, depth = _measure(tree)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise DescriptionError(f"expression {text[:80]!r}: {getattr(error, 'msg', error)}") from None
    if nodes > _MOST_NODES or depth > _MOST_DEPTH:
        raise DescriptionError(
            f"expression {text[:80]!r}…: {nodes} terms, {depth} deep; expected at most {_MOST_NODES}, {_MOST_DEPTH} deep"
        )
    return tree


_MOST_DEPTH = 150


def _measure(tree: ast.expr) -> tuple[int, int]:
    """Number of nodes and depth, without recursion."""
    nodes, depth, level = 0, 0, [tree]
    while level:
        nodes, depth = nodes + len(level), depth + 1
        level = [c for n in level for c in _parts(n)]
    return nodes, depth


def _parts(node: ast.expr) -> list[ast.expr]:
    """The expressions directly inside one."""
    if isinstance(node, ast.Name | ast.Constant):
        return []
    if isinstance(node, ast.BinOp):
        return [node.left, node.right]
    return [c for c in ast.iter_child_nodes(node) if isinstance(c, ast.expr)]


def _walk(node: ast.expr, symbols: Mapping[str, sympy.Symbol], text: str) -> sympy.Expr:
    result = _value(node, symbols, text)
    if result.is_Rational and max(int(result.p).bit_length(), int(result.q).bit_length()) > _MOST_BITS:
        raise DescriptionError(f"expression {text[:80]!r}: a number has more than {_MOST_BITS} bits")
    return result


def _value(node: ast.expr, symbols: Mapping[str, sympy.Symbol], text: str) -> sympy.Expr:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return sympy.Integer(node.value)
    if isinstance(node, ast.Name):
        if node.id in symbols:
            return symbols[node.id]
        known = ", ".join(sorted(symbols)) or "none"
        raise DescriptionError(f"expression {text!r}: unknown name {node.id!r}; known: {known}")
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_walk(node.operand, symbols, text)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult | ast.Div):
        return _product(node, symbols, text)
    if isinstance(node, ast.BinOp):
        result = _operation(node.op, _walk(node.left, symbols, text), _walk(node.right, symbols, text))
        if result is not None:
            return result
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _CALLS and not node.keywords:
        function, args = _CALLS[node.func.id], [_walk(a, symbols, text) for a in node.args]
        if len(args) == 2 and (args[1] != 0 or function in (Minimum, Maximum)):
            return function(*args)
    raise DescriptionError(
        f"expression {text[:200]!r}: {ast.unparse(node)[:80]!r} is not allowed; "
        f"expected integers, known names, + - * / ** and {', '.join(_CALLS)} of two, no division by zero"
    )


def _product(node: ast.BinOp, symbols: Mapping[str, sympy.Symbol], text: str) -> sympy.Expr:
    """A chain of `*` and `/`, multiplied at once: sympy would spread a number over a sum if it came to it alone."""
    factors: list[sympy.Expr] = []
    here: ast.expr = node
    while isinstance(here, ast.BinOp) and isinstance(here.op, ast.Mult | ast.Div):
        right = _walk(here.right, symbols, text)
        if isinstance(here.op, ast.Div) and right == 0:
            raise DescriptionError(f"expression {text[:200]!r}: division by zero")
        factors.append(1 / right if isinstance(here.op, ast.Div) else right)
        here = here.left
    return sympy.Mul(_walk(here, symbols, text), *reversed(factors))


def _operation(op: ast.operator, left: sympy.Expr, right: sympy.Expr) -> sympy.Expr | None:
    """The result of a binary operator; None where it is not allowed."""
    if isinstance(op, ast.Add):
        return left + right
    if isinstance(op, ast.Sub):
        return left - right
    small = right.is_Integer and abs(int(right)) <= 16 and expanded_terms(left) ** abs(int(right)) <= MOST_TERMS
    if isinstance(op, ast.Pow) and small and not (left == 0 and right < 0):
        return left**right
    return None
