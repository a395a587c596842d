"""Tiles in shared memory: how they are swizzled, and how threads and matrix units read and write them.

A tile's rows are cut into pieces of up to 16 bytes; piece `p` of row `r` lies at `p ^ (r / per_phase % phases)`. `ldmatrix`
gives each lane the address of one row of 16 bytes, 32 rows at a time; `wgmma` reads rows of 32 bytes, those of the right operand
once for four warps. Sources: Triton, `TritonGPUAttrDefs.td` (swizzled_shared, nvmma_shared); PTX ISA, `ldmatrix`,
`wgmma.mma_async` (shared-memory matrix layout).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import sympy

from costmodel.dtypes import DTYPES, DType
from costmodel.errors import UnsupportedError
from costmodel.frontends.triton.events import Multiply, Tile
from costmodel.frontends.triton.layouts import WARP, Layout, number, numbers
from costmodel.frontends.triton.polynomials import coordinate
from costmodel.ir import Access, Buffer, Loop, Node, Statement, Work
from costmodel.symbols import FloorDiv, Mod, Xor, index

__all__ = ["access", "buffer", "fastest", "fragments", "multiply", "piece", "spread"]

LANE, WARP_INDEX = index("thread_x"), index("thread_y")
_INTEGER = sympy.Integer
_ROWS = 16
"""Of a fragment that one `ldmatrix` of two 16-byte pieces covers, and of the left operand of a matrix instruction."""
_PIECE_BYTES = 16
Loops = list[tuple[sympy.Symbol, int]]


@dataclass(frozen=True, slots=True)
class _Swizzle:
    """How a tile lies in memory, in elements."""

    fast: int
    """Dimension whose elements lie side by side."""
    panel: int
    """Elements of a row before the next panel of rows begins."""
    piece: int
    per_phase: int
    phases: int


def _spelt(tile: Tile, aliases: Mapping[str, str]) -> str:
    return aliases.get(tile.tensor.encoding, tile.tensor.encoding)


def _swizzle(tile: Tile, aliases: Mapping[str, str]) -> _Swizzle:
    text, shape = _spelt(tile, aliases), tile.tensor.shape
    itemsize = _itemsize(tile)
    pieces = max(_PIECE_BYTES // itemsize, 1)
    if "nvmma_shared" in text:
        width = number(text, "swizzlingByteWidth")
        fast = len(shape) - 2 if "transposed = true" in text else len(shape) - 1
        panel = min(width // itemsize or shape[fast], shape[fast])
        phases = max(width // _PIECE_BYTES, 1)
        return _Swizzle(fast, panel, min(pieces, panel), max(8 // phases, 1), phases)
    if "swizzled_shared" in text:
        fast, vec = numbers(text, "order")[0], number(text, "vec")
        phases = number(text, "maxPhase")
        wide = vec if phases > 1 else min(pieces, shape[fast])
        return _Swizzle(fast, shape[fast], min(wide, shape[fast]), number(text, "perPhase"), phases)
    raise UnsupportedError(f"Triton shared layout {text or 'none'}: expected nvmma_shared or swizzled_shared")


def _itemsize(tile: Tile) -> int:
    digits = re.sub(r"\D.*$", "", re.sub(r"^\D+", "", tile.tensor.element))
    return max(int(digits or 8) // 8, 1)


def fastest(tile: Tile, aliases: Mapping[str, str]) -> int:
    """The dimension whose elements lie side by side."""
    return _swizzle(tile, aliases).fast


def piece(tile: Tile, dtype: DType) -> int:
    """Elements that stay together."""
    return min(max(_PIECE_BYTES // dtype.itemsize, 1), tile.tensor.shape[-1])


def buffer(tile: Tile, dtype: DType, aliases: Mapping[str, str]) -> Buffer:
    """The shared array: rows, pieces of a row, elements of a piece."""
    s = _swizzle(tile, aliases)
    rows = math.prod(tile.tensor.shape) // s.panel * tile.stages
    shape = tuple(_INTEGER(n) for n in (rows, s.panel // s.piece, s.piece))
    return Buffer(tile.name, shape, dtype, "shared", (shape[1] * shape[2], shape[2], _INTEGER(1)), dynamic=True)


def access(
    into: Buffer, tile: Tile, points: Mapping[str, sympy.Expr], shape: tuple[int, ...], width: int, aliases: Mapping[str, str]
) -> Access:
    """A thread's access of `width` elements at coordinates."""
    return _at(into, tile, [points[f"{coordinate(d)}:{n}"] for d, n in enumerate(shape)], width, aliases)


