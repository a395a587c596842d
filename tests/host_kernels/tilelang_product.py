"""A kernel in TileLang, for the test of its adapter, which measures nothing; imported only where TileLang is installed."""

import tilelang.language as T  # noqa: N812


def product(M, N, K, block=64, num_stages=2):
    @T.prim_func
    def main(A: T.Tensor((M, K), "float16"), C: T.Tensor((M, N), "float16")):  # type: ignore[valid-type]
        with T.Kernel(N // block, M // block, threads=128) as (bx, by):
            C[by * block, bx * block] = A[by * block, bx * block]

    return main
