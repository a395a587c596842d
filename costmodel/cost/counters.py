"""Predicted hardware counters, by generic names, for comparison with nvprof and Nsight Compute."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from costmodel.cost.evaluate import Charged
from costmodel.cost.memory import AccessTotals
from costmodel.device import Device

__all__ = ["COUNTERS", "NSIGHT", "counters"]

Floats = npt.NDArray[np.float64]

COUNTED_DRAM_SECTOR = 32
"""Bytes that the DRAM counters of nvprof and Nsight Compute count as one."""
COUNTERS = (
    "global_load_requests",
    "global_store_requests",
    "global_load_lines",
    "global_store_lines",
    "l2_read_sectors",
    "l2_write_sectors",
    "shared_load_requests",
    "shared_store_requests",
    "shared_load_wavefronts",
    "shared_store_wavefronts",
    "dram_read_bytes",
    "dram_write_bytes",
    "dram_read_sectors",
    "dram_write_sectors",
    "occupancy",
    "occupancy_percent",
    "registers",
    "shared_bytes",
    "blocks",
    "blocks_per_sm",
)
NSIGHT = {
    "l1tex__t_requests_pipe_lsu_mem_global_op_ld.sum": "global_load_requests",
    "l1tex__t_requests_pipe_lsu_mem_global_op_st.sum": "global_store_requests",
    "l1tex__data_pipe_lsu_wavefronts_mem_shared_op_ld.sum": "shared_load_wavefronts",
    "l1tex__data_pipe_lsu_wavefronts_mem_shared_op_st.sum": "shared_store_wavefronts",
    "lts__t_sectors_op_read.sum": "l2_read_sectors",
    "lts__t_sectors_op_write.sum": "l2_write_sectors",
    "lts__t_sectors_srcunit_tex_op_read.sum": "l2_read_sectors",
    "lts__t_sectors_srcunit_tex_op_write.sum": "l2_write_sectors",
    "dram__sectors_read.sum": "dram_read_sectors",
    "dram__sectors_write.sum": "dram_write_sectors",
    "dram__sectors_op_read.sum": "dram_read_sectors",
    "dram__sectors_op_write.sum": "dram_write_sectors",
    "sm__warps_active.avg.pct_of_peak_sustained_active": "occupancy_percent",
}
"""Nsight Compute's metrics, by our names; a GPU has those of DRAM under one of their two names. Where the L2 has two
partitions (A100, H100), `lts__t_sectors_op_…` also counts what one asks of the other (`srcunit_ltcfabric`), and
`srcunit_tex` only what SMs ask.

Source: Nsight Compute's profiling guide (units and sub-units in a metric's name), as KTT's data sets use them.
"""


def counters(charged: Charged, device: Device) -> dict[str, Floats]:
    """Every counter of `COUNTERS` for each configuration."""

    def total(space: str, kind: str, field: str) -> Floats:
        chosen = (a for a in charged.accesses if (a.plan.access.buffer.space, a.plan.kind) == (space, kind))
        return sum((_value(a, field) for a in chosen), np.zeros(charged.seconds.shape))

    sector = device.l2.sector_bytes
    occupancy = charged.residency.warps_per_sm / device.limits.warps_per_sm
    return {
        "global_load_requests": total("global", "load", "requests"),
        "global_store_requests": total("global", "store", "requests"),
        "global_load_lines": total("global", "load", "lines"),
        "global_store_lines": total("global", "store", "lines"),
        "l2_read_sectors": (total("global", "load", "l2_bytes") + charged.code_bytes) / sector,
        "l2_write_sectors": total("global", "store", "l2_bytes") / sector,
        "shared_load_requests": total("shared", "load", "requests"),
        "shared_store_requests": total("shared", "store", "requests"),
        "shared_load_wavefronts": total("shared", "load", "wavefronts"),
        "shared_store_wavefronts": total("shared", "store", "wavefronts"),
        "dram_read_bytes": total("global", "load", "checked_dram_bytes"),
        "dram_write_bytes": total("global", "store", "checked_dram_bytes"),
        "dram_read_sectors": total("global", "load", "checked_dram_bytes") / COUNTED_DRAM_SECTOR,
        "dram_write_sectors": total("global", "store", "checked_dram_bytes") / COUNTED_DRAM_SECTOR,
        "occupancy": occupancy,
        "occupancy_percent": 100.0 * occupancy,
        "registers": charged.registers.astype(np.float64),
        "shared_bytes": charged.shared_bytes.astype(np.float64),
        "blocks": charged.blocks.astype(np.float64),
        "blocks_per_sm": charged.residency.blocks_per_sm.astype(np.float64),
    }


def _value(a: AccessTotals, field: str) -> Floats:
    value: Floats = getattr(a, field)
    return value
