"""Dot product: one product for each thread, summed by a tree in shared memory, one partial sum for each block.

`dotProd` of marcosamaris/gpuperfpredict. What the compiler did is described too: on Kepler the conditional step is
predicated, so that every warp issues it; on Maxwell idle warps branch around it.
"""

from costmodel import kernel
from costmodel.dtypes import f32, i32
from costmodel.ir import minimum

STEP_OPERATIONS = 7
"""Integer instructions of one step: halve a signed integer (3), compare it (1) and the thread id (1), the partner's address
(1), branch back (1). Source: the C source; nvprof's inst_executed (a count, not a time) gives 12.4 for each warp and step on
Kepler, of which two loads, an addition, a store and the barrier are the others."""
BRANCH_OPERATIONS, REJOIN_OPERATIONS = 2, 4
"""What a branch adds to a step on Maxwell, in all warps (SSY, BRA) and in those that do not skip the body (both addresses,
SYNC). Source: inst_executed, 10.0 for each warp and step and 8.7 more where the body runs."""
GRID_LOOP_OPERATIONS = 20
"""Integer instructions of the loop over the grid, which runs once: thread and block ids, stride, bounds, branches.
Source: inst_executed, what is left of it with no step: 45 on Kepler, 34 on Maxwell, less the 16 that the accesses make."""


@kernel(static=("B", "PREDICATED"))
def dot_product(k, *, N, B, PREDICATED=False):
    """partial[block] = Σ a[i]·b[i] over B elements; B is a power of two.

    A predicated step is described as if the lanes that are switched off repeated the access of the last one that is not:
    as many requests, of one wavefront each.
    """
    a, b = k.buffer("a", (N,), f32), k.buffer("b", (N,), f32)
    partial = k.buffer("partial", (-(-N // B),), f32)
    sums = k.shared("sums", (B,), f32)
    with k.blocks(-(-N // B)) as block, k.threads(B) as t:
        i = block * B + t
        k.do("loop over the grid", work=k.integer(i32, GRID_LOOP_OPERATIONS))
        with k.when(i < N):
            k.do("multiply", loads=[a[i], b[i]], work=k.fma(f32))
        k.store(sums[t], name="store product")
        k.barrier()
        half = B // 2
        while half:
            k.do(f"halve to {half}", work=k.integer(i32, STEP_OPERATIONS + (0 if PREDICATED else BRANCH_OPERATIONS)))
            if PREDICATED:
                busy = minimum(t, half - 1)
                k.do(f"add {half}", loads=[sums[busy], sums[busy + half]], work=k.add(f32), stores=sums[busy])
            else:
                with k.when(t < half):
                    work = [k.add(f32), k.integer(i32, REJOIN_OPERATIONS)]
                    k.do(f"add {half}", loads=[sums[t], sums[t + half]], work=work, stores=sums[t])
            k.barrier()
            half //= 2
        with k.when(t < 1):
            k.copy(sums[0], partial[block], "store sum")


SPACE = {"dot_product": {"N": 1 << 26, "B": [32, 64, 128, 256, 512, 1024]}}
_LINES = {"Global.Load.Transactions": "global_load_lines", "Global.Store.Transactions": "global_store_lines"}
DATASETS = {
    "dotProd": {
        "description": dot_product,
        "columns": {"N": "input_size", "B": "block_x", "PREDICATED": "=gpuspec_compute_version < 4"},
        "counters": {
            "gld_request": "global_load_requests",
            "gst_request": "global_store_requests",
            "L2.Read.Transactions": "l2_read_sectors",
            "L2.Write.Transactions": "l2_write_sectors",
            "shared_load": "shared_load_requests",
            "shared_store": "shared_store_requests",
            "Shared.Load.Transactions": "shared_load_wavefronts",
            "Shared.Store.Transactions": "shared_store_wavefronts",
        },
        "counters_by_architecture": {"kepler_gk104": _LINES, "kepler_gk110": _LINES},  # Maxwell counts them in another unit
    }
}
