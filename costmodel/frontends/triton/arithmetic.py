"""Integer and pointer operations on what values are known to be."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from costmodel.errors import UnsupportedError
from costmodel.frontends.triton.events import Condition
from costmodel.frontends.triton.module_text import Operation, TensorType, tensor_type
from costmodel.frontends.triton.polynomials import Algebra, Polynomial, coordinate
from costmodel.frontends.triton.values import Mask, Opaque, Pointer, Value

__all__ = ["POINTWISE", "compared", "constant", "negated", "reordered", "reshaped", "shifted", "tensor_range"]

_SIGNS = {
    "slt": "<",
    "sle": "<=",
    "sgt": ">",
    "sge": ">=",
    "eq": "==",
    "ne": "!=",
    "ult": "<",
    "ule": "<=",
    "ugt": ">",
    "uge": ">=",
}
_DENSE, _ATTRIBUTES = re.compile(r"dense<(.*?)>"), re.compile(r"^\{.*?\} ?")
_INTEGER, _NUMBER = re.compile(r"^(i\d+|index)$"), re.compile(r"^-?\d+$")
_OPPOSITE = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "=="}


def constant(operation: Operation) -> Value:
    """The value of `arith.constant`."""
    text = operation.text.strip()
    dense = _DENSE.search(text)
    value = dense.group(1) if dense else _ATTRIBUTES.sub("", text).split(" ")[0]
    if value in ("true", "false"):
        return Mask(()) if value == "true" else Opaque("a mask that is never true")
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
        return Mask(tuple((op, algebra.replaced(a, by), algebra.replaced(b, by)) for op, a, b in value.conditions))
    return value


def compared(algebra: Algebra, operation: Operation, a: Value, b: Value) -> Value:
    """`arith.cmpi`."""
    sign = operation.text.strip().split(",")[0].split(" ")[0]
    if isinstance(a, Opaque | Mask) or isinstance(b, Opaque | Mask):
        return a if isinstance(a, Opaque) else b if isinstance(b, Opaque) else Opaque("a comparison of truth values")
    if not isinstance(a, Polynomial) or not isinstance(b, Polynomial) or sign not in _SIGNS:
        return Opaque(f"comparison {sign} of pointers")
    condition = (_SIGNS[sign], a, b)
    known = _decided(algebra, condition)
    return Mask((condition,)) if known is None else Mask(()) if known else Opaque("a mask that is never true")


def _decided(algebra: Algebra, condition: Condition) -> bool | None:
    op, a, b = condition
    low, high = algebra.bounds(a - b)
    if op in ("<", ">="):
        below = True if high is not None and high < 0 else False if low is not None and low >= 0 else None
        return below if below is None or op == "<" else not below
    if op in ("<=", ">"):
        below = True if high is not None and high <= 0 else False if low is not None and low > 0 else None
        return below if below is None or op == "<=" else not below
    apart = (low is not None and low > 0) or (high is not None and high < 0)
    equal = low == 0 and high == 0
    if apart or equal:
        return equal == (op == "==")
    return None


def negated(mask: Mask) -> Value:
    """The opposite of one condition."""
    if len(mask.conditions) != 1:
        return Opaque("the opposite of several conditions")
    ((op, a, b),) = mask.conditions
    return Mask(((_OPPOSITE[op], a, b),))


def _and(algebra: Algebra, a: Value, b: Value) -> Value:
    if isinstance(a, Mask) and isinstance(b, Mask):
        return Mask(tuple(dict.fromkeys((*a.conditions, *b.conditions))))
    for left, right in ((a, b), (b, a)):
        number = left.number if isinstance(left, Polynomial) else None
        if number is not None and number >= 0 and number & (number + 1) == 0 and isinstance(right, Polynomial):
            return algebra.mod(right, Polynomial.of(number + 1))
    return _unknown("a bitwise and", a, b)


def _shift_left(_: Algebra, a: Value, b: Value) -> Value:
    if isinstance(a, Polynomial) and isinstance(b, Polynomial) and b.number is not None:
        return a * Polynomial.of(1 << b.number)
    return _unknown("a shift", a, b)


def _shift_right(algebra: Algebra, a: Value, b: Value) -> Value:
    if isinstance(a, Polynomial) and isinstance(b, Polynomial) and b.number is not None:
        return algebra.floor(a, Polynomial.of(1 << b.number))
    return _unknown("a shift", a, b)


def _xor(_: Algebra, a: Value, b: Value) -> Value:
    if isinstance(a, Mask) and isinstance(b, Mask) and not (a.conditions and b.conditions):
        return negated(a if a.conditions else b)
    return _unknown("an exclusive or", a, b)


def _or(_: Algebra, a: Value, b: Value) -> Value:
    return _unknown("an or of conditions", a, b)


def _unknown(what: str, *values: Value) -> Opaque:
    return next((v for v in values if isinstance(v, Opaque)), Opaque(what))


def _on_integers(function: Callable[[Algebra, Polynomial, Polynomial], Polynomial]) -> Callable[[Algebra, Value, Value], Value]:
    def apply(algebra: Algebra, a: Value, b: Value) -> Value:
        if not isinstance(a, Polynomial) or not isinstance(b, Polynomial):
            return _unknown("arithmetic on what is no index", a, b)
        try:
            return function(algebra, a, b)
        except UnsupportedError as error:
            return Opaque(str(error))

    return apply


def _division(kind: str) -> Callable[[Algebra, Polynomial, Polynomial], Polynomial]:
    def divide(algebra: Algebra, a: Polynomial, b: Polynomial) -> Polynomial:
        high = algebra.bounds(a)[1]
        if (b.number is not None and b.number < 1) or (high is not None and high < 0):
            raise UnsupportedError("a division of or by a negative number")
        return algebra.apply(kind, a, b)

    return divide


POINTWISE: dict[str, Callable[[Algebra, Value, Value], Value]] = {
    "arith.addi": _on_integers(lambda _, a, b: a + b),
    "arith.subi": _on_integers(lambda _, a, b: a - b),
    "arith.muli": _on_integers(lambda _, a, b: a * b),
    "arith.divsi": _on_integers(_division("floor")),
    "arith.divui": _on_integers(_division("floor")),
    "arith.remsi": _on_integers(_division("mod")),
    "arith.remui": _on_integers(_division("mod")),
    "arith.ceildivsi": _on_integers(lambda g, a, b: g.ceil(a, b)),
    "arith.minsi": _on_integers(lambda g, a, b: g.minimum(a, b)),
    "arith.minui": _on_integers(lambda g, a, b: g.minimum(a, b)),
    "arith.maxsi": _on_integers(lambda g, a, b: g.maximum(a, b)),
    "arith.maxui": _on_integers(lambda g, a, b: g.maximum(a, b)),
    "arith.andi": _and,
    "arith.ori": _or,
    "arith.xori": _xor,
    "arith.shli": _shift_left,
    "arith.shrui": _shift_right,
    "arith.shrsi": _shift_right,
}
"""Functions of two values by the operation's name."""
