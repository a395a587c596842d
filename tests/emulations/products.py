"""Matrix products."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from costmodel.ir import Kernel
from tests.emulate import Point
from tests.emulations.base import LANES, Arrays, Emulation, plain


def _fma(p: Point, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> Any:
    return a * b + c


def _gemm_store(p: Point) -> Any:
    row, column = p["i"] * 4 + p["e"], p["j"] * 4 + np.arange(4)
    return p.registers["acc"][p.threads][:, row * p["TN"] + column]


def _clblast_update(p: Point, c: np.ndarray) -> Any:
    MWI = p["MWG"] // p["MDIMC"]
    column = p["i"] * p["VWM"] + np.arange(p["VWM"])
    own = p.registers["acc"][p.threads][:, (p["j"] * p["VWN"] + p["v"]) * MWI + column]
    return 2 * own.reshape(c.shape) + 3 * c


def _square(b: Arrays, s: Mapping[str, Any]) -> Arrays:
    return {"P": b["X"].reshape(s["N"], s["N"]) @ b["Y"].reshape(s["N"], s["N"])}


def _total(p: Point) -> Any:
    return p.registers["sum"][p.threads, 0]


def _loaded(p: Point, values: np.ndarray) -> None:
    p.state["loaded"] = p.of_block(values.reshape(p.threads.size, -1))


def _staged(p: Point) -> Any:
    return p.state["loaded"][p.threads, p["v"]]


def _library_tile(p: Point) -> Any:
    """The tile of a block of `linear` or `bmm`, slices added up."""
    BM, BN, TM, TN = p["BM"], p["BN"], p["TM"], p["TN"]
    across, along = BN // TN, BM // TM
    acc = p.registers["acc"].reshape(-1, along, across, TM // 4, 4, TN // 4, 4)  # slice, thread's place, its rows, its columns
    return acc.sum(0).transpose(2, 0, 3, 4, 1, 5).reshape(BM, BN)


def _library_result(p: Point) -> Any:
    deep = 8 * p["SLICES"]
    row, column = p["i"] * (p.count // (deep // p["V"])) + p["thread_y"], (p["j"] * (deep // p["V"]) + p["thread_x"]) * p["V"]
    tile = _library_tile(p)
    return tile[row[:, None], column[:, None] + np.arange(p["V"])] if p["V"] > 1 else tile[row, column]


def _dense(b: Arrays, s: Mapping[str, Any], transposed: bool) -> Arrays:
    """Y lies in an array with a row more or less of padding: what is not written stays."""
    B, M, N, K = s.get("B", 1), s["M"], s["N"], s["K"]
    x = b["X"][: B * M * K].reshape(B, M, K)
    w = b["W"][: B * N * K].reshape((B, N, K) if transposed else (B, K, N))
    y = b["Y"].copy()
    y[: B * M * N] = (x @ (w.transpose(0, 2, 1) if transposed else w)).reshape(-1)
    return {"Y": y}


_LINEAR = {"M": 32, "N": 32, "K": 48, "BM": 32, "BN": 32, "TM": 4, "TN": 8}


# --- matrix units: library_gemm --------------------------------------------------------------------


def fragment(p: Point, name: str, at: int) -> Any:
    """16 × 16 elements that the lanes of each warp loaded: row lane % 16, half lane // 16 of its columns; warps × 16 × 16."""
    own = p.registers[name][:, at * 8 : at * 8 + 8].reshape(-1, 2, 16, 8)
    return own.transpose(0, 2, 1, 3).reshape(-1, 16, 16)


def same(p: Point, loaded: np.ndarray, name: str, at: int) -> None:
    """A whole instruction is computed from the registers of its warps: the one that the description names must be the first of them."""
    assert np.array_equal(loaded, p.registers[name][p.threads, at], equal_nan=True), f"{name}[{at}]"


