"""Guards that divide, wrap and take minima: their passes against a walk of every iteration."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costmodel import kernel
from costmodel.counts import executions
from costmodel.dtypes import f32
from costmodel.errors import UnsupportedError
from costmodel.ir import maximum, minimum
from costmodel.symbols import compile_program
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
