"""Descriptions of what Triton makes of its kernels: products on matrix units, softmax and layer normalisation in registers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from costmodel.dtypes import f16
from costmodel.ir import Kernel
from tests.emulate import Point, rounded
from tests.emulations.base import LANES, Arrays, Emulation, beginning, normal
from tests.emulations.products import fragment, of_lanes, of_warps, same

# --- GEMM ----------------------------------------------------------------------------------------


def _accumulate(p: Point, name: str, at: int, sums: np.ndarray) -> Any:
    """Add a tile of each warp, 16 × columns, to its lanes' registers; returns the register that the description names."""
    words = of_lanes(sums)
    p.registers[name][:, at : at + words.shape[1]] += words
    return p.registers[name][:, at]


def _multiply(p: Point, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> Any:
    """`mma` of every warp; the second operand was turned round by its load: depth × columns."""
    i, j, wide = p["i"], p["j"], p["BN"] // (8 * (p["WARPS"] // p["DOWN"]))
    for loaded, name, first in ((a, "a", i * 8), (b, "b", j * 4), (c, "acc", (i * wide + j) * 4)):
        same(p, loaded, name, first)
    w = fragment(p, "b", j // 2)[:, :, j % 2 * 8 : j % 2 * 8 + 8]
    return _accumulate(p, "acc", (i * wide + j) * 4, fragment(p, "a", i) @ w)


def _first_operand(p: Point, x: np.ndarray) -> None:
    """16 × 16 of each warp."""
    p.state["x"] = x.reshape(-1, 2, 16, 8).transpose(0, 2, 1, 3).reshape(-1, 16, 16)


def _by_depth(p: Point, w: np.ndarray) -> None:
    """16 × 64 of four warps, four rows each."""
    p.state.setdefault("w", {})[p["j"]] = w.reshape(-1, 16, 64)


def _second_operand(p: Point) -> Any:
    """What four warps share, for each of them."""
    w = p.state.pop("w")
    return np.repeat(np.concatenate([w[j] for j in sorted(w)], -1), 4, 0)


def _wgmma(p: Point, c: np.ndarray) -> Any:
    w = _second_operand(p)
    _accumulate(p, "acc", p["i"] * w.shape[2] // 2, p.state["x"] @ w)
    return p.registers["acc"][:, p["i"]]


def _leaving(tile: Callable[[Point], np.ndarray]) -> Callable[[Point], np.ndarray]:
    """Pieces of the finished tile by rows, one for each thread."""
    return lambda p: tile(p).reshape(-1, 8)[p["piece"] * p.count + p.threads]


def _gemm_tile(p: Point) -> Any:
    down, across = p["DOWN"], p["WARPS"] // p["DOWN"]
    high = p["BM"] // (16 * down)
    parts = of_warps(
        p.registers["acc"].reshape(p.count * high, -1).reshape(p.count, high, -1).transpose(1, 0, 2).reshape(high * p.count, -1)
    )
    if p["INSTRUCTION"] == "wgmma":
        shaped = parts.reshape(high, across, down, 16, -1).transpose(0, 2, 3, 1, 4)
    else:
        shaped = parts.reshape(high, down, across, 16, -1, 8).transpose(0, 1, 3, 4, 2, 5)
    return shaped.reshape(p["BM"], p["BN"])


def _gemm(kernel: Kernel, sizes: Mapping[str, int], buffers: Arrays) -> Mapping[str, Callable[..., Any]]:
    common: dict[str, Callable[..., Any]] = {
        "zeros": lambda p: 0,
        "exchange": _leaving(_gemm_tile),
        "advance": lambda p, pointer: pointer,
    }
    if dict(kernel.statics)["INSTRUCTION"] == "wgmma":
        return {**common, "operand A": _first_operand, "operand B": _by_depth, "multiply": _wgmma}
    return {**common, "multiply": _multiply}


# --- attention -------------------------------------------------------------------------------------


def _scores(p: Point, q: np.ndarray, b: np.ndarray, c: np.ndarray) -> Any:
    i, j = p["i"], p["j"]
    at = (i * (p["BN"] // 8) + j) * 4
    for loaded, name, first in ((q, "q", i * 8), (b, "k", j * 4), (c, "scores", at)):
        same(p, loaded, name, first)
    if p["kk"] == 0:
        p.registers["scores"][:, at : at + 4] = 0
    keys = fragment(p, "k", j // 2)[:, j % 2 * 8 : j % 2 * 8 + 8]
    return _accumulate(p, "scores", at, fragment(p, "q", i) @ keys.transpose(0, 2, 1))


def _operand_k(p: Point, w: np.ndarray) -> None:
    """32 keys × 16 of four warps, 8 keys of each, in four quarters."""
    part = w.reshape(-1, 4, 2, 2, 8, 4).transpose(0, 1, 4, 3, 2, 5).reshape(-1, 32, 16)
    p.state.setdefault("w", {})[p["j"]] = part.transpose(0, 2, 1)


def _wgmma_scores(p: Point, c: np.ndarray) -> Any:
    i, words = p["i"], p["BN"] // 2
    if p["kk"] == 0:
        p.registers["scores"][:, i * words : (i + 1) * words] = 0
    _accumulate(p, "scores", i * words, p.state["x"] @ _second_operand(p))
    return p.registers["scores"][:, i]


def _online(p: Point) -> dict[Any, Any]:
    """Maximum and sum of each thread's rows, and those of the step."""
    state, shape = p.state, (p.count, p["BM"] // (8 * p["WARPS"]))
    state.setdefault("most", np.full(shape, -np.inf))
    state.setdefault("total", np.zeros(shape))
    if state.get("step") != p["step"]:
        state["step"], state["higher"], state["part"] = p["step"], state["most"].copy(), np.zeros(shape)
    return state


def _maximum(p: Point, s: np.ndarray) -> Any:
    state, lane, warp = _online(p), p.threads % LANES, p.threads // LANES
    row = p["block_x"] * p["BM"] + (p["i"] * p["WARPS"] + warp) * 16 + p["h"] * 8 + lane // 4
    key = p["step"] * p["BN"] + p["j"] * 8 + lane % 4 * 2 + p["w"]
    seen = (key < p["S"]) & (row >= key) if p["CAUSAL"] else key < p["S"]
    s = np.where(seen, s / np.sqrt(p["D"]), -np.inf)
    own = p["i"] * 2 + p["h"]
    state["higher"][:, own] = np.maximum(state["higher"][:, own], s)
    return s


def _over_lanes(name: str, merge: Callable[..., Any]) -> Callable[..., None]:
    def shuffle(p: Point, ignored: np.ndarray) -> None:
        values = p.state[name]
        values[:, p["row"]] = merge(values[:, p["row"]], values[p.threads ^ (2 >> p["step_of_lanes"]), p["row"]])

    return shuffle


def _shrink(p: Point) -> None:
    state, row = p.state, p["row"]
    state.setdefault("shrink", np.zeros_like(state["most"]))[:, row] = np.exp(state["most"][:, row] - state["higher"][:, row])
    state["most"][:, row] = state["higher"][:, row]


def _exponential(p: Point, s: np.ndarray) -> Any:
    own = p["i"] * 2 + p["h"]
    e = np.exp(s - p.state["most"][:, own])
    p.state["part"][:, own] += e
    return rounded(e, f16)


def _rescale(p: Point, acc: np.ndarray) -> Any:
    state, own = p.state, p["i"] * 2 + p["h"]
    if p["j"] == p["w"] == 0:
        state["total"][:, own] = state["total"][:, own] * state["shrink"][:, own] + state["part"][:, own]
    return acc * state["shrink"][:, own]


def _weights(p: Point) -> Any:
    """16 rows of each warp for 16 keys."""
    at = (p["i"] * (p["BN"] // 8) + p["kk"] * 2) * 4
    return of_warps(p.registers["weights" if "weights" in p.registers else "scores"][:, at : at + 8])


def _values(p: Point, weights: np.ndarray, v: np.ndarray, c: np.ndarray) -> Any:
    i, j, keys = p["i"], p["j"], p["BN"] // 8
    at = (i * (p["D"] // 8) + j) * 4
    for loaded, name, first in ((weights, "scores", (i * keys + p["kk"] * 2) * 4), (v, "v", j * 4), (c, "acc", at)):
        same(p, loaded, name, first)
    w = fragment(p, "v", j // 2)[:, :, j % 2 * 8 : j % 2 * 8 + 8]
    return _accumulate(p, "acc", at, _weights(p) @ w)


def _wgmma_values(p: Point, weights: np.ndarray, c: np.ndarray) -> Any:
    _accumulate(p, "acc", p["i"] * p["D"] // 2, _weights(p) @ _second_operand(p))
    return p.registers["acc"][:, p["i"]]


def _divide(p: Point, acc: np.ndarray) -> Any:
    i, within = divmod(p["element"], p["D"] // 2)
    return acc / p.state["total"][:, i * 2 + within % 4 // 2]


def _attention_tile(p: Point) -> Any:
    each = p["BM"] // (16 * p["WARPS"])
    words = p.registers["acc"].reshape(p.count, each, -1).transpose(1, 0, 2).reshape(each * p.count, -1)
    return of_warps(words).reshape(p["BM"], p["D"])


def _attention(kernel: Kernel, sizes: Mapping[str, int], buffers: Arrays) -> Mapping[str, Callable[..., Any]]:
    common: dict[str, Callable[..., Any]] = {
        "maximum": _maximum, "maximum by shuffles": _over_lanes("higher", np.maximum), "shrink": _shrink,
        "exponential": _exponential, "sum by shuffles": _over_lanes("part", np.add), "rescale": _rescale, "divide": _divide,
        "exchange": _leaving(_attention_tile), "zeros": lambda p: 0,
    }  # fmt: skip
    if dict(kernel.statics)["INSTRUCTION"] == "wgmma":
        own = {"operand Q": _first_operand, "operand K": _operand_k, "scores": _wgmma_scores}
        return {**common, **own, "operand V": _by_depth, "multiply": _wgmma_values}
    return {**common, "scores": _scores, "multiply": _values}


# --- rows in registers -------------------------------------------------------------------------------


def _reductions(kernel: Kernel, names: Mapping[str, Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    """Through lanes, shared memory, lanes again and back; the value of each thread is kept by the reduction's name."""
    functions: dict[str, Callable[..., Any]] = {}
    for name, merge in names.items():

        def shuffle(p: Point, ignored: np.ndarray, name: str = name, merge: Callable[..., Any] = merge) -> None:
            own, lanes = p.state[name], p.state.get(f"lanes of {name}", LANES)
            own[p.threads] = merge(own[p.threads], own[p.threads ^ (lanes // 2 >> p["step"])])

        def held(p: Point, name: str = name) -> Any:
            return p.state[name][p.threads]

        def arrived(p: Point, values: np.ndarray, name: str = name) -> None:
            p.state[f"lanes of {name}"] = p["WARPS"]
            p.state[name][p.threads] = values

        functions |= {f"{name} by shuffles": shuffle, f"partial {name}": held, f"whole {name}": held}
        functions |= {f"partials of {name}": arrived, f"{name} of the row": arrived}
    return {name: f for name, f in functions.items() if beginning(kernel, name, f)}


def _softmax(kernel: Kernel, sizes: Mapping[str, int], buffers: Arrays) -> Mapping[str, Callable[..., Any]]:
    def load(p: Point, x: np.ndarray) -> Any:
        own = p.state.setdefault("maximum", np.full(p.count, -np.inf))
        own[p.threads] = np.maximum(own[p.threads], x.max(1))
        return x

    def exponential(p: Point, x: np.ndarray) -> Any:
        e = np.exp(x - p.state["maximum"])
        p.state.setdefault("sum", np.zeros(p.count))[...] += e
        return e

    own = {"load": load, "exponential": exponential, "result": lambda p, e: e / p.state["sum"][p.threads, None]}
    return {**own, **_reductions(kernel, {"maximum": np.maximum, "sum": np.add})}


def _layer_norm(kernel: Kernel, sizes: Mapping[str, int], buffers: Arrays) -> Mapping[str, Callable[..., Any]]:
    def mean(p: Point) -> Any:
        return (p.state["sum"][p.threads] / p["N"])[:, None]

    def add_up(p: Point) -> None:
        name, array = ("squares", "squares") if "sum" in p.state else ("sum", "total")
        p.state[name] = p.registers[array].sum(1, dtype=np.float64)

    def result(p: Point, gamma: np.ndarray, beta: np.ndarray, x: np.ndarray) -> Any:
        return (x - mean(p)) / np.sqrt(p.state["squares"][p.threads] / p["N"] + 1e-5)[:, None] * gamma + beta

    own: dict[str, Callable[..., Any]] = {
        "sum": lambda p, x, kept: kept + x, "squares": lambda p, x, kept: kept + (x - mean(p)) ** 2, "add up": add_up, "result": result,
    }  # fmt: skip
    return {**own, **_reductions(kernel, {"sum": np.add, "squares": np.add})}


_GEMM = {"GROUP": 2, "STAGES": 2, "DTYPE": "f16"}
_MMA = {**_GEMM, "INSTRUCTION": "mma", "M": 40, "N": 48, "K": 48, "BM": 32, "BN": 32, "BK": 32, "WARPS": 2, "DOWN": 1}
_WGMMA = {**_GEMM, "INSTRUCTION": "wgmma", "M": 100, "N": 144, "K": 48, "BM": 64, "BN": 64, "BK": 32, "WARPS": 4, "DOWN": 4}
_HEADS = {"H": 2, "S": 50, "D": 64, "BM": 64, "BN": 32, "WARPS": 2, "STAGES": 2, "CAUSAL": 0, "INSTRUCTION": "mma"}
_GROUPS = {**_HEADS, "WARPS": 4, "INSTRUCTION": "wgmma"}
_SOFT = Emulation((), _softmax, values=normal, start={"own": -np.inf})
_NORM = Emulation((), _layer_norm, values=normal, start={"total": 0, "squares": 0})
TRITON: dict[str, Emulation] = {
    "gemm_triton": Emulation(
        (
            _MMA,
            {**_MMA, "DTYPE": "bf16", "BM": 64, "N": 80, "BN": 64, "K": 64, "BK": 64, "WARPS": 4, "DOWN": 2, "STAGES": 3},
            _WGMMA,
            {**_WGMMA, "M": 64, "BN": 128, "WARPS": 8},
            {**_WGMMA, "BM": 128, "WARPS": 8, "DOWN": 8, "DTYPE": "bf16"},
        ),
        _gemm,
        start={"acc": 0},
        tolerance=4e-3,
    ),
    "attention_triton": Emulation(
        (
            _HEADS,
            {**_HEADS, "H": 1, "S": 128, "WARPS": 4, "CAUSAL": 1},
            _GROUPS,
            {**_GROUPS, "S": 128, "BM": 128, "BN": 64, "CAUSAL": 1},
        ),
        _attention,
        values=normal,
        start={"acc": 0},
        tolerance=2e-3,
    ),
    "softmax_triton": replace(
        _SOFT,
        sizes=(
            {"M": 2, "N": 400, "W": 512, "WARPS": 2},
            {"M": 3, "N": 128, "W": 128, "WARPS": 1},
            {"M": 2, "N": 1024, "W": 1024, "WARPS": 4, "DTYPE": "f16"},
        ),
        tolerance=1e-3,
    ),
    "layer_norm_triton": replace(
        _NORM,
        sizes=(
            {"M": 2, "N": 400, "W": 256, "WARPS": 2},
            {"M": 3, "N": 160, "W": 128, "WARPS": 1},
            {"M": 2, "N": 1040, "W": 1024, "WARPS": 4, "DTYPE": "f16"},
        ),
        tolerance=2e-3,
    ),
}
"""By name of the description."""
