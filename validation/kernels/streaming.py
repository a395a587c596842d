"""Element-wise kernels and copies: vector add, matrix sum in two orders, copy, and the transpose ladder.

`vectorAdd`, `matrix_sum_coalesced` and `matrix_sum_normal` are the textbook kernels of marcosamaris/gpuperfpredict: one
element for each thread, blocks of T × T threads.
"""

from costmodel import kernel
from costmodel.dtypes import f32

NVPROF = {
    "gld_request": "global_load_requests",
    "gst_request": "global_store_requests",
    "L2.Read.Transactions": "l2_read_sectors",
    "L2.Write.Transactions": "l2_write_sectors",
    "Device.Memory.Read.Transactions": "dram_read_bytes",
    "Device.Memory.Write.Transactions": "dram_write_bytes",
}
"""nvprof counters that mean the same on every GPU of that data set."""
UNITS = {"Device.Memory.Read.Transactions": 32, "Device.Memory.Write.Transactions": 32}
"""Bytes of one transaction of the counters that are bytes here."""
_LINES = {"Global.Load.Transactions": "global_load_lines", "Global.Store.Transactions": "global_store_lines"}
KEPLER = {"kepler_gk104": _LINES, "kepler_gk110": _LINES}
"""On Kepler a global transaction is a line of 128 bytes; Maxwell counts them in another unit."""


