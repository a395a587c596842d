"""Enumeration of the loops that cannot be folded: one case for each combination of their values.

A case fixes the pinned loops. Along a `long` loop (a block loop in one guard) the cases are: the
stretch in which every lane passes, as one case with a count; each value on the boundary; nothing
beyond it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import sympy

from costmodel.errors import UnsupportedError
from costmodel.ir import Loop
from costmodel.symbols import Program, compile_program

__all__ = ["MOST_CASES", "Cases", "Expansion", "expand"]

MOST_CASES = 1 << 21
"""Cases beyond which a nest is refused instead of eating the machine's memory."""

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Cases:
    """Combinations of pinned loop values, with the distinct configuration each belongs to."""

    row: Ints
    weight: Floats
    phase: Ints
    """Bytes that folded loops add to every address, modulo the granule."""
    values: dict[str, Ints]
    counts: dict[str, Any]
    """Trip counts of folded loops that differ between cases, by their position among the folded."""
    passed: tuple[npt.NDArray[np.bool_], ...]
    """For each guard: cases in which it holds for every lane."""
    exact: bool

    def taken(self, which: Ints) -> Cases:
        """The cases at these positions, repeats allowed."""
        return replace(
            self, row=self.row[which], weight=self.weight[which], phase=self.phase[which],
            values={n: v[which] for n, v in self.values.items()},
            counts={n: v[which] if np.ndim(v) else v for n, v in self.counts.items()},
            passed=tuple(p[which] for p in self.passed),
        )  # fmt: skip

    def weighted(self, weight: Any, phase: Ints | None = None) -> Cases:
        """The same cases with another weight (and phase)."""
        full = np.broadcast_to(np.asarray(weight, np.float64), self.row.shape)
        return replace(self, weight=full, phase=self.phase if phase is None else phase)


@dataclass(frozen=True, slots=True)
class Expansion:
    """What to enumerate, compiled."""

    where: str
    pinned: tuple[tuple[str, Program], ...]
    """Names and extents of the loops to enumerate, outermost first."""
    dependent: tuple[tuple[str, Program], ...]
    """Positions (among the folded) and extents of loops whose trip count depends on a pinned one."""
    long: tuple[tuple[str, str, int, Program, Program], ...]
    """Name, position among the folded, guard, `(coefficient, extent)` and the guard without the loop."""
    guards: int

    @classmethod
    def of(
        cls,
        where: str,
        pinned: list[Loop],
        dependent: Mapping[sympy.Symbol, sympy.Expr],
        position: Mapping[sympy.Symbol, str],
        slack: list[sympy.Expr],
        long: Mapping[sympy.Symbol, tuple[int, sympy.Expr]],
        extents: Mapping[sympy.Symbol, sympy.Expr],
        rename: Mapping[sympy.Symbol, sympy.Symbol],
    ) -> Expansion:
        """Compile the pieces."""
        return cls(
            where,
            tuple((str(loop.index), compile_program([loop.extent])) for loop in pinned),
            tuple((position[i], compile_program([e])) for i, e in dependent.items()),
            tuple(
                (
                    str(i),
                    position[i],
                    j,
                    compile_program([c, extents[i]]),
                    compile_program([(slack[j] - c * i).expand().xreplace(rename)]),
                )
                for i, (j, c) in long.items()
            ),
            len(slack),
        )


def expand(expansion: Expansion, columns: Mapping[str, Any], count: int, threads: Any) -> Cases:
    """Enumerate the cases of `count` distinct configurations.

    Raises:
        UnsupportedError: more than `MOST_CASES` of them.
    """
    row = np.arange(count)
    nothing = np.zeros(count, bool)
    cases = Cases(row, np.ones(count), np.zeros(count, np.int64), {}, {}, (nothing,) * expansion.guards, True)
    for name, extent in expansion.pinned:
        cases = _enumerate(expansion, cases, name, _value(extent, columns, cases)[0])
    counts = {p: np.maximum(_value(extent, columns, cases)[0], 0) for p, extent in expansion.dependent}
    cases = replace(cases, counts=counts)
    for name, position, guard, ends, rest in expansion.long:
        cases = _boundary(expansion, cases, columns, threads, name, position, guard, ends, rest)
    return cases


