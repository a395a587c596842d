"""A Jacobi step on a 3-D grid, single precision, seven points: the stencil that is everybody's first. Code: jacobi.cu.

A block of BX × BY threads walks over DEPTH planes. Every thread keeps its column's three values in registers (2.5-D blocking);
the four neighbours in the plane come from a shared tile with a halo (STAGED), or from memory, where L1 has most of them.
Boundary values are neither computed nor written. Interior planes are whole chunks; rows and columns may end within a block.
"""

from costmodel import kernel
from costmodel.dtypes import f32

OWN, NEIGHBOUR = 0.4, 0.1
"""Weights of the point and of each neighbour."""


@kernel(static=("STAGED",))
def jacobi_3d(k, *, NX, NY, NZ, BX, BY, DEPTH, STAGED):
    """One step: target = 0.4 · source + 0.1 · Σ of the six neighbours, inside an NX × NY × NZ grid."""
    k.require((NZ - 2) % DEPTH == 0)
    k.launch_bound(BX * BY)
    source, target = (k.buffer(name, (NZ, NY, NX), f32, read_only=name == "source") for name in ("source", "target"))
    queue = k.register("queue", (3,), f32)
    grid = (-(-(NX - 2) // BX), -(-(NY - 2) // BY), (NZ - 2) // DEPTH)
    with k.blocks(*grid) as (bx, by, bz), k.threads(BX, BY) as (tx, ty):
        x, y, z0 = bx * BX + tx + 1, by * BY + ty + 1, bz * DEPTH + 1
        inside = (x < NX - 1, y < NY - 1)
        if not STAGED:
            with k.when(*inside):
                _start(k, source, queue, z0, y, x)
                with k.serial(DEPTH, "plane") as plane:
                    z = z0 + plane
                    around = [source[z, y, x - 1], source[z, y, x + 1], source[z, y - 1, x], source[z, y + 1, x]]
                    loads = [source[z + 1, y, x], *around, queue[0], queue[1]]
                    k.do("step", loads=loads, work=[k.add(f32, 6), k.fma(f32)], stores=[target[z, y, x], queue[0], queue[1]])
            return
        tile = k.shared("tile", (BY + 2, BX + 2), f32)
        with k.when(x < NX, y < NY):
            _start(k, source, queue, z0, y, x)
        with k.serial(DEPTH, "plane") as plane:
            z = z0 + plane
            with k.when(x < NX, y < NY):
                k.copy(source[z + 1, y, x], queue[2], "next plane")
                k.copy(queue[1], tile[ty + 1, tx + 1], "own")
                with k.when(tx < 1):
                    k.copy(source[z, y, x - 1], tile[ty + 1, 0], "left")
                with k.when(ty < 1):
                    k.copy(source[z, y - 1, x], tile[0, tx + 1], "upper")
            with k.when(tx >= BX - 1, x < NX - 1, y < NY):
                k.copy(source[z, y, x + 1], tile[ty + 1, BX + 1], "right")
            with k.when(ty >= BY - 1, y < NY - 1, x < NX):
                k.copy(source[z, y + 1, x], tile[BY + 1, tx + 1], "lower")
            k.barrier()
            with k.when(*inside):
                around = [tile[ty + 1, tx], tile[ty + 1, tx + 2], tile[ty, tx + 1], tile[ty + 2, tx + 1]]
                loads = [*around, queue[0], queue[1], queue[2]]
                k.do("step", loads=loads, work=[k.add(f32, 6), k.fma(f32)], stores=target[z, y, x])
            with k.when(x < NX, y < NY):  # beyond the inside too: the neighbours need it
                k.do("move up", loads=[queue[1], queue[2]], stores=[queue[0], queue[1]])
            k.barrier()


def _start(k, source, queue, z, y, x):
    """The two planes that a thread begins with."""
    k.copy(source[z - 1, y, x], queue[0], "plane below")
    k.copy(source[z, y, x], queue[1], "own plane")


SPACE = {
    "jacobi_3d": {
        "NX": [258, 514], "NY": 514, "NZ": 514, "BX": [16, 32, 64, 128], "BY": [2, 4, 8, 16], "DEPTH": [1, 8, 64],
        "STAGED": [0, 1],
    },
}  # fmt: skip


def _step(tensors, _sizes):
    import torch

    s = tensors["source"]
    target = torch.full_like(s, torch.nan)
    rows = s[1:-1, :-2, 1:-1] + s[1:-1, 2:, 1:-1] + s[1:-1, 1:-1, :-2] + s[1:-1, 1:-1, 2:]
    around = s[:-2, 1:-1, 1:-1] + s[2:, 1:-1, 1:-1] + rows
    target[1:-1, 1:-1, 1:-1] = OWN * s[1:-1, 1:-1, 1:-1] + NEIGHBOUR * around
    return {"target": target}


CODE = {"jacobi_3d": {"cuda": "jacobi.cu", "arguments": ("NX", "NY", "NZ"), "reference": _step}}