def _at(into: Buffer, tile: Tile, at: list[sympy.Expr], width: int, aliases: Mapping[str, str]) -> Access:
    s, shape = _swizzle(tile, aliases), tile.tensor.shape
    row: sympy.Expr = _INTEGER(0)
    rows = 1
    for d in range(len(shape)):
        if d != s.fast:
            row, rows = row * shape[d] + at[d], rows * shape[d]
    along = at[s.fast]
    place = FloorDiv(Mod(along, _INTEGER(s.panel)) if s.panel < shape[s.fast] else along, _INTEGER(s.piece))
    if s.phases > 1:
        place = Xor(place, Mod(FloorDiv(row, _INTEGER(s.per_phase)), _INTEGER(s.phases)))
    panel = FloorDiv(along, _INTEGER(s.panel)) * rows if s.panel < shape[s.fast] else _INTEGER(0)
    return Access(into, (panel + row, place, Mod(along, _INTEGER(s.piece))), _INTEGER(min(width, s.piece)))


def spread(shape: tuple[int, ...], width: int, warps: int) -> Layout:
    """A box copied by descriptor, as if threads took `width` elements each, one after the other."""
    rank = len(shape)
    steps = [
        tuple(1 << b if e == d else 0 for e in range(rank))
        for d in range(rank - 1, -1, -1)
        for b in range(shape[d].bit_length() - 1)
    ]
    inside, rest = steps[: width.bit_length() - 1], steps[width.bit_length() - 1 :]
    none, bits = (0,) * rank, 5 + warps.bit_length() - 1
    threads = (rest + [none] * bits)[:bits]
    return Layout(shape, (*inside, *rest[bits:]), tuple(threads[:5]), tuple(threads[5:]))


