"""Einsums under schedules: what is walked through, against enumeration; a GEMM against the one written by hand."""

from __future__ import annotations

import math

import pytest

from costmodel import Scorer, estimate
from costmodel.cost import find_description
from costmodel.errors import DescriptionError, SizeError, UnsupportedError
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
        ("mk,kn->mn", {"tile": GOOD, "vector": {"n": 0}}, "vector n: expected a whole number of at least 1, got 0"),
        ("mk,kn->mn", {"tile": GOOD, "pipeline": 2}, "pipeline=2 needs a staged operand"),
        ("ij->ji", {"tile": {"i": 8, "j": 8}, "stage": "A", "pipeline": 2}, "and a contracted letter"),
    ],
)  # fmt: skip
def test_mistakes_say_what_was_expected(spec, schedule, message):
    with pytest.raises(DescriptionError, match=message):
        from_einsum(spec, **schedule)


@pytest.mark.parametrize(
    ("spec", "tile", "message"),
    [("mm->m", {"m": 8}, "has a letter twice"), ("abcd->abcd", dict.fromkeys("abcd", 2), "4 tiled output letters")],
)
def test_what_cannot_be_scheduled_says_so(spec, tile, message):
    with pytest.raises(UnsupportedError, match=message):
        from_einsum(spec, tile=tile)
