"""Boxes that cover a few points of a grid: the distances at which one array is loaded several times.

How far loads have to be apart to share nothing depends on what else moves them, which may be symbolic: so
there are several coverings, each an upper bound on the union once every box is moved by the loops, and the
least of them counts. Where the points fill a box or a star there is one, and it is exact.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence

__all__ = ["Box", "Term", "coverings"]

Point = tuple[int, ...]
Box = tuple[tuple[int, int, int], ...]
"""Along each dimension: first and last value, and the step between."""
Term = tuple[int, Box]
"""How often a box counts: negative for what others have in common."""

_MOST_GAPS = 3
"""Widths of gaps that are tried along one dimension of several; of one, so many are picked from all."""


def coverings(distances: Iterable[Point]) -> tuple[tuple[Term, ...], ...]:
    """Sums of boxes, each of which covers all distances.

    Examples:
        >>> coverings([(0, 0), (0, 1)])
        (((1, ((0, 0, 1), (0, 1, 1))),),)
        >>> [len(terms) for terms in coverings([(0, 0), (0, 64)])]  # every 64th, from 0 to 64, each by itself
        [1, 1, 2]
    """
    points = sorted(set(distances))
    hull = _lattice(points)
    if _size(hull) == len(points) and all(step == 1 for _, _, step in hull):
        return (((1, hull),),)
    stars: list[tuple[Term, ...]] = []
    centre = _centre(points)
    if centre is not None:
        arms = [_lattice([p for p in points if all(p[e] == centre[e] for e in apart)]) for apart in _others(hull)]
        shared: Term = (1 - len(arms), tuple((c, c, 1) for c in centre))
        stars = [(*((1, arm) for arm in arms), shared), (*((1, _dense(arm)) for arm in arms), shared)]
        if sum(_size(_dense(arm)) - 1 for arm in arms) + 1 == len(points):
            return (stars[0],)
    merged = [tuple((1, box) for box in boxes) for boxes in _clusterings(points)]
    return tuple(dict.fromkeys([((1, hull),), *stars, ((1, _dense(hull)),), *merged]))


def _others(hull: Box) -> list[list[int]]:
    """For each dimension in which points differ, all other dimensions."""
    return [[e for e in range(len(hull)) if e != d] for d, (low, high, _) in enumerate(hull) if high > low]


def _lattice(points: Sequence[Point]) -> Box:
    """The smallest box around points, in the widest steps that meet all."""
    return tuple((min(v), max(v), math.gcd(*(x - min(v) for x in v)) or 1) for v in zip(*points, strict=True))


def _dense(box: Box) -> Box:
    return tuple((low, high, 1) for low, high, _ in box)


def _size(box: Box) -> int:
    return math.prod((high - low) // step + 1 for low, high, step in box)


def _centre(points: Sequence[Point]) -> Point | None:
    """The point on whose axes all others lie, if there is one and they lie on several."""
    if sum(len(set(v)) > 1 for v in zip(*points, strict=True)) < 2:
        return None
    for centre in points:
        if all(sum(a != b for a, b in zip(other, centre, strict=True)) <= 1 for other in points):
            return centre
    return None


def _clusterings(points: Sequence[Point]) -> list[tuple[Box, ...]]:
    """Points merged across gaps up to some width, the last dimension first."""
    values = [sorted(set(v)) for v in zip(*points, strict=True)]
    apart = [d for d, v in enumerate(values) if len(v) > 1]
    found: list[tuple[Box, ...]] = []
    for widths in itertools.product(*(_gaps(values[d], len(apart) == 1) for d in apart)):
        boxes: list[Box] = [tuple((x, x, 1) for x in p) for p in points]
        for d, width in sorted(zip(apart, widths, strict=True), reverse=True):
            boxes = _merged(boxes, d, width)
        found.append(tuple(boxes))
    return found


def _gaps(values: Sequence[int], alone: bool) -> list[int]:
    """Widths of gaps to merge across: none, those between neighbours, all."""
    between = sorted({b - a for a, b in itertools.pairwise(values)})
    if len(between) > _MOST_GAPS or not alone:
        between = [between[0]] if not alone else [between[0], between[len(between) // 2], between[-1]]
    return sorted({0, *between, values[-1] - values[0]})


def _merged(boxes: Sequence[Box], d: int, width: int) -> list[Box]:
    """Boxes that are alike but along dimension `d` joined, where they are no further apart than `width`."""
    rows: dict[Box, list[tuple[int, int, int]]] = {}
    for box in sorted(boxes, key=lambda b: b[d]):
        spans = rows.setdefault((*box[:d], *box[d + 1 :]), [])
        low, high, _ = box[d]
        if spans and low - spans[-1][1] <= width:
            spans[-1] = (spans[-1][0], max(high, spans[-1][1]), 1)
        else:
            spans.append((low, high, 1))
    return [(*rest[:d], span, *rest[d:]) for rest, spans in rows.items() for span in spans]