def fragments(
    into: Buffer, tile: Tile, layout: Layout, counter: Callable[[], sympy.Symbol], aliases: Mapping[str, str]
) -> tuple[Loops, Access]:
    """`ldmatrix`: loops over the fragments of a warp, and one lane's 16 bytes of each."""
    s, shape = _swizzle(tile, aliases), tile.tensor.shape
    at: list[sympy.Expr] = [_INTEGER(0)] * len(shape)
    loops: Loops = []
    for d in range(len(shape) - 2, len(shape)):
        across = [b[d] for b in layout.warps]
        spread_over = 1 << sum(b > 0 for b in across)
        step = min((b for b in across if b), default=_ROWS)
        own = sum((b * Mod(FloorDiv(WARP_INDEX, _INTEGER(1 << n)), _INTEGER(2)) for n, b in enumerate(across) if b), _INTEGER(0))
        if d == s.fast:
            covered, lane = (
                2 * s.piece,
                FloorDiv(LANE, _INTEGER(_ROWS)) * max(s.piece, step * spread_over if spread_over > 1 else 0),
            )
        elif spread_over > 1 and step < _ROWS:
            covered, lane = _ROWS, Mod(LANE, _INTEGER(8)) + Mod(FloorDiv(LANE, _INTEGER(8)), _INTEGER(2)) * step * spread_over
        else:
            covered, lane = _ROWS, Mod(LANE, _INTEGER(_ROWS))
        times = max(shape[d] // (covered * spread_over), 1)
        at[d] = own + lane if shape[d] >= covered * spread_over else Mod(own + lane, _INTEGER(shape[d]))
        if times > 1:
            symbol = counter()
            loops.append((symbol, times))
            at[d] += symbol * covered * spread_over
    return loops, _at(into, tile, at, s.piece, aliases)


def multiply(
    event: Multiply,
    name: str,
    buffers: Mapping[str, Buffer],
    accumulators: Callable[[int], Buffer],
    counter: Callable[[], sympy.Symbol],
    aliases: Mapping[str, str],
    warps: int,
) -> tuple[Node, ...]:
    """Matrix instructions of a warp, with what they read of shared memory."""
    text = aliases.get(event.encoding, event.encoding)
    if "nvidia_mma" not in text:
        held = max(event.m * event.n * event.batch // (WARP * warps), 1)
        kind, each = DTYPES["f32" if event.dtype == "tf32" else event.dtype], counter()
        sums = Access(accumulators(held), (each,))
        statement = Statement(name, (sums,), (sums,), (Work("fma", kind, _INTEGER(event.depth)),))
        return (Loop(each, _INTEGER(held), "serial", (statement,), 0, _INTEGER(held)),)
    down, right = numbers(text, "warpsPerCTA")[-2:]
    depth = 2 * _PIECE_BYTES // max(DTYPES[event.dtype].itemsize, 1)
    hopper = number(text, "versionMajor") == 3
    width = numbers(text, "instrShape")[1] if hopper else 8
    kk, i, j = counter(), counter(), counter()
    times = (max(event.depth // depth, 1) * event.batch, max(event.m // (_ROWS * down), 1), max(event.n // (width * right), 1))
    sums = Access(accumulators(times[1] * times[2]), (i * times[2] + j,))
    work = Work("mma", DTYPES[event.dtype], _INTEGER(_ROWS * width * depth))
    body: list[Node] = []
    if hopper and event.left is not None:
        row = i * _ROWS * down + Mod(WARP_INDEX, _INTEGER(down)) * _ROWS + Mod(LANE, _INTEGER(_ROWS))
        at = [row, kk * depth + FloorDiv(LANE, _INTEGER(_ROWS)) * (depth // 2)]
        operand = _operand(buffers[event.left.name], event.left, at, depth // 2, aliases)
        body.append(Statement(f"{name}, left operand", (operand,), asynchronous=True))
    inner: list[Node] = []
    if hopper and event.right is not None:
        inner += _right(event.right, name, buffers, kk, j, width, depth, counter, aliases)
    inner.append(Statement(name, (sums,), (sums,), (work,), asynchronous=hopper))
    if times[2] > 1:
        body.append(Loop(j, _INTEGER(times[2]), "serial", tuple(inner), 0, _INTEGER(times[2])))
    else:
        body += inner
    nodes: tuple[Node, ...] = tuple(_fixed(n, {j: _INTEGER(0)}) for n in body) if times[2] == 1 else tuple(body)
    for symbol, extent in ((i, times[1]), (kk, times[0])):
        nodes = (Loop(symbol, _INTEGER(extent), "serial", nodes, 0, _INTEGER(extent)),)
    return nodes


def _right(
    tile: Tile, name: str, buffers: Mapping[str, Buffer], kk: sympy.Symbol, j: sympy.Symbol, width: int, depth: int,
    counter: Callable[[], sympy.Symbol], aliases: Mapping[str, str],
) -> list[Node]:  # fmt: skip
    """The right operand of `wgmma`, a quarter of it for each of four warps."""
    n = counter()
    eighths = depth // 4
    quarter = Mod(WARP_INDEX, _INTEGER(4))
    if _swizzle(tile, aliases).fast == len(tile.tensor.shape) - 1:
        at = [kk * depth + FloorDiv(LANE, _INTEGER(2)), j * width + n * 32 + quarter * 8 + Mod(LANE, _INTEGER(2)) * 4]
        elements = 4
    else:
        row = j * width + n * 32 + quarter * 8 + Mod(LANE, _INTEGER(8))
        at = [kk * depth + FloorDiv(LANE, _INTEGER(8)) * eighths, row]
        elements = eighths
    operand = _operand(buffers[tile.name], tile, at, elements, aliases)
    times = max(width // 32, 1)
    return [
        Loop(
            n,
            _INTEGER(times),
            "serial",
            (Statement(f"{name}, right operand", (operand,), asynchronous=True),),
            0,
            _INTEGER(times),
        )
    ]


def _operand(into: Buffer, tile: Tile, at: list[sympy.Expr], width: int, aliases: Mapping[str, str]) -> Access:
    """The operand's access, wrapped where its tile is smaller than what the instruction covers."""
    shape = tile.tensor.shape[-2:]
    lead = [_INTEGER(0)] * (len(tile.tensor.shape) - 2)
    found = _at(into, tile, [*lead, *at], width, aliases)
    assert len(shape) == 2
    return found


def _fixed(node: Node, by: Mapping[sympy.Symbol, sympy.Expr]) -> Node:
    """The node without a loop of one step."""
    if isinstance(node, Loop):
        return Loop(
            node.index, node.extent, node.kind, tuple(_fixed(n, by) for n in node.body), node.axis, node.unroll, node.stages
        )
    if isinstance(node, Statement):
        loads = tuple(Access(a.buffer, tuple(e.xreplace(dict(by)) for e in a.index), a.width, a.cached) for a in node.loads)
        stores = tuple(Access(a.buffer, tuple(e.xreplace(dict(by)) for e in a.index), a.width, a.cached) for a in node.stores)
        return Statement(node.name, loads, stores, node.work, node.asynchronous, node.atomic)
    return node
