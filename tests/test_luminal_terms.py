"""luminal's terms: the reader and what it refuses, what does not become a kernel, and strides against enumeration."""

from __future__ import annotations

from typing import Any

import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from costmodel.errors import DescriptionError, SizeError, UnsupportedError
from costmodel.frontends.luminal import from_luminal, price
from costmodel.frontends.luminal.strides import expression, reach
from costmodel.frontends.luminal.terms import read_text
from costmodel.symbols import index
from tests import luminal_terms as lt
from tests.luminal_terms import Interpreter, accum, enter, gmem, leave, text
from tests.oracle import evaluate

LINE = ("i", 4, 1)


def simple(operation="Exp2"):
    return leave((operation, enter(gmem("A"), LINE)), LINE)


# --- text ------------------------------------------------------------------------------------------


def test_bindings_and_comments_are_one_program():
    bound = """
    ; a comment ( that closes nothing
    (let $loop (Loop "i" (MNum 4)))
    (let step (MVar "z"))
    (let a (LoopIn (GMEM "A") $loop step))
    (LoopOut (Exp2 a) $loop step)
    """
    assert from_luminal(bound).kernels == from_luminal(text(simple())).kernels
    without_last = bound.replace("(LoopOut", "(let out (LoopOut").rstrip() + ")"
    assert from_luminal(without_last).kernels == from_luminal(text(simple())).kernels


def test_what_is_written_twice_is_one_term():
    term = read_text(text(("Add", enter(gmem("A"), LINE), enter(gmem("A"), LINE))))
    assert term.args[0] is term.args[1]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "the text has no term"),
        ('(GMEM "A"', r"line 1, column 1: '\(' is never closed"),
        ('(GMEM "A"))', r"line 1, column 11: '\)' without '\('"),
        ('(GMEM "A', "line 1, column 7: text in quotes is never closed"),
        ('\n (Exp2 (GMEM "A") (GMEM "B"))', r"line 2, column 2: Exp2 takes \(IR\), got \(IR IR\)"),
        ('(Exp2 (MNum 3))', r"line 1, column 1: Exp2 takes \(IR\), got \(Expression\)"),
        ('(GMEM 3)', r"GMEM takes \(text\), got \(number\)"),
        ('(Exp2 a)', "line 1, column 7: 'a' is not bound; bound: nothing"),
        ('(let a (GMEM "A")) (Exp2 b)', "'b' is not bound; bound: a"),
        ('(let a)', r"expected \(let name term\)"),
        ('(let "a" (GMEM "A"))', r"expected \(let name term\)"),
        ('(GMEM "A") (GMEM "B")', "line 1, column 12: a second term"),
        ('()', "line 1, column 1: expected an operator"),
        ('("GMEM" "A")', "expected an operator"),
        ("(" * 501, "nested deeper than 500"),
        ('"A"', "line 1, column 1: expected a term, got 'A'"),
        ('(let a "A")', "line 1, column 1: expected a term, got 'A'"),
        ("\n(MNum 4)", "line 2, column 1: MNum is of sort Expression, no program; expected an IR, such as LoopOut"),
        ('(Loop "i" (MNum 4))', "line 1, column 1: Loop is of sort Loop, no program"),
    ],
)  # fmt: skip
def test_malformed_text_says_where(given, message):
    with pytest.raises(DescriptionError, match=message):
        from_luminal(given)


@pytest.mark.soak
@given(st.text('();" \nlet Exp2GMEM"A"Loop', max_size=40) | st.text(max_size=20))
def test_any_text_is_read_or_refused(given):
    try:
        read_text(given)
    except DescriptionError as error:
        assert str(error).startswith("luminal: ")  # noqa: PT017 - most texts are refused, some are read


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ('(Exp2\n (SwapLoops (GMEM "A")))', "line 2, column 2: SwapLoops is a helper of the search"),
        ('(TileLoop (GMEM "A") "i")', "TileLoop is a helper of the search"),
        ('(PropOneArg "x" (GMEM "A") "i")', "PropOneArg is a helper of the search"),
        ('(TiledMatmulInputA (GMEM "A") 8 (MNum 1))', "TiledMatmulInputA is a helper"),
        ('(run-schedule (run 3))', "unknown operator 'run'; known: Add"),
        ('(Gather (GMEM "A"))', "line 1, column 1: unknown operator 'Gather'"),
    ],
)  # fmt: skip
def test_what_is_no_program_is_named(given, message):
    with pytest.raises(UnsupportedError, match=message):
        from_luminal(given)


PARALLEL = (("a", 2, 8), ("b", 2, 4), ("c", 2, 2), ("d", 2, 1))


def serial(body):
    return leave(body, *PARALLEL, ("k", 4, accum()))


