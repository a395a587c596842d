"""Copies that cannot be coalesced: a strided one, and a gather through an array of indices. Code: copies.cu.

An item is V floats (4, 8 or 16 bytes). What an index array holds is not known to a description; this one says what the harness
writes into it: segments of R × C items are read by columns, so that neighbouring lanes are C items apart and the next column,
R items later, has the rest of their sectors. C = 1 is a plain copy; R says how long a cache must keep what it has.
"""

from costmodel import kernel
from costmodel.dtypes import f32, i32


@kernel
def strided_copy(k, *, N, B, V, S):
    """c[i] = a[i·S], N items of V floats, one for each thread."""
    a, c = k.buffer("a", (N * S * V,), f32, read_only=True), k.buffer("c", (N * V,), f32)
    with k.blocks(-(-N // B)) as block, k.threads(B) as t:
        i = block * B + t
        with k.when(i < N):
            k.copy(a[i * S * V].wide(V), c[i * V].wide(V), "copy")


@kernel
def gathered_copy(k, *, N, B, V, R, C):
    """c[i] = a[index[i]], where the indices walk down the columns of segments of R × C items."""
    k.require(R % B == 0, N % (R * C) == 0)
    index, a = k.buffer("index", (N,), i32, read_only=True), k.buffer("a", (N * V,), f32, read_only=True)
    c = k.buffer("c", (N * V,), f32)
    with k.blocks(R // B, C, N // (R * C)) as (part, column, segment), k.threads(B) as t:
        row, first = part * B + t, segment * R * C
        i = first + column * R + row
        k.load(index[i], name="index")
        k.copy(a[(first + row * C + column) * V].wide(V), c[i * V].wide(V), "gather")


SPACE = {
    "strided_copy": {"N": [1 << 20, 1 << 22], "B": [64, 256, 1024], "V": [1, 2, 4], "S": [1, 2, 3, 4, 8, 16, 32]},
    "gathered_copy": {
        "N": [1 << 21, 1 << 23], "B": [64, 256], "V": [1, 2, 4], "R": [256, 1 << 14, 1 << 20], "C": [1, 2, 8, 32, 64],
    },
}  # fmt: skip


def _strided(tensors, sizes):
    items = tensors["a"].reshape(-1, sizes["V"])
    return {"c": items[:: sizes["S"]].reshape(-1)}


def _gathered(tensors, sizes):
    items = tensors["a"].reshape(-1, sizes["V"])
    return {"c": items[tensors["index"].long()].reshape(-1)}


def _columns(sizes, _random):
    import numpy as np

    segments = np.arange(sizes["N"], dtype=np.int32).reshape(-1, sizes["R"], sizes["C"])
    return {"index": segments.transpose(0, 2, 1).reshape(-1)}


CODE = {
    "strided_copy": {"cuda": "copies.cu", "arguments": ("N", "S"), "reference": _strided},
    "gathered_copy": {"cuda": "copies.cu", "arguments": (), "reference": _gathered, "inputs": _columns},
}
