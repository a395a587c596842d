"""NVIDIA's own estimate of a matrix product, where its wheel `nvidia-matmul-heuristics` is installed.

The wheel is proprietary and never a dependency. It predicts the time of the kernels that it would try for a shape; the
baseline is the least of them, as of a library that picks well. Both operands have their rows along K.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from costmodel.cost import DatasetMapping
from costmodel.device import Device
from costmodel.validate.baselines import SEED, Baseline, judged

__all__ = ["GPUS", "matmul_heuristics"]

GPUS = {
    "a100_sxm4_80gb": "A100_SXM_80GB",
    "a100_pcie_80gb": "A100_PCIE_80GB",
    "a40": "A40_PCIE",
    "h100_pcie": "H100_PCIE",
    "h100_sxm": "H100_SXM",
    "h200": "H200_SXM",
    "l4": "L4",
    "l40": "L40",
    "l40s": "L40S",
    "rtx_3090": "RTX_3090",
    "rtx_a6000": "RTX_A6000",
}
"""Our profiles among the GPUs that the wheel knows."""
_PRECISIONS = {"f16": "HSH", "bf16": "TST", "f32": "SSS"}
"""Letters of the wheel: type of the operands, of the sums, of the result."""
_SHAPE = ("M", "N", "K")
MOST_SHAPES = 2_000
_KERNELS = 8

Floats = npt.NDArray[np.float64]


def matmul_heuristics(
    mapping: DatasetMapping, device: Device, arguments: pd.DataFrame, times: Floats
) -> tuple[dict[str, Baseline], str]:
    """The vendor's least estimate for each shape, on at most `MOST_SHAPES` of them, or why there is none.

    Args:
        mapping: says the description, whose first buffer has the type of the operands.
        device: the GPU.
        arguments: of the rows that are judged, static ones included.
        times: their measured seconds.
    """
    if not set(_SHAPE) <= set(arguments.columns) or device.vendor.lower() != "nvidia":
        return {}, ""
    if not (arguments[list(_SHAPE)].nunique() > 1).any():
        return {}, "it estimates shapes; all rows have the same"
    if device.name not in GPUS:
        return {}, f"it does not know this GPU; it knows {', '.join(GPUS)}"
    try:
        import nvMatmulHeuristics as vendor  # noqa: N813  the vendor names it so
    except (ImportError, OSError):
        return {}, "nvidia-matmul-heuristics is not installed (proprietary, from PyPI)"
    precision = _PRECISIONS.get(_operands(mapping, arguments))
    if precision is None:
        return {}, "it does not know the type of the operands"
    rows = np.arange(len(times))
    if len(rows) > MOST_SHAPES:
        rows = np.sort(np.random.default_rng(SEED).choice(rows, MOST_SHAPES, replace=False))
    predicted = _estimates(vendor, GPUS[device.name], precision, arguments[list(_SHAPE)].iloc[rows])
    known = np.isfinite(predicted)
    if known.sum() < 2:
        return {}, "it has no estimate for these shapes"
    note = f"{int(known.sum()):,} shapes, {precision}"
    return {"nvidia_matmul_heuristics": judged(predicted[known], times[rows][known], seconds=True, note=note)}, ""


def _operands(mapping: DatasetMapping, arguments: pd.DataFrame) -> str:
    """The type of the first buffer."""
    static = {name: arguments[name].iloc[0] for name in mapping.description.static if name in arguments.columns}
    values = {n: v.item() if isinstance(v, np.generic) else v for n, v in static.items()}
    return mapping.description.trace(**values).buffers[0].dtype.name


def _estimates(vendor: Any, gpu: str, precision: str, shapes: pd.DataFrame) -> Floats:
    """Seconds of the best kernel of each shape; infinite where there is none."""
    interface = vendor.NvMatmulHeuristicsInterfaceEx(
        backend=vendor.NvMatmulHeuristicsTarget.GENERIC,
        flags=vendor.NvMatmulHeuristicsFlags.PERF_MODEL_BASED_AUTO_TUNING,
        gpu=vendor.NvMatmulHeuristicsNvidiaGpu[gpu],
    )
    layout = vendor.NvMatmulHeuristicsMatmulLayout.NT_ROW_MAJOR
    found = []
    for m, n, k in shapes.to_numpy().tolist():
        problem = interface.makeNvMatmulHeuristicsProblem(m, n, k, layout, 1)
        found.append(min((kernel["runtime"] for kernel in interface.get(problem, _KERNELS, precision)), default=np.inf))
    return np.array(found, dtype=np.float64)