@pytest.mark.parametrize(
    ("term", "message"),
    [
        (("Unary", "Gelu", gmem("A")), "Unary: unknown operation 'Gelu'; known: Exp2"),
        (leave(gmem("A"), LINE), "GMEM: it stands inside 1 loops that no LoopIn brings it into"),
        (enter(gmem("A"), LINE), "LoopIn: it stands outside the loop that it enters"),
        (leave(enter(gmem("A"), ("i", 5, 1)), LINE), "LoopIn: it enters a loop of 5 inside the loop of line 1, column 1, of 4"),
        (leave(enter(gmem("A"), LINE), ("i", 4, accum())), "it accumulates over loop 0, one of the grid or the block"),
        (serial(enter(gmem("A"), *PARALLEL, ("k", 4, 0))), "0 LoopIn of the loop are marked as accumulator 'a'"),
        (serial(enter(gmem("A"), *PARALLEL, ("k", 4, accum("b")))), "0 LoopIn of the loop are marked"),
        (leave(enter(gmem("A"), (*LINE[:2], accum())), LINE), "marked as an accumulator, but the loop around it is not"),
        (leave(enter(gmem("A"), LINE), (*LINE[:2], ("MAdd", lt.Z, accum()))), "an accumulator is a stride of its own"),
        (leave(enter(gmem("A"), ("i", lt.Z, 1)), ("i", lt.Z, 1)), "MVar: z is the index of a loop, which an extent has none of"),
        (leave(enter(gmem("A"), LINE), ("i", 4, ("MVar", "a b"))), "'a b' cannot name a size"),
        (leave(enter(gmem("A"), LINE), ("i", 4, ("MVar", "thread_x"))), "'thread_x' cannot name a size"),
        (leave(enter(("Exp2", gmem("A")), LINE), LINE), "LoopIn: it moves by block_x in the value of Exp2"),
        (leave(("Exp2", simple()), ("j", 4, 1)), "LoopOut: it stands under an operation at level 1"),
        (leave(enter(gmem("A"), ("i", 4, ("MDiv", ("MSub", lt.Z, ("MNum", 1)), ("MNum", 2)))), LINE), "may be negative"),
        (leave(enter(gmem("A"), ("i", 4, ("MMod", lt.Z, ("MNum", 0)))), LINE), "the divisor 0 may be less than 1"),
        (leave(enter(gmem("A"), ("i", 4, ("MSub", lt.Z, ("MNum", 1)))), LINE), "A: offset block_x - 1 may lie before its start"),
        (leave(("SMEM",), LINE), "SMEM: it can be read only through SMEMLoad and SMEMRead"),
        (leave(("SMEMLoad", enter(gmem("A"), LINE), enter(gmem("A"), LINE)), LINE), "neither operand is a place in shared memory"),
        (leave(("SMEMRead", enter(("SMEM",), ("i", 4, 0)), enter(gmem("A"), LINE)), LINE), "expected what was brought"),
        (leave(("SMEMLoad", enter(("SMEM",), LINE), enter(gmem("A"), LINE)), LINE), "it moves by block_x with the grid"),
        (leave(enter(gmem("A"), ("i", 0, 1)), ("i", 0, 1)), "line 1, column 29: Loop: its extent is 0; expected at least 1"),
        (leave(enter(gmem("A"), ("i", -4, 1)), ("i", -4, 1)), "Loop: its extent is -4; expected at least 1"),
        (leave(enter(gmem("A"), ("i", ("MSub", ("MVar", "n"), ("MVar", "n")), 1)), LINE), "Loop: its extent is 0"),
        (lt.tensor_matmul(8, 8, 0), "TCMatmul: its extent is 0; expected at least 1"),
        (leave(enter(gmem("A"), ("i", 2**59, 1)), ("i", 2**59, 1)), "MNum: 576460752303423488 is too large"),
        (leave(enter(gmem("A"), *[("i", 2**30, 0)] * 3), *[("i", 2**30, 0)] * 3), "turns of all loops: 1237.* is too large"),
        (leave(enter(gmem("A"), ("i", 4, 2**57)), LINE), r"elements of A: \d+ is too large; expected numbers up to 2\*\*58"),
        (("SMEMLoad", ("SMEM",), gmem("A")), "SMEMLoad: it stands outside all loops"),
        (leave(lt.tensor_matmul(16, 16, 16), ("x", 2, 1)), "for a block of 32 threads, got 2 × 8"),
    ],
)  # fmt: skip
def test_what_does_not_become_a_kernel_is_named(term, message):
    with pytest.raises(UnsupportedError, match=message):
        from_luminal(text(term))


