"""Softmax, layer normalisation, copies and the Jacobi step as written by hand in CUDA."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from costmodel.ir import Kernel
from tests.emulate import Point
from tests.emulations.base import Arrays, Emulation, normal, partner


@dataclass(frozen=True)
class Reduction:
    """Over the lanes of each warp, or by way of shared memory over a block; each thread keeps its share in `state[name]`."""

    name: str
    merge: np.ufunc = np.add
    nothing: float = 0.0
    values: int = 1

    def own(self, p: Point) -> Any:
        """What the threads have so far: threads × values."""
        return p.state.setdefault(self.name, np.full((p.count, self.values), self.nothing))

    def take(self, p: Point, *values: np.ndarray) -> None:
        """Merge what each active thread has found, elements × values."""
        own = self.own(p)
        for at, found in enumerate(values):
            found = np.reshape(found, (p.threads.size, -1)).astype(np.float64)
            own[p.threads, at] = self.merge(own[p.threads, at], self.merge.reduce(found, axis=1))

    def of(self, p: Point, at: int = 0) -> Any:
        """The result, or what there is of it, for each active thread, as a column."""
        return self.own(p)[p.threads, at][:, None]

    def functions(self, kernel: Kernel) -> dict[str, Callable[..., Any]]:
        """Of the statements that shuffle and that pass through shared memory."""

        def shuffle(p: Point, ignored: np.ndarray) -> None:
            own, at = self.own(p), p["value"] if p.named("value") else 0
            own[p.threads, at] = self.merge(own[p.threads, at], partner(p, own[:, at], "step"))

        def partial(p: Point, *loaded: np.ndarray) -> Any:
            """One value of each warp out, and those of all warps in; a lane that has no warp takes nothing."""
            own = self.own(p)
            if not loaded:
                return own[p.threads] if self.values > 1 else own[p.threads, 0]
            own[...] = self.nothing
            own[p.threads] = loaded[0].reshape(p.threads.size, -1)
            return None

        names = {s.statement.name for s in kernel.statements()}
        given: dict[str, Callable[..., Any]] = {f"{self.name} by shuffles": shuffle, f"partial {self.name}": partial}
        return {name: f for name, f in given.items() if name in names}


_MOST, _SUM = Reduction("maximum", np.maximum, -np.inf), Reduction("sum")
_SQUARES, _MOMENTS = Reduction("squares"), Reduction("moments", values=2)


def _softmax_warp(kernel: Kernel, sizes: Mapping[str, int], buffers: Arrays) -> Mapping[str, Callable[..., Any]]:
    def load(p: Point, x: np.ndarray) -> Any:
        _MOST.take(p, x)
        return x

    def exponential(p: Point, x: np.ndarray) -> Any:
        e = np.exp(x - _MOST.of(p)[:, 0])
        _SUM.take(p, e)
        return e

    own = {"load": load, "exponential": exponential, "store": lambda p, e: e / _SUM.of(p)}
    return {**own, **_MOST.functions(kernel), **_SUM.functions(kernel)}


def _softmax_block(kernel: Kernel, sizes: Mapping[str, int], buffers: Arrays) -> Mapping[str, Callable[..., Any]]:
    staged, online = (dict(kernel.statics)[name] for name in ("STAGED", "ONLINE"))

    def first(p: Point, x: np.ndarray) -> Any:
        before = _MOST.of(p)
        _MOST.take(p, x)
        if online:
            after = _MOST.of(p)
            _SUM.own(p)[p.threads] *= np.exp(before - after)
            _SUM.take(p, np.exp(x - after))
            p.state["of thread"] = _MOST.own(p).copy()
        return x if staged else None

    def exponentials(p: Point, x: np.ndarray) -> Any:
        e = np.exp(x - _MOST.of(p))
        _SUM.take(p, e)
        return e if staged else None

    def rescale(p: Point) -> None:
        found = np.isfinite(p.state["of thread"])  # a thread may have had no element
        _SUM.own(p)[found] *= np.exp(p.state["of thread"] - _MOST.own(p))[found]

    def result(p: Point, held: np.ndarray) -> Any:
        e = held if staged and not online else np.exp(held - _MOST.of(p))
        return e / _SUM.of(p)

    own: dict[str, Callable[..., Any]] = {"first pass": first, "result": result}
    own |= {"rescale": rescale} if online else {"exponentials": exponentials}
    return {**own, **_MOST.functions(kernel), **_SUM.functions(kernel)}


def _norm_warp(kernel: Kernel, sizes: Mapping[str, int], buffers: Arrays) -> Mapping[str, Callable[..., Any]]:
    def load(p: Point, x: np.ndarray) -> Any:
        _SUM.take(p, x)
        return x

    own: dict[str, Callable[..., Any]] = {
        "load": load,
        "difference": lambda p, x: x - _SUM.of(p)[:, 0] / p["N"],
        "squares": lambda p, left: _SQUARES.take(p, left.astype(np.float64) ** 2),
        "result": lambda p, left, gamma, beta: left / np.sqrt(_SQUARES.of(p) / p["N"] + 1e-5) * gamma + beta,
    }
    return {**own, **_SUM.functions(kernel), **_SQUARES.functions(kernel)}


def _norm_block(kernel: Kernel, sizes: Mapping[str, int], buffers: Arrays) -> Mapping[str, Callable[..., Any]]:
    staged = dict(kernel.statics)["STAGED"]

    def add(p: Point, x: np.ndarray) -> Any:
        _SUM.take(p, x)
        return x

    def moments(p: Point, x: np.ndarray) -> None:
        _MOMENTS.take(p, x, x.astype(np.float64) ** 2)

    def result(p: Point, x: np.ndarray, gamma: np.ndarray, beta: np.ndarray) -> Any:
        if staged:
            mean, variance = _SUM.of(p) / p["N"], _SQUARES.of(p) / p["N"]
        else:
            mean = _MOMENTS.of(p) / p["N"]
            variance = _MOMENTS.of(p, 1) / p["N"] - mean**2
        return (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta

    if not staged:
        return {"moments": moments, "result": result, **_MOMENTS.functions(kernel)}
    squares = {"squares": lambda p, x: _SQUARES.take(p, (x - _SUM.of(p) / p["N"]) ** 2)}
    return {"sum": add, **squares, "result": result, **_SUM.functions(kernel), **_SQUARES.functions(kernel)}


def _jacobi(kernel: Kernel, sizes: Mapping[str, int], buffers: Arrays) -> Mapping[str, Callable[..., Any]]:
    """The point's column moves up by one in the registers."""

    def step(p: Point, *values: np.ndarray) -> Any:
        if dict(kernel.statics)["STAGED"]:
            *around, below, own, above = values
            return 0.4 * own + 0.1 * (np.sum(around, axis=0) + below + above)
        above, *around, below, own = values
        return 0.4 * own + 0.1 * (np.sum(around, axis=0) + below + above), own, above

    moves = {"move up": lambda p, own, above: (own, above)} if dict(kernel.statics)["STAGED"] else {}
    return {"step": step, **moves}


