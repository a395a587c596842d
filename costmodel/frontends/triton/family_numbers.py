"""A kernel taken apart: what is not a number, and the numbers in it; and put together again from other numbers.

Two configurations of a Triton kernel have the same skeleton where the compiler decided alike: the same statements, loops, arrays and
terms of every index. What differs then are numbers: extents, coefficients, divisors, widths, amounts. Signs and zeros belong to the
skeleton. So do divisors of thread indices under a test, whose passes are counted lane by lane.
Shared memory is what the arrays take, less one step of the rings where the compiler keeps one less, and the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import sympy

from costmodel.errors import UnsupportedError
from costmodel.frontends.triton.kernel import TritonKernel
from costmodel.ir import Access, Barrier, Buffer, Guard, Kernel, Loop, Node, Statement
from costmodel.ir.checks import finish
from costmodel.symbols import Condition, FloorDiv

__all__ = ["Numbers", "Role", "put_together", "taken_apart"]

Role = Literal["", "amount", "stages", "steps", "named", "scratch"]
"""What a number is: nothing special, operations, stages of a loop, rows of a ring of tiles, what an array is named by, shared bytes
beside the arrays."""
_Put = Callable[[Iterator[sympy.Expr]], sympy.Expr]
_Change = Callable[[sympy.Expr, Role, bool], sympy.Expr]
_NAMED = re.compile(r"(sums|values|exchanged_[a-z]+\d*)_(\d+)(_?)")


@dataclass(frozen=True, slots=True)
class Numbers:
    """A configuration's kernel, taken apart."""

    skeleton: Hashable
    values: tuple[int, ...]
    """In the order of the tree; the last is shared bytes beside the arrays."""
    roles: tuple[Role, ...]
    held_bytes: int
    """Of shared arrays; of configurations that were not compiled, no more than they hold."""
    exchanged_bytes: int
    """Of the largest tensor that changes its layout through shared memory; at least, of those that were not compiled."""


@dataclass(frozen=True, slots=True)
class _Opened:
    text: str
    values: tuple[int, ...]
    put: _Put


def taken_apart(known: TritonKernel) -> Numbers:
    """The skeleton and the numbers of a configuration."""
    texts: list[str] = []
    values: list[int] = []
    roles: list[Role] = []

    def note(e: sympy.Expr, role: Role, fixed: bool) -> sympy.Expr:
        opened = _opened(e, fixed)
        texts.append(opened.text)
        values.extend(opened.values)
        roles.extend([role] * len(opened.values))
        return sympy.Integer(1)

    tree = _mapped(replace(known.kernel, shared_bytes=None), note, _Names(known.kernel))
    held, step = _held(known.kernel)
    less = known.shared_bytes < held and known.shared_bytes >= held - step
    scratch = known.shared_bytes - held + (step if less else 0)
    values += [times for _, times in known.replicas] + [int(scratch)]
    roles += [""] * len(known.replicas) + ["scratch"]
    skeleton = (
        replace(tree, statics=()), tuple(texts), tuple(n for n, _ in known.replicas), known.notes, known.capability,
        (bool(less), _sign(int(scratch))),
    )  # fmt: skip
    exchanged = [int(b.size_bytes) for b in known.kernel.buffers if b.exchange and b.name.startswith("exchanged")]
    return Numbers(skeleton, tuple(values), tuple(roles), int(held), max(exchanged, default=0))


