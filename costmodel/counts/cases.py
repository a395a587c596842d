"""Enumeration of the loops that cannot be folded: one case for each combination of their values.

A case fixes the pinned loops. Along a `long` loop (one that its guards move through evenly) the cases
are: the stretch in which every lane passes all of them, as one case with a count; each value in which
some lane may pass; nothing beyond. Long block loops come first, for all values of the long serial ones
together; where a guard holds for all of those, it does not divide them again.
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
from costmodel.symbols import Program, compile_program, expanded

__all__ = ["MOST_CASES", "SAMPLED_FROM", "Cases", "Expansion", "Stretch", "TooManyCasesError", "expand"]

MOST_CASES = 1 << 19
"""Cases, and warps of all cases, beyond which a table is priced in parts and a single nest is refused."""


SAMPLED_FROM, SAMPLES = 1 << 16, 1 << 12
"""Values of enumerated loops beyond which one configuration is sampled, and how many samples are taken."""


class TooManyCasesError(UnsupportedError):
    """What would have to be enumerated does not fit into memory."""


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

    def taken(self, which: Ints | slice) -> Cases:
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
class Rest:
    """What a guard compares with zero, with one loop at 0, as a range over lanes and long serial loops."""

    form: Program
    """Loops of `moving` at 0, and lanes too where it is affine in them."""
    over_lanes: bool
    """Whether it must be evaluated for each lane."""
    lanes: tuple[tuple[int, Program], ...]
    """Axis and coefficient of each lane coordinate."""
    moving: tuple[tuple[Program, Program], ...]
    """Coefficient and extent of each long serial loop."""

    @classmethod
    def of(cls, form: sympy.Expr, rename: Mapping[sympy.Symbol, sympy.Symbol], moving: Mapping[sympy.Symbol, sympy.Expr]) -> Rest:
        """Compile a form; `moving` gives the extents of the long serial loops that may stand in it."""
        steps = [(i, form.coeff(i), extent) for i, extent in moving.items() if form.has(i)]
        form = expanded(form - sympy.Add(*(c * i for i, c, _ in steps)))
        lanes = [(axis, i, form.coeff(i)) for axis, i in enumerate(_ordered(rename)) if form.has(i)]
        still = expanded(form - sympy.Add(*(c * i for _, i, c in lanes)))
        threads = set(rename)
        affine = not any(e.free_symbols & threads for e in (still, *(c for _, _, c in lanes)))
        return cls(
            compile_program([(still if affine else form).xreplace(rename)]),
            not affine,
            tuple((axis, compile_program([c])) for axis, _, c in lanes) if affine else (),
            tuple((compile_program([c]), compile_program([extent])) for _, c, extent in steps),
        )


def _ordered(rename: Mapping[sympy.Symbol, sympy.Symbol]) -> list[sympy.Symbol]:
    """The thread loops' indices, x to z, as far as the block has them; a missing axis gives a symbol of its own."""
    of = {renamed.name: i for i, renamed in rename.items()}
    return [of.get(n, sympy.Dummy()) for n in ("thread_x", "thread_y", "thread_z")]


@dataclass(frozen=True, slots=True)
class Stretch:
    """A loop along which only the ends need enumerating."""

    name: str
    position: str
    """Among the folded loops."""
    extent: Program
    guards: tuple[tuple[int, Program, Rest], ...]
    """Of each guard it stands in: number, the loop's coefficient, and the guard with the loop at 0."""


