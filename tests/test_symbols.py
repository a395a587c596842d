"""Integer expressions: compiled, printed, parsed and counted, against plain Python and enumeration."""

from __future__ import annotations

import itertools
import json
import random
import resource
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from costmodel.errors import DescriptionError, UnsupportedError
from costmodel.symbols import (
    CeilDiv,
    Distinct,
    FloorDiv,
    Maximum,
    Minimum,
    Mod,
    Passing,
    Table,
    algebra,
    compile_program,
    distinct_values,
    free_names,
    index,
    is_identifier,
    parse,
    parse_condition,
    passing_points,
    quotient,
    read_table,
    size,
    sum_over,
    to_latex,
    to_text,
)  # fmt: skip
from tests.oracle import evaluate
from tests.strategies import INDICES, SIZES, expressions

M, N, K, B = (size(n) for n in ("M", "N", "K", "B"))
i, j = index("i"), index("j")
SYMBOLS = {n: size(n) for n in ("M", "N", "K", "B")} | {n: index(n) for n in ("i", "j")}


def _symbols(e: sympy.Expr) -> dict[str, sympy.Symbol]:
    return {str(s): s for s in e.free_symbols}


def _largest(e: sympy.Expr, env: dict[str, int]) -> int:
    """Largest magnitude among the values of all subexpressions."""
    return max(abs(evaluate(part, env)) for part in sympy.preorder_traversal(e))


# --- compiled programs ---------------------------------------------------------------------------


@pytest.mark.soak
@given(expressions())
def test_compiled_equals_exact_evaluation(given_expression):
    e, env = given_expression
    (value,) = compile_program([e])(env)
    assert type(value) is int
    assert value == evaluate(e, env)


@pytest.mark.soak
@given(expressions(largest=2**70))
def test_compiled_is_exact_above_63_bits(given_expression):
    e, env = given_expression
    assert compile_program([e])(env) == [evaluate(e, env)]


@pytest.mark.soak
@given(expressions())
def test_an_expanded_expression_has_the_same_value(given_expression):
    e, env = given_expression
    assert compile_program([sympy.expand(e)])(env) == [evaluate(e, env)]


@pytest.mark.soak
@given(
    st.lists(expressions(quotients=False), min_size=1, max_size=3),
    st.sampled_from([40, 2**20, 2**57]),
    st.randoms(use_true_random=False),
)
def test_compiled_on_columns_equals_one_row_at_a_time(given_expressions, largest, chance):
    several = [e for e, _ in given_expressions]
    names = (*SIZES, *INDICES)
    scalar = chance.randint(1, largest)
    rows = [{**{n: chance.randint(n in SIZES, largest) for n in names}, "T": scalar} for _ in range(7)]
    most = max(_largest(e, env) for e in several for env in rows)
    for dtype, limit in ((np.int64, 2**60), (np.float64, 2**51)):
        if most < limit:
            columns: dict[str, Any] = {n: np.array([env[n] for env in rows], dtype) for n in names} | {"T": scalar}
            for e, values in zip(several, compile_program(several)(columns), strict=True):
                assert np.broadcast_to(values, len(rows)).tolist() == [evaluate(e, env) for env in rows]


