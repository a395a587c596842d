"""Stencils out of place, double precision: one point for each thread, no shared memory, no loop.

The star and the box of te42kyfo/warpspeed, as pystencils writes them out: loads in the order z, y, x. Rows are padded so that
the first interior element of each begins a line of 128 bytes; threads beyond the interior do nothing.
"""

from costmodel import kernel
from costmodel.dtypes import f64
from costmodel.ir import minimum

LINE = 16
"""Elements of a line."""
MOST_THREADS_Z = 64
"""CUDA launches no block with more threads along z: blocks that the data set calls deeper ran with these."""
COMPILED = {4: 58}
"""Registers of a thread by range, where a compiler was asked: nvcc 13.0, sm_75, R = 4, all 25 loads in flight before the first
use. Other ranges are estimated. For R = 4 the estimate is 32 (what full occupancy leaves on sm_70): L2 loads are then 13 % too
high in the mean."""


@kernel(static=("R",))
def star3d(k, *, NX, NY, NZ, BX, BY, BZ, R):
    """Σ of the 6·R neighbours along the axes and the point itself, on an NX × NY × NZ grid with a halo of R on every side."""
    BZ = minimum(BZ, MOST_THREADS_Z)
    k.launch_bound(BX * BY * BZ)
    if R in COMPILED:
        k.registers_per_thread(COMPILED[R])
    source, target = (
        k.buffer(name, (NZ, NY, NX + LINE), f64, strides=(NY * NX, NX, 1), read_only=name == "source")
        for name in ("source", "target")
    )
    across, down, deep = NX - 2 * R, NY - 2 * R, NZ - 2 * R
    with (
        k.blocks(-(-across // BX), -(-down // BY), -(-deep // BZ)) as (bx, by, bz),
        k.threads(BX, BY, BZ) as (tx, ty, tz),
        k.when(bx * BX + tx < across, by * BY + ty < down, bz * BZ + tz < deep),
    ):
        z, y, x = bz * BZ + tz + R, by * BY + ty + R, bx * BX + tx + LINE
        column = [source[z + d, y, x] for d in range(-R, R + 1) if d]
        plane = [source[z, y + d, x] for d in range(-R, 0)] + [source[z, y, x + d] for d in range(-R, R + 1)]
        plane += [source[z, y + d, x] for d in range(1, R + 1)]
        loads = column[:R] + plane + column[R:]
        k.do("star", loads=loads, work=[k.add(f64), k.fma(f64, 6 * R)], stores=target[z, y, x])


@kernel(static=("R",))
def box2d(k, *, NX, NY, BX, BY, R):
    """Σ of the (2·R + 1)² points around, on an NX × NY grid with a halo of R on every side."""
    k.launch_bound(BX * BY)
    pitch = -(-(NX + 2 * LINE) // LINE) * LINE
    source, target = (k.buffer(name, (NY + 2 * R, pitch), f64, read_only=name == "source") for name in ("source", "target"))
    with (
        k.blocks(-(-NX // BX), -(-NY // BY)) as (bx, by),
        k.threads(BX, BY) as (tx, ty),
        k.when(bx * BX + tx < NX, by * BY + ty < NY),
    ):
        y, x = by * BY + ty + R, bx * BX + tx + LINE
        around = range(-R, R + 1)
        loads = [source[y + j, x + i] for j in around for i in around]
        k.do("box", loads=loads, work=[k.add(f64), k.fma(f64, len(loads) - 1)], stores=target[y, x])


SPACE = {
    "star3d": {
        "NX": 640, "NY": 512, "NZ": 512, "R": 4, "BX": [8, 16, 32, 64, 128], "BY": [1, 2, 4, 8, 16, 32],
        "BZ": [1, 2, 4, 8, 16, 32],
    },
    "box2d": {"NX": 15000, "NY": 15000, "R": [1, 2, 4], "BX": [16, 32, 64, 128, 256], "BY": [1, 2, 4, 8, 16]},
}  # fmt: skip

_VOLUMES = {
    "dram_load_B_per_lup": "dram_read_bytes",
    "dram_store_B_per_lup": "dram_write_bytes",
    "l2_load_B_per_lup": "l2_read_sectors",
    "l2_store_B_per_lup": "l2_write_sectors",
}


def _per_update(updates):
    """Of each column: how much of our counter is one of it."""
    return {column: updates / (32 if counter.endswith("sectors") else 1) for column, counter in _VOLUMES.items()}


DATASETS = {
    "pystencils_star3d": {
        "description": star3d,
        "columns": {"NX": "nx", "NY": "ny", "NZ": "nz", "BX": "block_x", "BY": "block_y", "BZ": "block_z", "R": "r"},
        "counters": _VOLUMES,
        "units": _per_update(632 * 504 * 504),
    },
    "box2d": {
        "description": box2d,
        "columns": {"NX": 15000, "NY": 15000, "BX": "block_x", "BY": "block_y", "R": "r"},
        "counters": _VOLUMES,
        "units": _per_update(15000 * 15000),
    },
}


WEIGHT = 0.25
"""Of every point in the code; no description depends on it."""


def _star(tensors, sizes):
    import torch

    source, R, NX, NY, NZ = tensors["source"], sizes["R"], sizes["NX"], sizes["NY"], sizes["NZ"]
    across, down, deep = NX - 2 * R, NY - 2 * R, NZ - 2 * R

    def shifted(z, y, x):
        return source[R + z : R + z + deep, R + y : R + y + down, LINE + x : LINE + x + across]

    arms = [d for d in range(-R, R + 1) if d]
    total = shifted(0, 0, 0) + sum(shifted(d, 0, 0) + shifted(0, d, 0) + shifted(0, 0, d) for d in arms)
    # a row's last elements are the first ones of the next: they are written in memory as it lies
    flat, strides = torch.full((NX * NY * NZ + LINE,), torch.nan, dtype=source.dtype, device=source.device), (NY * NX, NX, 1)
    flat.as_strided((deep, down, across), strides, R * (NY * NX + NX) + LINE).copy_(WEIGHT * total)
    return {"target": flat.as_strided((NZ, NY, NX + LINE), strides)}


def _box(tensors, sizes):
    import torch

    source, R, NX, NY = tensors["source"], sizes["R"], sizes["NX"], sizes["NY"]
    target, around = torch.full_like(source, torch.nan), range(-R, R + 1)
    total = sum(source[R + j : R + j + NY, LINE + i : LINE + i + NX] for j in around for i in around)
    target[R : R + NY, LINE : LINE + NX] = WEIGHT * total
    return {"target": target}


CODE = {
    "star3d": {
        "cuda": "stencil.cu", "arguments": ("NX", "NY", "NZ"), "reference": _star,
        "space": {
            "NX": 640, "NY": 512, "NZ": [64, 256], "R": [2, 4], "BX": [8, 16, 32, 64, 128], "BY": [1, 2, 4, 8], "BZ": [1, 4, 16],
        },
    },
    "box2d": {
        "cuda": "stencil.cu", "arguments": ("NX", "NY"), "reference": _box,
        "space": {"NX": [4000, 15000], "NY": 6000, "R": [1, 2, 4], "BX": [16, 32, 64, 128, 256], "BY": [1, 2, 4, 8]},
    },
}  # fmt: skip
