"""Which configurations of a space are compiled, so that the others follow from them.

Boxes of configurations are halved until what is unknown in them follows from their corners, along one parameter after the other.
Stages come last: a loop that is pipelined at all is so with any number of them. Then one configuration of each family, of those
that were not compiled, is compiled after all; where it is not as foretold, so are all of that family.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from costmodel.errors import CostModelError
from costmodel.frontends.triton.family_numbers import Numbers, taken_apart
from costmodel.frontends.triton.family_rules import between, restaged
from costmodel.frontends.triton.kernel import TritonKernel

__all__ = ["STAGES", "Point", "Search", "Values"]

STAGES = "num_stages"
Values = tuple[Any, ...]
"""A configuration: one value of each parameter."""
_Box = tuple[tuple[int, int], ...]
"""Positions of the first and the last value along each parameter."""


@dataclass(frozen=True, slots=True)
class Point:
    """A configuration that is known."""

    numbers: Numbers
    registers: int
    """Of a thread; those of what was not compiled lie between those of what it follows from."""
    spilled_bytes: int
    """Of a thread."""
    compiled: TritonKernel | None
    """None if it follows from others."""


@dataclass
class Search:
    """A space of configurations, and what is known of it."""

    names: tuple[str, ...]
    wanted: tuple[Values, ...]
    compile: Callable[[Sequence[Values]], Sequence[TritonKernel | CostModelError]]
    known: dict[Values, Point] = field(default_factory=dict)
    refused: dict[Values, CostModelError] = field(default_factory=dict)
    compiled: list[Values] = field(default_factory=list)
    mistaken: int = 0
    """Families that were not as foretold."""
    _axes: tuple[tuple[Any, ...], ...] = ()
    _skeletons: dict[Hashable, int] = field(default_factory=dict)

    def run(self) -> None:
        """Find out what every wanted configuration does."""
        self._axes = tuple(_ordered({c[n] for c in self.wanted}) for n in range(len(self.names)))
        whole = tuple((0, len(a) - 1) for a in self._axes)
        if STAGES in self.names:
            axis = self.names.index(STAGES)
            pipelined = [n for n, v in enumerate(self._axes[axis]) if isinstance(v, int) and v > 1]
            if len(pipelined) > 1:
                self._fill((*whole[:axis], (0, pipelined[0]), *whole[axis + 1 :]))
                self._restage(axis, pipelined)
        self._fill(whole)
        self._check()

    # -- compiling

    def _learn(self, configurations: Iterable[Values]) -> list[Values]:
        new = [c for c in dict.fromkeys(configurations) if c not in self.known and c not in self.refused]
        self._compile(new)
        return new

    def _compile(self, configurations: Sequence[Values]) -> None:
        for c, found in zip(configurations, self.compile(configurations) if configurations else (), strict=True):
            self.compiled.append(c)
            self.known.pop(c, None)
            if isinstance(found, CostModelError):
                self.refused[c] = found
                continue
            try:
                numbers = taken_apart(found)
            except CostModelError as error:
                self.refused[c] = error
                continue
            number = self._skeletons.setdefault(numbers.skeleton, len(self._skeletons))
            short = Numbers(number, numbers.values, numbers.roles, numbers.held_bytes, numbers.elsewhere_bytes)
            self.known[c] = Point(short, found.registers, found.spilled_bytes, found)

    def _fill(self, box: _Box) -> None:
        """Compile corners of boxes, smaller and smaller, until everything wanted in this one is known."""
        boxes = [box]
        wanted = set(self.wanted)
        while boxes:
            parts: list[_Box] = []
            asked: list[Values] = []
            for each in boxes:
                missing = [c for c in self._inside(each) if c in wanted and c not in self.known and c not in self.refused]
                if not missing:
                    continue
                corners = [c for c in self._at(set(e) for e in each) if c not in self.known and c not in self.refused]
                asked += missing if len(missing) <= len(corners) else corners
                parts.append(each)
            self._close(self._learn(asked))
            boxes = [half for each in parts for half in self._halves(each)]

    def _inside(self, box: _Box) -> Iterator[Values]:
        return self._at(range(low, high + 1) for low, high in box)

    def _at(self, positions: Iterable[Iterable[int]]) -> Iterator[Values]:
        for at in itertools.product(*(sorted(p) for p in positions)):
            yield tuple(axis[n] for axis, n in zip(self._axes, at, strict=True))

    def _halves(self, box: _Box) -> list[_Box]:
        """The box cut where its corners differ, both parts with the cut; nothing if it has corners only."""
        long = [n for n, (low, high) in enumerate(box) if high - low > 1]
        if not long:
            return []
        n = max(long, key=lambda n: (self._differ(box, n), box[n][1] - box[n][0]))
        low, high = box[n]
        if not _is_ordered(self._axes[n]):
            return [(*box[:n], (at, at), *box[n + 1 :]) for at in range(low, high + 1)]
        middle = (low + high) // 2
        return [(*box[:n], part, *box[n + 1 :]) for part in ((low, middle), (middle, high))]

    def _differ(self, box: _Box, n: int) -> bool:
        """Whether corners of the box differ along a parameter so that nothing follows."""
        low, high = box[n]
        for c in self._at(set(e) if m != n else (low,) for m, e in enumerate(box)):
            a, b = self.known.get(c), self.known.get((*c[:n], self._axes[n][high], *c[n + 1 :]))
            if a is None or b is None or self._between(a, b, n, low, high, low + 1) is None:
                return True
        return False

    # -- what follows

    def _close(self, new: list[Values]) -> None:
        """Everything between known configurations along one parameter, again and again."""
        while new:
            c = new.pop()
            for n, axis in enumerate(self._axes):
                if c in self.known and _is_ordered(axis) and c[n] in axis:
                    new += self._along(c, n)

    def _along(self, c: Values, n: int) -> list[Values]:
        """Configurations that follow from this one and the next known ones along a parameter."""
        axis, found = self._axes[n], list[Values]()
        at = axis.index(c[n])
        for step in (-1, 1):
            end = at + step
            while 0 <= end < len(axis) and (*c[:n], axis[end], *c[n + 1 :]) not in self.known:
                end += step
            if not 0 <= end < len(axis) or abs(end - at) < 2:
                continue
            low, high = sorted((at, end))
            a, b = (self.known[(*c[:n], axis[k], *c[n + 1 :])] for k in (low, high))
            points = {(*c[:n], axis[k], *c[n + 1 :]): self._between(a, b, n, low, high, k) for k in range(low + 1, high)}
            if any(p is None or m in self.refused for m, p in points.items()):
                continue
            self.known |= {m: p for m, p in points.items() if p is not None}
            found += points
        return found

    def _between(self, a: Point, b: Point, n: int, low: int, high: int, at: int) -> Point | None:
        axis = self._axes[n]
        if not _is_ordered(axis):
            return None
        numbers = between(a.numbers, b.numbers, (axis[low], axis[high]), axis[at])
        if numbers is None:
            return None
        ends = (axis[low], axis[high])
        registers = _share(a.registers, b.registers, ends, axis[at])
        return Point(numbers, registers, _share(a.spilled_bytes, b.spilled_bytes, ends, axis[at]), None)

    def _restage(self, axis: int, pipelined: list[int]) -> None:
        """More stages than the fewest of a pipeline."""
        first, *more = (self._axes[axis][n] for n in pipelined)
        for c, point in [(c, p) for c, p in self.known.items() if c[axis] == first]:
            for stages in more:
                numbers = restaged(point.numbers, first, stages)
                target = (*c[:axis], stages, *c[axis + 1 :])
                if numbers is not None and target in set(self.wanted):
                    self.known[target] = Point(numbers, point.registers, point.spilled_bytes, None)

    # -- whether it does

    def _check(self) -> None:
        """One of each family, of those that were not compiled, and all of a family that is not as foretold."""
        families: dict[Hashable, list[Values]] = {}
        for c in self.wanted:
            if c in self.known and self.known[c].compiled is None:
                families.setdefault(self.known[c].numbers.skeleton, []).append(c)
        chosen = {family: members[-1] for family, members in families.items()}
        foretold = {c: self.known[c].numbers for c in chosen.values()}
        self._compile(list(chosen.values()))
        wrong = [f for f, c in chosen.items() if c in self.refused or not _same(self.known[c].numbers, foretold[c])]
        self.mistaken = len(wrong)
        self._compile([c for f in wrong for c in families[f] if c != chosen[f]])


def _same(a: Numbers, b: Numbers) -> bool:
    return (a.skeleton, a.values) == (b.skeleton, b.values)


def _is_ordered(axis: Sequence[Any]) -> bool:
    return all(isinstance(v, int) and not isinstance(v, bool) and v > 0 for v in axis)


def _ordered(values: set[Any]) -> tuple[Any, ...]:
    found = tuple(values)
    return tuple(sorted(found)) if _is_ordered(found) else tuple(sorted(found, key=repr))


def _share(x: int, y: int, ends: tuple[int, int], value: int) -> int:
    """Between two numbers, as far as the value is between its ends, or as its reciprocal is where they shrink."""
    low, high = ends
    part = (value - low) / (high - low) if y >= x else (1 / low - 1 / value) / (1 / low - 1 / high)
    return math.ceil(x + (y - x) * part)
