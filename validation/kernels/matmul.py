"""Textbook products of square matrices, P = X·Y, one element for each thread of a T × T block.

The four kernels of marcosamaris/gpuperfpredict. "Uncoalesced" swaps the roles of the thread's x and y, so that
neighbouring lanes lie down a column of P. What the compiler did is described too: the naive loop is unrolled by a small
factor; in shared memory a row of 4 elements is read at once, a column one by one.
"""

from costmodel import kernel
from costmodel.dtypes import f32

UNROLL = 4
"""Of the naive loop, whose trip count the compiler does not know."""
VECTOR = 4
"""Elements of a row in shared memory that one 128-bit load brings."""


@kernel
def matmul_naive(k, *, N, T):
    """Both operands straight from global memory: a row of X is broadcast, a row of Y is coalesced."""
    _naive(k, N, T, by_rows=True)


@kernel
def matmul_naive_uncoalesced(k, *, N, T):
    """The same with neighbouring lanes in rows of X that lie N elements apart."""
    _naive(k, N, T, by_rows=False)


@kernel
def matmul_shared(k, *, N, T):
    """T × T tiles of both operands staged in shared memory."""
    _shared(k, N, T, by_rows=True)


@kernel
def matmul_shared_uncoalesced(k, *, N, T):
    """The same with neighbouring lanes down the columns of every tile: all in one bank, and N elements apart outside."""
    _shared(k, N, T, by_rows=False)


def _matrices(k, N, T):
    k.require(N % T == 0)
    X, Y, P = (k.buffer(name, (N, N), f32) for name in "XYP")
    return X, Y, P, k.register("sum", (1,), f32)


def _naive(k, N, T, by_rows):
    X, Y, P, total = _matrices(k, N, T)
    with k.blocks(N // T, N // T) as (bx, by), k.threads(T, T) as (tx, ty):
        fast, slow = bx * T + tx, by * T + ty
        i, j = (slow, fast) if by_rows else (fast, slow)
        with k.serial(N, "kk", unroll=UNROLL) as kk:
            k.do("multiply", loads=[X[i, kk], Y[kk, j], total[0]], work=k.fma(f32), stores=total[0])
        k.store(P[i, j], name="store")


def _shared(k, N, T, by_rows):
    X, Y, P, total = _matrices(k, N, T)
    k.require(T % VECTOR == 0)
    a, b = k.shared("a", (T, T), f32), k.shared("b", (T, T), f32)
    row = k.register("row", (VECTOR,), f32)
    with k.blocks(N // T, N // T) as (bx, by), k.threads(T, T) as (tx, ty):
        (r, c), (block_r, block_c) = ((ty, tx), (by, bx)) if by_rows else ((tx, ty), (bx, by))
        i, j = block_r * T + r, block_c * T + c
        with k.serial(N // T, "tile") as tile:
            k.copy(X[i, tile * T + c], a[r, c], "stage X")
            k.copy(Y[tile * T + r, j], b[r, c], "stage Y")
            k.barrier()
            with k.unrolled(T // VECTOR, "q") as q:
                k.copy(a[r, VECTOR * q].wide(VECTOR), row[0].wide(VECTOR), "load row")
                with k.unrolled(VECTOR, "v") as v:
                    k.do("multiply", loads=[row[v], b[VECTOR * q + v, c], total[0]], work=k.fma(f32), stores=total[0])
            k.barrier()
        k.store(P[i, j], name="store")


_SPACE = {"N": [1024, 2048, 4096, 8192], "T": [8, 16, 32]}
SPACE = {
    "matmul_naive": _SPACE,
    "matmul_naive_uncoalesced": _SPACE,
    "matmul_shared": _SPACE,
    "matmul_shared_uncoalesced": _SPACE,
}

_GLOBAL = {
    "gld_request": "global_load_requests",
    "gst_request": "global_store_requests",
    "L2.Read.Transactions": "l2_read_sectors",
    "L2.Write.Transactions": "l2_write_sectors",
    "Device.Memory.Read.Transactions": "dram_read_bytes",
    "Device.Memory.Write.Transactions": "dram_write_bytes",
}
_SHARED = {
    "shared_load": "shared_load_requests",
    "shared_store": "shared_store_requests",
    "Shared.Load.Transactions": "shared_load_wavefronts",
    "Shared.Store.Transactions": "shared_store_wavefronts",
}
_UNITS = {"Device.Memory.Read.Transactions": 32, "Device.Memory.Write.Transactions": 32}
_LINES = {"Global.Load.Transactions": "global_load_lines", "Global.Store.Transactions": "global_store_lines"}
_KEPLER = {"kepler_gk104": _LINES, "kepler_gk110": _LINES}  # Maxwell counts global transactions in another unit
_COLUMNS = {"N": "input_size", "T": "block_x"}
DATASETS = {
    name: {
        "description": description,
        "columns": _COLUMNS,
        "counters": counters,
        "counters_by_architecture": _KEPLER,
        "units": _UNITS,
    }
    for name, description, counters in (
        ("matMul_gpu", matmul_naive, _GLOBAL),
        ("matMul_gpu_uncoalesced", matmul_naive_uncoalesced, _GLOBAL),
        ("matMul_gpu_sharedmem", matmul_shared, _GLOBAL | _SHARED),
        ("matMul_gpu_sharedmem_uncoalesced", matmul_shared_uncoalesced, _GLOBAL | _SHARED),
    )
}
