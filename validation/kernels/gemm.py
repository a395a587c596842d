"""A register-tiled single-precision GEMM, as one would write it by hand: the package's first example.

C[m, n] = Σₖ A[k, m]·B[k, n], all row-major. Each block stages BK × BM of A and BK × BN of B in shared memory; each thread keeps
a TM × TN tile of C in registers, in strips of four so that its shared loads are 16 bytes wide and free of bank conflicts.
"""

from costmodel import kernel
from costmodel.dtypes import f32

VECTOR = 4


@kernel
def gemm(k, *, M, N, K, BM, BN, BK, TM, TN):
    """C = A·B with BM × BN tiles, BK deep, TM × TN elements for each thread."""
    for size, tile in ((M, BM), (N, BN), (K, BK), (BM, TM), (BN, TN), (TM, VECTOR), (TN, VECTOR)):
        k.require(size % tile == 0)
    threads = (BM // TM) * (BN // TN)
    k.require((BK * BM) % (threads * VECTOR) == 0)
    k.require((BK * BN) % (threads * VECTOR) == 0)
    k.require(BM % VECTOR == 0, BN % VECTOR == 0)
    A, B = k.buffer("A", (K, M), f32, read_only=True), k.buffer("B", (K, N), f32, read_only=True)
    C = k.buffer("C", (M, N), f32)
    shA, shB = k.shared("shA", (BK, BM), f32, dynamic=True), k.shared("shB", (BK, BN), f32, dynamic=True)
    acc = k.register("acc", (TM, TN), f32)
    a_reg, b_reg = k.register("a_reg", (TM,), f32), k.register("b_reg", (TN,), f32)
    across, down = BN // TN, BM // TM
    k.launch_bound(threads)

    with k.blocks(N // BN, M // BM) as (bx, by), k.threads(across, down) as (tx, ty):
        t = tx + ty * across
        with k.serial(K // BK, "kt") as kt:
            for source, tile, width, origin in ((A, shA, BM, by * BM), (B, shB, BN, bx * BN)):
                with k.unrolled(BK * width // (threads * VECTOR), "s") as s:
                    v = (t + s * threads) * VECTOR
                    row, column = v // width, v % width
                    k.copy(source[kt * BK + row, origin + column].wide(VECTOR), tile[row, column].wide(VECTOR), "stage")
            k.barrier()
            with k.unrolled(BK, "kk") as kk:
                with k.unrolled(TM // VECTOR, "i") as i:
                    k.copy(shA[kk, (ty + i * down) * VECTOR].wide(VECTOR), a_reg[i * VECTOR].wide(VECTOR), "load A")
                with k.unrolled(TN // VECTOR, "j") as j:
                    k.copy(shB[kk, (tx + j * across) * VECTOR].wide(VECTOR), b_reg[j * VECTOR].wide(VECTOR), "load B")
                with k.unrolled(TM, "m") as m, k.unrolled(TN, "n") as n:
                    k.do("multiply", loads=[a_reg[m], b_reg[n], acc[m, n]], stores=acc[m, n], work=k.fma(f32))
            k.barrier()
        with k.unrolled(TM // VECTOR, "i") as i, k.unrolled(VECTOR, "e") as e, k.unrolled(TN // VECTOR, "j") as j:
            row = by * BM + (ty + i * down) * VECTOR + e
            k.store(C[row, bx * BN + (tx + j * across) * VECTOR].wide(VECTOR))


SPACE = {
    "gemm": {
        "BM": [32, 64, 128, 256], "BN": [32, 64, 128, 256], "BK": [8, 16, 32], "TM": [4, 8, 16], "TN": [4, 8, 16],
    },
}  # fmt: skip


def _product(tensors, _sizes):
    return {"C": tensors["A"].T @ tensors["B"]}


_MEASURED = {
    "M": [512, 4096], "N": 4096, "K": 4096, "BM": [64, 128, 256], "BN": [64, 128], "BK": [8, 16], "TM": [4, 8, 16], "TN": [4, 8],
}  # fmt: skip
CODE = {"gemm": {"cuda": "gemm.cu", "arguments": ("M", "N", "K"), "reference": _product, "space": _MEASURED}}
