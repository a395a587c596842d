"""Integer expressions of a kernel: polynomials in sizes, block, loop and tensor coordinates, with divisions as atoms.

A tensor of indices is one expression in the coordinates `%d0`, `%d1` … of its elements; `%b0` … are block indices, `%i0` …
counters of loops, `@0` … quotients, remainders, minima and maxima. Sums of products are kept as plain dictionaries, for a kernel
has hundreds of integer operations and is to be read in milliseconds; what is left of them becomes sympy at the end.

Quotients are rounded down, and remainders are not negative. A processor rounds to zero: whoever reads a division sees to it that
what is divided is not negative, where the two are the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import sympy
import sympy.tensor.tensor  # the first sum would import it, for as long as all the rest takes

from costmodel.errors import UnsupportedError
from costmodel.symbols import CeilDiv, FloorDiv, Maximum, Minimum, Mod

__all__ = ["Algebra", "Call", "Polynomial", "block", "coordinate"]

_MOST_TERMS = 512
_FUNCTIONS = {"floor": FloorDiv, "ceil": CeilDiv, "mod": Mod, "min": Minimum, "max": Maximum}


def coordinate(dimension: int) -> str:
    """The atom of a tensor coordinate."""
    return f"%d{dimension}"


def block(axis: int) -> str:
    """The atom of a block index."""
    return f"%b{axis}"


class Polynomial:
    """A sum of products of atoms with whole coefficients."""

    __slots__ = ("_hash", "terms")

    def __init__(self, terms: Mapping[tuple[str, ...], int]) -> None:
        self.terms = {m: c for m, c in terms.items() if c}
        self._hash: int | None = None

    @classmethod
    def of(cls, value: int | str) -> Polynomial:
        """A number or an atom."""
        return cls({(): value} if isinstance(value, int) else {(value,): 1})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Polynomial) and self.terms == other.terms

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(frozenset(self.terms.items()))
        return self._hash

    def __add__(self, other: Polynomial) -> Polynomial:
        terms = dict(self.terms)
        for m, c in other.terms.items():
            terms[m] = terms.get(m, 0) + c
        return Polynomial(terms)

    def __neg__(self) -> Polynomial:
        return Polynomial({m: -c for m, c in self.terms.items()})

    def __sub__(self, other: Polynomial) -> Polynomial:
        return self + -other

    def __mul__(self, other: Polynomial) -> Polynomial:
        if len(self.terms) * len(other.terms) > _MOST_TERMS:
            raise UnsupportedError(f"an index has more than {_MOST_TERMS} terms; simplify it")
        terms: dict[tuple[str, ...], int] = {}
        for m, c in self.terms.items():
            for n, d in other.terms.items():
                key = tuple(sorted((*m, *n))) if m and n else m or n
                terms[key] = terms.get(key, 0) + c * d
        return Polynomial(terms)

    @property
    def number(self) -> int | None:
        """Its value where it has no atoms."""
        if not self.terms:
            return 0
        return self.terms.get(()) if len(self.terms) == 1 and () in self.terms else None

    def atoms(self) -> set[str]:
        """The atoms that stand in it, not those inside calls."""
        return {a for m in self.terms for a in m}

    def linear(self, atom: str) -> tuple[Polynomial, Polynomial] | None:
        """`(c, rest)` with the expression equal to `c·atom + rest`; None where it is not linear in the atom."""
        with_, without = {}, {}
        for m, c in self.terms.items():
            if atom not in m:
                without[m] = c
            elif m.count(atom) == 1:
                at = m.index(atom)
                with_[m[:at] + m[at + 1 :]] = c
            else:
                return None
        return Polynomial(with_), Polynomial(without)

    def __repr__(self) -> str:
        return " + ".join(f"{c}·{'·'.join(m)}" for m, c in self.terms.items()) or "0"


ZERO, ONE = Polynomial.of(0), Polynomial.of(1)
Range = tuple[int | None, int | None]
"""Smallest and largest value; None where that is not known."""
Call = tuple[str, Polynomial, Polynomial]
"""Kind (`floor`, `ceil`, `mod`, `min`, `max`) and its two arguments."""


class Algebra:
    """The calls of one kernel, and what is known of its atoms."""

    def __init__(self, divisors: Mapping[str, int]) -> None:
        self.divisors = dict(divisors)
        """Known divisors of sizes."""
        self.ranges: dict[str, Range] = {}
        """Smallest and largest value of an atom, both included; a size or an index that is not listed is not negative."""
        self.calls: dict[str, Call] = {}
        self._names: dict[Call, str] = {}
        self._within: dict[str, set[str]] = {}
        """The atoms inside a call."""

    def call(self, kind: str, a: Polynomial, b: Polynomial) -> Polynomial:
        """An atom for a function of two expressions."""
        key = (kind, a, b)
        name = self._names.get(key)
        if name is None:
            name = self._names[key] = f"@{len(self._names)}"
            self.calls[name] = key
            self.ranges[name] = self._range_of(*key)
        return Polynomial.of(name)

    def _range_of(self, kind: str, a: Polynomial, b: Polynomial) -> Range:
        (low_a, high_a), (low_b, high_b) = self.bounds(a), self.bounds(b)
        if kind == "mod":
            highs = [None if high_b is None else high_b - 1, high_a if low_a is not None and low_a >= 0 else None]
            return 0, min((h for h in highs if h is not None), default=None)
        if kind in ("floor", "ceil"):
            return _quotients(kind, (low_a, high_a), (low_b, high_b))
        pick = min if kind == "min" else max
        one_sided = [low_a, low_b] if kind == "max" else [high_a, high_b]
        known = [x for x in one_sided if x is not None]
        other = (low_a, low_b) if kind == "min" else (high_a, high_b)
        both = None if None in other else pick(x for x in other if x is not None)
        one = pick(known) if known else None
        return (both, one) if kind == "min" else (one, both)

    def bounds(self, p: Polynomial) -> Range:
        """Smallest and largest value as far as they are plain to see."""
        low: int | None = 0
        high: int | None = 0
        for m, c in p.terms.items():
            bottom, top = self._product(m)
            ends = (None if bottom is None else c * bottom, None if top is None else c * top)
            lower, upper = ends if c > 0 else ends[::-1]
            low = None if low is None or lower is None else low + lower
            high = None if high is None or upper is None else high + upper
        return low, high

    def _product(self, atoms: tuple[str, ...]) -> Range:
        ranges = [self.ranges.get(a, (0 if a[0] in "%@" else 1, None)) for a in atoms]
        if len(ranges) == 1:
            return ranges[0]
        if any(b is None or b < 0 for b, _ in ranges):
            return None, None
        tops = [t for _, t in ranges if t is not None]
        return math.prod(b or 0 for b, _ in ranges), math.prod(tops) if len(tops) == len(ranges) else None

    def divisor(self, p: Polynomial) -> int:
        """A number that divides every value; 0 for the value 0."""
        common = 0
        for m, c in p.terms.items():
            common = math.gcd(common, c * math.prod(self._divisor_of(a) for a in m))
        return common

    def _divisor_of(self, atom: str) -> int:
        call = self.calls.get(atom)
        if call is None:
            return self.divisors.get(atom, 1)
        return math.gcd(self.divisor(call[1]), self.divisor(call[2])) if call[0] in ("min", "max", "mod") else 1

    # -- functions

    def floor(self, a: Polynomial, b: Polynomial) -> Polynomial:
        """`a // b`."""
        whole, rest = self._split(a, b)
        if rest == ZERO or (self._below(rest, b) and self.not_negative(rest)):
            return whole
        divisor = b.number
        if divisor is not None and rest.terms.get((), 0) == divisor - 1:
            return whole + self.ceil(rest - Polynomial.of(divisor - 1), b)
        if divisor is None and len(rest.terms) > 1 and _holds(rest + ONE, b):
            return whole + self.ceil(rest + ONE - b, b)
        picked = self.calls.get(next(iter(rest.atoms()), "")) if rest.number is None else None
        if picked is not None and picked[0] in ("min", "max") and rest == self.call(*picked):
            return whole + self.apply(picked[0], *(self.floor(e, b) for e in picked[1:]))
        inner = self._inner(rest, b) if whole == ZERO else None
        if inner is not None:
            return inner
        return whole + self.call("floor", rest, b)

    def ceil(self, a: Polynomial, b: Polynomial) -> Polynomial:
        """`a / b` rounded up."""
        whole, rest = self._split(a, b)
        if rest == ZERO:
            return whole
        return whole + self.call("ceil", rest, b)

    def mod(self, a: Polynomial, b: Polynomial) -> Polynomial:
        """`a % b`."""
        _, rest = self._split(a, b)
        if rest == ZERO or (self._below(rest, b) and self.not_negative(rest)):
            return rest
        return self.call("mod", rest, b)

    def minimum(self, a: Polynomial, b: Polynomial) -> Polynomial:
        """The smaller of the two."""
        if a == b or self.not_negative(b - a):
            return a
        return b if self.not_negative(a - b) else self.call("min", a, b)

    def maximum(self, a: Polynomial, b: Polynomial) -> Polynomial:
        """The larger of the two."""
        if a == b or self.not_negative(a - b):
            return a
        return b if self.not_negative(b - a) else self.call("max", a, b)

    def _split(self, a: Polynomial, b: Polynomial) -> tuple[Polynomial, Polynomial]:
        """`(q, r)` with `a = q·b + r`: terms that `b` divides plainly are in `q`."""
        if len(b.terms) != 1:
            return (ONE, ZERO) if a == b else (ZERO, a)
        ((monomial, divisor),) = b.terms.items()
        whole: dict[tuple[str, ...], int] = {}
        rest: dict[tuple[str, ...], int] = {}
        for m, c in a.terms.items():
            left = list(m)
            for atom in monomial:
                if atom in left:
                    left.remove(atom)
                else:
                    rest[m] = c
                    break
            else:
                if monomial or m:
                    if c % divisor == 0:
                        whole[tuple(left)] = c // divisor
                    else:
                        rest[m] = c
                else:
                    whole[()], rest[()] = c // divisor, c % divisor
        q, r = Polynomial(whole), Polynomial(rest)
        low, high = self.bounds(r)
        if b.number is not None and low is not None and high is not None and low // divisor == high // divisor:
            shift = Polynomial.of(low // divisor)
            return q + shift, r - shift * b
        return q, r

    def _inner(self, a: Polynomial, b: Polynomial) -> Polynomial | None:
        """`x // p // q` as `x // (p·q)`."""
        if len(a.terms) != 1:
            return None
        ((m, c),) = a.terms.items()
        call = self.calls.get(m[0]) if c == 1 and len(m) == 1 else None
        if call is None or call[0] != "floor":
            return None
        return self.floor(call[1], call[2] * b)

    def _below(self, a: Polynomial, b: Polynomial) -> bool:
        high = self.bounds(a - b)[1]
        return high is not None and high < 0

    def not_negative(self, a: Polynomial) -> bool:
        """Whether it plainly is at least 0."""
        low = self.bounds(a)[0]
        return low is not None and low >= 0

    # -- substitution and results

    def mentions(self, p: Polynomial, prefix: str) -> bool:
        """Whether an atom that starts so stands in it, inside calls too."""
        return any(a.startswith(prefix) for a in self.every_atom(p))

    def every_atom(self, p: Polynomial) -> set[str]:
        """The atoms in it, those inside calls too."""
        found = p.atoms()
        for atom in tuple(found):
            if atom in self.calls:
                found |= self._inside(atom)
        return found

    def _inside(self, call: str) -> set[str]:
        if call not in self._within:
            _, a, b = self.calls[call]
            self._within[call] = self.every_atom(a) | self.every_atom(b)
        return self._within[call]

    def replaced(self, p: Polynomial, by: Mapping[str, Polynomial]) -> Polynomial:
        """The expression with atoms replaced, inside calls too."""
        if by.keys().isdisjoint(self.every_atom(p)):
            return p
        total = ZERO
        for m, c in p.terms.items():
            term = Polynomial.of(c)
            plain: list[str] = []
            for atom in m:
                new = self._replaced_atom(atom, by)
                if new is None:
                    plain.append(atom)
                else:
                    term = term * new
            total = total + (term * Polynomial({tuple(plain): 1}) if plain else term)
        return total

    def _replaced_atom(self, atom: str, by: Mapping[str, Polynomial]) -> Polynomial | None:
        if atom in by:
            return by[atom]
        call = self.calls.get(atom)
        if call is None:
            return None
        a, b = self.replaced(call[1], by), self.replaced(call[2], by)
        if (a, b) == call[1:]:
            return None
        return self.apply(call[0], a, b)

    def apply(self, kind: str, a: Polynomial, b: Polynomial) -> Polynomial:
        """The function of that kind, simplified."""
        functions = {"floor": self.floor, "ceil": self.ceil, "mod": self.mod, "min": self.minimum, "max": self.maximum}
        return functions[kind](a, b)

    def from_sympy(self, e: sympy.Expr) -> Polynomial:
        """The polynomial of an expression of sizes.

        Raises:
            UnsupportedError: something else stands in it.
        """
        kinds = {function: kind for kind, function in _FUNCTIONS.items()}
        if e.is_Integer:
            return Polynomial.of(int(e))
        if e.is_Symbol:
            return Polynomial.of(e.name)
        parts = [self.from_sympy(a) for a in e.args if not e.is_Pow]
        if e.is_Add or e.is_Mul:
            total = parts[0]
            for part in parts[1:]:
                total = total + part if e.is_Add else total * part
            return total
        if isinstance(e, FloorDiv) and e.args[0].could_extract_minus_sign():
            return -self.ceil(-parts[0], parts[1])
        if type(e) in kinds:
            return self.apply(kinds[type(e)], parts[0], parts[1])
        raise UnsupportedError(f"grid extent {e}: expected sizes with + - * //, ceil_div, minimum and maximum")

    def to_sympy(self, p: Polynomial, symbols: dict[str, sympy.Expr]) -> sympy.Expr:
        """The expression with a sympy expression for each atom; those of calls are added to `symbols`."""
        terms = [self._term(m, c, symbols) for m, c in p.terms.items()]
        return terms[0] if len(terms) == 1 else sympy.Add(*terms)

    def _term(self, m: tuple[str, ...], c: int, symbols: dict[str, sympy.Expr]) -> sympy.Expr:
        factors = [self._atom(a, symbols) for a in m]
        if c != 1 or not factors:
            factors.append(sympy.Integer(c))
        return factors[0] if len(factors) == 1 else sympy.Mul(*factors)

    def _atom(self, atom: str, symbols: dict[str, sympy.Expr]) -> sympy.Expr:
        if atom in self.calls and atom not in symbols:
            kind, a, b = self.calls[atom]
            symbols[atom] = _FUNCTIONS[kind](self.to_sympy(a, symbols), self.to_sympy(b, symbols))
        return symbols[atom]


def _quotients(kind: str, ends: Range, divisor: Range) -> Range:
    """The range of a quotient; the divisor is at least 1."""
    least = max(divisor[0] or 1, 1)
    found: list[int | None] = []
    for pick, a in zip((min, max), ends, strict=True):
        if a is None:
            found.append(None)
            continue
        most = abs(a) + 1 if divisor[1] is None else max(divisor[1], least)
        found.append(pick(a // b if kind == "floor" else -(-a // b) for b in (least, most)))
    return found[0], found[1]


def _holds(whole: Polynomial, part: Polynomial) -> bool:
    return all(whole.terms.get(m) == c for m, c in part.terms.items())
