"""What two compiled configurations say of those between them, and what one says of the same with more pipeline stages.

`between` looks along one parameter, from `a` to `b`. Assumed of the compiler: along one parameter each of its decisions changes
at most once, and each number is monotone and grows or shrinks at most in proportion. Then equal skeletons at both ends mean the
same skeleton between them; a number that is equal at both ends is constant, and one that has changed by the whole ratio (`n`, or
`n + 1` of a reduction's steps, or with `p - 1` steps in flight) has done so in proportion all the way: it had no room for
anything else. A number that changed by less has a kink somewhere, and nothing is said. The space that changes of layout take is
not even monotone, so nothing is said either where shared memory may be theirs.
`restaged`: a loop with more stages has as many more steps in its rings, and is the same otherwise; one that is not pipelined with
some stages is not with more.
Both are assumptions; `family_search` compiles a configuration of each family to see them hold.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction

from costmodel.frontends.triton.family_numbers import Numbers, Role

__all__ = ["between", "restaged"]

_MOST_REDUCTIONS = 4
"""Of one source line, whose operations are counted together."""


def between(a: Numbers, b: Numbers, at: tuple[int, int], value: int) -> Numbers | None:
    """The numbers at `value` of a parameter; None where they are not certain.

    Args:
        a: at the smaller value of the parameter, all others being equal.
        b: at the larger.
        at: the two values.
        value: one between them.
    """
    elsewhere = max(a.elsewhere_bytes, b.elsewhere_bytes)
    if a.skeleton != b.skeleton or (elsewhere and (a.values[-1] or b.values[-1] or min(a.held_bytes, b.held_bytes) < elsewhere)):
        return None
    values = [_number(x, y, at, value, role) for x, y, role in zip(a.values, b.values, a.roles, strict=True)]
    whole = tuple(v for v in values if v is not None)
    if len(whole) < len(values) or not _apart(whole, a.roles):
        return None
    return replace(a, values=whole, held_bytes=min(a.held_bytes, b.held_bytes), elsewhere_bytes=elsewhere)


def _number(x: int, y: int, at: tuple[int, int], value: int, role: Role) -> int | None:
    low, high = at
    if x == y:
        return x
    for less in range((_MOST_REDUCTIONS if role == "amount" else 1) + 1):
        first, last = x + less, y + less
        if first * high == last * low:
            found = Fraction(first * value, low)
        elif first * low == last * high:
            found = Fraction(first * low, value)
        elif role in ("steps", "scratch") and first * (high - 1) == last * (low - 1) and low > 1:
            found = Fraction(first * (value - 1), low - 1)
        else:
            continue
        return int(found) - less if found.denominator == 1 else None
    return None


def _apart(values: Iterable[int], roles: Iterable[Role]) -> bool:
    """Whether arrays that are named by their extents keep different names."""
    named = [v for v, role in zip(values, roles, strict=True) if role == "named"]
    return len(set(named)) == len(named)


def restaged(a: Numbers, stages: int, more: int) -> Numbers | None:
    """The numbers with `more` pipeline stages instead of `stages`; None where they are not certain."""
    staged = {v for v, role in zip(a.values, a.roles, strict=True) if role == "stages"} - {1}
    if not staged:
        return a
    if stages < 2 or more < stages or staged != {stages} or a.values[-1]:
        return None
    values = []
    for v, role in zip(a.values, a.roles, strict=True):
        grows = role == "steps" or (role == "stages" and v == stages)
        if grows and v * more % stages:
            return None
        values.append(v * more // stages if grows else v)
    return replace(a, values=tuple(values))
