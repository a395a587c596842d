"""Products of matrices for egglog, for the tests of its adapter; imported only where egglog is installed."""

from __future__ import annotations

from egglog import Expr, StringLike, function, i64Like


class Tensor(Expr):
    def __init__(self, name: StringLike) -> None: ...

    def __matmul__(self, other: Tensor) -> Tensor: ...  # type: ignore[empty-body]


@function
def tiled(a: Tensor, b: Tensor, size: i64Like, tile: i64Like) -> Tensor: ...  # type: ignore[empty-body]