@dataclass(frozen=True, slots=True)
class Expansion:
    """What to enumerate, compiled."""

    where: str
    pinned: tuple[tuple[str, Program], ...]
    """Names and extents of the loops to enumerate, outermost first."""
    dependent: tuple[tuple[str, Program], ...]
    """Positions (among the folded) and extents of loops whose trip count depends on a pinned one."""
    long: tuple[Stretch, ...]
    guards: int

    @classmethod
    def of(
        cls,
        where: str,
        loops: list[Loop],
        pinned: set[sympy.Symbol],
        dependent: Mapping[sympy.Symbol, sympy.Expr],
        position: Mapping[sympy.Symbol, str],
        slack: list[sympy.Expr],
        long: Mapping[sympy.Symbol, Mapping[int, sympy.Expr]],
        extents: Mapping[sympy.Symbol, sympy.Expr],
        rename: Mapping[sympy.Symbol, sympy.Symbol],
    ) -> Expansion:
        """Compile the pieces; `long` gives each loop's coefficient in each guard it stands in, block loops first."""
        serial = {loop.index: extents[loop.index] for loop in loops if loop.index in long and loop.kind == "serial"}

        def stretch(i: sympy.Symbol, guards: Mapping[int, sympy.Expr]) -> Stretch:
            moving = {} if i in serial else serial
            rests = ((j, c, Rest.of(expanded(slack[j] - c * i), rename, moving)) for j, c in guards.items())
            made = tuple((j, compile_program([c]), rest) for j, c, rest in rests)
            return Stretch(str(i), position[i], compile_program([extents[i]]), made)

        return cls(
            where,
            tuple((loop.index.name, compile_program([loop.extent])) for loop in loops if loop.index in pinned),
            tuple((position[i], compile_program([e])) for i, e in dependent.items()),
            tuple(stretch(i, guards) for i, guards in long.items()),
            len(slack),
        )


def expand(expansion: Expansion, columns: Mapping[str, Any], count: int, threads: Any) -> Cases:
    """Enumerate the cases of `count` distinct configurations.

    Raises:
        TooManyCasesError: more than `MOST_CASES` of them.
    """
    row = np.arange(count)
    nothing = np.zeros(count, bool)
    cases = Cases(row, np.ones(count), np.zeros(count, np.int64), {}, {}, (nothing,) * expansion.guards, True)
    for name, extent in expansion.pinned:
        cases = _enumerate(expansion, cases, name, _value(extent, columns, cases)[0])
    counts = {p: np.maximum(_value(extent, columns, cases)[0], 0) for p, extent in expansion.dependent}
    cases = replace(cases, counts=counts)
    for stretch in expansion.long:
        cases = _ends(expansion, cases, columns, threads, stretch)
    return cases


def _value(program: Program, columns: Mapping[str, Any], cases: Cases) -> list[Any]:
    env = {n: v[cases.row] if np.ndim(v) else v for n, v in columns.items()}
    return [np.broadcast_to(np.asarray(v, np.int64), cases.row.shape) for v in program({**env, **cases.values})]


def _enumerate(expansion: Expansion, cases: Cases, name: str, extent: Ints) -> Cases:
    extent = np.maximum(extent, 0)
    wanted = extent.sum(dtype=np.float64)
    if wanted > SAMPLED_FROM and not cases.row.any():
        return _sample(cases, name, extent)
    _check(expansion, name, wanted)
    source, value = _ragged(np.zeros_like(extent), extent)
    taken = cases.taken(source)
    return replace(taken, values={**taken.values, name: value})


