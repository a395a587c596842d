"""Counts a kernel by walking every block, thread and iteration of it: slow, plain, and sharing no formula with the source.

It reads `costmodel.ir` nodes and evaluates their expressions with its own recursive evaluator on Python ints
(fractions inside an expression, so that an exact quotient is exact). What it takes for granted:

* threads of a block are numbered x + y·Dx + z·Dx·Dy, and each `warp_size` consecutive numbers are a warp;
* a warp issues a statement in an iteration if at least one of its lanes passes all guards;
* an access of more than 16 bytes is several instructions of 16 bytes, the last one maybe shorter;
* one instruction of one warp with at least one active lane is a request;
* every buffer starts at byte 0, and shared memory serves a request in passes of consecutive lanes.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from costmodel.ir import Access, Barrier, Guard, Kernel, Loop, Statement
from costmodel.symbols import CeilDiv, FloorDiv, Maximum, Minimum, Mod, Xor

__all__ = [
    "AccessCounts", "Counts", "Machine", "OutOfBoundsError", "StatementCounts", "TooLargeError", "count", "evaluate", "holds",
]  # fmt: skip

Env = dict[str, int]
Evaluator = Callable[[Env], Any]
Node = Loop | Guard | Statement | Barrier


class OutOfBoundsError(AssertionError):
    """An access leaves its buffer, or a vector access is not aligned to its width."""


class TooLargeError(AssertionError):
    """The walk would take more iterations than the caller allows."""


@dataclass(frozen=True)
class Machine:
    """What the walk has to know about warps, caches and shared memory."""

    warp_size: int = 32
    sector_bytes: int = 32
    line_bytes: int = 128
    banks: int = 32
    bank_bytes: int = 4
    pass_bytes: int = 128


@dataclass
class AccessCounts:
    """Totals of one access over the whole grid."""

    access: Access
    requested_bytes: int = 0
    footprint_bytes: int = 0
    block_footprint_bytes: int = 0
    """Sum over blocks of the distinct bytes of each block."""
    requests: int = 0
    sectors: int = 0
    lines: int = 0
    wavefronts: int = 0
    paired_wavefronts: int = 0
    """Wavefronts where a pass serves twice the lanes of a request of 8 or 16 bytes a lane in which active lanes i and
    i ^ 1 always, or i and i ^ 2 always, have one address."""


@dataclass
class StatementCounts:
    """Totals of one statement over the whole grid."""

    statement: Statement
    executions: int = 0
    warps: int = 0
    """Warps that issue it, summed over iterations."""
    loads: tuple[AccessCounts, ...] = ()
    stores: tuple[AccessCounts, ...] = ()


@dataclass
class Counts:
    """Everything that was counted, statements in program order."""

    statements: list[StatementCounts] = field(default_factory=list)
    work: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    """By kind and dtype name."""


# --- expressions -------------------------------------------------------------------------------


def evaluate(expression: Any, env: Mapping[str, int]) -> int:
    """Evaluate an integer expression on Python ints."""
    return _whole(_evaluator(expression)(dict(env)), expression)


def holds(condition: tuple[str, Any, Any], env: Mapping[str, int]) -> bool:
    """Decide a condition `(operator, left, right)`."""
    return bool(_decider(condition)(dict(env)))


def _whole(value: Any, expression: Any) -> int:
    if value != int(value):
        raise ArithmeticError(f"{expression} is {value}, which is not an integer")
    return int(value)


def _evaluator(e: Any) -> Evaluator:
    """The expression as nested Python functions of the environment."""
    if e.is_Integer:
        constant = int(e)
        return lambda env: constant
    if e.is_Rational:
        ratio = Fraction(int(e.p), int(e.q))
        return lambda env: ratio
    if e.is_Symbol:
        name = str(e)
        return lambda env: env[name]
    parts = [_evaluator(a) for a in e.args]
    if e.is_Add:
        return lambda env: sum(p(env) for p in parts)
    if e.is_Mul:
        return _product(parts)
    first, second = parts
    if e.is_Pow:
        exponent = int(e.exp)
        return lambda env: Fraction(first(env)) ** exponent
    if isinstance(e, FloorDiv):
        return lambda env: first(env) // second(env)
    if isinstance(e, CeilDiv):
        return lambda env: -(-first(env) // second(env))
    if isinstance(e, Mod):
        return lambda env: first(env) % second(env)
    if isinstance(e, Minimum):
        return lambda env: min(first(env), second(env))
    if isinstance(e, Maximum):
        return lambda env: max(first(env), second(env))
    if isinstance(e, Xor):
        return lambda env: first(env) ^ second(env)
    raise TypeError(f"the oracle cannot evaluate {e!r}")


def _product(parts: list[Evaluator]) -> Evaluator:
    def multiply(env: Env) -> Any:
        total = parts[0](env)
        for p in parts[1:]:
            total *= p(env)
        return total

    return multiply


def _decider(condition: tuple[str, Any, Any]) -> Callable[[Env], bool]:
    op, left, right = condition
    a, b = _evaluator(left), _evaluator(right)
    deciders: dict[str, Callable[[Env], bool]] = {
        "<": lambda env: a(env) < b(env),
        "<=": lambda env: a(env) <= b(env),
        ">": lambda env: a(env) > b(env),
        ">=": lambda env: a(env) >= b(env),
        "==": lambda env: a(env) == b(env),
        "!=": lambda env: a(env) != b(env),
    }
    return deciders[op]


# --- the walk ----------------------------------------------------------------------------------


def count(kernel: Kernel, sizes: Mapping[str, int], machine: Machine | None = None, limit: int = 1_000_000) -> Counts:
    """Walk the whole grid, at most `limit` thread-iterations of each statement.

    Raises:
        OutOfBoundsError: an access leaves its buffer or is not aligned.
        ArithmeticError: a size or an index is not an integer, or a loop has a negative trip count.
        TooLargeError: the limit is exceeded.
    """
    counts = Counts()
    for statement, path in _leaves(kernel.body, ()):
        walk = _Walk(statement, path, dict(sizes), machine or Machine(), limit)
        counts.statements.append(walk.run())
        for key, amount in walk.work.items():
            counts.work[key] += amount
    return counts


def _leaves(body: tuple[Node, ...], path: tuple[Loop | Guard, ...]) -> Iterator[tuple[Statement, tuple[Loop | Guard, ...]]]:
    for node in body:
        if isinstance(node, Loop | Guard):
            yield from _leaves(node.body, (*path, node))
        elif isinstance(node, Statement):
            yield node, path


class _Walk:
    """One statement under the loops and guards of its path."""

    def __init__(self, statement: Statement, path: tuple[Loop | Guard, ...], sizes: Env, machine: Machine, limit: int) -> None:
        self.machine = machine
        self.sizes = sizes
        self.left = limit
        loops = [n for n in path if isinstance(n, Loop)]
        self.blocks = [loop for loop in loops if loop.kind == "block"]
        self.threads = [loop for loop in loops if loop.kind == "thread"]
        self.serial = [(str(n.index), _evaluator(n.extent), n.extent) for n in loops if n.kind == "serial"]
        self.guards = [_decider(c) for n in path if isinstance(n, Guard) for c in n.conditions]
        if any(n.fraction is not None for n in path if isinstance(n, Guard)):
            raise TypeError("the oracle cannot walk a guard with a stated fraction")
        self.result = StatementCounts(statement)
        self.loads = [_AccessWalk(a, sizes, machine) for a in statement.loads]
        self.stores = [_AccessWalk(a, sizes, machine) for a in statement.stores]
        self.amounts = [((w.kind, w.dtype.name), _evaluator(w.amount), w.amount) for w in statement.work]
        self.work: dict[tuple[str, str], int] = defaultdict(int)

    def run(self) -> StatementCounts:
        accesses = [*self.loads, *self.stores]
        warps = self._warps()
        names = [str(loop.index) for loop in self.blocks]
        for position in itertools.product(*(self._range(b) for b in self.blocks)):
            env = {**self.sizes, **dict(zip(names, position, strict=True))}
            for access in accesses:
                access.enter_block()
            for _ in self._points(env, 0):
                for warp in warps:
                    self._issue(env, warp, accesses)
            for access in accesses:
                access.leave_block()
        self.result.loads = tuple(a.finish() for a in self.loads)
        self.result.stores = tuple(a.finish() for a in self.stores)
        return self.result

    def _range(self, loop: Loop) -> range:
        trips = evaluate(loop.extent, self.sizes)
        if trips < 1:
            raise ArithmeticError(f"{loop.kind} loop {loop.index} has {trips} iterations")
        return range(trips)

    def _warps(self) -> list[list[tuple[int, Env]]]:
        """The threads of a block as warps of `(lane, thread indices)`."""
        names = [str(loop.index) for loop in self.threads]
        extents = {loop.axis: len(self._range(loop)) for loop in self.threads}
        across, down = extents.get(0, 1), extents.get(1, 1)
        warps: dict[int, list[tuple[int, Env]]] = defaultdict(list)
        for position in itertools.product(*(range(extents[loop.axis]) for loop in self.threads)):
            place = {loop.axis: at for loop, at in zip(self.threads, position, strict=True)}
            number = place.get(0, 0) + across * (place.get(1, 0) + down * place.get(2, 0))
            warp, lane = divmod(number, self.machine.warp_size)
            warps[warp].append((lane, dict(zip(names, position, strict=True))))
        return list(warps.values())

    def _points(self, env: Env, depth: int) -> Iterator[None]:
        """Step through the serial iterations; `env` holds the current one."""
        if depth == len(self.serial):
            yield
            return
        name, extent, expression = self.serial[depth]
        trips = _whole(extent(env), expression)
        if trips < 0:
            raise ArithmeticError(f"loop {name} has {trips} iterations at {env}")
        for env[name] in range(trips):
            yield from self._points(env, depth + 1)

    def _issue(self, env: Env, warp: list[tuple[int, Env]], accesses: list[_AccessWalk]) -> None:
        active = 0
        self.left -= len(warp)
        if self.left < 0:
            raise TooLargeError("too many iterations to walk")
        for lane, thread in warp:
            env.update(thread)
            if not all(passes(env) for passes in self.guards):
                continue
            active += 1
            for access in accesses:
                access.touch(env, lane)
            for key, amount, expression in self.amounts:
                if key[0] != "mma" or active == 1:  # a matrix instruction belongs to the whole warp
                    self.work[key] += _whole(amount(env), expression)
        if active:
            self.result.executions += active
            self.result.warps += 1
            for access in accesses:
                access.close_request()


class _AccessWalk:
    """What one access touches: in the request that is open, in this block, in the whole grid."""

    def __init__(self, access: Access, sizes: Env, machine: Machine) -> None:
        self.machine = machine
        self.totals = AccessCounts(access)
        self.itemsize = access.buffer.dtype.itemsize
        self.width = evaluate(access.width, sizes)
        self.shape = [evaluate(n, sizes) for n in access.buffer.shape]
        self.strides = [evaluate(s, sizes) for s in access.buffer.strides]
        self.index = [_evaluator(i) for i in access.index]
        self.register = access.buffer.space == "register"
        self.request: list[tuple[int, int]] = []
        self.block: set[int] = set()
        self.grid: set[int] = set()

    def touch(self, env: Env, lane: int) -> None:
        """One thread executes the access."""
        place = [_whole(i(env), e) for i, e in zip(self.index, self.totals.access.index, strict=True)]
        last = len(place) - 1
        for d, (at, extent) in enumerate(zip(place, self.shape, strict=True)):
            reach = self.width if d == last else 1
            if not 0 <= at <= extent - reach:
                raise OutOfBoundsError(f"{self.totals.access}: {place} (width {self.width}) in {self.shape} at {env}")
        offset = sum(at * stride for at, stride in zip(place, self.strides, strict=True))
        if offset % self.width:
            raise OutOfBoundsError(f"{self.totals.access}: offset {offset} is not a multiple of the width {self.width}")
        self.totals.requested_bytes += self.width * self.itemsize
        self.block.update(range(offset, offset + self.width))
        self.request.append((lane, offset * self.itemsize))

    def enter_block(self) -> None:
        self.block.clear()

    def leave_block(self) -> None:
        self.totals.block_footprint_bytes += len(self.block) * self.itemsize
        self.grid |= self.block

    def finish(self) -> AccessCounts:
        self.totals.footprint_bytes = len(self.grid) * self.itemsize
        return self.totals

    def close_request(self) -> None:
        """All lanes of a warp have executed: charge its instructions."""
        lanes, self.request = self.request, []
        if self.register:
            return
        total = self.width * self.itemsize
        for first in range(0, total, 16):
            self._instruction([(lane, start + first) for lane, start in lanes], min(16, total - first))

    def _instruction(self, lanes: list[tuple[int, int]], size: int) -> None:
        machine, totals = self.machine, self.totals
        totals.requests += 1
        totals.sectors += len(_cells(lanes, size, machine.sector_bytes))
        totals.lines += len(_cells(lanes, size, machine.line_bytes))
        lanes_per_pass = machine.pass_bytes // max(size, 4)
        totals.wavefronts += self._wavefronts(lanes, size, lanes_per_pass)
        totals.paired_wavefronts += self._wavefronts(lanes, size, lanes_per_pass * (2 if _paired(lanes, size) else 1))

    def _wavefronts(self, lanes: list[tuple[int, int]], size: int, lanes_per_pass: int) -> int:
        """The busiest bank's distinct words, summed over passes of consecutive lanes."""
        total = 0
        for number in {lane // lanes_per_pass for lane, _ in lanes}:
            in_bank: dict[int, int] = defaultdict(int)
            for word in _cells([m for m in lanes if m[0] // lanes_per_pass == number], size, self.machine.bank_bytes):
                in_bank[word % self.machine.banks] += 1
            total += max(in_bank.values())
        return total


def _paired(lanes: list[tuple[int, int]], size: int) -> bool:
    start = dict(lanes)
    return size >= 8 and any(all(start.get(lane ^ d, at) == at for lane, at in lanes) for d in (1, 2))


def _cells(lanes: list[tuple[int, int]], size: int, cell: int) -> set[int]:
    """Numbers of the `cell`-byte pieces of memory that the bytes of these lanes lie in."""
    return {c for _, start in lanes for c in range(start // cell, (start + size - 1) // cell + 1)}
