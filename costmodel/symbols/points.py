"""Counting points and values of affine forms over boxes, on ints and on columns of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from costmodel.errors import UnsupportedError

__all__ = ["distinct_values", "passing_points"]

_MOST_POINTS = 1 << 22


def passing_points(*args: Any) -> Any:
    """Evaluate `Passing` on ints or equally long int arrays.

    All loops but the longest are enumerated; along the longest, each condition is an interval.

    Raises:
        UnsupportedError: more than four million points would have to be enumerated.
    """
    loops = int(args[0])
    table = np.stack([np.asarray(a, dtype=np.int64).reshape(-1) for a in np.broadcast_arrays(*args[1:])])
    flat, inverse = np.unique(table, axis=1, return_inverse=True) if table.shape[1] > 1 else (table, np.zeros(1, np.int64))
    extents, rows = flat[:loops], [flat[j : j + loops + 1] for j in range(loops, len(flat), loops + 1)]
    longest = max(range(loops), key=lambda j: int(extents[j].max()), default=0)
    short = [j for j in range(loops) if j != longest]
    most = [int(extents[j].max()) for j in short]
    if math.prod(most) * flat[0].size > _MOST_POINTS:
        raise UnsupportedError(
            f"a guard over loops of {', '.join(str(int(e.max())) for e in extents)} iterations would need "
            f"{math.prod(most):,} points to be enumerated; state its share with k.when(…, fraction=…)"
        )
    grid = np.indices(most or [1]).reshape(max(len(most), 1), -1)
    valid = np.ones((flat[0].size, grid.shape[1]), bool)
    low, high = np.zeros(valid.shape, np.int64), np.broadcast_to(extents[longest][:, None], valid.shape)
    for k, j in enumerate(short):
        valid &= grid[k] < extents[j][:, None]
    for constant, *coefficients in rows:
        value = constant[:, None] + sum((coefficients[j][:, None] * grid[k] for k, j in enumerate(short)), np.int64(0))
        c = coefficients[longest][:, None]
        up, down = -(value // np.maximum(c, 1)), value // np.maximum(-c, 1) + 1
        valid &= (c != 0) | (value < 0)
        high = np.where(c > 0, np.minimum(high, up), high)
        low = np.where(c < 0, np.maximum(low, down), low)
    total = np.where(valid, np.maximum(high - low, 0), 0).sum(axis=1)[inverse.reshape(-1)]
    return total if any(np.ndim(a) for a in args) else int(total[0])


def distinct_values(strides: Sequence[Any], extents: Sequence[Any]) -> tuple[Any, Any]:
    """Count distinct values of an affine form over a box, and say whether the count is exact.

    With strides ascending and span the largest value so far: a stride above the span multiplies the
    count (exact); a stride up to span + 1 over a gapless set extends it (exact); otherwise the count
    is at most `min(∏n, span/gcd + 1)`.

    Args:
        strides: ints or equally long int arrays, one for each loop; sign is irrelevant.
        extents: the same for the trip counts, each at least 1.

    Returns:
        `(count, exact)`, scalars or arrays like the input.

    Source: elementary; `tests/oracle.py` enumerates it.
    """
    if not strides:
        return 1, True
    if all(isinstance(v, int) for v in (*strides, *extents)):
        return _distinct_ints([abs(s) for s in strides], list(extents))
    together = np.broadcast_arrays(*strides, *extents)
    c = np.abs(np.stack(together[: len(strides)])).astype(np.int64)
    n = np.stack(together[len(strides) :]).astype(np.int64)
    n = np.where(c == 0, 1, n)
    c = np.where(n == 1, 0, c)
    order = np.argsort(c, axis=0, kind="stable")
    c, n = np.take_along_axis(c, order, 0), np.take_along_axis(n, order, 0)
    count = np.ones(c.shape[1:], np.int64)
    span = np.zeros_like(count)
    step = np.zeros_like(count)
    exact = np.ones(count.shape, bool)
    for ck, nk in zip(c, n, strict=True):
        step = np.gcd(step, ck)
        wider = span + ck * (nk - 1)
        disjoint = ck > span
        dense = (count - 1) * step == span
        reach = np.where(step > 0, wider // np.maximum(step, 1) + 1, 1)
        contiguous = exact & dense & (ck <= span + step)
        grown = np.where(disjoint, count * nk, np.minimum(count * nk, reach))
        exact &= disjoint | contiguous | (nk == 1)
        count = np.where(nk == 1, count, grown)
        span = wider
    return count, exact


def _distinct_ints(strides: list[int], extents: list[int]) -> tuple[int, bool]:
    pairs = sorted((c, n) for c, n in zip(strides, extents, strict=True) if c and n > 1)
    count, span, step, exact = 1, 0, 0, True
    for c, n in pairs:
        step = math.gcd(step, c)
        wider = span + c * (n - 1)
        if c > span:
            count *= n
        else:
            exact = exact and (count - 1) * step == span and c <= span + step
            count = min(count * n, wider // step + 1)
        span = wider
    return count, exact