@kernel
def vector_add(k, *, N, B):
    """c[i] = a[i] + b[i], one element for each of B threads of a block."""
    a, b = k.buffer("a", (N,), f32, read_only=True), k.buffer("b", (N,), f32, read_only=True)
    c = k.buffer("c", (N,), f32)
    with k.blocks(-(-N // B)) as block, k.threads(B) as t:
        i = block * B + t
        with k.when(i < N):
            k.do("add", loads=[a[i], b[i]], work=k.add(f32), stores=c[i])


@kernel
def copy(k, *, N, B, V=1):
    """c[i] = a[i], V elements at a time."""
    a, c = k.buffer("a", (N,), f32, read_only=True), k.buffer("c", (N,), f32)
    k.require(N % V == 0)
    with k.blocks(-(-N // (B * V))) as block, k.threads(B) as t:
        i = (block * B + t) * V
        with k.when(i < N):
            k.copy(a[i].wide(V), c[i].wide(V), "copy")


@kernel
def matrix_sum_coalesced(k, *, N, T):
    """S[i, j] = A[i, j] + B[i, j] with neighbouring lanes along a row."""
    _matrix_sum(k, N, T, by_rows=True)


@kernel
def matrix_sum_normal(k, *, N, T):
    """The same with neighbouring lanes down a column: every lane in a sector of its own."""
    _matrix_sum(k, N, T, by_rows=False)


def _matrix_sum(k, N, T, by_rows):
    A, B = k.buffer("A", (N, N), f32), k.buffer("B", (N, N), f32)
    S = k.buffer("S", (N, N), f32)
    k.require(N % T == 0)
    with k.blocks(N // T, N // T) as (bx, by), k.threads(T, T) as (tx, ty):
        fast, slow = bx * T + tx, by * T + ty
        i, j = (slow, fast) if by_rows else (fast, slow)
        k.do("add", loads=[A[i, j], B[i, j]], work=k.add(f32), stores=S[i, j])


@kernel
def transpose_naive(k, *, N, T, R):
    """out[x, y] = in[y, x]: rows are read together, columns written apart. A block of T × R threads moves a T × T tile."""
    source, target = k.buffer("source", (N, N), f32, read_only=True), k.buffer("target", (N, N), f32)
    k.require(N % T == 0)
    k.require(T % R == 0)
    with k.blocks(N // T, N // T) as (bx, by), k.threads(T, R) as (tx, ty), k.unrolled(T // R, "j") as j:
        row, column = by * T + ty + j * R, bx * T + tx
        k.copy(source[row, column], target[column, row], "move")


@kernel
def transpose_shared(k, *, N, T, R):
    """Through a shared T × T tile, so that both sides are coalesced; its columns lie in one bank."""
    _transpose(k, N, T, R, pad=0)


@kernel
def transpose_padded(k, *, N, T, R):
    """The same with rows padded by one element, so that its columns spread over all banks."""
    _transpose(k, N, T, R, pad=1)


def _transpose(k, N, T, R, pad):
    source, target = k.buffer("source", (N, N), f32, read_only=True), k.buffer("target", (N, N), f32)
    tile = k.shared("tile", (T, T + pad), f32)
    k.require(N % T == 0)
    k.require(T % R == 0)
    with k.blocks(N // T, N // T) as (bx, by), k.threads(T, R) as (tx, ty):
        with k.unrolled(T // R, "j") as j:
            y = ty + j * R
            k.copy(source[by * T + y, bx * T + tx], tile[y, tx], "load")
        k.barrier()
        with k.unrolled(T // R, "j") as j:
            y = ty + j * R
            k.copy(tile[tx, y], target[bx * T + y, by * T + tx], "store")


_TRANSPOSE = {"N": 8192, "T": [16, 32, 64], "R": [2, 4, 8, 16]}
SPACE = {
    "vector_add": {"N": 1 << 26, "B": [32, 64, 128, 256, 512, 1024]},
    "copy": {"N": 1 << 26, "B": [32, 64, 128, 256, 512, 1024], "V": [1, 2, 4]},
    "transpose_naive": _TRANSPOSE,
    "transpose_shared": _TRANSPOSE,
    "transpose_padded": _TRANSPOSE,
}

_PROFILED = {"counters": NVPROF, "counters_by_architecture": KEPLER, "units": UNITS}
DATASETS = {
    "vectorAdd": {"description": vector_add, "columns": {"N": "input_size", "B": "block_x"}, **_PROFILED},
    "matrix_sum_coalesced": {
        "description": matrix_sum_coalesced,
        "columns": {"N": "input_size", "T": "block_x"},
        **_PROFILED,
    },
    "matrix_sum_normal": {"description": matrix_sum_normal, "columns": {"N": "input_size", "T": "block_x"}, **_PROFILED},
}


def _sum(tensors, _sizes):
    return {"c": tensors["a"] + tensors["b"]}


def _matrix_sum_reference(tensors, _sizes):
    return {"S": tensors["A"] + tensors["B"]}


def _copied(tensors, _sizes):
    return {"c": tensors["a"]}


def _transposed(tensors, _sizes):
    return {"target": tensors["source"].T}


_SIDES = {**_TRANSPOSE, "N": [2048, 8192]}
CODE = {
    "vector_add": {
        "cuda": "sums.cu", "arguments": ("N",), "reference": _sum,
        "space": {"N": [1 << 20, 1 << 26, (1 << 26) + 17], "B": [32, 64, 128, 256, 512, 1024]},
    },
    "matrix_sum_coalesced": {
        "cuda": "sums.cu", "arguments": ("N",), "reference": _matrix_sum_reference,
        "space": {"N": [1024, 4096, 8192], "T": [8, 16, 32]},
    },
    "matrix_sum_normal": {
        "cuda": "sums.cu", "arguments": ("N",), "reference": _matrix_sum_reference,
        "space": {"N": [1024, 4096, 8192], "T": [8, 16, 32]},
    },
    "copy": {
        "cuda": "copies.cu", "arguments": ("N",), "reference": _copied,
        "space": {"N": [1 << 20, 1 << 24, 1 << 26], "B": [32, 64, 128, 256, 512, 1024], "V": [1, 2, 4]},
    },
    "transpose_naive": {"cuda": "transpose.cu", "arguments": ("N",), "reference": _transposed, "space": _SIDES},
    "transpose_shared": {"cuda": "transpose.cu", "arguments": ("N",), "reference": _transposed, "space": _SIDES},
    "transpose_padded": {"cuda": "transpose.cu", "arguments": ("N",), "reference": _transposed, "space": _SIDES},
}  # fmt: skip
