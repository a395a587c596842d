"""Indices taken apart at several places, flat tile numbers, and shared bytes that a compiler told, against enumeration."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costmodel import kernel
from costmodel.cost import estimate
from costmodel.counts import executions, traffic
from costmodel.dtypes import f32
from costmodel.errors import DescriptionError
from costmodel.ir import Builder, Divisibility, Expr, ceil_div, from_json, to_json
from costmodel.symbols import compile_program, size
from tests import oracle


def value(expression, sizes):
    (found,) = compile_program([expression])(sizes)
    return int(found)


@settings(max_examples=60)
@given(st.data())
def test_guards_on_digits_of_the_thread_number_are_counted_exactly(data):
    low, bits, rows, columns = (data.draw(st.integers(*r), label=n) for n, r in (
        ("low", (0, 3)), ("bits", (1, 2)), ("rows", (1, 20)), ("columns", (1, 40))
    ))  # fmt: skip
    plain = data.draw(st.booleans(), label="the thread number itself stands in the guard too")

    @kernel
    def sliced(k, *, R, C):
        x = k.buffer("x", (512, 64), f32)
        with k.threads(32, 4) as (lane, warp):
            row = lane // (1 << low) % (1 << bits) + (1 << bits) * warp
            column = lane % (1 << low) + (1 << low) * (lane // (1 << (low + bits)))
            with k.when(row < R, column < C, *([lane < C] if plain else [])):
                k.load(x[row, column])

    traced = sliced.trace()
    (site,) = traced.statements()
    sizes = {"R": rows, "C": columns}
    (counted,) = oracle.count(traced, sizes).statements
    assert value(executions(traced, site), sizes) == counted.executions
    flow = traffic(traced).where(source="l1").bind(**sizes).flows[0]
    (load,) = counted.loads
    assert flow.requested_bytes == load.requested_bytes
    assert flow.footprint_bytes == load.footprint_bytes if flow.exact else flow.footprint_bytes >= load.footprint_bytes


@kernel
def persistent(k, *, D, A, G, S, R, C):
    """Tiles in groups of `G` rows, taken in turn by `S` blocks."""
    x = k.buffer("x", (D * 8, A * 8), f32)
    k.require(D % G == 0)
    with k.blocks(S) as block, k.threads(8, 8) as (tx, ty), k.serial(ceil_div(D * A, S)) as trip:
        tile = block + S * trip
        with k.when(tile < D * A):
            inside = tile % (G * A)
            m, n = inside % G + tile // (G * A) * G, inside // G
            with k.when(m * 8 + ty < R, n * 8 + tx < C):
                k.store(x[m * 8 + ty, n * 8 + tx])


@settings(max_examples=60)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 5), st.integers(1, 5), st.integers(1, 60), st.integers(1, 60))
def test_tiles_of_a_persistent_kernel_are_counted_exactly(groups, group, across, blocks, rows, columns):
    traced, down = persistent.trace(), groups * group
    (site,) = traced.statements()
    sizes = {"D": down, "A": across, "G": group, "S": blocks, "R": rows, "C": columns}
    (counted,) = oracle.count(traced, sizes).statements
    assert value(executions(traced, site), sizes) == counted.executions == min(rows, 8 * down) * min(columns, 8 * across)


def test_divisibility_cancels_common_factors():
    facts = Divisibility()
    d, n, g = size("d"), size("n"), size("g")
    facts.add(d, g)
    assert facts.divides(d * n, g * n)
    assert facts.divides(d * n, g)
    assert not facts.divides(d, g * n)


def described(told):
    @kernel
    def staged(k, *, N):
        x, tile = k.buffer("x", (N, 128), f32), k.shared("tile", (64, 128), f32)
        if told:
            k.shared_bytes_per_block(told)
        with k.blocks(N) as i, k.threads(128) as t:
            k.copy(x[i, t], tile[0, t])

    return staged


def test_shared_bytes_that_a_compiler_told_count_instead_of_the_arrays():
    summed, told = (estimate(described(b), "H100", N=4096) for b in (0, 100_000))
    assert (summed.shared_bytes_per_block, told.shared_bytes_per_block) == (32768, 100_000)
    assert (summed.occupancy.blocks_per_sm, told.occupancy.blocks_per_sm) == (6, 2)


def test_they_are_written_and_read():
    traced = described(100_000).trace()
    assert from_json(to_json(traced)) == traced
    assert '"shared_bytes"' not in to_json(described(0).trace())
    builder = Builder("k", Divisibility())
    builder.shared_bytes_per_block(Expr(size("nowhere"), Divisibility()))
    with pytest.raises(DescriptionError, match="shared_bytes_per_block"):
        _finished(builder)


def _finished(builder):
    x = builder.buffer("x", (8,), f32)
    with builder.threads(8) as t:
        builder.load(x[t])
    return builder.result((), ())