def _value(program: Program, columns: Mapping[str, Any], cases: Cases) -> list[Any]:
    env = {n: v[cases.row] if np.ndim(v) else v for n, v in columns.items()}
    return [np.broadcast_to(np.asarray(v, np.int64), cases.row.shape) for v in program({**env, **cases.values})]


def _enumerate(expansion: Expansion, cases: Cases, name: str, extent: Ints) -> Cases:
    extent = np.maximum(extent, 0)
    _check(expansion, name, int(extent.sum()))
    source = np.repeat(np.arange(extent.size), extent)
    value = np.arange(source.size) - (np.cumsum(extent) - extent)[source]
    taken = cases.taken(source)
    return replace(taken, values={**taken.values, name: value})


def _check(expansion: Expansion, name: str, wanted: int) -> None:
    if wanted > MOST_CASES:
        raise UnsupportedError(
            f"{expansion.where}: {wanted:,} combinations of loop values would have to be enumerated (at loop {name}, "
            "which stands in a guard, in another extent, or under // or %); "
            "state the guard's share with k.when(…, fraction=…), or make the index affine"
        )


def _boundary(
    expansion: Expansion,
    cases: Cases,
    columns: Mapping[str, Any],
    threads: Any,
    name: str,
    position: str,
    guard: int,
    ends: Program,
    rest: Program,
) -> Cases:
    """Split a block loop into the stretch where all lanes pass and the values where only some do."""
    step, extent = _value(ends, columns, cases)
    low, high = _lane_range(cases, columns, threads, rest)
    full = np.clip(-(high // step), 0, extent)
    none = np.clip(-(low // step), 0, extent)
    partial = none - full
    _check(expansion, name, int(partial.sum()) + cases.row.size)
    inside = np.flatnonzero(full > 0)
    source = np.repeat(np.arange(partial.size), partial)
    value = full[source] + np.arange(source.size) - (np.cumsum(partial) - partial)[source]
    taken = cases.taken(np.concatenate([inside, source]))
    zeros, ones = np.zeros(inside.size, np.int64), np.ones(source.size, np.int64)
    passed = list(taken.passed)
    passed[guard] = np.concatenate([zeros == 0, ones == 0])
    return replace(
        taken,
        values={**taken.values, name: np.concatenate([zeros, value])},
        counts={**taken.counts, position: np.concatenate([full[inside], ones])},
        passed=tuple(passed),
    )


def _lane_range(cases: Cases, columns: Mapping[str, Any], threads: Any, rest: Program) -> tuple[Ints, Ints]:
    """Smallest and largest value of a guard over the threads of a block, the loop at 0."""
    env: dict[str, Any] = {n: v[cases.row][:, None] if np.ndim(v) else v for n, v in columns.items()}
    env |= {n: v[:, None] for n, v in cases.values.items()}
    return _range_over_threads(cases, env, threads, rest)


def _range_over_threads(cases: Cases, env: dict[str, Any], threads: Any, rest: Program) -> tuple[Ints, Ints]:
    dx, dy, dz = (d[cases.row][:, None] if np.ndim(d) else np.full((1, 1), d, np.int64) for d in threads)
    most = int(np.max(dx * dy * dz))
    tid = np.arange(most)[None, :]
    inside = tid < dx * dy * dz
    outer = tid // dx
    value = rest({**env, "thread_x": tid % dx, "thread_y": outer % dy, "thread_z": outer // dy})[0]
    value = np.broadcast_to(np.asarray(value, np.int64), (cases.row.size, most))
    inside = np.broadcast_to(inside, value.shape)
    big = np.iinfo(np.int64).max
    return np.where(inside, value, big).min(axis=1), np.where(inside, value, -big).max(axis=1)