def test_columns_are_exact_above_53_bits():
    columns = {"M": np.array([2**60 + 1, 2**62 - 1]), "B": np.array([2, 3])}
    expected = [-(-(2**60 + 1) // 2), -(-(2**62 - 1) // 3)]
    assert compile_program([CeilDiv(M, B)])(columns)[0].tolist() == expected
    assert compile_program([Mod(M, B) + Minimum(M, B)])(columns)[0].tolist() == [1 + 2, (2**62 - 1) % 3 + 3]


def test_shared_subexpressions_are_evaluated_once():
    class Counting(int):
        calls = 0

        def __floordiv__(self, other: int) -> int:
            Counting.calls += 1
            return int(self) // other

    tiles = FloorDiv(M, B)
    assert compile_program([tiles, tiles * N, tiles + 1])({"M": Counting(7), "B": 2, "N": 5}) == [3, 15, 4]
    assert Counting.calls == 1


def test_exact_quotients_stay_exact_when_expanded():
    total = sympy.expand(quotient(M + K, B) * (quotient(M + K, B) + 1) / 2)
    assert compile_program([total])({"M": 3, "K": 5, "B": 4}) == [3]
    assert compile_program([total])({"M": 3, "K": 5, "B": 8}) == [1]
    assert compile_program([quotient(sympy.Integer(1), B)])({"B": 1}) == [1]


@pytest.mark.parametrize("e", [sympy.sin(M), sympy.sqrt(M), sympy.Symbol("x") ** M, sympy.Integral(M), sympy.oo])
def test_what_is_not_integer_arithmetic_is_refused(e):
    with pytest.raises(UnsupportedError, match="cannot compile"):
        compile_program([e])


def test_a_missing_name_is_a_key_error():
    with pytest.raises(KeyError, match="B"):
        compile_program([M + B])({"M": 1})


# --- simplifications that construction makes -------------------------------------------------------


def test_symbols_come_from_one_place():
    assert size("M") is size("M")
    assert size("M") == M
    assert index("i") is index("i")
    assert free_names(M * B, FloorDiv(N, i)) == {"M", "B", "N", "i"}


@pytest.mark.parametrize(
    ("given_expression", "expected"),
    [
        (FloorDiv(M * B, B), M),
        (FloorDiv(M * B + 3 * B, B), M + 3),
        (CeilDiv(M * B, B), M),
        (Mod(M * B + B, B), sympy.Integer(0)),
        (Mod(M, sympy.Integer(1)), sympy.Integer(0)),
        (FloorDiv(sympy.Integer(-7), sympy.Integer(2)), sympy.Integer(-4)),
        (CeilDiv(sympy.Integer(-7), sympy.Integer(2)), sympy.Integer(-3)),
        (Mod(sympy.Integer(-7), sympy.Integer(4)), sympy.Integer(1)),
        (Minimum(M, M), M),
        (Maximum(sympy.Integer(3), sympy.Integer(5)), sympy.Integer(5)),
        (Distinct(sympy.Integer(4), M), M),
        (Distinct(sympy.Integer(1), sympy.Integer(4), sympy.Integer(4), sympy.Integer(3)), sympy.Integer(12)),
    ],
)
def test_known_divisions_are_simplified(given_expression, expected):
    assert given_expression == expected


def test_unknown_divisions_are_kept():
    assert isinstance(FloorDiv(M + 1, B), FloorDiv)
    assert isinstance(FloorDiv(M, 2 * M), FloorDiv)
    assert isinstance(Mod(M * N, 2 * N), Mod)


# --- text --------------------------------------------------------------------------------------------


@pytest.mark.soak
@given(expressions())
def test_text_is_parsed_back(given_expression):
    e, _ = given_expression
    assert parse(to_text(e), _symbols(e)) == e


@given(expressions(), st.sampled_from(["<", "<=", ">", ">=", "==", "!="]))
def test_conditions_are_parsed_back(given_expression, op):
    e, _ = given_expression
    assert parse_condition(f"{to_text(e)} {op} {to_text(M)}", {**_symbols(e), "M": M}) == (op, e, M)


def test_counting_functions_are_printed_but_not_read():
    """They stand in results only, never in a kernel."""
    for e in (Distinct(M, N, B, K), Passing(sympy.Integer(1), M, -N, sympy.Integer(1))):
        assert to_text(e).startswith(("distinct(M, N, B, K)", "passing(1, M, -N, 1)"))
        with pytest.raises(DescriptionError, match="not allowed"):
            parse(to_text(e), SYMBOLS)


@given(expressions())
def test_latex_has_balanced_braces(given_expression):
    e, _ = given_expression
    text = to_latex(e)
    assert text.count("{") == text.count("}")
    assert text.count(r"\left") == text.count(r"\right")


def test_latex_of_each_function():
    for e in (FloorDiv(M, B), CeilDiv(M, B), Mod(M, B), Minimum(M, B), Maximum(M, B), Distinct(M, N, B, K)):
        assert to_latex(e**2).endswith("^{2}")
        assert "M" in to_latex(e)


# --- tables --------------------------------------------------------------------------------------


@given(st.lists(expressions(), min_size=1, max_size=4))
def test_tables_are_read_as_they_were_written(drawn):
    table = Table()
    places = table.put_all(e for e, _ in drawn)
    again = read_table(json.loads(json.dumps(table.rows)))
    assert again == list(dict.fromkeys(again))  # each part once
    for (e, _), place in zip(drawn, places, strict=True):
        assert again[place] == e
        assert hash(again[place]) == hash(e)
        assert to_text(again[place]) == to_text(e)
        assert again[place] - e == 0


def test_a_table_takes_what_has_no_code():
    with pytest.raises(DescriptionError, match="expected sizes, indices"):
        Table().put(sympy.sin(M))
    with pytest.raises(DescriptionError, match="expected sizes, indices"):
        Table().put(sympy.Symbol("M"))  # no size: another assumption
    damaged: list[Any] = [[["eval", 0]], [["floor", 0, 1]], [["+", "x"]], [[]], [None], [["size"]], [3.5]]
    for rows in damaged:
        with pytest.raises((LookupError, TypeError, ValueError)):
            read_table(rows)


# --- the smaller and the larger -------------------------------------------------------------------


@given(expressions(), expressions())
def test_what_falls_below_zero_has_no_sign_for_sympy_either(one, other):
    """A short cut says only what sympy would say after a long search: that it knows of no order."""
    for e in (one[0], one[0] - other[0]):
        assert not (algebra._falls_below_zero(e) and e.is_nonnegative)


@given(expressions())
def test_what_is_expanded_stays_as_it_is(one):
    """Asked before sympy multiplies out, inside calls too."""
    e, expanded = one[0], sympy.expand(one[0])
    assert algebra._is_expanded(expanded) or expanded.atoms(sympy.Pow)
    assert not algebra._is_expanded(e) or expanded == e


def test_it_falls_below_zero():
    for e in (M - 4, 4 - M, -i, CeilDiv(M, B) - 1, 1 - CeilDiv(M, B), M * N - K * 2, FloorDiv(M, B) * N - Mod(N, B) + 8):
        assert algebra._falls_below_zero(e)
    for e in (M - 1, i, M * N, M - M, CeilDiv(M, B) ** 2, FloorDiv(M, B) * M - FloorDiv(M, B) * N):
        assert not algebra._falls_below_zero(e)


HOSTILE = [
    "__import__('os')", "__import__('os').system('true')", "M.__class__", "M.free_symbols", "(lambda: 1)()", "[1]", "[x for x in (1,)]",
    "M if M else N", "M and N", "not M", "M < N", "M @ N", "M // N", "M % N", "M & N", "~M", "1.5", "1e3", "'M'", "True", "None", "...",
    "f'{M}'", "x", "eval", "min", "min(M)", "min(M, N, K)", "min(*M)", "min(a=M, b=N)", "print(M, N)", "sqrt(M, N)", "floor_div(M, 0)",
    "floor_div(1, 0)", "mod(1, 0)", "mod(M, 0)", "ceil_div(1, 0)", "1/0", "M/(N - N)", "0**-1", "M**N", "M**17", "M**0.5", "2**M", "M**(1/2)",
    "distinct()", "distinct(1)", "distinct(1, 2, 3)", "passing()", "passing(1)", "passing(M)", "passing(99, 1)", "passing(-1, 2)",
    "", " ", "M N", "M;N", "M\nN", "M = N", "(M := 1)", "M,", "M, N", "*M", "yield", "await M", "((M)", "\x00", "M\x00", "µ",
    "(" * 150 + "M" + ")" * 150 + "x", "(" * 5_000 + "M" + ")" * 5_000, "-" * 15_000 + "M" + "?", "M" * 20_001, "9" * 6_000,
]  # fmt: skip

# right in grammar, but only a machine's whole memory or an hour would evaluate them
BOMBS = [
    "9**16**16", "(((((((9**16)**16)**16)**16)**16)**16)**16)**16", "9**16*" * 3_000 + "9**16**16",
    "floor_div(((M + N + K + B + i + j + 1)**16)**16, B)", "mod((((M + 1)**16)**16)**16, B)", "ceil_div(((M + 1)**16)**16 * ((N + 1)**16)**16, B)",
    "passing(4, 99999, 99999, 99999, 99999, -1, 1, 1, 1, 1)", "+".join(["M"] * 9_000) + "+x", "-" * 15_000 + "x", "min(M, " * 2_500 + "x" + ")" * 2_500,
    "M" + "*(M + 1)" * 2_000 + "+x",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=lambda t: repr(t[:20]))
def test_anything_else_is_refused(text):
    with pytest.raises(DescriptionError):
        parse(text, SYMBOLS)


def test_bombs_are_refused_at_once():
    """In a process of its own, since Python cannot stop the multiplication of two huge numbers."""
    code = (
        "from costmodel.errors import DescriptionError\n"
        "from tests.test_symbols import BOMBS, SYMBOLS, parse\n"
        "for text in BOMBS:\n"
        "    print(text[:50], end=' … ', flush=True)\n"
        "    try:\n"
        "        parse(text, SYMBOLS)\n"
        "    except DescriptionError:\n"
        "        print('refused', flush=True)\n"
        "print('done')\n"
    )

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))

    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False, preexec_fn=limited
        )
    except subprocess.TimeoutExpired as late:
        pytest.fail(f"still busy after 30 s: {(late.stdout or b'')[-300:]!r}")
    assert done.stdout.count("refused") == len(BOMBS), done.stdout + done.stderr[-500:]