def test_registers_of_unknown_size_are_refused():
    n = ("MVar", "n")
    four = (*lt.PADS, ("c", 1, 0), ("d", 1, 0))
    source = enter(gmem("A"), *four, ("m", 4, lt.times(n)), ("n", n, 1))
    acc = enter(gmem("acc_0"), *four, ("m", 4, accum()), ("n", n, 1))
    with pytest.raises(UnsupportedError, match="acc: register memory of n elements"):
        from_luminal(text(leave(("Add", source, acc), *four, ("m", 4, accum()), ("n", n, 1))))


def test_a_tower_of_operations_is_refused_not_crashed_on():
    term = enter(gmem("A"), LINE)
    for _ in range(150):
        term = ("Exp2", term)
    with pytest.raises(UnsupportedError, match="operations nested deeper than 100"):
        from_luminal(text(leave(term, LINE)))
    stride: Any = lt.Z
    for _ in range(150):
        stride = ("MAdd", stride, ("MNum", 1))
    with pytest.raises(UnsupportedError, match="an expression nested deeper than 100"):
        from_luminal(text(leave(enter(gmem("A"), ("i", 4, stride)), LINE)))


@pytest.mark.parametrize("options", [{"grid": 0}, {"grid": 4}, {"block": True}, {"block": 1.0}])
def test_dimensions_are_one_to_three(options):
    with pytest.raises(DescriptionError, match="expected 1, 2 or 3 dimensions"):
        from_luminal(text(simple()), **options)


@pytest.mark.parametrize(("option", "wrong"), [("matrix", "tf32"), ("matrix", None), ("name", ""), ("name", 3)])
def test_options_of_another_type_are_refused(option, wrong):
    with pytest.raises(DescriptionError, match=f"luminal: {option}: expected .*, got {wrong!r}"):
        from_luminal(text(simple()), **{option: wrong})


@pytest.mark.parametrize("wrong", [5, None, b"(GMEM)", ["(GMEM)"]])
def test_what_is_neither_text_nor_an_e_graph_is_refused(wrong):
    with pytest.raises(DescriptionError, match=f"expected an object with 'nodes', .*, got {type(wrong).__name__}"):
        from_luminal(wrong)


def test_sizes_of_a_price_are_those_of_the_program():
    program = from_luminal(text(lt.row_sum(("MVar", "m"), 64)))
    with pytest.raises(SizeError, match="unknown size 'n'; expected m"):
        price(program, "H100", m=4, n=4)
    with pytest.raises(SizeError, match="no value for m"):
        price(program, "H100")


def test_a_choice_belongs_to_an_e_graph():
    with pytest.raises(DescriptionError, match="belong to an e-graph"):
        from_luminal(text(simple()), root="out")


# --- strides ---------------------------------------------------------------------------------------

NUMBERS = st.integers(0, 9).map(lambda n: ("MNum", n))
DIVISORS = st.integers(1, 9).map(lambda n: ("MNum", n))
STRIDES = st.recursive(
    st.just(lt.Z) | NUMBERS,
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["MAdd", "MMul", "MMin", "MMax", "MGte", "MLt", "MAnd", "MOr"]), inner, inner),
        st.tuples(st.sampled_from(["MDiv", "MMod", "MFloorTo"]), inner, DIVISORS),
        st.tuples(st.just("MSub"), inner, NUMBERS).map(lambda t: ("MMax", t, ("MNum", 0))),
    ),
    max_leaves=6,
)


@pytest.mark.soak
@given(STRIDES, st.integers(1, 30))
def test_bounds_of_a_stride_hold_against_enumeration(stride, extent):
    term = read_text(text(stride))
    z = index("z")
    found = expression(term, z, {z: sympy.Integer(extent)})
    machine = Interpreter({})
    values = [machine.expression(stride, n) for n in range(extent)]
    assert [evaluate(found, {"z": n}) for n in range(extent)] == values
    low, high = reach(found, {z: sympy.Integer(extent)})
    assert low <= min(values)
    assert max(values) <= high


@pytest.mark.soak
@given(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 40)), min_size=1, max_size=4), st.integers(1, 8), st.integers(1, 8))
def test_bounds_of_strides_that_only_multiply_are_reached(loops, m, n):
    """Sums of multiples, and a merged loop of m·n whose extent is a multiple of its divisor."""
    extents = {index(f"i{k}"): sympy.Integer(extent) for k, (extent, _) in enumerate(loops)}
    total = sum((sympy.Integer(step) * i for i, (_, step) in zip(extents, loops, strict=True)), sympy.Integer(0))
    assert reach(total, extents) == (0, sum((extent - 1) * step for extent, step in loops))
    z = index("z")
    merged = read_text(text(("MAdd", ("MMul", ("MDiv", lt.Z, ("MNum", n)), ("MNum", 7)), ("MMod", lt.Z, ("MNum", n)))))
    found = expression(merged, z, {z: sympy.Integer(m * n)})
    assert reach(found, {z: sympy.Integer(m * n)})[1] == max(k // n * 7 + k % n for k in range(m * n))
