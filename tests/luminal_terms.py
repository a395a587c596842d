"""Programs in luminal's loop language as nested tuples, their text, and what they compute, one element at a time.

The interpreter shares nothing with the front end: it follows a pointer through the loops for each element that is asked for, and
notes which elements of global memory it read. Fixtures are our own, in the shapes that luminal's translation writes.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

Z = ("MVar", "z")


def number(n: Any) -> Any:
    return ("MNum", n) if isinstance(n, int) else n


def times(n: Any) -> Any:
    """The stride of so many elements."""
    return {0: ("MNum", 0), 1: Z}.get(n, ("MMul", Z, number(n))) if isinstance(n, int) else ("MMul", Z, n)


def accum(name: str = "a") -> Any:
    return ("MAccum", name)


def _stride(given: Any) -> Any:
    return times(given) if isinstance(given, int) else given


def enter(term: Any, *levels: tuple[str, Any, Any]) -> Any:
    """Through loops from the outermost inwards: label, extent, stride (a number of elements, or an expression)."""
    for label, extent, stride in levels:
        term = ("LoopIn", term, ("Loop", label, number(extent)), _stride(stride))
    return term


def leave(term: Any, *levels: tuple[str, Any, Any]) -> Any:
    """Out of loops; levels from the outermost inwards too, so that both read alike."""
    for label, extent, stride in reversed(levels):
        term = ("LoopOut", term, ("Loop", label, number(extent)), _stride(stride))
    return term


def gmem(label: str) -> Any:
    return ("GMEM", label)


def text(term: Any) -> str:
    """As an S-expression."""
    if isinstance(term, tuple):
        quoted = [f'"{a}"' if isinstance(a, str) else text(a) for a in term[1:]]
        return f"({' '.join([term[0], *quoted])})"
    return str(term)


class Interpreter:
    """Computes programs on flat lists of numbers."""

    def __init__(self, memory: dict[str, Any], sizes: dict[str, int] | None = None, grid: int = 2, block: int = 2) -> None:
        self.memory, self.sizes, self.grid, self.parallel = memory, sizes or {}, grid, grid + block
        self.reads: dict[str, Counter[int]] = {}
        """How often each element was read, of each array."""
        self._results: dict[Any, dict[int, float]] = {}
        """Of loops inside others, by their places; what a sum has reached is none of them."""

    def run(self, term: Any) -> dict[int, float]:
        """The elements of the result by their offsets."""
        self.extents = self._extents(term)
        out: dict[int, float] = {}
        self._fill(term, (), out, 0)
        return out

    def _extents(self, term: Any) -> list[int]:
        found = []
        while term[0] == "LoopOut":
            found.append(self.expression(term[2][2], None))
            term = term[1]
        return found

    def _fill(self, term: Any, path: tuple[Any, ...], out: dict[int, float], base: int) -> None:
        if term[0] == "FusedLoops":
            return self._fill(term[1], path, out, base)
        if term[0] == "TCMatmul":
            return self._tiles(term, path, out, base)
        if term[0] != "LoopOut":
            out[base] = self._scalar(term, path)
            return None
        extent = self.expression(term[2][2], None)
        if term[3][0] != "MAccum":
            for i in range(extent):
                self._fill(term[1], (*path, (i, None)), out, base + self.expression(term[3], i))
            return None
        state: dict[int, float] = {}
        for i in range(extent):
            turn: dict[int, float] = {}
            self._fill(term[1], (*path, (i, state)), turn, 0)
            state.update(turn)
        out.update({base + offset: value for offset, value in state.items()})
        return None

    def _place(self, term: Any, path: tuple[Any, ...]) -> tuple[Any, int]:
        """An array (a label, or elements by offset, or a function) and an offset in it; a scalar has none."""
        op = term[0]
        if op == "GMEM":
            assert not path
            return term[1], 0
        if op == "LoopIn":
            (i, state), outer = path[-1], path[:-1]
            if term[3][0] == "MAccum":
                start, at = self._place(term[1], outer)
                return (lambda o: state[o] if o in state else self._read(start, at + o)), 0
            array, offset = self._place(term[1], outer)
            return array, offset + self.expression(term[3], i)
        if op == "FusedLoops":
            return self._place(term[1], path)
        if op == "LoopOut":
            key = (id(term), tuple(i for i, _ in path))
            if key not in self._results or any(state is not None for _, state in path):
                self._results[key] = {}
                self._fill(term, path, self._results[key], 0)
            return self._results[key], 0
        if op == "SMEMRead":
            return self._shared(term[2], path), self._smem_offset(term[1], path)
        if op == "SMEMLoad":
            return self._shared(term, path), self._smem_offset(term[1], path)
        value = self._scalar(term, path)
        return {0: value}, 0

    def _shared(self, load: Any, path: tuple[Any, ...]) -> dict[int, float]:
        """What all threads of the block bring."""
        brought = {}
        before, after = path[: self.grid], path[self.parallel :]
        for n in range(math.prod(self.extents[self.grid : self.parallel])):
            threads, rest = [], n
            for extent in self.extents[self.grid : self.parallel]:
                threads.append((rest % extent, None))
                rest //= extent
            there = (*before, *threads, *after)
            brought[self._smem_offset(load[1], there)] = self._scalar(load[2], there)
        return brought

    def _smem_offset(self, term: Any, path: tuple[Any, ...]) -> int:
        offset = 0
        while term[0] == "LoopIn":
            offset += self.expression(term[3], path[-1][0])
            term, path = term[1], path[:-1]
        assert term == ("SMEM",)
        return offset

    def _tiles(self, term: Any, path: tuple[Any, ...], out: dict[int, float], base: int) -> None:
        """A whole warp's product, once for each thread's place in the loops (the places coincide)."""
        (a, at_a), (b, at_b) = self._place(term[1], path), self._place(term[2], path)
        rows = [self.expression(e, 1) for e in term[5:8]]
        for m in range(8):
            for n in range(8):
                total = 0.0
                for k in range(self.expression(term[8], None)):
                    for x in range(8):
                        left = at_a + self.expression(term[3], k) + m * rows[0] + x
                        right = at_b + self.expression(term[4], k) + x * rows[1] + n
                        total += self._read(a, left) * self._read(b, right)
                out[base + m * rows[2] + n] = total

    def _read(self, array: Any, offset: int) -> Any:
        if isinstance(array, str):
            self.reads.setdefault(array, Counter())[offset] += 1
            return float(self.memory[array][offset])
        return array(offset) if callable(array) else array[offset]

    def _scalar(self, term: Any, path: tuple[Any, ...]) -> Any:
        op, operands = term[0], term[1:]
        if op in ("Unary", "Binary"):
            op, operands = term[1], term[2:]
        if op in _FUNCTIONS:
            return _FUNCTIONS[op](*(self._scalar(t, path) for t in operands))
        return self._read(*self._place(term, path))

    def expression(self, e: Any, z: int | None) -> Any:
        if e[0] == "MNum":
            return e[1]
        if e[0] == "MVar":
            return z if e[1] == "z" else self.sizes[e[1]]
        return _INTEGERS[e[0]](*(self.expression(a, z) for a in e[1:]))


_FUNCTIONS: dict[str, Any] = {
    "Exp2": lambda a: 2.0**a,
    "Log2": math.log2,
    "Sqrt": math.sqrt,
    "Sin": math.sin,
    "Recip": lambda a: 1 / a,
    "Neg": lambda a: -a,
    "Add": lambda a, b: a + b,
    "Mul": lambda a, b: a * b,
    "Max": max,
    "Mod": math.fmod,
    "LessThan": lambda a, b: float(a < b),
}
_INTEGERS: dict[str, Any] = {
    "MAdd": lambda a, b: a + b,
    "MSub": lambda a, b: a - b,
    "MMul": lambda a, b: a * b,
    "MDiv": lambda a, b: int(a / b),
    "MMod": lambda a, b: int(math.fmod(a, b)),
    "MMin": min,
    "MMax": max,
    "MGte": lambda a, b: int(a >= b),
    "MLt": lambda a, b: int(a < b),
    "MAnd": lambda a, b: int(a != 0 and b != 0),
    "MOr": lambda a, b: int(a != 0 or b != 0),
    "MFloorTo": lambda a, b: int(a / b) * b,
}

# --- programs --------------------------------------------------------------------------------------

PADS = (("pad1", 1, 0), ("pad2", 1, 0))


def matmul(m: Any, n: Any, k: Any) -> Any:
    """C[m, n] = Σ A[m, k]·B[k, n], one element for each block, as luminal begins."""
    a = enter(gmem("A"), ("m", m, times(k)), ("n", n, 0), *PADS, ("k", k, 1))
    b = enter(gmem("B"), ("m", m, 0), ("n", n, 1), *PADS, ("k", k, times(n)))
    acc = enter(gmem("acc_0"), ("m", m, 0), ("n", n, 0), *PADS, ("k", k, accum()))
    return leave(("Add", ("Mul", a, b), acc), ("m", m, times(n)), ("n", n, 1), *PADS, ("k", k, accum()))


def tiled_matmul(m: int, n: int, k: int, t: int = 8) -> Any:
    """The same, blocks of t × t threads, k in tiles with an accumulator for each of the two loops; x runs along rows."""
    a = enter(gmem("A"), ("m", m // t, k * t), ("n", n // t, 0), ("tn", t, 0), ("tm", t, k), ("k", k // t, t), ("tk", t, 1))
    b = enter(gmem("B"), ("m", m // t, 0), ("n", n // t, t), ("tn", t, 1), ("tm", t, 0), ("k", k // t, n * t), ("tk", t, n))
    acc = enter(gmem("acc_0"), ("m", m // t, 0), ("n", n // t, 0), ("tn", t, 0), ("tm", t, 0))
    acc = enter(acc, ("k", k // t, accum("b")), ("tk", t, accum("a")))
    out = (("m", m // t, n * t), ("n", n // t, t), ("tn", t, 1), ("tm", t, n), ("k", k // t, accum("b")), ("tk", t, accum("a")))
    return leave(("Add", ("Mul", a, b), acc), *out)


def register_tiled_matmul(m: int, n: int, k: int, t: int, r: int, c: int) -> Any:
    """C[m, n] again, blocks of t × t threads with r × c elements each; x runs along rows, neighbours next to each other."""
    out = (("m", m // (t * r), t * r * n), ("n", n // (t * c), t * c), ("tn", t, 1), ("tm", t, n))
    tile = (("r", r, t * n), ("c", c, t))
    a = enter(gmem("A"), ("m", m // (t * r), t * r * k), ("n", n // (t * c), 0), ("tn", t, 0), ("tm", t, k), ("k", k, 1))
    b = enter(gmem("B"), ("m", m // (t * r), 0), ("n", n // (t * c), t * c), ("tn", t, 1), ("tm", t, 0), ("k", k, n))
    product = ("Mul", enter(a, ("r", r, t * k), ("c", c, 0)), enter(b, ("r", r, 0), ("c", c, t)))
    acc = enter(gmem("acc_0"), *((label, extent, 0) for label, extent, _ in out), ("k", k, accum()), *tile)
    return leave(("Add", product, acc), *out, ("k", k, accum()), *tile)


def shared_matmul(m: int, n: int, k: int, t: int = 8, pad: int = 0) -> Any:
    """The same through shared memory."""
    p = t + pad
    block = (("m", m // t, 0), ("n", n // t, 0))
    a = enter(gmem("A"), ("m", m // t, k * t), ("n", n // t, 0), ("tn", t, 1), ("tm", t, k), ("k", k // t, t))
    b = enter(gmem("B"), ("m", m // t, 0), ("n", n // t, t), ("tn", t, 1), ("tm", t, n), ("k", k // t, n * t))
    step = ("k", k // t, 0)
    load_a = ("SMEMLoad", enter(("SMEM",), *block, ("tn", t, 1), ("tm", t, p), step), a)
    load_b = ("SMEMLoad", enter(("SMEM",), *block, ("tn", t, 1), ("tm", t, p), step), b)
    read_a = enter(("SMEMRead", enter(("SMEM",), *block, ("tn", t, 0), ("tm", t, p), step), load_a), ("tk", t, 1))
    read_b = enter(("SMEMRead", enter(("SMEM",), *block, ("tn", t, 1), ("tm", t, 0), step), load_b), ("tk", t, p))
    acc = enter(gmem("acc_0"), *block, ("tn", t, 0), ("tm", t, 0), ("k", k // t, accum("b")), ("tk", t, accum("a")))
    out = (("m", m // t, n * t), ("n", n // t, t), ("tn", t, 1), ("tm", t, n), ("k", k // t, accum("b")), ("tk", t, accum("a")))
    return leave(("Add", ("Mul", read_a, read_b), acc), *out)


def tensor_matmul(m: int, n: int, k: int) -> Any:
    """The same by matrix instructions."""
    a = enter(gmem("A"), ("m", m // 8, k * 8), ("n", n // 8, 0), ("tm", 8, 0), ("tn", 4, 0))
    b = enter(gmem("B"), ("m", m // 8, 0), ("n", n // 8, 8), ("tm", 8, 0), ("tn", 4, 0))
    product = ("TCMatmul", a, b, times(8), times(n * 8), number(k), number(n), number(n), number(k // 8))
    return leave(product, ("m", m // 8, n * 8), ("n", n // 8, 8), ("tm", 8, 0), ("tn", 4, 0))


def row_sum(m: Any, n: Any, name: str = "A", operation: Any = None) -> Any:
    """s[m] = Σ A[m, n]."""
    source = enter(gmem(name), ("m", m, times(n)), ("p", 1, 0), *PADS, ("n", n, 1))
    acc = enter(gmem("acc_0"), ("m", m, 0), ("p", 1, 0), *PADS, ("n", n, accum()))
    added = operation(source) if operation else source
    return leave(("Add", added, acc), ("m", m, 1), ("p", 1, 1), ("pad1", 1, 1), ("pad2", 1, 1), ("n", n, accum()))


def column_sum(m: int, n: int) -> Any:
    """s[n] = Σ A[m, n] in one thread, whose accumulator is an array, as luminal reduces a first axis."""
    four = (*PADS, ("pad3", 1, 0), ("pad4", 1, 0))
    source = enter(gmem("A"), *four, ("m", m, n), ("n", n, 1))
    acc = enter(gmem("acc_0"), *four, ("m", m, accum()), ("n", n, 1))
    return leave(("Add", source, acc), *four, ("m", m, accum()), ("n", n, 1))


def normalised(m: int, n: int) -> Any:
    """2^A[m, n] / Σ 2^A[m, ·]: three kernels, the first of which two others read."""
    levels = (("m", m, n), ("n", n, 1))
    powers = leave(("Exp2", enter(gmem("A"), *levels)), *levels)
    source = enter(powers, ("m", m, n), ("p", 1, 0), *PADS, ("n", n, 1))
    acc = enter(gmem("acc_0"), ("m", m, 0), ("p", 1, 0), *PADS, ("n", n, accum()))
    sums = leave(("Add", source, acc), ("m", m, 1), ("p", 1, 1), ("pad1", 1, 1), ("pad2", 1, 1), ("n", n, accum()))
    each = enter(sums, ("m", m, 1), ("n", n, 0))
    return leave(("Mul", enter(powers, *levels), ("Recip", each)), *levels)