@pytest.mark.parametrize("given_text", [3, None, 1.5, ["M"], b"M", {"M": 1}])
def test_only_text_is_parsed(given_text):
    with pytest.raises(DescriptionError):
        parse(given_text, SYMBOLS)
    with pytest.raises(DescriptionError):
        parse_condition(given_text, SYMBOLS)


@pytest.mark.parametrize(
    "text", ["M", "M < N < K", "M in N", "M is N", "not M < N", "M < __import__('os')", "M < N and N < K", ""]
)
def test_only_one_comparison_is_a_condition(text):
    with pytest.raises(DescriptionError):
        parse_condition(text, SYMBOLS)


def test_a_refusal_names_the_culprit():
    with pytest.raises(DescriptionError, match=r"unknown name 'X'; known: B, K, M"):
        parse("M + X", SYMBOLS)
    with pytest.raises(DescriptionError, match=r"'M % N' is not allowed; expected integers, known names"):
        parse("1 + M % N", SYMBOLS)


@pytest.mark.parametrize(
    ("name", "good"), [("M", True), ("block_x", True), ("1M", False), ("M N", False), ("for", False), ("", False), ("M-1", False)]
)
def test_identifiers(name, good):
    assert is_identifier(name) is good


# --- counting --------------------------------------------------------------------------------------


