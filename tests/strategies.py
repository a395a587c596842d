"""Random kernels, described through the public builder, together with sizes they are valid for.

A `Case` is a traced kernel and the values of its parameters. Every extent, stride, tile and limit is either a literal
or a symbolic parameter of the description. Accesses stay inside their buffers and vector accesses are aligned, as in
real code; `tests/oracle.py` checks both.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import reduce
from operator import mul
from typing import Any

import sympy
from hypothesis import strategies as st

from costmodel import kernel
from costmodel.dtypes import DType, f16, f32, f64, i8
from costmodel.ir import Expr, Kernel, ceil_div, loop_nest_graph, maximum, minimum
from costmodel.symbols import CeilDiv, FloorDiv, Maximum, Minimum, Mod, index, quotient, size, to_text
from tests.oracle import count, evaluate, holds

__all__ = ["Case", "expressions", "kernels", "other_sizes"]

POOL = tuple(f"N{n}" for n in range(16))
BLOCK_SHAPES = (
    (32,), (8,), (4, 8), (8, 4), (16, 2), (64,), (2, 3, 4), (5,), (7, 3), (40,), (4, 4, 4), (33, 2), (1, 32), (6, 8, 1), (3, 1, 11),
)  # fmt: skip
LIMITS = (300, 600, 1_000, 1_000, 1_000, 3_000, 3_000, 20_000)
"""Thread-iterations of a kernel."""
DEPTH = 5
"""Serial loops inside each other."""


@dataclass(frozen=True)
class Case:
    """A kernel and sizes that it is valid for."""

    kernel: Kernel
    sizes: dict[str, int]

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))  # hypothesis would print every field of every node

    def __repr__(self) -> str:
        lines = [f"Case {self.sizes}"]
        lines += [f"  require {to_text(a)} {op} {to_text(b)}" for op, a, b in self.kernel.requirements]
        for b in self.kernel.buffers:
            shape, strides = (", ".join(to_text(e) for e in part) for part in (b.shape, b.strides))
            lines.append(f"  {b.space} {b.name}[{shape}] {b.dtype}, strides {strides}")
        graph = loop_nest_graph(self.kernel)
        stack: list[tuple[Any, int]] = [(("kernel", self.kernel.name), 1)]
        while stack:
            node, depth = stack.pop()
            edges = [e for *_, e in (*graph.in_edges(node, data=True), *graph.out_edges(node, data=True))]
            accesses = "".join(
                f"; {e['kind']} {e['label']} ×{to_text(e['access'].width)}" for e in edges if e["kind"] != "contains"
            )
            lines.append(f"{'  ' * depth}{graph.nodes[node]['label']}{accesses}")
            children = [c for _, c, e in graph.out_edges(node, data=True) if e["kind"] == "contains"]
            stack += [(c, depth + 1) for c in reversed(children)]
        return "\n".join(lines)


@dataclass(frozen=True)
class Variable:
    """Something an index can be made of, with the values it takes at the drawn sizes."""

    value: Any
    low: int
    high: int
    extent: Any = None
    """Number of values, where they are 0, 1, … in every thread of every block."""
    on: frozenset[str] = frozenset()
    """block and thread, where it depends on their indices."""

    @property
    def derived(self) -> bool:
        """Whether it is a quotient or a remainder of a loop index."""
        return isinstance(self.value, Expr) and self.value.expression.has(FloorDiv, Mod)


BLOCK, THREAD = frozenset({"block"}), frozenset({"thread"})


@dataclass(frozen=True)
class GridAxis:
    """One extent of the grid; with `total`, it covers so many elements by tiles of a thread axis."""

    extent: Any
    count: int
    axis: int = 0
    total: tuple[Any, int] | None = None


@st.composite
def kernels(draw: st.DrawFn, *, small: bool = False) -> Case:
    """A random kernel with sizes."""
    sizes: dict[str, int] = {}

    def description(k: Any, **pool: Any) -> None:
        _Writer(draw, k, pool, sizes).write(LIMITS[:3] if small else LIMITS)

    # the description declares a pool of parameters; those it does not use are dropped afterwards
    parameters = [inspect.Parameter("k", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    parameters += [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in POOL]
    description.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    traced = kernel(description, name="generated").trace()
    return Case(replace(traced, params=tuple(n for n in POOL if n in sizes)), sizes)


class _Writer:
    """Draws one kernel while it is traced."""

    def __init__(self, draw: Any, k: Any, pool: dict[str, Any], sizes: dict[str, int]) -> None:
        self.draw, self.k, self.pool, self.sizes = draw, k, pool, sizes
        self.guard_depth = 0
        self.buffers = 0
        self.statements = 0
        self.whole_warps = False
        self.symbolic = self.pick([0, 2, 2, 3])

    # -- drawing

    def pick(self, options: Sequence[Any]) -> Any:
        return self.draw(st.sampled_from(options))

    def number(self, low: int, high: int) -> int:
        return int(self.draw(st.integers(low, max(low, high))))

    def chance(self, percent: int) -> bool:
        return self.number(0, 99) >= 100 - percent

    def some(self, options: Sequence[Any], most: int) -> list[Any]:
        """One to `most` of the options, in any order."""
        order = list(options)
        return [order.pop(self.number(0, len(order) - 1)) for _ in range(min(len(order), self.number(1, most)))]

    def size(self, value: int) -> Any:
        """A literal, a new parameter of this value, or one that has it already."""
        how = self.number(0, 3)
        if value < 1 or how < 4 - self.symbolic:
            return value
        same = [n for n, v in self.sizes.items() if v == value]
        unused = [n for n in POOL if n not in self.sizes]
        if same and (how == 2 or not unused):
            return self.pool[same[0]]
        if not unused:
            return value
        self.sizes[unused[0]] = value
        return self.pool[unused[0]]

    # -- grid and block

    def write(self, limits: Sequence[int]) -> None:
        limit = self.pick(limits)
        shape = self.pick(BLOCK_SHAPES) if self.chance(70) else tuple(self.number(1, 6) for _ in range(self.number(1, 3)))
        threads = reduce(mul, shape)
        self.whole_warps = threads % 32 == 0
        extents = [self.size(n) for n in shape]
        grid = self.grid(shape, extents, min(24, max(1, limit // threads // 2)))
        scope: list[Variable] = []
        with ExitStack() as nest:
            blocks: Any = ()
            if grid:
                blocks = nest.enter_context(self.k.blocks(*(g.extent for g in grid)))
                blocks = blocks if isinstance(blocks, tuple) else (blocks,)
            lanes: Any = nest.enter_context(self.k.threads(*extents))
            lanes = lanes if isinstance(lanes, tuple) else (lanes,)
            scope += [Variable(b, 0, g.count - 1, g.extent, BLOCK) for b, g in zip(blocks, grid, strict=True)]
            scope += [Variable(t, 0, n - 1, e, THREAD) for t, n, e in zip(lanes, shape, extents, strict=True)]
            if len(grid) == 1 and self.chance(40):
                scope += self.swizzled(blocks[0], grid[0])
            if self.chance(30):
                scope += self.remapped(lanes, extents, threads)
            for b, g in zip(blocks, grid, strict=True):
                if g.total is not None:  # block · tile + thread < N, as a kernel for any N has it
                    element = b * extents[g.axis] + lanes[g.axis]
                    nest.enter_context(self.k.when(element < g.total[0]))
                    self.guard_depth += 1
                    scope.append(Variable(element, 0, g.total[1] - 1, g.total[0], BLOCK | THREAD))
            launched = threads * reduce(mul, (g.count for g in grid), 1)
            self.body(scope, max(1, limit // launched), DEPTH)

    def grid(self, shape: tuple[int, ...], extents: list[Any], limit: int) -> list[GridAxis]:
        axes: list[GridAxis] = []
        for _ in range(self.number(0, 3)):
            blocks = self.number(1, min(5, limit))
            limit //= blocks
            axis = self.number(0, len(shape) - 1)
            tile = shape[axis]
            form = self.pick(["count", "count", "exact", "exact", "guarded", "guarded"])
            if form == "count":
                axes.append(GridAxis(self.size(blocks), blocks))
            elif form == "exact":
                total = self.size(blocks * tile)
                self.k.require(total % extents[axis] == 0)
                axes.append(GridAxis(total // extents[axis], blocks))
            else:
                value = blocks * tile - self.number(0, tile - 1)
                total = self.size(value)
                axes.append(GridAxis(ceil_div(total, extents[axis]), blocks, axis, (total, value)))
        return axes

    def swizzled(self, pid: Any, grid: GridAxis) -> Iterator[Variable]:
        """Coordinates of a tile that are made from a linear block id."""
        group = self.number(1, grid.count)
        g = self.size(group)
        whole = grid.count % group == 0 and grid.total is None
        if whole:
            self.k.require(grid.extent % g == 0)
        yield Variable(pid % g, 0, min(group, grid.count) - 1, g, BLOCK)
        yield Variable(pid // g, 0, (grid.count - 1) // group, grid.extent // g if whole else None, BLOCK)
        inner = self.pick([d for d in range(1, group + 1) if group % d == 0])
        if whole and 1 < inner < group:  # groups of `inner` rows, as Triton's GEMM walks its tiles
            rows = self.size(inner)
            self.k.require(g % rows == 0)
            yield Variable((pid % g) // rows, 0, group // inner - 1, g // rows, BLOCK)
            yield Variable((pid // g) * rows + pid % rows, 0, grid.count // group * inner - 1, None, BLOCK)

    def remapped(self, lanes: Sequence[Any], extents: list[Any], threads: int) -> Iterator[Variable]:
        """The linear thread id as a block of another shape."""
        linear, stride = lanes[0], extents[0]
        for lane, extent in zip(lanes[1:], extents[1:], strict=True):
            linear, stride = linear + lane * stride, stride * extent
        divisors = [d for d in range(1, threads + 1) if threads % d == 0]
        across = self.pick(divisors) if self.chance(80) else self.number(1, threads)
        d = self.size(across)
        whole = threads % across == 0
        if whole:
            self.k.require(stride % d == 0)
        yield Variable(linear, 0, threads - 1, stride, THREAD)
        yield Variable(linear % d, 0, min(across, threads) - 1, d, THREAD)
        yield Variable(linear // d, 0, (threads - 1) // across, stride // d if whole else ceil_div(stride, d), THREAD)

    # -- the body

    def body(self, scope: list[Variable], budget: int, depth: int) -> None:
        for _ in range(1 + self.chance(25)):
            what = self.number(0, 9)
            if what >= 5 and depth and budget > 1:
                self.loop(scope, budget, depth)
            elif what >= 3 and self.guard_depth < 3:
                self.guard(scope, budget, depth)
            else:
                self.statement(scope)

    def loop(self, scope: list[Variable], budget: int, depth: int) -> None:
        outer = [v for v in scope if "thread" not in v.on and v.low < v.high < budget]
        outer = outer if self.chance(6) else [v for v in outer if not v.derived]
        form = self.pick(["plain"] * 5 + ["start", "tiles", "covered"] + (["up", "down", "from", "below"] if outer else []))
        v = self.pick(outer) if form in ("up", "down", "from", "below") else None
        start: Any = 0
        low, trips, extent, on = 0, self.number(1, min(8, budget)), None, frozenset[str]()
        rectangular = False
        if v is not None:
            last = v.high + self.number(0, 1)
            trips = max(1, {"up": v.high + 1, "down": last + 1 - v.low, "from": last + 1 - v.low, "below": v.high}[form])
            n = None if form in ("up", "below") else self.size(last + 1)
            extent = {"up": v.value + 1, "below": v.value}.get(form) if n is None else n - v.value
            if form == "from":
                start, low, on = v.value, v.low, v.on
                trips = last + 1 - v.low
        elif form in ("tiles", "covered"):
            tile = self.number(2, 4)
            total, t = self.size(trips * tile - (self.number(0, tile - 1) if form == "covered" else 0)), self.size(tile)
            if form == "tiles":
                self.k.require(total % t == 0)
            extent, rectangular = total // t if form == "tiles" else ceil_div(total, t), True
        else:
            extent, rectangular = self.size(trips), form == "plain"
            if form == "start":
                low = self.number(1, 3)
                start = self.size(low)
        if self.chance(20):
            loop = self.k.unrolled(extent, self.pick(["i", "j", "q"]), start=start)
        else:
            loop = self.k.serial(
                extent, self.pick(["i", "j", "q"]), start=start, unroll=self.pick([1, 1, 2]), stages=self.pick([1, 1, 2])
            )
        with loop as i:
            inner = Variable(i, low, low + trips - 1, extent if rectangular else None, on)
            self.body([*scope, inner], max(1, budget // trips), depth - 1)
            if self.guard_depth == 0 and self.chance(10):
                self.k.barrier()

    def guard(self, scope: list[Variable], budget: int, depth: int) -> None:
        conditions = [self.condition(scope) for _ in range(1 + self.chance(30))]
        self.guard_depth += 1
        with self.k.when(*conditions):
            self.body(scope, budget, depth)
        self.guard_depth -= 1

    def condition(self, scope: list[Variable]) -> Any:
        if self.chance(4):  # on sizes alone
            return self.size(self.number(1, 4)) <= self.size(self.number(1, 4))
        # conditions on pid % G or t // D are rare, and rarer together with others
        chosen = self.some(scope if self.chance(6) else [v for v in scope if not v.derived], 2)
        v = chosen[0]
        value, low, high = v.value, v.low, v.high
        form = self.pick(["limit"] * 4 + ["sum", "weighted", "pair"]) if len(chosen) == 2 else "limit"
        other = chosen[-1]
        if form == "pair":
            return value <= other.value if self.chance(50) else other.value < value
        if form != "limit":
            weight = 1 if form == "sum" else self.number(1, other.high + 1)
            value = value * self.size(weight) + other.value
            low, high = low * weight + other.low, high * weight + other.high
        op = self.pick(["<", "<", "<", "<=", ">=", ">", "==", "!="])
        first = {"<": 1, ">": -1}.get(op, 0)  # from here to `last` some value passes
        last = first + (1 if op == ">=" and self.chance(8) else 0)
        if self.chance(8):
            first -= 1
        limit = self.size(self.number(max(0, low + first), max(0, high + last)))
        compare: dict[str, Callable[[], Any]] = {
            "<": lambda: value < limit,
            "<=": lambda: value <= limit,
            ">": lambda: value > limit,
            ">=": lambda: value >= limit,
            "==": lambda: value == limit,
            "!=": lambda: value != limit,
        }
        return compare[op]()

    # -- statements and accesses

    def statement(self, scope: list[Variable]) -> None:
        form = self.pick(["load", "update", "copy", "shared", "stage", "compute"])
        name = f"s{self.statements}"
        self.statements += 1
        dtype = self.pick([f32, f32, f32, f64, f16, i8])
        if form == "load":
            loads = self.accesses(scope, "global", dtype)
            self.k.do(name, loads=loads, work=self.k.fma(f32, self.size(self.number(1, 3))))
        elif form == "update":
            loads = self.accesses(scope, "global", dtype)
            self.k.do(name, loads=loads, stores=loads[0], atomic=self.chance(20), work=self.k.add(dtype))
        elif form == "copy":
            self.k.do(name, loads=self.accesses(scope, "global", dtype)[0], stores=self.accesses(scope, "global", dtype)[0])
        elif form == "stage":
            source, target = self.accesses(scope, "global", dtype)[0], self.accesses(scope, "shared", dtype)[0]
            self.k.do(name, loads=source, stores=target, asynchronous=self.chance(40))
        elif form == "shared":
            loads = [*self.accesses(scope, "shared", dtype), *(self.accesses(scope, "constant", f32) if self.chance(20) else [])]
            self.k.do(
                name, loads=loads, stores=loads[0] if self.chance(30) else (), work=[self.k.special(f32), self.k.integer(i8, 2)]
            )
        else:
            mma = self.whole_warps and self.guard_depth == 0
            work = self.k.mma(16, 8, self.size(8), f16) if mma else self.k.convert(f16, self.size(self.number(1, 4)))
            self.k.do(name, loads=self.accesses(scope, "register", dtype), work=[work, self.k.fma(f32)])

    def accesses(self, scope: list[Variable], space: str, dtype: DType) -> list[Any]:
        """One to three accesses of one new buffer, at constant distances from each other."""
        inside = [v for v in scope if "block" not in v.on or space == "global"]
        width = self.pick([1, 1, 1, 2, 4, 8])
        dims = [self.dimension(inside) for _ in range(self.number(1, 3))]
        shifts = [[0] * len(dims)]
        if self.chance(25):
            shifts += [[self.number(0, 2) for _ in dims] for _ in range(self.number(1, 2))]
        reach = [max(column) for column in zip(*shifts, strict=True)]
        shape = [extent if extent is not None and not r and self.chance(60) else self.size(high + 1 + r)
                 for (_, high, extent), r in zip(dims, reach, strict=True)]  # fmt: skip
        w = self.size(width)
        shape[-1] = shape[-1] * w
        if space == "shared" and self.chance(40):
            shape[-1] = shape[-1] + self.size(self.number(1, 3)) * w
        options: dict[str, Any] = {}
        down = False
        if space == "global" and len(dims) == 2 and self.chance(15):
            down = width == 1 and self.chance(50)
            options["strides"] = (1, shape[0]) if down else (shape[1] + self.size(self.number(1, 3)) * w, 1)
        declare = {"global": self.k.buffer, "shared": self.k.shared, "register": self.k.register, "constant": self.k.constant}[
            space
        ]
        array = declare(f"a{self.buffers}", tuple(shape), dtype, **options)
        self.buffers += 1
        out = []
        for shift in shifts:
            place = [e + s for (e, _, _), s in zip(dims, shift, strict=True)]
            reference = array[(*place[:-1], place[-1] * w)]
            out.append(reference.wide(w) if width > 1 or (not down and self.chance(10)) else reference)
        return [out[0].uncached(), *out[1:]] if space == "global" and self.chance(5) else out

    def dimension(self, scope: list[Variable]) -> tuple[Any, int, Any]:
        """An index, its largest value, and an expression for the extent where there is a natural one."""
        form = self.pick(
            ["radix"] * 6 + ["affine"] * 4 + ["one"] * 3 + ["reversed"] * 2 + ["constant", "wrapped", "halved", "clamped"]
        )
        boxes = [v for v in scope if v.extent is not None]
        if form in ("radix", "reversed") and boxes:
            value, top, total = self.radix(boxes)
            return (total - 1 - value if form == "reversed" else value), top, total
        if form == "constant" or not scope:
            at = self.number(0, 2)
            return at, at, None
        v = self.pick(scope)
        if form == "one":
            return v.value, v.high, v.extent
        if form == "wrapped":
            value, _, high = self.affine(scope)
            around = self.number(1, high + 1)
            m = self.size(around)
            return value % m, around - 1, m
        if form == "halved":
            by = self.number(2, 3)
            return v.value // self.size(by), v.high // by, None
        if form == "clamped":
            at = self.number(v.low, v.high)
            limit = self.size(at)
            return (minimum(v.value, limit), at, None) if self.chance(50) else (maximum(v.value, limit), v.high, None)
        value, _, high = self.affine(scope)
        return value, high, None

    def radix(self, boxes: list[Variable]) -> tuple[Any, int, Any]:
        """A dense index over some rectangular loops: block · tile + thread, and the like."""
        value: Any = 0
        stride: Any = 1
        whole = 1
        for v in self.some(boxes, 3):
            value = value + v.value * stride
            stride = stride * v.extent
            whole *= v.high + 1
        return value, whole - 1, stride

    def affine(self, scope: list[Variable]) -> tuple[Any, int, int]:
        """A sum with small factors of either sign, shifted so that it is never negative."""
        value: Any = 0
        low = high = 0
        for v in self.some(scope, 3):
            factor = self.pick([1, 1, 1, 2, 3, 5, -1, -2])
            value = value + v.value * (self.size(factor) if factor > 1 else factor)
            ends = sorted((factor * v.low, factor * v.high))
            low, high = low + ends[0], high + ends[1]
        shift = self.number(0, 1) - low
        return value + self.size(shift), 0, high + shift


def other_sizes(case: Case, most: int = 3, limit: int = 3_000) -> list[dict[str, int]]:
    """Up to `most` sizes near those of the case for which the kernel is valid as well."""
    found: list[dict[str, int]] = []
    for name, value in case.sizes.items():
        for changed in (value * 2, value + 1, value - 1):
            sizes = {**case.sizes, name: changed}
            if len(found) == most or changed < 1 or not all(holds(c, sizes) for c in case.kernel.requirements):
                continue
            try:
                count(case.kernel, sizes, limit=limit)
            except (AssertionError, ArithmeticError):
                continue
            found.append(sizes)
    return found


# --- expressions -----------------------------------------------------------------------------------------

SIZES = ("M", "N", "K", "BM", "T")
INDICES = ("i", "j")


@st.composite
def expressions(draw: st.DrawFn, *, largest: int = 40, quotients: bool = True) -> tuple[sympy.Expr, dict[str, int]]:
    """An integer expression in sizes and indices, and values for its symbols."""
    env = {n: draw(st.integers(1, largest)) for n in SIZES} | {n: draw(st.integers(0, largest)) for n in INDICES}
    symbols = [size(n) for n in SIZES] + [index(n) for n in INDICES]

    def positive() -> sympy.Expr:
        s = draw(st.sampled_from(symbols[: len(SIZES)]))
        return draw(st.sampled_from([s, s + 1, s * symbols[0], sympy.Integer(draw(st.integers(1, 9)))]))

    def term(depth: int) -> sympy.Expr:
        what = draw(st.integers(0, 10)) if depth else draw(st.integers(0, 1))
        if what == 0:
            return draw(st.sampled_from(symbols))
        if what == 1:
            return sympy.Integer(draw(st.integers(-12, 12)))
        a = term(depth - 1)
        if what == 2:
            return a ** draw(st.integers(2, 3))
        if what == 3:
            return FloorDiv(a, positive())
        if what == 4:
            return CeilDiv(a, positive())
        if what == 5:
            return Mod(a, positive())
        if what == 6 and quotients:
            divisors = [d for d in range(1, 13) if evaluate(a, env) % d == 0]
            name = f"D{len(env)}"
            env[name] = draw(st.sampled_from(divisors))
            return quotient(a, size(name))
        b = term(depth - 1)
        choices = {7: lambda: Minimum(a, b), 8: lambda: Maximum(a, b), 9: lambda: a - b, 10: lambda: a * b}
        return choices.get(what, lambda: a + b)()

    return term(draw(st.integers(0, 4))), env