def _sample(cases: Cases, name: str, extent: Ints) -> Cases:
    """Evenly spaced values of a loop that is too long to enumerate, of one configuration: an approximation."""
    each = max(SAMPLES // cases.row.size, 1)
    number = np.minimum(extent, each)
    source, position = _ragged(np.zeros_like(number), number)
    value = ((2 * position + 1) * extent[source]) // (2 * number[source])
    taken = cases.taken(source)
    return replace(
        taken, values={**taken.values, name: value}, weight=taken.weight * extent[source] / number[source], exact=False
    )


def _check(expansion: Expansion, name: str, wanted: float) -> None:
    if wanted > MOST_CASES:
        raise TooManyCasesError(
            f"{expansion.where}: {wanted:,.0f} combinations of loop values would have to be enumerated (at loop {name}, "
            "which stands in a guard, in another extent, or under // or %); "
            "state the guard's share with k.when(…, fraction=…), or make the index affine"
        )


def _ends(expansion: Expansion, cases: Cases, columns: Mapping[str, Any], threads: Any, stretch: Stretch) -> Cases:
    """Split a loop into the stretch where all lanes pass its guards and the values where only some may."""
    (extent,) = _value(stretch.extent, columns, cases)
    first, last = np.zeros_like(extent), extent
    possible_first, possible_last = first, last
    holds: dict[int, npt.NDArray[np.bool_]] = {}
    for guard, coefficient, rest in stretch.guards:
        done = cases.passed[guard]
        c = np.where(done, 0, _value(coefficient, columns, cases)[0])
        low, high = (np.where(done, -1, x) for x in _range(cases, columns, threads, rest))
        for value, full in ((high, True), (low, False)):
            start = np.where(c < 0, value // np.maximum(-c, 1) + 1, 0)
            stop = np.where(c > 0, -(value // np.maximum(c, 1)), extent)
            if not full:
                stop = np.where((c == 0) & (low >= 0), 0, stop)
                possible_first, possible_last = np.maximum(possible_first, start), np.minimum(possible_last, stop)
            else:
                first, last = np.maximum(first, start), np.minimum(last, stop)
        holds[guard] = (c != 0) | (high < 0)
    possible_last = np.maximum(possible_last, possible_first)
    empty = (first >= last) | (first >= possible_last) | (last <= possible_first)
    first = np.where(empty, possible_last, np.maximum(first, possible_first))
    last = np.where(empty, possible_last, np.minimum(last, possible_last))
    count = last - first
    inside = np.flatnonzero(count > 0)
    before, low_values = _ragged(possible_first, first)
    after, high_values = _ragged(last, possible_last)
    outside = np.concatenate([before, after])
    _check(expansion, stretch.name, outside.size + inside.size)
    taken = cases.taken(np.concatenate([inside, outside]))
    passed = list(taken.passed)
    for guard, held in holds.items():
        passed[guard] = np.concatenate([held[inside], cases.passed[guard][outside]])
    return replace(
        taken,
        values={**taken.values, stretch.name: np.concatenate([first[inside], low_values, high_values])},
        counts={**taken.counts, stretch.position: np.concatenate([count[inside], np.ones(outside.size, np.int64)])},
        passed=tuple(passed),
    )


def _ragged(start: Ints, stop: Ints) -> tuple[Ints, Ints]:
    """Every integer of each range, and the range it is from."""
    length = np.maximum(stop - start, 0)
    source = np.repeat(np.arange(length.size), length)
    return source, start[source] + np.arange(source.size) - (np.cumsum(length) - length)[source]


def _range(cases: Cases, columns: Mapping[str, Any], threads: Any, rest: Rest) -> tuple[Ints, Ints]:
    """Smallest and largest value of a guard, its loop at 0, over the threads of a block and the long serial loops."""
    if rest.over_lanes:
        low, high = _range_over_threads(cases, columns, threads, rest.form)
    else:
        (low,) = (high,) = _value(rest.form, columns, cases)
    for axis, coefficient in rest.lanes:
        extent = threads[axis][cases.row] if np.ndim(threads[axis]) else threads[axis]
        reach = _value(coefficient, columns, cases)[0] * (extent - 1)
        low, high = low + np.minimum(reach, 0), high + np.maximum(reach, 0)
    for coefficient, trips in rest.moving:
        reach = _value(coefficient, columns, cases)[0] * (_value(trips, columns, cases)[0] - 1)
        low, high = low + np.minimum(reach, 0), high + np.maximum(reach, 0)
    return low, high


def _range_over_threads(cases: Cases, columns: Mapping[str, Any], threads: Any, form: Program) -> tuple[Ints, Ints]:
    """The same of a form that is not affine in the thread coordinates, by evaluating it for each."""
    env: dict[str, Any] = {n: v[cases.row][:, None] if np.ndim(v) else v for n, v in columns.items()}
    env |= {n: v[:, None] for n, v in cases.values.items()}
    dx, dy, dz = (d[cases.row][:, None] if np.ndim(d) else np.full((1, 1), d, np.int64) for d in threads)
    most = int(np.max(dx * dy * dz, initial=1))
    tid = np.arange(most)[None, :]
    inside = tid < dx * dy * dz
    outer = tid // dx
    value = form({**env, "thread_x": tid % dx, "thread_y": outer % dy, "thread_z": outer // dy})[0]
    value = np.broadcast_to(np.asarray(value, np.int64), (cases.row.size, most))
    inside = np.broadcast_to(inside, value.shape)
    big = np.iinfo(np.int64).max
    return np.where(inside, value, big).min(axis=1), np.where(inside, value, -big).max(axis=1)
