"""Guards that divide, wrap and take minima: their passes against a walk of every iteration."""

from __future__ import annotations

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from costmodel import estimate, kernel
from costmodel.counts import executions
from costmodel.counts.affine import largest_extent
from costmodel.dtypes import f32
from costmodel.errors import UnsupportedError
from costmodel.ir import maximum, minimum
from costmodel.symbols import CeilDiv, Mod, compile_program, index
from tests import oracle

FORMS = {
    "parity of a thread": lambda at, b, t, i, n: ((at % 2), "==", 0),
    "parity of a block": lambda at, b, t, i, n: ((b % 2), "!=", 1),
    "digits of a block": lambda at, b, t, i, n: ((b // 3 % 2), "==", 0),
    "thirds of a counter": lambda at, b, t, i, n: ((i % 3), "<", 2),
    "a shifted remainder": lambda at, b, t, i, n: (((at + 5) % 8), "<", 3),
    "a quotient": lambda at, b, t, i, n: (((at + i) // 6), "<", n // 7),
    "a quotient by a size": lambda at, b, t, i, n: ((at // n), "<=", 1),
    "rows and columns": lambda at, b, t, i, n: ((at // 7 + i), "<", 9),
    "columns": lambda at, b, t, i, n: ((at % 7 + i), "<", 6),
    "below the smaller": lambda at, b, t, i, n: (at, "<", minimum(n, b * 20)),
    "below the larger": lambda at, b, t, i, n: (at + i, "<", maximum(n - b * 16, 30)),
    "above the smaller": lambda at, b, t, i, n: (minimum(at, i * 9), ">=", 4),
    "one of two": lambda at, b, t, i, n: (minimum(t, i * 3), "!=", 6),
    "within": lambda at, b, t, i, n: (at, "<", n),
}


def guarded(names, span):
    @kernel
    def description(k, *, n, steps):
        x = k.buffer("x", (4096,), f32)
        with k.blocks((n + span - 1) // span) as b, k.threads(16) as t, k.serial(steps) as i:
            at = b * span + t
            conditions = []
            for name in names:
                left, op, right = FORMS[name](at, b, t, i, n)
                left = left + b * 0
                conditions.append({"<": lambda x, y: x < y, "<=": lambda x, y: x <= y, ">=": lambda x, y: x >= y,
                                   "==": lambda x, y: x == y, "!=": lambda x, y: x != y}[op](left, right))  # fmt: skip
            with k.when(*conditions):
                k.load(x[at])

    return description.trace()


def counts(traced, sizes):
    (site,) = traced.statements()
    (ours,) = compile_program([executions(traced, site)])(sizes)
    walked = oracle.count(traced, sizes)
    return int(ours), walked.statements[0].executions


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("sizes", [{"n": 50, "steps": 5}, {"n": 1, "steps": 1}, {"n": 129, "steps": 4}])
def test_passes_of_each(name, sizes):
    ours, walked = counts(guarded((name,), 16), sizes)
    assert ours == walked


@settings(max_examples=40, deadline=None)
@given(
    names=st.lists(st.sampled_from(sorted(FORMS)), min_size=2, max_size=3, unique=True),
    n=st.integers(1, 90), steps=st.integers(1, 7), span=st.sampled_from([16, 12, 20]),
)  # fmt: skip
def test_passes_of_several_together(names, n, steps, span):
    ours, walked = counts(guarded(tuple(names), span), {"n": n, "steps": steps})
    assert ours == walked


def test_a_divisor_that_moves_is_refused():
    @kernel
    def description(k, *, n):
        x = k.buffer("x", (4096,), f32)
        with k.blocks(n) as b, k.threads(16) as t, k.when((b * 16 + t) % (b + 1) == 0):
            k.load(x[b * 16 + t])

    traced = description.trace()
    with pytest.raises(UnsupportedError, match="not affine"):
        executions(traced, *traced.statements())


@kernel
def product_of_indices(k, *, N, H):
    a = k.buffer("a", (N * H, 32), f32)
    with (
        k.blocks(N) as b,
        k.threads(32) as t,
        k.serial(H) as h,
        k.serial(b * h) as j,
    ):
        k.copy(a[j, t], a[j, t], "in place")


@pytest.mark.parametrize(("n", "h"), [(3, 2), (7, 5), (200, 9)])
def test_a_loop_as_long_as_a_product_of_outer_indices_is_counted_and_priced(n, h):
    passes = sum(b * i for b in range(n) for i in range(h))
    cost = estimate(product_of_indices, "H100", N=n, H=h)
    assert [a.requested_bytes for a in cost.accesses] == [passes * 32 * 4] * 2
    assert 0 < cost.seconds < float("inf")


def test_the_largest_extent_is_no_less_than_any_of_the_box():
    i, j, boxed = index("i"), index("j"), {index("i"): sympy.Integer(4), index("j"): sympy.Integer(5)}
    three = sympy.Integer(3)
    exact = (i * j, i * i * j + 2, 9 - i * j, i * (3 - j), CeilDiv(i * j + 1, three), i * Mod(j, three))
    for extent in (*exact, i * (3 - i)):
        largest = max(int(extent.subs({i: a, j: b})) for a in range(4) for b in range(5))
        bound = int(largest_extent(extent, boxed))
        assert largest == bound if extent in exact else largest < bound, extent
