"""Families of Triton kernels: what was not compiled against what compiling it gives, and prices of families against single ones."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from costmodel.cost import Scorer
from costmodel.errors import DescriptionError, SizeError, UnsupportedError
from costmodel.frontends.triton import from_triton_family
from costmodel.frontends.triton.family_numbers import Numbers, Role, put_together, taken_apart
from costmodel.frontends.triton.family_products import expressed
from costmodel.frontends.triton.family_rules import between, restaged
from costmodel.frontends.triton.family_search import Search

triton = pytest.importorskip("triton")
pytest.importorskip("torch")

from sympy import Integer  # noqa: E402

from costmodel.frontends.triton import from_triton  # noqa: E402
from tests import triton_cases, triton_kernels  # noqa: E402

SPACES = {
    "vector add": {"BLOCK": [1024, 2048, 4096, 8192], "num_warps": [2, 4]},
    "softmax": {"BLOCK": [128, 1024, 2048, 4096, 8192, 16384], "num_warps": [8, 16]},
    "layer norm": {"BLOCK": [512, 1024, 2048, 4096, 8192], "num_warps": [1]},
    "matmul": {"BM": [64, 128], "BN": [128], "BK": [32, 64], "num_warps": [4], "num_stages": [2, 3, 4, 5]},
    "descriptor matmul": {"num_warps": [4], "num_stages": [2, 3, 4, 5]},
}
"""Small spaces, all of which are compiled to compare."""


def jitted(name):
    return getattr(triton_kernels, triton_cases.CASES[name].kernel)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("analysed")


@pytest.fixture(scope="module")
def spaces(folder):
    """The spaces, each found out once."""
    known = {}

    def found(name):
        if name not in known:
            case, space = triton_cases.CASES[name], SPACES[name]
            constants = {n: v for n, v in case.constexprs.items() if n not in space}
            known[name] = from_triton_family(
                jitted(name), case.signature, space, case.grid, constexprs=constants, target="H100", cache=folder
            )
        return known[name]

    return found


def rows(name):
    """The configurations of a space, as `itertools.product` orders them."""
    return [dict(zip(SPACES[name], values, strict=True)) for values in itertools.product(*SPACES[name].values())]


def analysed(name, row, folder):
    """One configuration, compiled and read on its own."""
    case, names = triton_cases.CASES[name], jitted(name).arg_names
    constants = {**case.constexprs, **{n: v for n, v in row.items() if n in names}}
    options = {n: v for n, v in row.items() if n not in names}
    return from_triton(
        jitted(name), case.signature, constants, case.grid, target="H100", cache=folder, resources="estimated", **options
    )


@pytest.mark.parametrize("name", SPACES)
def test_what_was_not_compiled_is_what_the_compiler_makes_of_it(name, spaces, folder):
    space, sizes = spaces(name), triton_cases.CASES[name].sizes
    foretold = 0
    for row, compiled in zip(rows(name), space.score("H100", **sizes).compiled, strict=True):
        ours, theirs = space.kernel(**row), analysed(name, row, folder)
        assert dict(ours.kernel.statics) == dict(theirs.kernel.statics)
        assert replace(ours.kernel, registers=None, statics=()) == replace(theirs.kernel, registers=None, statics=()), row
        assert (ours.shared_bytes, ours.replicas, ours.notes) == (theirs.shared_bytes, theirs.replicas, theirs.notes), row
        foretold += not compiled
        if not compiled:
            assert ours.requested_bytes(**sizes) == theirs.requested_bytes(**sizes)
            assert 1 <= ours.registers <= 255
    assert foretold == len(rows(name)) - space.compiled >= 2
    assert space.mistaken == 0
    assert not space.refused


@pytest.mark.parametrize("name", SPACES)
def test_a_family_prices_its_members_as_they_are_priced_alone(name, spaces, folder):
    space, sizes = spaces(name), triton_cases.CASES[name].sizes
    assert sorted(n for f in space.families for n in f.configurations) == list(range(len(rows(name))))
    prices = space.score("H100", **sizes)
    for n in {0, *np.flatnonzero(~prices.compiled)[:2]}:
        point, alone = space.points[n], analysed(name, rows(name)[n], folder)
        told = {"registers": point.registers, "spilled": point.spilled_bytes / 4}
        expected = Scorer(alone.kernel, "H100", **told).score(sizes)
        assert prices.reason[n] == expected.reason[0]
        assert prices.seconds[n] == pytest.approx(expected.seconds[0], rel=1e-12)


def test_stages_of_a_matrix_product_are_not_compiled(spaces):
    space = spaces("matmul")
    assert space.compiled < len(rows("matmul")) / 2
    large = {"M": 4096, "N": 4096, "K": 4096, "stride_am": 4096, "stride_bk": 4096, "stride_cm": 4096}
    prices = space.score("H100", **large)
    assert set(prices.num_stages[~prices.compiled]) >= {3, 4}
    assert len(space.families) <= len(rows("matmul")) / 4


def test_block_sizes_are_sizes_of_the_family(spaces):
    family = max(spaces("vector add").families, key=lambda f: len(f.configurations))
    assert "num_warps" in family.kernel.params
    assert set(family.sizes) == set(family.kernel.params) - {"n"}
    extents = {str(e) for e in family.kernel.grid_shape()}
    assert any("CeilDiv(n, " in e and "num_warps" in e for e in extents), extents


def test_a_list_of_configurations_and_what_is_not_one_of_them(folder, spaces):
    case = triton_cases.CASES["vector add"]
    listed = [{"BLOCK": 1024, "num_warps": 4}, {"BLOCK": 256, "num_warps": 2}, {"BLOCK": 3, "num_warps": 4}]
    space = from_triton_family(jitted("vector add"), case.signature, listed, case.grid, cache=folder)
    prices = space.score("H100", n=1 << 20)
    assert list(prices.BLOCK) == [1024, 256, 3]
    assert prices.compiled.tolist() == [True, True, False]
    assert np.isfinite(prices.seconds[:2]).all()
    assert np.isnan(prices.seconds[2])
    assert "power of 2" in prices.reason[2]
    with pytest.raises(UnsupportedError, match="power of 2"):
        space.kernel(BLOCK=3, num_warps=4)
    with pytest.raises(DescriptionError, match="BLOCK=512, num_warps=4 is no configuration"):
        space.kernel(BLOCK=512, num_warps=4)
    with pytest.raises(SizeError, match="'m' is none of its runtime integers"):
        space.score("H100", n=5, m=5)
    with pytest.raises(DescriptionError, match="configuration 1 gives BLOCK; expected BLOCK, num_warps"):
        from_triton_family(jitted("vector add"), case.signature, [listed[0], {"BLOCK": 4}], case.grid)
    with pytest.raises(DescriptionError, match="no configuration"):
        from_triton_family(jitted("vector add"), case.signature, {"BLOCK": []}, case.grid)
    with pytest.raises(DescriptionError, match="parameter 'num warps' is no name"):
        from_triton_family(jitted("vector add"), case.signature, {"num warps": [4]}, case.grid)


def test_a_family_that_cannot_be_counted_as_one_is_priced_one_by_one(spaces, monkeypatch):
    space, sizes = spaces("softmax"), triton_cases.CASES["softmax"].sizes
    expected = space.score("H100", **sizes)
    monkeypatch.setattr(Numbers, "divided", 0)
    together = replace(space)
    assert len(together.families) < len(space.families)
    assert together.score("H100", **sizes).equals(expected)


@pytest.mark.parametrize("name", ["matmul", "causal attention", "persistent softmax", "column sums", "descriptor matmul"])
def test_a_kernel_taken_apart_is_put_together_again(name, folder):
    known = analysed(name, {}, folder)
    kernel, replicas = put_together(known, [Integer(v) for v in taken_apart(known).values])
    assert replace(kernel, registers=known.kernel.registers, statics=known.kernel.statics) == known.kernel
    assert replicas == known.replicas


def numbers(*values: int, roles: Any = None, skeleton: str = "same", held: int = 0, elsewhere: int = 0) -> Numbers:
    plain: Role = ""
    return Numbers(skeleton, values, roles or tuple(plain for _ in values), held, elsewhere)


def values_of(found: Numbers | None) -> tuple[int, ...] | None:
    return None if found is None else found.values


def test_between_says_only_what_had_no_room_for_anything_else():
    def at(a: Numbers, b: Numbers, ends: tuple[int, int], value: int) -> tuple[int, ...] | None:
        return values_of(between(a, b, ends, value))

    assert at(numbers(8, 4, 1, 7), numbers(32, 1, 1, 31), (64, 256), 128) == (16, 2, 1, 15)
    assert at(numbers(4), numbers(8), (64, 256), 128) is None  # a kink: min(BM / 16, 8)
    assert at(numbers(8), numbers(8, skeleton="other"), (64, 256), 128) is None
    assert at(numbers(8), numbers(4), (64, 192), 128) is None
    assert at(numbers(1), numbers(5), (2, 10), 5) is None  # no whole number
    assert at(numbers(512, roles=("steps",)), numbers(2048, roles=("steps",)), (2, 5), 3) == (1024,)
    assert at(numbers(512), numbers(2048), (2, 5), 3) is None
    named = ("named", "named")
    assert at(numbers(8, 32, roles=named), numbers(32, 8, roles=named), (1, 4), 2) is None  # two arrays become one
    assert at(numbers(0, held=64, elsewhere=8), numbers(0, held=32, elsewhere=32), (1, 4), 2) == (0,)
    assert at(numbers(0, held=64, elsewhere=8), numbers(0, held=16, elsewhere=32), (1, 4), 2) is None
    assert at(numbers(16, elsewhere=8), numbers(16, elsewhere=8), (1, 4), 2) is None


def test_more_stages_are_more_steps_of_the_rings():
    def staged(a: Numbers, stages: int, more: int) -> tuple[int, ...] | None:
        return values_of(restaged(a, stages, more))

    roles = ("stages", "steps", "stages", "", "scratch")
    assert staged(numbers(1, 256, 2, 256, 0, roles=roles), 2, 3) == (1, 384, 3, 256, 0)
    assert staged(numbers(1, 256, 2, 256, 16, roles=roles), 2, 3) is None  # something else is in shared memory
    assert staged(numbers(1, 256, 4, 256, 0, roles=roles), 2, 3) is None  # staged otherwise
    assert staged(numbers(1, 256, 1, 256, 16, roles=roles), 2, 3) == (1, 256, 1, 256, 16)  # not pipelined
    assert staged(numbers(1, 256, 3, 256, 0, roles=roles), 3, 4) is None  # no whole number of rows


def test_columns_are_products_of_the_smallest():
    found = expressed([(2, 4), (3, 3), (6, 12), (12, 48), (5, 7)], lambda c: f"s{c[0]}")
    assert found.sizes == {"s2": (2, 4), "s5": (5, 7)}
    assert {str(e) for e in found.expressions.values()} == {"s2", "3", "3*s2", "3*s2**2", "s5"}
    assert found.reciprocal() is None
    assert expressed([(1, 2, 4), (8, 4, 2)], lambda c: f"s{c[0]}").reciprocal() in ((1, 2, 4), (8, 4, 2))


def test_a_family_that_is_not_as_foretold_is_compiled(folder):
    """A compiler that surprises in the middle: half the statements of one configuration are another array's."""
    usual = analysed("vector add", {"BLOCK": 1024, "num_warps": 4}, folder)

    def compile_all(configurations):
        found = []
        for (block,) in configurations:
            odd = block in (512, 1024)
            values = [Integer(v) for v in taken_apart(usual).values]
            kernel, replicas = put_together(usual, [v * block // 256 if v == 1024 and not odd else v for v in values])
            found.append(replace(usual, kernel=kernel, replicas=replicas))
        return found

    search = Search(("BLOCK",), tuple((b,) for b in (256, 512, 1024, 2048)), compile_all)
    search.run()
    assert search.mistaken == 1
    assert sorted(search.compiled) == [(256,), (512,), (1024,), (2048,)]
    assert all(p.compiled is not None for p in search.known.values())