def of_lanes(tile: np.ndarray) -> Any:
    """Sums of each warp, warps × 16 × columns, as its lanes hold them (PTX ISA, mma.m16n8k16, and wgmma alike): threads × words.

    In each 8 columns a lane has words v = 0 … 3 at row lane // 4 + 8 (v // 2), column lane % 4 · 2 + v % 2.
    """
    warps, _, columns = tile.shape
    return tile.reshape(warps, 2, 8, columns // 8, 4, 2).transpose(0, 2, 4, 3, 1, 5).reshape(warps * LANES, columns // 2)


def of_warps(registers: np.ndarray) -> Any:
    """The inverse."""
    threads, words = registers.shape
    return registers.reshape(threads // LANES, 8, 4, words // 4, 2, 2).transpose(0, 4, 1, 3, 2, 5).reshape(-1, 16, words * 2)


def _mma(p: Point, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> Any:
    """One instruction of every warp, whose four sums of a lane are written here; the store names the first of them."""
    i, j = p["i"], p["j"]
    at = (i * (p["WN"] // 8) + j) * 4
    for loaded, name, first in ((a, "a", i * 8), (b, "b", j * 4), (c, "acc", at)):
        same(p, loaded, name, first)
    w = fragment(p, "b", j // 2)[:, j % 2 * 8 : j % 2 * 8 + 8]
    acc = p.registers["acc"][:, at : at + 4]
    acc += of_lanes(fragment(p, "a", i) @ w.transpose(0, 2, 1))
    return acc[:, 0]


def _mma_tile(p: Point) -> Any:
    WM, WN, BM, BN = p["WM"], p["WN"], p["BM"], p["BN"]
    words = p.registers["acc"].reshape(p.count, WM // 16, -1).transpose(1, 0, 2).reshape(p.count * WM // 16, -1)
    shaped = of_warps(words).reshape(WM // 16, BM // WM, BN // WN, 16, WN)
    return shaped.transpose(1, 0, 3, 2, 4).reshape(BM, BN)


def _operand_x(p: Point, x: np.ndarray) -> None:
    """64 × 16 of each warpgroup: 16 rows of a warp, in two halves."""
    p.state["x"] = x.reshape(-1, 4, 2, 16, 8).transpose(0, 1, 3, 2, 4).reshape(-1, 64, 16)


def _operand_w(p: Point, w: np.ndarray) -> None:
    """32 × 16 of each warpgroup: 8 rows of a warp, in four quarters."""
    part = w.reshape(-1, 4, 2, 2, 8, 4).transpose(0, 1, 4, 3, 2, 5).reshape(-1, 32, 16)  # lane // 16 · 4 within lane // 8 % 2 · 8
    p.state.setdefault("w", {})[p["j"]] = part


def _wgmma(p: Point, c: np.ndarray) -> Any:
    """The sums of a warpgroup are kept here, whole; the register named by the store gets one of them."""
    w = np.concatenate([p.state["w"][j] for j in range(p["WN"] // 32)], 1)
    sums = p.state.setdefault(("sums", p["i"]), np.zeros((p.count // 128, 64, p["WN"])))
    sums += p.state["x"] @ w.transpose(0, 2, 1)
    return np.repeat(sums[:, 0, 0], 128)


def _wgmma_tile(p: Point) -> Any:
    WM, WN, BM, BN = p["WM"], p["WN"], p["BM"], p["BN"]
    whole = np.stack([p.state["sums", i] for i in range(WM // 64)], 1).reshape(BM // WM, BN // WN, WM, WN)
    return whole.transpose(0, 2, 1, 3).reshape(BM, BN)


def _library_gemm(kernel: Kernel, sizes: Mapping[str, int], buffers: Arrays) -> Mapping[str, Callable[..., Any]]:
    wgmma = dict(kernel.statics)["INSTRUCTION"] == "wgmma"

    def result(p: Point) -> Any:
        pieces = p["BK"] // 8
        row, column = p["i"] * (p.count // pieces) + p["thread_y"], (p["j"] * pieces + p["thread_x"]) * 8
        return (_wgmma_tile if wgmma else _mma_tile)(p)[row[:, None], column[:, None] + np.arange(8)]

    if wgmma:
        return {"operand X": _operand_x, "operand W": _operand_w, "multiply": _wgmma, "result": result}
    return {"multiply": _mma, "result": result}


_GEMM = {"M": 32, "N": 32, "K": 24, "BM": 16, "BN": 16, "BK": 8, "TM": 4, "TN": 4}
_CLBLAST = {"M": 32, "N": 16, "K": 16, "MWG": 16, "NWG": 16, "KWG": 8, "KWI": 2, "VWM": 2, "VWN": 1}
_CLBLAST |= dict.fromkeys(("MDIMC", "NDIMC", "MDIMA", "NDIMB"), 4)
_LIBRARY = {"M": 64, "N": 64, "K": 64, "BM": 64, "BN": 32, "BK": 32, "WM": 32, "WN": 16, "STAGES": 3}


def _library_product(b: Arrays, s: Mapping[str, Any]) -> Arrays:
    return {"Y": b["X"].reshape(s["M"], s["K"]) @ b["W"].reshape(s["N"], s["K"]).T}


def _library_fma(load: bool) -> Callable[[Kernel, Mapping[str, int], Arrays], Mapping[str, Callable[..., Any]]]:
    return plain(load=_loaded, stage=_staged, multiply=_fma, result=_library_result)


PRODUCTS: dict[str, Emulation] = {
    "gemm": Emulation(
        (_GEMM, {**_GEMM, "TM": 8, "BM": 32}),
        plain(multiply=_fma, store_C=_gemm_store),
        start={"acc": 0},
    ),
    "gemm_clblast": Emulation(
        tuple({**_CLBLAST, "SA": a, "SB": b, "STRM": a, "STRN": b} for a in (0, 1) for b in (0, 1)),
        plain(multiply=lambda p, a, b, c: a * b + c, update_C=_clblast_update),
        lambda b, s: {"C": 2 * b["B"].reshape(s["K"], s["N"]).T @ b["A"].reshape(s["K"], s["M"]) + 3 * b["C"].reshape(s["N"], s["M"])},
        start={"acc": 0},
    ),
    **dict.fromkeys(
        ("matmul_naive", "matmul_naive_uncoalesced"),
        Emulation(({"N": 12, "T": 4},), plain(multiply=_fma, store=_total), _square, start={"sum": 0}),
    ),
    **dict.fromkeys(
        ("matmul_shared", "matmul_shared_uncoalesced"),
        Emulation(({"N": 16, "T": 8},), plain(multiply=_fma, store=_total), _square, start={"sum": 0}),
    ),
    "linear": Emulation(
        ({**_LINEAR, "SLICES": 1, "V": 4}, {**_LINEAR, "SLICES": 2, "V": 4}),
        _library_fma(True),
        lambda b, s: _dense(b, s, transposed=True),
        start={"acc": 0},
        races=False,
    ),
    "bmm": Emulation(
        ({**_LINEAR, "B": 2, "SLICES": 1, "V": 4},),
        _library_fma(True),
        lambda b, s: _dense(b, s, transposed=False),
        start={"acc": 0},
        races=False,
    ),
    "library_gemm": Emulation(
        (_LIBRARY, {**_LIBRARY, "BM": 32, "BK": 64, "K": 128, "N": 128}, {**_LIBRARY, "WM": 64, "WN": 32, "INSTRUCTION": "wgmma"},
         {**_LIBRARY, "M": 128, "N": 128, "BM": 128, "BN": 128, "WM": 64, "WN": 64, "INSTRUCTION": "wgmma"}),
        _library_gemm,
        _library_product,
        start={"acc": 0},
        races=False,
    ),
}  # fmt: skip
"""By name of the description."""
