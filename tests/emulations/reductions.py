"""Sums: the ladder, dot product, rows; softmax and layer normalisation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from costmodel.ir import Kernel
from tests.emulate import Point
from tests.emulations.base import LANES, Arrays, Emulation, beginning, normal, partner


def _tree(kernel: Kernel, sizes: Mapping[str, int], buffers: Arrays) -> Mapping[str, Callable[..., Any]]:
    """Blocks that keep a sum of each thread in `own` and halve it in shared memory."""
    kept = any(s.statement.name == "store sum" and not s.statement.loads for s in kernel.statements())

    def load(p: Point, *values: np.ndarray) -> None:
        own = p.state.setdefault("own", np.zeros(p.count))
        own[p.threads] += np.prod(values, axis=0)

    def own(p: Point) -> Any:
        return p.state.setdefault("own", np.zeros(p.count))[p.threads]

    def add(p: Point, *values: np.ndarray) -> Any:
        if kept:
            p.state["own"][p.threads] += values[0]
            return own(p)
        return values[0] + values[1]

    def shuffle(p: Point, ignored: np.ndarray) -> None:
        p.state["own"][p.threads] = own(p) + partner(p, p.state["own"], "shuffle")

    functions: dict[str, Callable[..., Any]] = {
        "load": load,
        "multiply": load,
        "store element": own,
        "store product": own,
        "shuffle": shuffle,
        "add the other half": _other_half,
    }
    functions |= {"store sum": own} if kept else {}
    names = {s.statement.name for s in kernel.statements()}
    return {name: f for name, f in functions.items() if name in names} | beginning(kernel, r"add \d", add)


def _other_half(p: Point, values: np.ndarray) -> None:
    p.state["own"][p.threads] += values


def _dot(b: Arrays, s: Mapping[str, Any]) -> Arrays:
    products = b["a"] * b["b"]
    return {"partial": np.array([products[n : n + s["B"]].sum() for n in range(0, s["N"], s["B"])])}


def _rows(kernel: Kernel, sizes: Mapping[str, int], buffers: Arrays) -> Mapping[str, Callable[..., Any]]:
    """Sums of a walk with a stride: shuffles in each warp, one value of each, shuffles again."""

    def own(p: Point) -> Any:
        if "own" not in p.state:
            p.state["own"] = p.registers["sum"][:, 0].astype(np.float64)
        return p.state["own"]

    def shuffle(p: Point, ignored: np.ndarray) -> None:
        own(p)[p.threads] = own(p)[p.threads] + partner(p, own(p), "shuffle")

    def arrived(p: Point, values: np.ndarray) -> None:
        own(p)[:LANES] = 0
        own(p)[p.threads] = values

    functions: dict[str, Callable[..., Any]] = {
        "add": lambda p, vector, total: total + vector.sum(-1),
        "shuffle": shuffle,
        "partial sum": lambda p: own(p)[p.threads],
        "partial sums": arrived,
        "store sum": lambda p: own(p)[p.threads],
        "add to total": lambda p: own(p)[p.threads],
    }
    names = {s.statement.name for s in kernel.statements()}
    return {name: f for name, f in functions.items() if name in names}


# --- softmax and layer normalisation, as PyTorch's kernels have them ----------------------------------

_NOTHING = {"maximum": -np.inf, "sum": 0.0}
_MERGE = {"maximum": np.maximum, "sum": np.add}


def _merged(p: Point, name: str) -> Any:
    """What each thread has of a reduction so far."""
    p.state["pass"] = name
    return p.state.setdefault(name, np.full(p.count, _NOTHING[name]))


def _by_shuffles(name: str) -> Callable[..., None]:
    def shuffle(p: Point, ignored: np.ndarray) -> None:
        own = _merged(p, name)
        own[p.threads] = _MERGE[name](own[p.threads], partner(p, own, "step"))

    return shuffle


def _arrived(p: Point, values: np.ndarray) -> None:
    """Lanes that have no warp take what changes nothing."""
    name, lane = p.state["pass"], p.threads % LANES
    p.state[name][p.threads] = np.where(lane < p.count // LANES, values, _NOTHING[name])


def _row_of_warp() -> Mapping[str, Callable[..., Any]]:
    def exponential(p: Point, x: np.ndarray) -> Any:
        e = np.exp(x - _merged(p, "maximum")[p.threads])
        _merged(p, "sum")[p.threads] += e
        return e

    def load(p: Point, x: np.ndarray) -> Any:
        own = _merged(p, "maximum")
        own[p.threads] = np.maximum(own[p.threads], x)
        return x

    return {"load": load, "exponential": exponential, "store": lambda p, e: e / _merged(p, "sum")[p.threads]}


def _row_of_block() -> Mapping[str, Callable[..., Any]]:
    def vectors(x: np.ndarray, p: Point) -> Any:
        return np.asarray(x, np.float64).reshape(p.threads.size, -1)

    def maximum(p: Point, x: np.ndarray) -> None:
        own = _merged(p, "maximum")
        own[p.threads] = np.maximum(own[p.threads], vectors(x, p).max(1))

    def total(p: Point, x: np.ndarray) -> None:
        most = p.state["maximum"][p.threads, None]
        _merged(p, "sum")[p.threads] += np.exp(vectors(x, p) - most).sum(1)

    def result(p: Point, x: np.ndarray) -> Any:
        most, whole = p.state["maximum"][p.threads, None], p.state["sum"][p.threads, None]
        return (np.exp(vectors(x, p) - most) / whole).reshape(x.shape)

    return {
        "maximum": maximum, "sum": total, "result": result, "partials": _arrived,
        "partial": lambda p: p.state[p.state["pass"]][p.threads],
    }  # fmt: skip


def _softmax(kernel: Kernel, sizes: Mapping[str, int], buffers: Arrays) -> Mapping[str, Callable[..., Any]]:
    shuffles = {f"{name} by shuffles": _by_shuffles(name) for name in _NOTHING}
    return {**shuffles, **(_row_of_warp() if dict(kernel.statics)["WIDTH"] else _row_of_block())}


def _layer_norm(kernel: Kernel, sizes: Mapping[str, int], buffers: Arrays) -> Mapping[str, Callable[..., Any]]:
    """Count, sum and sum of squares of each thread; a warp's partial is described as one value: here its number, which is looked up."""
    columns = sizes["H"] if "H" in sizes else sizes["N"]

    def own(p: Point) -> Any:
        return p.state.setdefault("own", np.zeros((p.count, 3)))

    def moments(p: Point, x: np.ndarray) -> None:
        x = x.astype(np.float64)
        own(p)[p.threads] += np.stack([np.full(len(x), x.shape[1]), x.sum(1), (x * x).sum(1)], 1)

    def shuffle(p: Point, ignored: np.ndarray) -> None:
        own(p)[p.threads] = own(p)[p.threads] + partner(p, own(p), "step")

    def partial(p: Point) -> Any:
        p.state["of warps"] = own(p)[p.threads].copy()
        return p.threads // LANES

    def partials(p: Point, warps: np.ndarray) -> None:
        known = p.threads % LANES < p.count // LANES
        own(p)[p.threads] = np.where(known[:, None], p.state["of warps"][np.where(known, warps, 0).astype(int)], 0)

    def result(p: Point, x: np.ndarray, gamma: np.ndarray, beta: np.ndarray) -> Any:
        n, total, squares = own(p)[p.threads].T[:, :, None]
        assert (n == columns).all()
        return gamma * (x - total / n) / np.sqrt(squares / n - (total / n) ** 2 + 1e-5) + beta

    return {"moments": moments, "moments by shuffles": shuffle, "partial": partial, "partials": partials, "result": result}


