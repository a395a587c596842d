"""Element-wise kernels, copies, transposes, stencils, the convolution."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from costmodel.ir import Kernel
from tests.emulate import Point
from tests.emulations.base import Arrays, Emulation, normal, plain


def _add(p: Point, a: np.ndarray, b: np.ndarray) -> Any:
    return a + b


def _quarter(p: Point, *values: np.ndarray) -> Any:
    """The stencils' code weighs every point alike."""
    return 0.25 * np.sum(values, axis=0)


# --- convolution ---------------------------------------------------------------------------------


def _tap(p: Point, name: str, tiles: int, step: int) -> int:
    """How far along an axis from the thread's first a merged load reaches; loads beyond the last tile have no tile loop."""
    inner = p.named(f"{name}_tile")
    return int((inner[-1] if inner else tiles - 1) * step + p[name])


def _convolution(kernel: Kernel, sizes: Mapping[str, int], buffers: Arrays) -> Mapping[str, Callable[..., Any]]:
    F, weights = sizes["F"], buffers["filter"].reshape(sizes["F"], sizes["F"])
    staged = dict(kernel.statics)["SHMEM"]

    def read(p: Point, values: np.ndarray) -> None:
        down, across = _tap(p, "r", p["TY"], p["BY"]), _tap(p, "c", p["TX"], p["BX"])
        assert (down, across) not in p.state or not staged, "one load for each element that outputs share"
        p.state[down, across] = p.of_block(values)

    def multiply(p: Point, acc: np.ndarray) -> Any:
        i, j = divmod(p["tap"], F)
        return acc + weights[i, j] * p.state[p["yi"] * p["BY"] + i, p["xi"] * p["BX"] + j][p.threads]

    def store(p: Point) -> Any:
        return p.registers["acc"][p.threads, p["yi"] * p["TX"] + p["xi"]]

    return {"read tile" if staged else "read image": read, "multiply": multiply, "store": store}


_CONVOLUTION = {"NX": 20, "NY": 11, "BX": 8, "BY": 2, "TX": 2, "TY": 3, "F": 5, "READ_ONLY": 0}
_TRANSPOSE = ({"N": 16, "T": 8, "R": 4}, {"N": 24, "T": 8, "R": 8})


# --- operators of PyTorch --------------------------------------------------------------------------


def _gelu(x: np.ndarray) -> Any:
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


STREAMING: dict[str, Emulation] = {
    "vector_add": Emulation(({"N": 100, "B": 32},), plain(add=_add)),
    "copy": Emulation(({"N": 100, "B": 32, "V": 4}, {"N": 99, "B": 32, "V": 1})),
    **dict.fromkeys(("matrix_sum_coalesced", "matrix_sum_normal"), Emulation(({"N": 16, "T": 4},), plain(add=_add))),
    **dict.fromkeys(("transpose_naive", "transpose_shared", "transpose_padded"), Emulation(_TRANSPOSE)),
    "star3d": Emulation(({"NX": 14, "NY": 9, "NZ": 8, "BX": 4, "BY": 2, "BZ": 2, "R": 2},), plain(star=_quarter)),
    "box2d": Emulation(({"NX": 14, "NY": 9, "BX": 8, "BY": 4, "R": 1},), plain(box=_quarter)),
    "convolution_2d": Emulation(
        (
            {**_CONVOLUTION, "SHMEM": 1, "PAD": 0, "ALIGNED": 0},
            {**_CONVOLUTION, "SHMEM": 1, "PAD": 1, "BX": 4, "TX": 4, "BY": 4, "TY": 1, "ALIGNED": 0},
            {**_CONVOLUTION, "SHMEM": 0, "PAD": 0, "NX": 32, "NY": 12, "ALIGNED": 0},
            {**_CONVOLUTION, "SHMEM": 1, "PAD": 0, "NX": 32, "NY": 12, "ALIGNED": 1},
            {**_CONVOLUTION, "SHMEM": 0, "PAD": 0, "NX": 32, "NY": 12, "ALIGNED": 1},
        ),
        _convolution,
        start={"acc": 0},
    ),
    "elementwise": Emulation(
        ({"op": "add", "B": 3, "H": 200}, {"op": "gelu", "B": 3, "H": 200}),
        plain(add=_add, gelu=lambda p, x: _gelu(x)),
        lambda b, s: {"out": b["x"] + b["y"] if s["op"] == "add" else _gelu(b["x"])},
        normal,
        tolerance=1e-6,
    ),
    "gelu_f16": Emulation(
        ({"M": 3, "N": 200},), plain(gelu=lambda p, x: _gelu(x)), lambda b, s: {"out": _gelu(b["x"])}, normal, tolerance=1e-3
    ),
}
"""By name of the description."""