def put_together(
    pattern: TritonKernel, values: Sequence[sympy.Expr], params: Iterable[str] = ()
) -> tuple[Kernel, tuple[tuple[str, int], ...]]:
    """The kernel with other numbers, in the order of `Numbers.values`, and how many threads load the same element.

    Args:
        pattern: a configuration with the same skeleton.
        values: its numbers, or expressions of them.
        params: further sizes of the kernel.

    Raises:
        UnsupportedError: two arrays come to be one.
    """
    pattern_held, pattern_step = _held(pattern.kernel)
    less = bool(pattern.shared_bytes < pattern_held and pattern.shared_bytes >= pattern_held - pattern_step)
    rest = iter(values)

    def put(e: sympy.Expr, role: Role, fixed: bool) -> sympy.Expr:
        return _opened(e, fixed).put(rest)

    concrete = all(v.is_Integer for v in values)
    tree = _mapped(replace(pattern.kernel, shared_bytes=None), put, _Names(pattern.kernel, by_extent=concrete))
    replicas = tuple((name, next(rest)) for name, _ in pattern.replicas)
    held, step = _held(tree)
    kernel = replace(
        tree, params=(*tree.params, *params), statics=(), registers=None, shared_bytes=held - (step if less else 0) + next(rest)
    )
    return finish(kernel), tuple((n, int(v) if v.is_Integer else 1) for n, v in replicas)


def _held(kernel: Kernel) -> tuple[sympy.Expr, sympy.Expr]:
    """Bytes of all shared arrays, and of one step of the rings."""
    shared = [b for b in kernel.buffers if b.space == "shared"]
    rings = _rings(kernel)
    step = sum((FloorDiv(b.size_bytes, rings[b.name]) for b in shared if b.name in rings), sympy.Integer(0))
    return sum((b.reserved_bytes for b in shared), sympy.Integer(0)), step


def _rings(kernel: Kernel) -> dict[str, sympy.Expr]:
    """Arrays that copies fill ahead, and how many steps they hold."""
    found: dict[str, sympy.Expr] = {}

    def walk(nodes: Iterable[Node], stages: sympy.Expr) -> None:
        for node in nodes:
            if isinstance(node, Loop):
                walk(node.body, node.stages if node.stages != 1 else stages)
            elif isinstance(node, Guard):
                walk(node.body, stages)
            elif isinstance(node, Statement) and node.asynchronous and stages != 1:
                found.update({a.buffer.name: stages for a in node.stores if a.buffer.space == "shared"})

    walk(kernel.body, sympy.Integer(1))
    return found


# -- the tree


class _Names:
    """Names of arrays, those that have a number in it by their place instead, or by their extent again."""

    def __init__(self, kernel: Kernel, *, by_extent: bool = False) -> None:
        self.by_extent = by_extent
        self.stems: dict[str, str] = {}
        self.tails: dict[str, str] = {}
        self.order: dict[str, str] = {}
        for b in kernel.buffers:
            found = _NAMED.fullmatch(b.name) if b.space == "register" or b.exchange else None
            if found is not None and b.shape == (sympy.Integer(int(found.group(2))),):
                self.stems[b.name], self.tails[b.name] = found.group(1), found.group(3)
        taken = {b.name for b in kernel.buffers if b.name not in self.stems} | set(kernel.params)
        for name, stem in self.stems.items():
            number = 1
            while f"{stem}_{number}" in taken:
                number += 1
            taken.add(f"{stem}_{number}")
            self.order[name] = f"{stem}_{number}"

    def of(self, name: str, extent: sympy.Expr) -> str:
        if name not in self.stems:
            return name
        return f"{self.stems[name]}_{extent}{self.tails[name]}" if self.by_extent else self.order[name]


