"""The convolution's counts: by hand from its loop nest, and against Nsight Compute's counters of KTT's runs on an RTX 2080 Ti."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from costmodel import Scorer
from costmodel.cost import find_description
from costmodel.validate import load, validate

SHAPES = pd.DataFrame(
    [(32, 4, 1, 2), (32, 4, 1, 1), (32, 4, 2, 1), (32, 4, 3, 1), (32, 4, 1, 8), (16, 16, 2, 2), (8, 8, 4, 4)],
    columns=["BX", "BY", "TX", "TY"],
)
REQUESTS = [2_883_584, 4_718_592, 3_538_944, 5_511_168, 1_507_328, 1_130_496, 1_179_648]
"""Loads of the staging loop: groups of four columns and a remainder, rows in turn (worked out in the kernel's specification)."""
SHARED_LOADS = [285, 225, 450, 675, 645, 900, 1521]
"""Distinct taps of a thread."""
WAVEFRONTS = [1, 1, 1, 1, 1, 2, 2]
"""Of one shared load: rows of 16 or 8 lanes meet in the same banks."""


def test_requests_and_wavefronts_by_hand():
    aligned = ((4096 % (SHAPES.BX * SHAPES.TX) == 0) & (4096 % (SHAPES.BY * SHAPES.TY) == 0)).astype(int)
    found = Scorer(find_description("convolution_2d"), "RTX 2080 Ti").score(SHAPES.assign(NX=4096, NY=4096, ALIGNED=aligned))
    assert found.counters["global_load_requests"].tolist() == REQUESTS
    threads = -(-4096 // (SHAPES.BX * SHAPES.TX)) * -(-4096 // (SHAPES.BY * SHAPES.TY)) * SHAPES.BX * SHAPES.BY
    wavefronts = threads // 32 * np.array(SHARED_LOADS) * np.array(WAVEFRONTS)
    assert found.counters["shared_load_wavefronts"].tolist() == wavefronts.tolist()
    tile = (SHAPES.BY * SHAPES.TY + 14) * (SHAPES.BX * SHAPES.TX + 14) * 4
    assert found.counters["shared_bytes"].tolist() == tile.tolist()
    assert found.counters["l2_write_sectors"].tolist() == [4096 * 4096 // 8] * len(SHAPES)


LIMITS = {
    "l1tex__t_requests_pipe_lsu_mem_global_op_ld.sum": 0.0001,
    "l1tex__data_pipe_lsu_wavefronts_mem_shared_op_ld.sum": 0.004,
    "l1tex__data_pipe_lsu_wavefronts_mem_shared_op_st.sum": 0.03,
    "lts__t_sectors_op_write.sum": 0.0001,
    "dram__sectors_read.sum": 0.02,
    "dram__sectors_write.sum": 0.01,
    "sm__warps_active.avg.pct_of_peak_sustained_active": 0.03,
    "smem_static_bytes": 0.0,
}
"""Median relative errors that are reached, rounded up."""


def test_counters_and_times_of_measured_convolutions(data_dir):
    (measured,) = load(data_dir / "ktt__convolution__RTX_2080_Ti.parquet")
    some = "PADDING == 0 and READ_ONLY == 0 and TILE_SIZE_X <= 3 and TILE_SIZE_Y <= 3 and BLOCK_SIZE_X in [8, 32, 64, 112]"
    report = validate(measured, query=some)
    for name, limit in LIMITS.items():
        assert report.counters[name]["median"] <= limit, name
    assert report.metrics.rho >= 0.96
    assert report.metrics.mape <= 0.08


@pytest.mark.parametrize("gpu", ["V100", "RTX 3090", "H100", "MI250X"])
@pytest.mark.parametrize("name", ["vector_add", "gemm", "convolution_2d", "transpose_padded"])
def test_more_of_the_same_takes_longer(name, gpu):
    """A size that doubles never makes a launch faster."""
    sizes = {
        "vector_add": ({"B": 256}, "N", 1 << 22),
        "gemm": ({"M": 2048, "N": 2048, "BM": 128, "BN": 128, "BK": 16, "TM": 8, "TN": 8}, "K", 512),
        "convolution_2d": ({"NX": 2048, "BX": 32, "BY": 4, "TX": 1, "TY": 2}, "NY", 1024),
        "transpose_padded": ({"T": 32, "R": 8}, "N", 2048),
    }
    given, doubled, start = sizes[name]
    table = pd.DataFrame({**given, doubled: [start, 2 * start, 4 * start, 8 * start]})
    seconds = Scorer(find_description(name), gpu).score(table).seconds
    assert (np.diff(seconds) > 0).all()