_ROWS = {"M": 5, "N": 200, "B": 64}
HANDWRITTEN: dict[str, Emulation] = {
    "strided_copy": Emulation(({"N": 100, "B": 32, "V": 2, "S": 3},)),
    "gathered_copy": Emulation(({"N": 256, "B": 16, "V": 4, "R": 32, "C": 4},)),
    "row_softmax_warp": Emulation(({**_ROWS, "EACH": 2},), _softmax_warp, values=normal, tolerance=1e-6),
    "row_softmax_block": Emulation(
        tuple({**_ROWS, "M": 2, "N": 1000, "STAGED": staged, "ONLINE": online} for staged in (1, 0) for online in (0, 1)),
        _softmax_block,
        values=normal,
        tolerance=1e-6,
    ),
    "row_layer_norm_warp": Emulation(({**_ROWS, "EACH": 2},), _norm_warp, values=normal, tolerance=1e-5),
    "row_layer_norm_block": Emulation(
        tuple({**_ROWS, "M": 2, "N": 1000, "STAGED": staged} for staged in (0, 1)), _norm_block, values=normal, tolerance=1e-5
    ),
    "jacobi_3d": Emulation(
        tuple({"NX": 21, "NY": 11, "NZ": 8, "BX": 8, "BY": 4, "DEPTH": 3, "STAGED": staged} for staged in (1, 0)),
        _jacobi,
        tolerance=1e-6,
    ),
}
"""By name of the description."""
