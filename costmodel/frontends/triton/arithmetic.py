"""Integer and pointer operations on what values are known to be.

What is computed in 32 or 64 bits is taken not to overflow; what is computed in fewer has to be seen not to. Divisions are of what
is not negative, since processors round to zero and expressions here round down.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from costmodel.errors import UnsupportedError
from costmodel.frontends.triton.comparisons import NEVER, negated
from costmodel.frontends.triton.events import Condition
from costmodel.frontends.triton.module_text import Operation, TensorType, tensor_type
from costmodel.frontends.triton.polynomials import Algebra, Polynomial, coordinate
from costmodel.frontends.triton.values import Chosen, Mask, Opaque, Pointer, Value

__all__ = ["POINTWISE", "constant", "fitting", "reordered", "reshaped", "shifted", "tensor_range"]

_DENSE, _ATTRIBUTES = re.compile(r"dense<(.*?)>"), re.compile(r"^\{.*?\} ?")
_INTEGER, _NUMBER = re.compile(r"^(i\d+|index)$"), re.compile(r"^-?\d+$")


def constant(operation: Operation) -> Value:
    """The value of `arith.constant`."""
    text = operation.text.strip()
    dense = _DENSE.search(text)
    value = dense.group(1) if dense else _ATTRIBUTES.sub("", text).split(" ")[0]
    if value in ("true", "false"):
        return Mask(()) if value == "true" else NEVER
    integer = tensor_type(operation.result_type).element
    if not _INTEGER.match(integer):
        return Opaque("a floating-point number")
    if not _NUMBER.match(value):
        return Opaque(f"a constant tensor {value[:40]}")
    return Polynomial.of(int(value))


def tensor_range(algebra: Algebra, operation: Operation) -> Value:
    """`tt.make_range`."""
    tensor = tensor_type(operation.result_type)
    return Polynomial.of(int(operation.attribute("start") or 0)) + axis(algebra, 0, tensor.shape[0])


def axis(algebra: Algebra, dimension: int, extent: int) -> Polynomial:
    """The coordinate of a tensor along a dimension."""
    if extent == 1:
        return Polynomial.of(0)
    atom = f"{coordinate(dimension)}:{extent}"
    algebra.ranges[atom] = (0, extent - 1)
    return Polynomial.of(atom)


def shifted(algebra: Algebra, value: Value, dimension: int, source: TensorType) -> Value:
    """Coordinates from `dimension` on become the next ones: `tt.expand_dims`."""
    moved = range(dimension, len(source.shape))
    return _mapped(algebra, value, {f"{coordinate(d)}:{source.shape[d]}": axis(algebra, d + 1, source.shape[d]) for d in moved})


def reordered(algebra: Algebra, value: Value, order: Sequence[int], source: TensorType) -> Value:
    """Dimension `order[i]` becomes dimension `i`: `tt.trans`."""
    old = ((f"{coordinate(s)}:{source.shape[s]}", axis(algebra, new, source.shape[s])) for new, s in enumerate(order))
    return _mapped(algebra, value, dict(old))


def reshaped(algebra: Algebra, value: Value, source: TensorType, target: TensorType) -> Value:
    """The same elements in row-major order: `tt.reshape`."""
    linear = Polynomial.of(0)
    for d, n in enumerate(target.shape):
        linear = linear * Polynomial.of(n) + axis(algebra, d, n)
    by: dict[str, Polynomial] = {}
    for d in range(len(source.shape) - 1, -1, -1):
        extent = Polynomial.of(source.shape[d])
        by[f"{coordinate(d)}:{source.shape[d]}"] = algebra.mod(linear, extent) if d else linear
        linear = algebra.floor(linear, extent)
    return _mapped(algebra, value, by)


def _mapped(algebra: Algebra, value: Value, by: dict[str, Polynomial]) -> Value:
    if isinstance(value, Polynomial):
        return algebra.replaced(value, by)
    if isinstance(value, Pointer):
        return Pointer(value.buffer, algebra.replaced(value.offset, by))
    if isinstance(value, Mask):
        return Mask(_each(algebra, value.conditions, by))
    if isinstance(value, Chosen):
        otherwise = None if value.otherwise is None else algebra.replaced(value.otherwise, by)
        return Chosen(_each(algebra, value.conditions, by), algebra.replaced(value.index, by), otherwise)
    return value


def _each(algebra: Algebra, conditions: tuple[Condition, ...], by: dict[str, Polynomial]) -> tuple[Condition, ...]:
    return tuple((op, algebra.replaced(a, by), algebra.replaced(b, by)) for op, a, b in conditions)


def fitting(algebra: Algebra, value: Value, element: str) -> Value:
    """The value as a number of that type, of which narrow ones have to be seen to hold it."""
    bits = _NARROW.get(element)
    if bits is None or not isinstance(value, Polynomial | Chosen):
        return value
    if isinstance(value, Polynomial):
        low, high = algebra.bounds(value)
        if low is not None and low >= 0 and high is not None and high < 1 << (bits - 1):
            return value
    return Opaque(f"a number of {bits} bits, which may not hold it")


_NARROW = {"i1": 1, "i8": 8, "i16": 16}


def _and(algebra: Algebra, a: Value, b: Value) -> Value:
    if isinstance(a, Mask) and isinstance(b, Mask):
        return NEVER if NEVER in (a, b) else Mask(tuple(dict.fromkeys((*a.conditions, *b.conditions))))
    if NEVER in (a, b):
        return NEVER
    for left, right in ((a, b), (b, a)):
        number = left.number if isinstance(left, Polynomial) else None
        if number is not None and number >= 0 and number & (number + 1) == 0 and isinstance(right, Polynomial):
            return algebra.mod(right, Polynomial.of(number + 1))
    return _unknown("a bitwise and", a, b)


def _shift_left(_: Algebra, a: Value, b: Value) -> Value:
    places = _places(b)
    if isinstance(a, Polynomial) and places is not None:
        return a * Polynomial.of(1 << places)
    return _unknown("a shift", a, b)


def _shift_right(algebra: Algebra, a: Value, b: Value) -> Value:
    """An arithmetic shift rounds down."""
    places = _places(b)
    if isinstance(a, Polynomial) and places is not None:
        return algebra.floor(a, Polynomial.of(1 << places))
    return _unknown("a shift", a, b)


def _logical_shift_right(algebra: Algebra, a: Value, b: Value) -> Value:
    if isinstance(a, Polynomial) and not algebra.not_negative(a):
        return Opaque("a logical shift of what may be negative")
    return _shift_right(algebra, a, b)


def _places(b: Value) -> int | None:
    """Bits of a shift where it is constant."""
    number = b.number if isinstance(b, Polynomial) else None
    return number if number is not None and 0 <= number < _MOST_BITS else None


_MOST_BITS = 63


def _xor(_: Algebra, a: Value, b: Value) -> Value:
    for one, other in ((a, b), (b, a)):
        if one == Mask(()) and isinstance(other, Mask):
            parts = negated(other)
            return NEVER if not parts else parts[0] if len(parts) == 1 else Opaque("the opposite of several conditions")
        if one == NEVER:
            return other
    return _unknown("an exclusive or", a, b)


def _or(_: Algebra, a: Value, b: Value) -> Value:
    for one, other in ((a, b), (b, a)):
        if one == Mask(()):
            return one
        if one in (NEVER, other):
            return other
    return _unknown("an or of conditions", a, b)


def _unknown(what: str, *values: Value) -> Opaque:
    return next((Opaque(v.reason) for v in values if isinstance(v, Opaque)), Opaque(what))


_Integers = Callable[[Algebra, Polynomial, Polynomial], Polynomial]


def _on_integers(function: _Integers) -> Callable[[Algebra, Value, Value], Value]:
    def apply(algebra: Algebra, a: Value, b: Value) -> Value:
        if isinstance(a, Chosen) or isinstance(b, Chosen):
            return _on_chosen(function, algebra, a, b)
        if not isinstance(a, Polynomial) or not isinstance(b, Polynomial):
            return _unknown("arithmetic on what is no index", a, b)
        try:
            return function(algebra, a, b)
        except _RoundedError as error:
            return Opaque(str(error), error.down)
        except UnsupportedError as error:
            return Opaque(str(error))

    return apply


def _on_chosen(function: _Integers, algebra: Algebra, a: Value, b: Value) -> Value:
    """Both values of an index that `tl.where` replaces; of two such, only where neither is replaced is followed."""
    left, right = (v if isinstance(v, Chosen) else Chosen((), v, v) if isinstance(v, Polynomial) else None for v in (a, b))
    if left is None or right is None:
        return _unknown("arithmetic on what is no index", a, b)
    apart = left.conditions and right.conditions and left.conditions != right.conditions
    try:
        index = function(algebra, left.index, right.index)
        others = None if left.otherwise is None or right.otherwise is None or apart else (left.otherwise, right.otherwise)
        otherwise = None if others is None else function(algebra, *others)
    except UnsupportedError as error:
        return Opaque(str(error))
    return Chosen(tuple(dict.fromkeys((*left.conditions, *right.conditions))), index, otherwise)


class _RoundedError(UnsupportedError):
    """A quotient of what may be negative: rounded to zero, not down."""

    def __init__(self, down: Polynomial) -> None:
        super().__init__("a division of what may be negative, which rounds to zero")
        self.down = down


def _division(kind: str) -> _Integers:
    def divide(algebra: Algebra, a: Polynomial, b: Polynomial) -> Polynomial:
        if not algebra.not_negative(b) and not _is_group(algebra, b):
            raise UnsupportedError("a division by what may be negative")
        found = algebra.apply(kind, a, b)
        if kind != "ceil" and not algebra.not_negative(a):
            raise _RoundedError(found) if kind == "floor" else UnsupportedError("a remainder of what may be negative")
        return found

    return divide


def _is_group(algebra: Algebra, b: Polynomial) -> bool:
    """Whether it is the rows of a group of tiles, `min(rows - first, G)`: of tiles that exist, at least one."""
    (atom, *more) = b.atoms() or ("",)
    call = algebra.calls.get(atom)
    return not more and call is not None and call[0] == "min" and b == Polynomial.of(atom) and (call[2].number or 0) > 0


def _of_natural(function: _Integers) -> _Integers:
    """For unsigned arithmetic: of what is not negative, which is the same for signed one."""

    def apply(algebra: Algebra, a: Polynomial, b: Polynomial) -> Polynomial:
        if not algebra.not_negative(a) or not algebra.not_negative(b):
            raise UnsupportedError("unsigned arithmetic on what may be negative")
        return function(algebra, a, b)

    return apply


POINTWISE: dict[str, Callable[[Algebra, Value, Value], Value]] = {
    "arith.addi": _on_integers(lambda _, a, b: a + b),
    "arith.subi": _on_integers(lambda _, a, b: a - b),
    "arith.muli": _on_integers(lambda _, a, b: a * b),
    "arith.divsi": _on_integers(_division("floor")),
    "arith.divui": _on_integers(_division("floor")),
    "arith.remsi": _on_integers(_division("mod")),
    "arith.remui": _on_integers(_division("mod")),
    "arith.ceildivsi": _on_integers(_division("ceil")),
    "arith.minsi": _on_integers(lambda g, a, b: g.minimum(a, b)),
    "arith.minui": _on_integers(_of_natural(lambda g, a, b: g.minimum(a, b))),
    "arith.maxsi": _on_integers(lambda g, a, b: g.maximum(a, b)),
    "arith.maxui": _on_integers(_of_natural(lambda g, a, b: g.maximum(a, b))),
    "arith.andi": _and,
    "arith.ori": _or,
    "arith.xori": _xor,
    "arith.shli": _shift_left,
    "arith.shrui": _logical_shift_right,
    "arith.shrsi": _shift_right,
}
"""Functions of two values by the operation's name."""
