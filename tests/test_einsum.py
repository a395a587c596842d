"""Einsums under schedules: what is walked through, against enumeration; a GEMM against the one written by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodel import Scorer, estimate
from costmodel.cost import find_description
from costmodel.counts import traffic
from costmodel.dtypes import f16, f32, f64
from costmodel.errors import CostModelError, DescriptionError, SizeError, UnsupportedError
from costmodel.frontends import from_einsum
from tests.oracle import count

SCHEDULES = [
    ("km,kn->mn", {"m": (8, 4), "n": (8, 4), "k": 4}, {"stage": "AB", "vector": {"m": 2, "n": 4}}, {"m": 16, "n": 24, "k": 8}),
    ("mk,kn->mn", {"m": (8, 2), "n": 8, "k": 4}, {"stage": "AB", "vector": {"k": 2}, "pad": {"A": 2}}, {"m": 16, "n": 8, "k": 12}),
    ("mk,nk->mn", {"m": 8, "n": 8, "k": 8}, {"stage": "B", "pipeline": 3}, {"m": 8, "n": 16, "k": 32}),
    ("mk,kn->mn", {"m": (8, 4), "n": (16, 2)}, {}, {"m": 16, "n": 16, "k": 5}),
    ("ij->ji", {"i": 8, "j": 8}, {"stage": "A", "pad": {"A": 1}}, {"i": 16, "j": 24}),
    ("ij->ji", {"i": (8, 4), "j": (8, 2)}, {"vector": {"i": 4, "j": 2}}, {"i": 16, "j": 24}),
    ("ij->i", {"i": 16}, {}, {"i": 64, "j": 7}),
    ("ij->i", {"i": 16, "j": 4}, {"stage": "A"}, {"i": 32, "j": 8}),
    ("i,j->ij", {"i": (4, 2), "j": (16, 4)}, {"vector": {"j": 4}}, {"i": 8, "j": 32}),
    ("bmk,bkn->bmn", {"m": (8, 2), "n": 8, "k": 4}, {"stage": "AB"}, {"b": 3, "m": 16, "n": 8, "k": 8}),
    ("abij,bc->acij", {"i": 4, "j": (8, 2), "c": 2}, {"stage": "A"}, {"a": 2, "b": 3, "c": 4, "i": 8, "j": 8}),
    ("mk,kn,n->mn", {"m": 8, "n": (8, 2), "k": 4}, {"stage": "AB"}, {"m": 16, "n": 16, "k": 8}),
    ("ab,cd->abcd", {"c": 4, "d": 8}, {}, {"a": 2, "b": 3, "c": 4, "d": 16}),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "tile", "schedule", "extents"), SCHEDULES)
def test_every_product_is_made_once_and_every_element_is_reached(spec, tile, schedule, extents):
    """The walk also checks that no access leaves its array and that vectors are aligned."""
    kernel = from_einsum(spec, tile=tile, **schedule)
    counts = {s.statement.name: s for s in count(kernel, {x.upper(): n for x, n in extents.items()}).statements}
    operands, output = spec.split("->")
    assert counts["multiply"].executions == math.prod(extents.values())
    written = counts["store"].stores[0]
    assert written.requested_bytes == written.footprint_bytes == 4 * math.prod(extents[x] for x in output)
    for name, letters in zip("ABC", operands.split(","), strict=False):
        staged = name in schedule.get("stage", "")
        first = counts[f"stage {name}" if staged else f"read {name}"].loads[0]
        assert first.footprint_bytes == 4 * math.prod(extents[x] for x in letters)
        assert first.access.buffer.name == name
        if staged:  # what is copied is read again, all of it
            into, out_of = counts[f"stage {name}"].stores[0], counts[f"read {name}"].loads[0]
            assert into.footprint_bytes == out_of.footprint_bytes


def test_work_is_a_multiply_add_for_each_product_of_two():
    sizes = {"M": 16, "N": 16, "K": 8}
    product = count(from_einsum("mk,kn->mn", tile={"m": 8, "n": 8, "k": 4}, stage="AB"), sizes)
    assert dict(product.work) == {("fma", "f32"): 16 * 16 * 8}
    triple = count(from_einsum("mk,kn,n->mn", tile={"m": 8, "n": 8, "k": 4}), sizes)
    assert dict(triple.work) == {("fma", "f32"): 16 * 16 * 8, ("add", "f32"): 16 * 16 * 8}
    summed = count(from_einsum("mk->m", tile={"m": 8}), {"M": 16, "K": 8})
    assert dict(summed.work) == {("add", "f32"): 16 * 8}
    moved = count(from_einsum("mk->km", tile={"m": 8, "k": 8}), {"M": 16, "K": 8})
    assert dict(moved.work) == {}


@pytest.mark.parametrize("gpu", ["H100", "V100", "MI210"])
def test_a_scheduled_product_costs_what_the_one_written_by_hand_does(gpu):
    product = from_einsum(
        "km,kn->mn", tile={"m": ("BM", "TM"), "n": ("BN", "TN"), "k": "BK"}, stage="AB", vector={"m": 4, "n": 4}
    )
    table = {"M": 2048, "N": 4096, "K": 1024, "BM": [64, 128, 128, 256], "BN": [64, 128, 64, 128], "BK": [8, 16, 32, 8]}
    table |= {"TM": [4, 8, 8, 16], "TN": [4, 8, 4, 8]}
    ours, by_hand = Scorer(product, gpu).score(table), Scorer(find_description("gemm"), gpu).score(table)
    assert by_hand.feasible.any()
    assert list(ours.reason) == list(by_hand.reason)
    assert ours.seconds == pytest.approx(by_hand.seconds, rel=1e-9)


def test_a_pipeline_takes_shared_memory_for_each_stage_and_hides_latency():
    def priced(stages):
        product = from_einsum(
            "km,kn->mn", tile={"m": (64, 4), "n": (64, 4), "k": 16}, stage="AB", vector={"m": 4, "n": 4}, pipeline=stages
        )
        return estimate(product, "A100", M=512, N=512, K=4096)

    one, three = priced(1), priced(3)
    assert three.shared_bytes_per_block == 3 * one.shared_bytes_per_block == 3 * 2 * 64 * 16 * 4
    assert three.seconds < one.seconds


def test_tiles_that_do_not_divide_are_refused_when_priced():
    product = from_einsum("mk,kn->mn", tile={"m": "BM", "n": 16, "k": 16}, stage="AB")
    assert product.params == ("M", "K", "N", "BM")
    assert estimate(product, "H100", M=96, K=64, N=64, BM=16).seconds > 0
    with pytest.raises(SizeError, match="cannot run on"):
        estimate(product, "H100", M=100, K=64, N=64, BM=16)


GOOD = {"m": 8, "n": 8}


@pytest.mark.parametrize(
    ("spec", "schedule", "message"),
    [
        ("mk,kn", {"tile": GOOD}, "expected lower-case letters such as 'mk,kn->mn'"),
        ("MK,KN->MN", {"tile": GOOD}, "expected lower-case letters"),
        ("mk,->m", {"tile": GOOD}, "expected lower-case letters"),
        ("mk,kn->mq", {"tile": GOOD}, "output letter 'q' is in no operand"),
        ("mk,kn->mn", {"tile": {}}, "no output letter is tiled"),
        ("mk,kn->mn", {"tile": {"k": 8}}, "tile one of m, n"),
        ("mk,kn->mn", {"tile": {**GOOD, "q": 4}}, "tile: unknown 'q'; expected m, k, n"),
        ("mk,kn->mn", {"tile": {**GOOD, "k": (8, 2)}}, "a contracted letter has one tile"),
        ("mk,kn->mn", {"tile": {**GOOD, "m": 0}}, r"tile\['m'\] = 0: expected a positive number or a name"),
        ("mk,kn->mn", {"tile": {**GOOD, "m": True}}, "expected a positive number or a name"),
        ("mk,kn->mn", {"tile": {**GOOD, "m": "B-M"}}, "expected a positive number or a name"),
        ("mk,kn->mn", {"tile": {**GOOD, "m": (8, 2, 1)}}, "or two"),
        ("mk,kn->mn", {"tile": GOOD, "stage": "AC"}, "stage: unknown 'C'; expected A, B"),
        ("mk,kn->mn", {"tile": GOOD, "pad": {"A": 1}}, "pad: unknown 'A'; expected nothing"),
        ("mk,kn->mn", {"tile": GOOD, "vector": {"n": 0}}, r"vector\['n'\]: expected a whole number of at least 1, got 0"),
        ("mk,kn->mn", {"tile": GOOD, "pipeline": 2}, "pipeline=2 needs a staged operand"),
        ("ij->ji", {"tile": {"i": 8, "j": 8}, "stage": "A", "pipeline": 2}, "and a contracted letter"),
        (5, {"tile": GOOD}, "einsum 5: expected text such as 'mk,kn->mn', got int"),
        ("mk,kn->mn", {"tile": None}, "tile: expected a mapping such as .*, got None"),
        ("mk,kn->mn", {"tile": GOOD, "vector": 4}, "vector: expected a mapping such as .*, got 4"),
        ("mk,kn->mn", {"tile": GOOD, "stage": None}, "stage: expected operands such as 'AB', got None"),
        ("mk,kn->mn", {"tile": GOOD, "stage": "AA"}, "stage: 'A' is given twice"),
        ("mk,kn->mn", {"tile": GOOD, "name": ""}, "name: expected text such as 'gemm', got ''"),
        ("mk,kn->mn", {"tile": GOOD, "dtype": "f32"}, "dtype: expected a DType such as f32, got 'f32'"),
        ("mk,kn->mn", {"tile": GOOD, "accumulator": None}, "accumulator: expected a DType"),
        ("mk,kn->mn", {"tile": {**GOOD, "m": (64, 3)}}, r"\(64, 3\): expected a thread to have a divisor of the block's 64, got 3"),
        ("mk,kn->mn", {"tile": {"n": (48, 3)}, "vector": {"n": 3}}, r"vector\['n'\] = 3: one access moves 1, 2, 4 elements of f32"),
        ("mk,kn->mn", {"tile": {"n": (64, 8)}, "vector": {"n": 8}}, r"= 8: one access moves 1, 2, 4 elements of f32 \(16 bytes at"),
        ("mk,kn->mn", {"tile": {"n": (64, 2)}, "vector": {"n": 4}}, "= 4: expected a divisor of the 2 that a thread has of 'n'"),
        ("mk,kn->mn", {"tile": GOOD, "stage": "A", "vector": {"k": 4}}, "'k' has no tile; give it one, of a multiple of 4"),
        ("mk,kn->mn", {"tile": {**GOOD, "k": 6}, "stage": "A", "vector": {"k": 4}}, "of the 6 that a step has of 'k'"),
        ("mk,kn->mn", {"tile": {**GOOD, "k": 8}, "stage": "B", "vector": {"k": 4}}, "no staged operand ends in 'k'"),
        ("mk,kn->mn", {"tile": {**GOOD, "k": 8}, "stage": "A", "vector": {"k": 4}, "pad": {"A": 1}}, r"pad\['A'\] = 1: expected a mult"),
        ("mk,kn->mn", {"tile": GOOD, "stage": "A", "pipeline": 2, "dtype": f16}, "A would be copied by 2 bytes at a time, .* vector of 2"),
    ],
)  # fmt: skip
def test_mistakes_say_what_was_expected(spec, schedule, message):
    with pytest.raises(DescriptionError, match=message):
        from_einsum(spec, **schedule)


@pytest.mark.parametrize(
    ("spec", "tile", "message"),
    [
        ("mm->m", {"m": 8}, "has a letter twice"),
        ("abcd->abcd", dict.fromkeys("abcd", 2), "4 tiled output letters"),
        (",".join("a" * 27) + "->a", {"a": 16}, "27 operands; named A to Z there are 26 at most"),
    ],
)
def test_what_cannot_be_scheduled_says_so(spec, tile, message):
    with pytest.raises(UnsupportedError, match=message):
        from_einsum(spec, tile=tile)


def test_neighbours_of_a_thread_need_no_access_that_moves_them_at_once():
    """Where the letter is no array's last, a vector only says which elements are a thread's."""
    product = from_einsum("mk,kn->mn", tile={"m": (24, 6), "n": 8}, vector={"m": 3})
    walked = {s.statement.name: s for s in count(product, {"M": 48, "K": 2, "N": 8}).statements}
    assert {int(a.access.width) for s in walked.values() for a in (*s.loads, *s.stores)} == {1}
    assert walked["store"].stores[0].footprint_bytes == 4 * 48 * 8


# --- schedules at random ---------------------------------------------------------------------------


def _divisors(n):
    return st.sampled_from([d for d in range(1, n + 1) if n % d == 0])


@st.composite
def schedules(draw):
    """An einsum under a schedule whose tiles divide, some of them named: its arguments, sizes, blocks and threads' parts."""
    letters = st.lists(st.sampled_from("abcij"), min_size=1, max_size=3, unique=True).map("".join)
    operands = draw(st.lists(letters, min_size=1, max_size=2))
    used = sorted(set("".join(operands)))
    output = "".join(draw(st.lists(st.sampled_from(used), min_size=1, max_size=3, unique=True)))
    extents = {x: draw(st.sampled_from([1, 2, 3, 4, 6, 8, 12])) for x in used}
    tiled = [x for x in used if x == output[0] or draw(st.booleans())]
    block = {x: draw(_divisors(extents[x])) if x in tiled else 1 for x in used}
    own = {x: draw(_divisors(block[x])) if x in output else 1 for x in used}
    tile, sizes = {}, {x.upper(): n for x, n in extents.items()}
    for x in tiled:
        tile[x] = (block[x], own[x]) if x in output else block[x]
        if x in output and draw(st.booleans()):
            tile[x], sizes = (f"B{x}", own[x]), {**sizes, f"B{x}": block[x]}
    stage = tuple(name for name, _ in zip("ABC", operands, strict=False) if draw(st.booleans()))
    vector = {x: draw(st.sampled_from([1, 2, 4])) for x in tiled if draw(st.booleans())}
    dtype = draw(st.sampled_from([f16, f32, f64]))
    made = {"tile": tile, "stage": stage, "vector": vector, "dtype": dtype, "pipeline": draw(st.sampled_from([1, 1, 2]))}
    return f"{','.join(operands)}->{output}", made, sizes, extents, block, own


