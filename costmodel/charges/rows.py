"""DRAM rows."""
from __future__ import annotations
import numpy as np

def run_bytes(strides, extents, itemsize, sector_bytes):
    c = np.abs(np.stack(np.broadcast_arrays(*(np.atleast_1d(x) for x in strides)))).astype(np.int64) * itemsize
    n = np.stack(np.broadcast_arrays(*(np.atleast_1d(x) for x in extents))).astype(np.int64)
    c, n = np.broadcast_arrays(c, n)
    order = np.argsort(c, axis=0, kind="stable")
    c, n = np.take_along_axis(c, order, 0), np.take_along_axis(n, order, 0)
    span = np.full(c.shape[1:], float(itemsize))
    for k in range(c.shape[0]):
        joins = (c[k] > 0) & (n[k] > 1) & (c[k] < span + sector_bytes)
        span = span + np.where(joins, c[k] * (n[k] - 1), 0)
    return np.maximum(np.ceil(span / sector_bytes) * sector_bytes, sector_bytes)
