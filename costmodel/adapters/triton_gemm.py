"""Triton's product of matrices, described already: `gemm_triton` and how configurations become its arguments.

`gemm_triton` wants to know what the compiler decides: which instruction multiplies, and how warps are laid out over a tile. Both
follow from the tile and the warps, as `gemm_triton` requires; the test reads them from what Triton 3.7.1 compiles for sm_80 and
sm_90. Source: Triton, `lib/Dialect/TritonGPU/Transforms/AccelerateMatmul.cpp`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from costmodel.adapters.ranking import Config
from costmodel.cost import find_description
from costmodel.device import Device, find_device
from costmodel.errors import UnsupportedError
from costmodel.ir import Description

__all__ = ["triton_gemm"]

_DTYPES = {"torch.float16": "f16", "torch.bfloat16": "bf16", "f16": "f16", "bf16": "bf16"}
_WGMMA_ROWS, _MMA_ROWS, _MMA_COLUMNS = 64, 16, 8
"""Of the smallest tile of an instruction; source: PTX ISA, `wgmma.mma_async`, `mma.sync.m16n8k16`."""
_WARPGROUP = 4
_NAMES = {
    "M": "M", "N": "N", "K": "K", "BM": "BLOCK_M", "BN": "BLOCK_N", "BK": "BLOCK_K", "GROUP": "GROUP_M", "WARPS": "num_warps",
    "STAGES": "num_stages", "DTYPE": "dtype",
}  # fmt: skip
"""Inductor's parameter for each argument of the description."""


def triton_gemm(
    device: Device | str, names: Mapping[str, Any] | None = None
) -> tuple[Description, Callable[[Config], Mapping[str, Any]]]:
    """A description and its sizes, for any adapter.

    Args:
        device: the GPU that is predicted, or its name: it says which instruction multiplies.
        names: of arguments, the host's parameter or a value, where they are not Inductor's (`BLOCK_M`, `GROUP_M`, `dtype`, …).

    Example:
        >>> from costmodel.adapters.ranking import Pricer
        >>> from costmodel.adapters.triton_gemm import triton_gemm
        >>> gemm, sizes = triton_gemm("H100", {"BM": "BM", "BN": "BN", "BK": 64, "GROUP": 8, "DTYPE": "f16"})
        >>> configs = [{"BM": b, "BN": 128, "num_warps": 8, "num_stages": s} for b in (64, 128) for s in (3, 9)]
        >>> problem = {"M": 4096, "N": 4096, "K": 4096}
        >>> Pricer(gemm, "H100", sizes).price([{**problem, **c} for c in configs]).launches.tolist()
        [True, True, True, False]
    """
    found = device if isinstance(device, Device) else find_device(device)
    return find_description("gemm_triton"), _Sizes(found, {**_NAMES, **(names or {})})


@dataclass(frozen=True)
class _Sizes:
    """Arguments of `gemm_triton` for a configuration."""

    device: Device
    names: Mapping[str, Any]

    def __call__(self, config: Config) -> Mapping[str, Any]:
        given = {n: config.get(p, p) if isinstance(p, str) else p for n, p in self.names.items()}
        dtype = _DTYPES.get(str(given["DTYPE"]))
        if dtype is None:
            raise UnsupportedError(f"gemm_triton: dtype {given['DTYPE']!r}: expected one of {', '.join(_DTYPES)}")
        asynchronous = (
            self.device.throughput.asynchronous_matrix and given["BM"] >= _WGMMA_ROWS and given["WARPS"] % _WARPGROUP == 0
        )
        along_rows = min(given["WARPS"], given["BM"] // _MMA_ROWS)
        down = along_rows if asynchronous else _rows_of_warps(given["BM"], given["BN"], given["WARPS"])
        return {**given, "DTYPE": dtype, "DOWN": down, "INSTRUCTION": "wgmma" if asynchronous else "mma"}


def _rows_of_warps(rows: int, columns: int, warps: int) -> int:
    """Warps along the rows of a tile: the longer side of a warp's part, counted in instructions, is halved; rows first."""
    down, across = 1, 1
    while down * across < warps:
        if rows // _MMA_ROWS // down >= columns // _MMA_COLUMNS // across:
            down *= 2
        else:
            across *= 2
    return down
