"""What the Triton front end counts of divisions, minima and unrolled loops, and what it says to someone who writes Triton."""

from __future__ import annotations

import itertools
import operator
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costmodel.errors import SizeError, UnsupportedError
from costmodel.frontends.triton import cache, from_triton
from costmodel.frontends.triton.conditions import affine
from costmodel.frontends.triton.polynomials import Algebra, Polynomial
from costmodel.report import render

triton = pytest.importorskip("triton")
pytest.importorskip("torch")

from tests import triton_cases, triton_kernels, triton_words  # noqa: E402

FLAT = {"x": "*fp32", "out": "*fp32", "n": "i32"}
HALF = {"a": "*fp16", "b": "*fp16", "c": "*fp32", "M": "i32:16", "N": "i32:16", "K": "i32:16"}


def line_of(text, of=triton_words):
    """The line of a file on which a text stands first."""
    lines = Path(of.__file__).read_text().splitlines()
    return next(n for n, line in enumerate(lines, 1) if text in line)


def blocks(m):
    return (-(-m["n"] // m["B"]),)


@pytest.fixture(scope="module")
def converted():
    known = {}

    def convert(name, signature, constexprs, grid, **options):
        if name not in known:
            known[name] = from_triton(getattr(triton_words, name), signature, constexprs, grid, cache=False, **options)
        return known[name]

    return convert


@pytest.fixture(scope="module")
def product():
    """The tutorial's product, large."""
    case = triton_cases.matmul("matmul", 4096, 4096, 4096, 128, 128, 64, triton_cases.tiles, num_warps=8, num_stages=3)
    k = from_triton(triton_kernels.matmul, case.signature, case.constexprs, case.grid, cache=False, num_warps=8, num_stages=3)
    return k, case.sizes


# -- bytes, by enumeration


@pytest.mark.parametrize(("n", "W"), [(300, 100), (256, 64)])
def test_bounds_with_minima_and_maxima(n, W, converted):
    k = converted("window", {**FLAT, "W": "i32"}, {"BM": 32, "BN": 64}, lambda m: (-(-m["n"] // m["BM"]),))
    starts = [j for pid in range(-(-n // 32)) for j in range(max(0, pid * 32 - W), min(n, pid * 32 + 32), 64)]
    assert k.requested_bytes(n=n, W=W) == 4 * (sum(min(64, n - j) for j in starts) + 64 * -(-n // 32))
    assert k.estimate("H100", n=n, W=W).seconds > 0


def test_a_loop_is_as_long_as_any_block_runs_it(converted):
    """Not as long as from the first block's start to the last one's end."""
    kinds = {"x": "*fp32", "out": "*fp32", "M": "i32", "N": "i32"}
    k = converted("rows_per_block", kinds, {"ROWS": 4, "B": 128}, lambda m: (-(-m["M"] // m["ROWS"]),))
    assert k.requested_bytes(M=11, N=100) == 4 * (11 + 3) * 100
    (loop,) = (loop for loop in k.kernel.loops() if loop.index.name == "i0")
    assert [loop.extent.subs(dict.fromkeys(loop.extent.free_symbols, 10**6))] == [4]


@pytest.mark.parametrize("n", [333, 1, 128])
def test_remainders_in_masks_and_branches(n, converted):
    at = np.arange(-(-n // 64) * 64)
    k = converted("even_elements", FLAT, {"B": 64}, blocks)
    assert k.requested_bytes(n=n) == 8 * np.sum((at % 2 == 0) & (at < n))
    k = converted("even_blocks", FLAT, {"B": 64}, blocks)
    assert k.requested_bytes(n=n) == 8 * np.sum((at // 64 % 2 == 0) & (at < n))


def test_quotients_and_remainders_of_an_image(converted):
    kinds = {"x": "*fp32", "out": "*fp32", **dict.fromkeys(("H", "W", "OH", "OW"), "i32")}
    k = converted("pooled", kinds, {"B": 64}, lambda m: (-(-m["OH"] * m["OW"] // m["B"]),))
    sizes = {"H": 31, "W": 45, "OH": 16, "OW": 23}
    rows, columns, down, right = np.ogrid[:16, :23, :3, :3]
    row, column = rows * 2 + down - 1, columns * 2 + right - 1
    inside = (row >= 0) & (row < 31) & (column >= 0) & (column < 45)
    assert k.requested_bytes(**sizes) == 4 * (np.sum(inside) + 16 * 23)
    assert k.estimate("H100", **sizes).seconds > 0


@pytest.mark.parametrize(("n", "extra"), [(333, 100), (1000, 900), (64, 5)])
def test_a_mask_below_the_larger_of_two(n, extra, converted):
    k = converted("either_end", {**FLAT, "k": "i32"}, {"B": 64}, blocks)
    at = np.arange(-(-n // 64) * 64)
    inside = (at < np.maximum(n - at // 64 * 64, extra)) & (at < n)
    assert k.requested_bytes(n=n, k=extra) == 8 * np.sum(inside)


def test_a_size_that_is_added_is_no_dimension(converted):
    k = converted("reversed_sum", FLAT, {"B": 64}, (2,))
    assert k.requested_bytes(n=300) == 2 * 4 * (300 // 64 * 64 + 64)
    assert k.estimate("H100", n=300).seconds > 0
    k = converted("unrolled_sum", FLAT, {"B": 64}, (2,))
    assert k.requested_bytes(n=11) == 2 * 4 * 64 * (11 + 1)
    assert k.estimate("H100", n=11).seconds > 0


def test_unrolled_loads_have_rings_of_their_own(converted):
    k = converted("unrolled_product", HALF, {"BM": 64, "BN": 64, "BK": 32}, lambda m: (m["M"] // 64, m["N"] // 64), num_stages=3)
    assert [int(loop.stages) for loop in k.kernel.loops() if loop.index.name == "i0"] == [3]
    rings = [b for b in k.kernel.buffers if b.name.startswith("staged")]
    assert len(rings) == 4
    assert sum(int(np.prod([int(e) for e in b.shape])) * b.dtype.itemsize for b in rings) == k.shared_bytes


# -- what is refused


def test_what_cannot_be_counted_is_refused_when_converted(converted):
    with pytest.raises(UnsupportedError) as refused:
        converted("moving_divisor", FLAT, {"B": 64}, blocks)
    line = line_of("mask=at % (pid + 2) == 0")
    assert f"triton_words.py:{line} (tt." in str(refused.value)
    assert "%" in str(refused.value)
    assert "k.when" not in str(refused.value)


def test_sizes_that_cannot_be_enumerated_are_told_without_advice_on_descriptions():
    k = from_triton(triton_words.even_blocks, FLAT, {"B": 1024}, blocks, cache=False)
    with pytest.raises(UnsupportedError, match=r"load x .* would have to be enumerated.*give smaller sizes") as refused:
        k.estimate("H100", n=1 << 26)
    assert "k.when" not in str(refused.value)


@pytest.mark.parametrize("resources", ["estimated", "compiled"])
def test_warps_with_work_of_their_own_are_refused_by_line(resources):
    types = {**dict.fromkeys("abc", "*fp16"), **dict.fromkeys("MNK", "i32:16")}
    tiles = {"BM": 64, "BN": 64, "BK": 32}
    line = line_of("warp_specialize=True")
    with pytest.raises(UnsupportedError, match=rf"specialised: .*triton_words\.py:{line} \(ttg\.warp_specialize\)"):
        from_triton(triton_words.specialised, types, tiles, (4, 4), target="B200", cache=False, resources=resources)


def test_functions_that_are_called_are_refused_by_line(converted):
    with pytest.raises(
        UnsupportedError, match=rf"triton_words\.py:{line_of('_apart(x, out, tl.')} \(tt\.call\): _apart is not inlined"
    ):
        converted("calling", FLAT, {}, (4,))


def test_compile_errors_show_line_caret_and_reason(converted, capsys):
    with pytest.raises(UnsupportedError) as refused:
        converted("not_a_power", FLAT, {}, (4,))
    text = str(refused.value)
    place, code, caret = text.splitlines()
    assert f"triton_words.py:{line_of('tl.arange(0, 100)')}: arange's range must be a power of 2" in place
    assert code.strip() == "return x + tl.arange(0, 100)"
    assert caret.index("^") == code.index("tl.arange")
    assert capsys.readouterr().out == ""


def test_errors_of_the_assembler_show_the_source_line(converted, capsys):
    with pytest.raises(UnsupportedError) as refused:
        converted("volatile_and_cached", FLAT, {"B": 64}, blocks)
    line = line_of('cache_modifier=".cg"')
    assert f"triton_words.py:{line}: Modifier '.volatile' cannot be combined with modifier '.cg'" in str(refused.value)
    assert capsys.readouterr().out == ""


def test_what_a_kernel_prints_when_compiled_is_printed(capsys):
    from costmodel.frontends.triton.complaints import quiet

    with quiet():
        print("static")
    assert capsys.readouterr().out == "static\n"


@pytest.mark.parametrize(
    ("sizes", "why"),
    [
        ({}, "no value for M"),
        ({"M": 4096.5}, "M=4096.5: expected a whole number"),
        ({"N": -16}, "N=-16: expected a number from"),
        ({"K": 4097}, "requires K % 16 == 0"),
        ({"L": 3}, "unknown size 'L'"),
    ],
)
def test_sizes_are_checked(sizes, why, product):
    k, given = product
    given = {**given, **sizes} if sizes else {n: v for n, v in given.items() if n != "M"}
    with pytest.raises(SizeError, match=why):
        k.requested_bytes(**given)
    with pytest.raises(SizeError, match=why):
        k.estimate("H100", **given)


@pytest.mark.parametrize(
    ("device", "why"),
    [("A100", r"compiled for sm_90 and cannot run on a100.* \(sm_80\); convert it with from_triton"),
     ("B200", r"cannot run on b200 \(sm_100\); convert"), ("MI300X", r"cannot run on mi300x .*expected an NVIDIA device")],
)  # fmt: skip
def test_code_runs_on_its_target(device, why, product):
    k, sizes = product
    with pytest.raises(SizeError, match=why):
        k.estimate(device, **sizes)


# -- names


def test_a_breakdown_is_in_terms_of_the_source(product):
    k, sizes = product
    text = render(k.estimate("H100", **sizes), 120)
    begin = line_of("def matmul(", triton_kernels)
    assert text.startswith(f"matmul (triton_kernels.py:{begin}, compiled for sm_90) on NVIDIA H100")
    assert re.search(r"warning +tiles are taken in groups", text)
    loads = {
        name: line_of(f"{name} = tl.load({a}_at, mask=depth", triton_kernels) for name, a in (("left", "a"), ("right_tile", "b"))
    }
    for array, line in zip("ab", loads.values(), strict=True):
        assert re.search(rf"load {array} \(line {line}\) +staged_{array} +store", text)
    assert re.search(r"exchange written \(line (\d+)\) +exchange_line_\1 +store", text)
    assert not re.search(r"ring_|exchanged_|values_|#\d", text)


def test_a_changed_type_table_is_another_digest(monkeypatch):
    before, read = cache._own_digest.__wrapped__(), Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + b"#" * (path.name == "dtypes.py"))
    assert cache._own_digest.__wrapped__() != before


# -- conditions, by values


def value(algebra, p, at):
    """A polynomial's value where atoms have values."""
    total = 0
    for monomial, factor in p.terms.items():
        for atom in monomial:
            factor *= (
                at[atom]
                if atom in at
                else CALLS[algebra.calls[atom][0]](*(value(algebra, q, at) for q in algebra.calls[atom][1:]))
            )
        total += factor
    return total


CALLS: dict[str, Callable[..., int]] = {
    "min": min,
    "max": max,
    "floor": lambda a, b: a // b,
    "ceil": lambda a, b: -(-a // b),
    "mod": lambda a, b: a % b,
}
SIGNS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne}


@st.composite
def expressions(draw, algebra, depth=2):
    """Sums of a few atoms, numbers and calls of such sums."""
    total = Polynomial.of(draw(st.integers(-5, 9)))
    for _ in range(draw(st.integers(1, 2))):
        total = total + Polynomial.of(draw(st.integers(-3, 3))) * Polynomial.of(draw(st.sampled_from(["%b0", "%i0", "n"])))
    if depth and draw(st.booleans()):
        kind = draw(st.sampled_from(sorted(CALLS)))
        divisor = Polynomial.of(draw(st.integers(1, 5)))
        a, b = (
            draw(expressions(algebra, depth - 1)),
            divisor if kind in ("floor", "ceil", "mod") else draw(expressions(algebra, depth - 1)),
        )
        total = total + Polynomial.of(draw(st.sampled_from([-2, -1, 1, 2]))) * algebra.call(kind, a, b)
    return total


@settings(max_examples=60, deadline=None)
@given(data=st.data(), op=st.sampled_from(sorted(SIGNS)))
def test_conditions_that_are_split_say_the_same(data, op):
    algebra = Algebra({})
    left, right = data.draw(expressions(algebra)), data.draw(expressions(algebra))
    split = affine(algebra, (op, left, right), ())
    for b, i, n in itertools.product((0, 1, 4), (0, 2, 5), (1, 3, 8)):
        at = {"%b0": b, "%i0": i, "n": n}
        whole = SIGNS[op](value(algebra, left, at), value(algebra, right, at))
        assert whole == all(SIGNS[o](value(algebra, x, at), value(algebra, y, at)) for o, x, y in split)


def test_minima_and_quotients_are_split_where_that_can_be():
    algebra, block, n = Algebra({}), Polynomial.of("%b0"), Polynomial.of("n")
    least = algebra.call("min", block + n, n * n)
    assert len(affine(algebra, ("<", block, least), ())) == 2
    assert affine(algebra, ("<", least, block), ()) == (("<", least, block),)  # one of two
    quotient = algebra.call("floor", block + n, Polynomial.of(3))
    ((_, above, _),) = affine(algebra, (">=", quotient, n), ())
    assert above == block + n - Polynomial.of(3) * n + Polynomial.of(1)
    assert affine(algebra, (">=", quotient, n), {(block + n, Polynomial.of(3))}) == ((">=", quotient, n),)


def test_blocks_launched_in_one_row_may_be_many(converted):
    """Taken apart they are 200,000 rows, more than a grid may have along y; launched they are along x."""
    k = converted("rows_in_pieces", FLAT | {"n": "i32:16"}, {"B": 128}, lambda m: (200_000 * (m["n"] // m["B"]),))
    assert k.requested_bytes(n=1024) == 2 * 200_000 * 1024 * 4
    assert k.estimate("H100", n=1024).seconds == pytest.approx(k.requested_bytes(n=1024) / 3.35e12, rel=0.3)
    with pytest.raises(SizeError, match="blocks along x, at most 2147483647"):
        k.estimate("H100", n=1 << 22)


def test_rows_walked_backwards_cost_what_they_do_forwards(converted):
    """`n - 1 - i` of row r is no `-1 - i` of row r + 1, of an array with a single column."""
    forward, backward = (
        converted(name, FLAT | {"n": "i32:16"}, {"B": 1024}, (2048,)) for name in ("forward_rows", "backward_rows")
    )
    there, back = forward.estimate("H100", n=65536), backward.estimate("H100", n=65536)
    assert back.seconds == pytest.approx(there.seconds, rel=0.05)
    assert back.levels[-1].transferred_bytes == there.levels[-1].transferred_bytes == 2 * 2048 * 65536 * 4


def test_an_index_that_ends_at_the_next_row_is_of_its_own(converted):
    k = converted("last_piece", FLAT, {"B": 1024}, (4096,))
    assert k.estimate("H100", n=7).levels[-1].footprint_bytes == pytest.approx(2 * 4096 * 1024 * 4)


def test_a_stride_that_only_the_call_knows_parts_elements_by_as_much(converted):
    """Sectors of 32 bytes (64 from memory) hold 8 (16) elements side by side, and half as many of every other one."""
    k = converted("every_other", FLAT | {"step": "i32"}, {"B": 1024}, lambda m: (-(-m["n"] // m["B"]),))
    n = 1 << 26
    memory = [k.estimate("H100", n=n, step=step).levels[-1] for step in (1, 2, 4)]
    assert [m.footprint_bytes for m in memory] == pytest.approx([8 * n, 12 * n, 20 * n], rel=0.01)
    assert [m.transferred_bytes for m in memory[:2]] == pytest.approx([8 * n, 12 * n], rel=0.01)