@pytest.mark.soak
@given(schedules())
def test_bytes_of_any_schedule_are_those_of_its_tiles(drawn):
    """A staged operand comes once a block and step, another once a thread and product; from DRAM each element once."""
    spec, schedule, sizes, extents, block, own = drawn
    try:
        kernel = from_einsum(spec, **schedule)
        flows = traffic(kernel).bind(**sizes)
    except CostModelError as error:
        assert "== 1" not in str(error)  # noqa: PT017 - some vectors do not divide
        return
    operands, output = spec.split("->")
    for name, letters in zip("ABC", operands.split(","), strict=False):
        all_of_it = schedule["dtype"].itemsize * math.prod(extents[x] for x in letters)
        apart = block if name in schedule["stage"] else {x: own[x] if x in output else 1 for x in extents}
        of_it = [f for f in flows if f.buffer == name]
        assert {f.footprint_bytes for f in of_it if f.source == "dram"} == {all_of_it}
        assert sum(f.requested_bytes for f in of_it if f.source == "l1") == all_of_it * math.prod(
            extents[x] // apart[x] for x in extents if x not in letters
        )


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-4, 9) | st.floats() | st.text("mknAB ->,", max_size=8) | st.sampled_from([f16, f32]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("mknAB"), inner | st.just((8, 2)), max_size=3),
    max_leaves=5,
)


@pytest.mark.soak
@given(
    JUNK | st.sampled_from(["mk,kn->mn", "mk->m"]),
    st.dictionaries(
        st.sampled_from(["tile", "stage", "vector", "pad", "pipeline", "dtype", "accumulator", "name"]), JUNK, max_size=3
    ),
)
def test_anything_is_an_einsum_or_refused_with_its_place(spec, given_for):
    try:
        from_einsum(spec, **{"tile": GOOD, **given_for})
    except CostModelError as error:
        assert str(error).startswith(f"einsum {spec!r}: ")  # noqa: PT017 - most of it is refused
