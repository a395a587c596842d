"""Units of a device's figures, which the ends of their names say."""

from __future__ import annotations

__all__ = ["figure_unit"]

_ENDINGS = (
    ("bytes_per_s", "bytes/s"),
    ("bytes_per_cycle", "bytes/cycle"),
    ("requests_per_cycle", "requests/cycle"),
    ("tags_per_cycle", "lines/cycle"),
    ("issue_per_cycle", "instructions/cycle"),
    ("_bytes_per_sm", "bytes"),
    ("_bytes_per_block", "bytes"),
    ("_bytes", "bytes"),
    ("_cycles", "cycles"),
    ("_hz", "Hz"),
    ("_s", "s"),
    ("banks", "banks"),
    ("channels", "channels"),
    ("schedulers", "schedulers"),
    ("warp_size", "threads"),
    ("threads_per_block", "threads"),
    ("threads_per_sm", "threads"),
    ("warps_per_sm", "warps"),
    ("blocks_per_sm", "blocks"),
    ("warp_allocation_granularity", "warps"),
)
_BY_GROUP = {"registers": "registers", "throughput": "operations/cycle"}


def figure_unit(path: str) -> str:
    """Return the unit of a number; empty for counts of the whole device and shares.

    Args:
        path: such as `dram.bandwidth_bytes_per_s`; throughputs are those of one SM.

    Example:
        >>> figure_unit("dram.bandwidth_bytes_per_s"), figure_unit("throughput.matrix_fma.fp16"), figure_unit("sm_count")
        ('bytes/s', 'operations/cycle', '')
    """
    found = next((unit for ending, unit in _ENDINGS if path.endswith(ending)), None)
    return found if found is not None else _BY_GROUP.get(path.partition(".")[0], "")