def softened(x: np.ndarray) -> Any:
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def normalised(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray) -> Any:
    return gamma * (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5) + beta


def _shape(s: Mapping[str, Any]) -> tuple[int, int]:
    return (s["B"], s["H"]) if "H" in s else (s["M"], s["N"])


_SOFTMAX = Emulation((), _softmax, lambda b, s: {"y": softened(b["x"].reshape(_shape(s)))}, normal, start={"row": -np.inf})
_NORM = Emulation((), _layer_norm, lambda b, s: {"y": normalised(b["x"].reshape(_shape(s)), b["gamma"], b["beta"])}, normal)
_TREE = {"N": 300, "B": 64}
REDUCTIONS: dict[str, Emulation] = {
    "dot_product": Emulation(({**_TREE, "PREDICATED": False},), _tree, _dot),
    **dict.fromkeys(("reduce_interleaved", "reduce_strided", "reduce_sequential"), Emulation((_TREE,), _tree)),
    "reduce_first_add": Emulation((_TREE,), _tree),
    "reduce_shuffle": Emulation((_TREE, {**_TREE, "B": 128}), _tree),
    "reduce_grid_stride": Emulation(({"N": 1000, "B": 64, "G": 3},), _rows, start={"sum": 0}, races=False),
    "row_sum_block": Emulation(({"M": 3, "N": 500, "B": 64},), _rows, start={"sum": 0}, races=False),
    "row_sum_warp": Emulation(({"M": 7, "N": 200, "B": 64},), _rows, start={"sum": 0}),
    "softmax": replace(
        _SOFTMAX,
        sizes=({"B": 5, "H": 50, "WIDTH": 64, "T": 128}, {"B": 2, "H": 1032, "WIDTH": 0, "T": 256}),
        tolerance=1e-6,
    ),
    "softmax_f16": replace(
        _SOFTMAX,
        sizes=({"M": 5, "N": 50, "WIDTH": 64, "T": 128}, {"M": 2, "N": 1032, "WIDTH": 0, "T": 128}),
        tolerance=1e-3,
    ),
    "layer_norm": replace(_NORM, sizes=({"B": 3, "H": 600},), tolerance=1e-5),
    "layer_norm_f16": replace(_NORM, sizes=({"M": 3, "N": 600},), tolerance=2e-3),
}
"""By name of the description."""