def _mapped(kernel: Kernel, change: _Change, names: _Names) -> Kernel:
    """The kernel with every expression changed, in one order."""
    rings = _rings(kernel)

    def each(e: sympy.Expr, role: Role = "") -> sympy.Expr:
        return change(e, role, False)

    def array(b: Buffer) -> Buffer:
        first: Role = "steps" if b.name in rings else "named" if b.name in names.stems else ""
        shape = (each(b.shape[0], first), *(each(n) for n in b.shape[1:]))
        return replace(b, name=names.of(b.name, shape[0]), shape=shape, strides=tuple(each(s) for s in b.strides))

    buffers = {b.name: array(b) for b in kernel.buffers}
    if len({b.name for b in buffers.values()}) < len(buffers):
        raise UnsupportedError(f"kernel {kernel.name}: with these numbers two of its arrays are one")

    def tests(conditions: Iterable[Condition]) -> tuple[Condition, ...]:
        return tuple((op, change(a, "", True), change(b, "", True)) for op, a, b in conditions)

    def accesses(found: Iterable[Access]) -> tuple[Access, ...]:
        return tuple(Access(buffers[a.buffer.name], tuple(each(i) for i in a.index), each(a.width), a.cached) for a in found)

    def node(n: Node) -> Node:
        match n:
            case Barrier():
                return n
            case Loop():
                extent, unroll, stages = each(n.extent), each(n.unroll), each(n.stages, "stages")
                return Loop(n.index, extent, n.kind, tuple(node(m) for m in n.body), n.axis, unroll, stages)
            case Guard():
                return Guard(tests(n.conditions), tuple(node(m) for m in n.body), n.fraction)
            case Statement():
                work = tuple(replace(w, amount=each(w.amount, "amount")) for w in n.work)
                return replace(n, loads=accesses(n.loads), stores=accesses(n.stores), work=work)

    body = tuple(node(n) for n in kernel.body)
    most = None if kernel.max_threads is None else each(kernel.max_threads)
    return Kernel(
        kernel.name, kernel.params, kernel.statics, tuple(buffers.values()), tests(kernel.requirements), body, most, None,
        kernel.shared_bytes,
    )  # fmt: skip


# -- expressions


@lru_cache(maxsize=1 << 14)
def _opened(e: sympy.Expr, fixed: bool) -> _Opened:
    """A sum of products with a number each, and a number beside them."""
    constant, terms = 0, list[tuple[str, tuple[int, ...], _Put]]()
    for term in sympy.Add.make_args(e):
        if term.is_Integer:
            constant += int(term)
            continue
        coefficient, rest = term.as_coeff_Mul()
        if not coefficient.is_Integer:
            raise UnsupportedError(f"expression {e}: {coefficient} is not a whole number")
        factors = sorted((_factor(f, fixed) for f in sympy.Mul.make_args(rest)), key=lambda f: (f.text, f.values))
        values = (int(coefficient), *(v for f in factors for v in f.values))
        text = _sign(int(coefficient)) + "*".join(f.text for f in factors)
        terms.append((text, values, _product([f.put for f in factors])))
    terms.sort(key=lambda t: t[:2])

    def put(rest: Iterator[sympy.Expr]) -> sympy.Expr:
        parts = [p(rest) for _, _, p in terms]
        return sympy.Add(*parts, next(rest))

    text = f"({'+'.join(t for t, _, _ in terms)}{_sign(constant)})"
    return _Opened(text, (*(v for _, vs, _ in terms for v in vs), constant), put)


def _product(factors: list[_Put]) -> _Put:
    def put(rest: Iterator[sympy.Expr]) -> sympy.Expr:
        coefficient = next(rest)
        return sympy.Mul(coefficient, *(f(rest) for f in factors))

    return put


def _factor(f: sympy.Expr, fixed: bool) -> _Opened:
    if f.is_Symbol:
        return _Opened(f.name, (), lambda rest: f)
    if f.is_Pow:
        base, power = _factor(f.base, fixed), f.exp
        return _Opened(f"{base.text}^{power}", base.values, lambda rest: base.put(rest) ** power)
    if f.is_Add:
        return _opened(f, fixed)
    if fixed and f.free_symbols and all(s.name.startswith("thread_") for s in f.free_symbols):
        return _Opened(str(f), (), lambda rest: f)
    parts = [_opened(a, fixed) for a in f.args]
    text = f"{type(f).__name__}[{','.join(p.text for p in parts)}]"
    return _Opened(text, tuple(v for p in parts for v in p.values), lambda rest: f.func(*(p.put(rest) for p in parts)))


def _sign(n: int) -> str:
    return "+" if n > 0 else "-" if n < 0 else "0"


