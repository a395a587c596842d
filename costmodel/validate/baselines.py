"""What stands beside the model: simpler models on the same counts, another GPU, and learners that saw measurements.

Each baseline is judged like the model, on the rows it has a prediction for; `absent` says why one is not there.
`other_gpu` and `trees` need measurements of the same kernel, which the model does not: they are what zero-shot has to beat.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from costmodel.cost import Scores
from costmodel.device import Device
from costmodel.validate.metrics import metrics

__all__ = ["BASELINES", "Baseline", "Others", "counted", "judged", "other_gpu", "trees"]

BASELINES = {
    "bytes": "requested global and shared bytes, each over its bandwidth (luminal's proposal)",
    "unweighted_bytes": "the same bytes, simply added",
    "roofline": "arithmetic, L2 and DRAM at their peaks, the slowest of them",
    "carver": "coalesced bytes of a block times whole waves (TileLang's Carver)",
    "other_gpu": "times of the same configurations measured on another GPU: the one that ranks best",
    "other_gpu_median": "the same, the median over the other GPUs",
    "trees": "gradient boosted trees trained on 500 measurements of the same space, judged on the others",
    "nvidia_matmul_heuristics": "NVIDIA's own estimate of its best kernel for the shape",
}
"""Name and meaning of what stands beside the model."""
TRAINED_ROWS = 500
LEAST_ROWS = 2 * TRAINED_ROWS
LEAST_COMMON = 10
SEED = 0
_TREES = {"max_iter": 300, "max_leaf_nodes": 15, "min_samples_leaf": 5}
"""Small leaves, for there are few rows: stronger on the development data than the library's own choice."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Baseline:
    """How something simpler, or something that saw measurements, does; NaN where it gives every row the same time."""

    rho: float
    tau: float
    top1: float
    top5: float
    top10: float
    mape: float = math.nan
    """NaN where it predicts an order only, not seconds."""
    n: int = 0
    """Rows it was judged on."""
    note: str = ""
    """Which GPU, what it was trained on."""


@dataclass(frozen=True, slots=True, eq=False)
class Others:
    """The same kernel on another GPU."""

    device: str
    table: pd.DataFrame
    """The arguments of the description, and `time_ms`."""


def judged(predicted: Floats, times: Floats, *, seconds: bool = False, note: str = "") -> Baseline:
    """The figures of a baseline; `seconds` says that its predictions are meant in the unit of the times."""
    m = metrics(predicted, times)
    return Baseline(m.rho, m.tau, m.top1, m.top5, m.top10, m.mape if seconds else math.nan, m.n, note)


def counted(scores: Scores, device: Device, ran: npt.NDArray[np.bool_], times: Floats) -> dict[str, Baseline]:
    """The baselines that use the model's own counts.

    Args:
        scores: of all rows.
        device: the GPU.
        ran: rows that are judged.
        times: measured seconds of those.
    """
    return {
        "bytes": judged(scores.bytes[ran], times, seconds=True),
        "unweighted_bytes": judged(scores.unweighted_bytes[ran], times),
        "roofline": judged(scores.roofline_s[ran], times, seconds=True),
        "carver": judged(carver_byte_waves(scores, device)[ran], times),
    }


def carver_byte_waves(scores: Scores, device: Device) -> Floats:
    """Coalesced bytes that a block takes from L2, in whole sectors, times the whole waves of the launch.

    Source: the priority by which TileLang's Carver orders tiles, `(traffic + 1) * num_wave` in
    `tilelang/carver/roller/policy/default.py`; its blocks per SM are those of our occupancy.
    """
    c = scores.counters
    moved = (c["l2_read_sectors"] + c["l2_write_sectors"]) * device.l2.sector_bytes
    resident = np.maximum(c["blocks_per_sm"], 1.0) * device.sm_count
    byte_waves: Floats = moved / c["blocks"] * np.ceil(c["blocks"] / resident)
    return byte_waves


def other_gpu(arguments: pd.DataFrame, times: Floats, others: Sequence[Others]) -> tuple[dict[str, Baseline], str]:
    """Another GPU's times as the prediction; the best and the median over the GPUs, or why there is none.

    Args:
        arguments: of the rows that are judged.
        times: their measured seconds.
        others: the same kernel on other GPUs.
    """
    names = list(arguments.columns)
    here = arguments.assign(seconds=times)
    found: list[Baseline] = []
    for other in others:
        known = other.table.groupby(names, as_index=False, observed=True)["time_ms"].median()
        both = here.merge(known, on=names)
        if len(both) >= LEAST_COMMON and both["time_ms"].nunique() > 1:
            predicted, measured = both["time_ms"].to_numpy() * 1e-3, both["seconds"].to_numpy()
            found.append(judged(predicted, measured, seconds=True, note=other.device))
    if not found:
        few = f"fewer than {LEAST_COMMON} configurations in common with {', '.join(o.device for o in others)}"
        return {}, few if others else "no other GPU in the data has this kernel"
    best = max(found, key=lambda b: -1.0 if math.isnan(b.rho) else b.rho)
    return {"other_gpu": best, "other_gpu_median": _median(found)}, ""


def _median(found: Sequence[Baseline]) -> Baseline:
    figures = [(b.rho, b.tau, b.top1, b.top5, b.top10, b.mape, b.n) for b in found]
    rho, tau, top1, top5, top10, mape, n = (float(x) for x in pd.DataFrame(figures).median())
    return Baseline(rho, tau, top1, top5, top10, mape, int(n), f"of {len(found)} GPUs")


def trees(arguments: pd.DataFrame, times: Floats) -> tuple[dict[str, Baseline], str]:
    """Trees that saw `TRAINED_ROWS` random measurements of the space, judged on the others, or why there are none.

    Args:
        arguments: of the rows that are judged.
        times: their measured seconds.
    """
    if len(times) < LEAST_ROWS:
        return {}, f"fewer than {LEAST_ROWS:,} rows"
    try:
        from sklearn.ensemble import HistGradientBoostingRegressor
        from threadpoolctl import threadpool_limits  # comes with scikit-learn
    except ImportError:
        return {}, "scikit-learn is not installed (pip install costmodel[search])"
    features = _features(arguments)
    order = np.random.default_rng(SEED).permutation(len(times))
    seen, rest = order[:TRAINED_ROWS], np.sort(order[TRAINED_ROWS:])
    model = HistGradientBoostingRegressor(random_state=SEED, **_TREES)
    with threadpool_limits(1):  # cases run side by side, and threads that wait for cores spin
        predicted = np.exp(model.fit(features[seen], np.log(times[seen])).predict(features[rest]))
    note = f"trained on {TRAINED_ROWS} of {len(times):,} rows"
    return {"trees": judged(predicted, times[rest], seconds=True, note=note)}, ""


def _features(arguments: pd.DataFrame) -> Floats:
    """Arguments that vary, as numbers; what is none is numbered."""
    varying: Mapping[str, pd.Series] = {n: c for n, c in arguments.items() if c.nunique() > 1}
    numeric = [c if pd.api.types.is_numeric_dtype(c) else pd.Series(pd.factorize(c)[0]) for c in varying.values()]
    return np.column_stack([c.to_numpy(np.float64) for c in numeric]) if numeric else np.zeros((len(arguments), 1))
