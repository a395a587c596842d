"""CLBlast's direct tiled SGEMM (Xgemm), as measured in the OpenCL data sets.

C[n, m] = alpha · Σₖ A[k, m]·B[k, n] + beta · C[n, m], with A and B both "k-major" and C read before it is written.
Tunables carry CLBlast's names. Source of the loop nest: CNugteren/CLBlast `xgemm`, sections 4 and 5 of the specification
this project was given; the OpenCL 8-float vector is 32-byte aligned and moves as two 128-bit accesses.
"""

from costmodel import kernel
from costmodel.dtypes import f32
from costmodel.ir import minimum

WHOLE = 1024
"""Multiply-adds of a thread up to which nvcc unrolls the loop over a staged tile completely; else by the hint, KWI.
Source: disassembly of 26 configurations for sm_80 (section 8 of the specification): 16 and 32 accumulators by 32 steps and 64
by 16 are unrolled, 64 and 128 by 32 are not."""


@kernel(static=("SA", "SB", "STRM", "STRN"), name="gemm_clblast")
def gemm_clblast(k, *, M, N, K, MWG, NWG, KWG, MDIMC, NDIMC, MDIMA, NDIMB, KWI, VWM, VWN, SA, SB, STRM=0, STRN=0):
    """One block computes an MWG × NWG tile; each thread MWG/MDIMC × NWG/NDIMC elements in registers."""
    threads = MDIMC * NDIMC
    k.require(M % MWG == 0, N % NWG == 0, K % KWG == 0, KWG % KWI == 0)
    k.require(MWG % (MDIMC * VWM) == 0, NWG % (NDIMC * VWN) == 0)
    MWI, NWI = MWG // MDIMC, NWG // NDIMC
    A, B = k.buffer("A", (K, M), f32, read_only=True), k.buffer("B", (K, N), f32, read_only=True)
    C = k.buffer("C", (N, M), f32)
    acc = k.register("acc", (NWI, MWI), f32)
    a_reg, b_reg = k.register("a_reg", (MWI,), f32), k.register("b_reg", (NWI,), f32)
    if SA:
        k.require(threads % MDIMA == 0, MWG % (MDIMA * VWM) == 0, KWG % (threads // MDIMA) == 0)
        shA = k.shared("shA", (KWG, MWG), f32)
    if SB:
        k.require(threads % NDIMB == 0, NWG % (NDIMB * VWN) == 0, KWG % (threads // NDIMB) == 0)
        shB = k.shared("shB", (KWG, NWG), f32)
    k.launch_bound(threads)

    def own(vectors_before, lane, lanes, vectors, strided):
        """Vector index of a thread's i-th vector: a contiguous run, or strided over the lanes."""
        return lane + vectors_before * lanes if strided else vectors_before + lane * vectors

    with k.blocks(M // MWG, N // NWG) as (gm, gn), k.threads(MDIMC, NDIMC) as (a, b):
        t = a + MDIMC * b
        with k.serial(K // KWG, "kt") as kt:
            if SA:
                rows = KWG // (threads // MDIMA)
                with k.unrolled(MWG // MDIMA // VWM, "p") as p, k.unrolled(rows, "q") as q:
                    mm = VWM * own(p, t % MDIMA, MDIMA, MWG // MDIMA // VWM, STRM)
                    kk = q + (t // MDIMA) * rows
                    k.copy(A[kt * KWG + kk, gm * MWG + mm].wide(VWM), shA[kk, mm].wide(VWM), "stage A")
            if SB:
                rows = KWG // (threads // NDIMB)
                with k.unrolled(rows, "q") as q, k.unrolled(NWG // NDIMB // VWN, "p") as p:
                    nn = VWN * own(p, t % NDIMB, NDIMB, NWG // NDIMB // VWN, STRN)
                    kk = q + (t // NDIMB) * rows
                    k.copy(B[kt * KWG + kk, gn * NWG + nn].wide(VWN), shB[kk, nn].wide(VWN), "stage B")
            if SA or SB:
                k.barrier()
            small = minimum(WHOLE // (MWI * NWI * KWG), 1)  # 1 where the compiler unrolls the whole loop, else 0
            with k.serial(KWG, "kk", unroll=KWI + (KWG - KWI) * small if SA and SB else KWI) as kk:
                with k.unrolled(MWI // VWM, "i") as i:
                    mm = VWM * own(i, a, MDIMC, MWI // VWM, STRM)
                    source = shA[kk, mm] if SA else A[kt * KWG + kk, gm * MWG + mm]
                    k.copy(source.wide(VWM), a_reg[VWM * i].wide(VWM), "load A")
                with k.unrolled(NWI // VWN, "j") as j:
                    nn = VWN * own(j, b, NDIMC, NWI // VWN, STRN)
                    source = shB[kk, nn] if SB else B[kt * KWG + kk, gn * NWG + nn]
                    k.copy(source.wide(VWN), b_reg[VWN * j].wide(VWN), "load B")
                with k.unrolled(NWI, "n") as n, k.unrolled(MWI, "m") as m:
                    k.do("multiply", loads=[a_reg[m], b_reg[n], acc[n, m]], stores=acc[n, m], work=k.fma(f32))
            if SA or SB:
                k.barrier()
        with k.unrolled(NWI // VWN, "j") as j, k.unrolled(VWN, "v") as v, k.unrolled(MWI // VWM, "i") as i:
            mm = gm * MWG + VWM * own(i, a, MDIMC, MWI // VWM, STRM)
            nn = gn * NWG + VWN * own(j, b, NDIMC, NWI // VWN, STRN) + v
            k.do("update C", loads=C[nn, mm].wide(VWM), work=[k.add(f32, VWM), k.fma(f32, VWM)], stores=C[nn, mm].wide(VWM))


SPACE = {
    "gemm_clblast": {
        "M": 4096, "N": 4096, "K": 4096, "KWG": [16, 32], "KWI": 2,
        "MWG": [16, 32, 64, 128], "NWG": [16, 32, 64, 128], "MDIMC": [8, 16, 32], "NDIMC": [8, 16, 32],
        "MDIMA": [8, 16, 32], "NDIMB": [8, 16, 32], "VWM": [1, 2, 4, 8], "VWN": [1, 2, 4, 8],
        "SA": [0, 1], "SB": [0, 1], "STRM": 0, "STRN": 0,
    },
}  # fmt: skip
DATASETS = {"gemm_clblast_opencl": {"description": gemm_clblast}}
