"""Measures a live GPU into a profile: `costmodel probe`.

It lies in `measure`, above `device`, because it launches kernels; `device` only reads what it writes.

What each figure is measured by (file of the kernel, then what is read off it):

| figures | by |
|---|---|
| `sm_count`, capacities, `limits`, `registers.per_sm`, `per_block`, `clock.boost_hz` | the driver's attributes |
| `dram.bandwidth_bytes_per_s` | memory clock and bus width the driver states |
| `l1`, `l2`, `dram`, `shared` `.latency_cycles`, `l1.caches_global_loads` | chase.cu: a random cycle of addresses |
| `throughput.alu_latency_cycles` | arithmetic.cu: one warp, one chain |
| `dram.achievable_fraction`, `l2.bandwidth_bytes_per_cycle`, `effective_capacity_bytes`, `sm_bytes_per_cycle` | stream.cu |
| `throughput.*` of arithmetic, `issue_per_cycle` (a lower bound), `int32_on_fma_lanes` | arithmetic.cu: full blocks |
| `l1.bytes_per_cycle`, `tags_per_cycle`, `shared.bytes_per_cycle`, `bank_bytes`, `merges_paired_lanes`, `load_store` | lanes.cu |
| `throughput.matrix_fma` (a lower bound) | products of torch |
| `launch_overhead_s`, `block_launch_cycles` | blocks.cu |
| `clock.sustained_hz` | arithmetic.cu: cycles over seconds of a long run |

Beside them, for reading and not for the profile: bandwidth of memory by resident blocks, of L2, memory and L1 by working set, of
shared memory by warps, and latency by working set.

What is not measured, and taken from a stored profile of the same architecture: the sizes of lines, sectors and allocation
units, how L1 takes requests, the number of banks and schedulers, channels, what ECC covers, the L1's capacity (its split with
shared memory is the driver's choice), the instruction cache, the clock of matrix peaks.

Method: the core is woken, each benchmark runs untimed first, then seven times; medians, and the interquartile range over the
median as spread. A journal beside the profile keeps every benchmark: a stopped probe goes on from it, and the profile can be made
again from it without the GPU. After `LIMIT_S` seconds no further group is begun; its figures stay the stored profile's.

On ROCm nothing of this has run yet. clang 22 takes the kernels for gfx90a, and its assembly holds what they time (2026-11-21,
with declarations written for it instead of HIP's headers). L1 is not left out there (its loads have no such modifier).
"""

from costmodel.measure.probe.compare import Difference, differences
from costmodel.measure.probe.curves import Curve
from costmodel.measure.probe.fake_lab import FakeLab
from costmodel.measure.probe.journal import Journal, Replay
from costmodel.measure.probe.lab import Figure, Lab, Sample
from costmodel.measure.probe.live_lab import LiveLab
from costmodel.measure.probe.profile import profile_text, write_profile
from costmodel.measure.probe.run import LIMIT_S, Probed, lab_of, probe

__all__ = [
    "LIMIT_S",
    "Curve",
    "Difference",
    "FakeLab",
    "Figure",
    "Journal",
    "Lab",
    "LiveLab",
    "Probed",
    "Replay",
    "Sample",
    "differences",
    "lab_of",
    "probe",
    "profile_text",
    "write_profile",
]