def _cases(number: int) -> list[tuple[list[int], list[int]]]:
    chance = random.Random(20_240_607)
    cases = []
    for _ in range(number):
        loops = chance.randint(1, 4)
        largest = chance.choice([3, 8, 40])
        strides = [chance.randint(-largest, largest) for _ in range(loops)]
        if chance.random() < 0.4:  # nearly dense nests
            strides = [chance.choice([1, 2, 4, 8, 16, 3, 6, 12]) for _ in range(loops)]
        cases.append((strides, [chance.randint(1, chance.choice([2, 5, 9])) for _ in range(loops)]))
    return cases


def _enumerated(strides: list[int], extents: list[int]) -> int:
    return len({sum(c * at for c, at in zip(strides, p, strict=True)) for p in itertools.product(*map(range, extents))})


def test_distinct_values_against_enumeration():
    exact = 0
    for strides, extents in _cases(3_000):
        count, certain = distinct_values(strides, extents)
        truth = _enumerated(strides, extents)
        assert count >= truth, (strides, extents)
        assert not certain or count == truth, (strides, extents)
        exact += certain
    assert exact > 1_500  # it has to be of use


def test_distinct_values_of_columns_equal_those_of_ints():
    for loops in (1, 2, 3, 4):
        cases = [c for c in _cases(3_000) if len(c[0]) == loops]
        strides, extents = (np.array(part).T for part in zip(*cases, strict=True))
        count, certain = distinct_values(list(strides), list(extents))
        one_by_one = [distinct_values(*case) for case in cases]
        assert count.tolist() == [c for c, _ in one_by_one]
        assert certain.tolist() == [e for _, e in one_by_one]


def test_distinct_values_of_nothing():
    assert distinct_values([], []) == (1, True)
    assert distinct_values([0, 0], [5, 7]) == (1, True)
    assert distinct_values([3], [1]) == (1, True)


@pytest.mark.soak
@given(st.data())
def test_passing_points_against_enumeration(data):
    loops = data.draw(st.integers(1, 3))
    extents = data.draw(st.lists(st.integers(0, 6), min_size=loops, max_size=loops))
    rows = data.draw(st.lists(st.lists(st.integers(-8, 8), min_size=loops + 1, max_size=loops + 1), min_size=1, max_size=3))
    truth = sum(
        all(b + sum(c * at for c, at in zip(cs, p, strict=True)) < 0 for b, *cs in rows)
        for p in itertools.product(*map(range, extents))
    )
    flat = [v for row in rows for v in row]
    assert passing_points(loops, *extents, *flat) == truth
    assert compile_program([Passing(sympy.Integer(loops), *(SYMBOLS[n] for n in "MNK"[:loops]), *flat)])(
        dict(zip("MNK", extents, strict=False))
    ) == [truth]
    columns: list[Any] = [np.array([v, v]) for v in (*extents, *flat)]
    assert np.asarray(passing_points(loops, *columns)).tolist() == [truth, truth]


@given(expressions(quotients=False), st.integers(0, 6))
def test_sums_against_enumeration(given_expression, trips):
    e, env = given_expression
    try:
        total = sum_over(e, i, N)
    except UnsupportedError:
        assert e.atoms(FloorDiv, CeilDiv, Mod, Minimum, Maximum)
        return
    env = {**env, "N": trips}
    assert compile_program([total])(env) == [sum(evaluate(e, {**env, "i": at}) for at in range(trips))]


def test_a_sum_of_what_is_no_polynomial_names_it():
    with pytest.raises(UnsupportedError, match=r"cannot sum floor_div\(i, M\) over i"):
        sum_over(FloorDiv(i, M), i, N)
