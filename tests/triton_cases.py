"""Launches of the kernels in `triton_kernels`: types, constants, grids and odd sizes, for the compiler and the interpreter alike."""

from dataclasses import dataclass, field

from costmodel.ir import minimum


@dataclass(frozen=True)
class Case:
    """One launch."""

    kernel: str
    signature: dict
    constexprs: dict
    grid: object
    sizes: dict
    scalars: dict = field(default_factory=dict)
    """Values of arguments that are no sizes."""
    num_warps: int = 4
    num_stages: int = 3


def up(a, b):
    return -(-a // b)


def fewer(a, b):
    return min(a, b) if isinstance(b, int) else minimum(a, b)


MATRIX = {"a": "*fp16", "b": "*fp16", "c": "*fp16", "M": "i32", "N": "i32", "K": "i32"}
STRIDES = {"stride_am": "i32:16", "stride_bk": "i32:16", "stride_cm": "i32:16"}
ONES = {"stride_ak": 1, "stride_bn": 1, "stride_cn": 1}


def matmul(kernel, M, N, K, BM, BN, BK, grid, hint=":16", strides=None, extra=None, single=False, **options):
    types = {
        **MATRIX,
        **({"a": "*fp32", "b": "*fp32"} if single else {}),
        "M": "i32" + hint,
        "N": "i32" + hint,
        "K": "i32" + hint,
        **STRIDES,
    }
    given = strides or {"stride_am": K, "stride_bk": N, "stride_cm": N}
    types |= {n: "i32:16" if v % 16 == 0 else "i32" for n, v in given.items()}
    constants = {"BM": BM, "BN": BN, "BK": BK, "GROUP": 8, **ONES, **(extra or {})}
    return Case(kernel, types, constants, grid, {"M": M, "N": N, "K": K, **given}, **options)


def tiles(m):
    return (up(m["M"], m["BM"]) * up(m["N"], m["BN"]),)


FLAT = {"x": "*fp32", "out": "*fp32", "n": "i32"}
ROWS = {"out": "*fp32", "x": "*fp32", "in_stride": "i32", "out_stride": "i32", "columns": "i32"}
NORM = {"x": "*fp16", "y": "*fp16", "w": "*fp16", "b": "*fp16", "mean_of": "*fp32", "rstd_of": "*fp32"}
ATTENTION = {
    "q": "*fp16", "k": "*fp16", "v": "*fp16", "out": "*fp16", "lse": "*fp32", "scale": "fp32",
    "stride_z": "i32:16", "stride_h": "i32:16", "stride_m": "i32:16", "H": "i32", "CTX": "i32:16",
}  # fmt: skip
HEADS = {"stride_z": 2 * 256 * 64, "stride_h": 256 * 64, "stride_m": 64, "H": 2, "CTX": 256}

CASES = {
    "vector add": Case(
        "vector_add", {"x": "*fp32", "y": "*fp32", "out": "*fp32", "n": "i32"}, {"BLOCK": 256},
        lambda m: (up(m["n"], m["BLOCK"]),), {"n": 1003},
    ),
    "vector add, even": Case(
        "vector_add", {"x": "*fp16", "y": "*fp16", "out": "*fp16", "n": "i32:16"}, {"BLOCK": 512},
        lambda m: (up(m["n"], m["BLOCK"]),), {"n": 1008},
    ),
    "softmax": Case("softmax_by_row", ROWS, {"BLOCK": 128}, lambda m: (7,), {"in_stride": 100, "out_stride": 111, "columns": 97}),
    "persistent softmax": Case(
        "softmax", {**ROWS, "rows": "i32"}, {"BLOCK": 128, "STAGES": 2}, lambda m: (4,),
        {"in_stride": 100, "out_stride": 111, "rows": 11, "columns": 97},
    ),
    "matmul": matmul("matmul", 272, 144, 80, 64, 32, 32, tiles),
    "matmul, odd": matmul("matmul", 150, 77, 45, 32, 32, 16, tiles, hint="", strides={"stride_am": 47, "stride_bk": 80, "stride_cm": 77}),
    "matmul, many rows": matmul("matmul", 704, 64, 64, 64, 64, 32, tiles),
    "dropout": Case(
        "dropout", {"x": "*fp32", "keep": "*i1", "out": "*fp32", "n": "i32", "p": "fp32"}, {"BLOCK": 128},
        lambda m: (up(m["n"], m["BLOCK"]),), {"n": 333}, {"p": 0.5},
    ),
    "seeded dropout": Case(
        "seeded_dropout", {"x": "*fp32", "out": "*fp32", "n": "i32", "p": "fp32", "seed": "i32"}, {"BLOCK": 128},
        lambda m: (up(m["n"], m["BLOCK"]),), {"n": 333, "seed": 17}, {"p": 0.5},
    ),
    "layer norm": Case(
        "layer_norm", {**NORM, "stride": "i32", "n": "i32", "eps": "fp32"}, {"BLOCK": 128}, lambda m: (5,),
        {"stride": 311, "n": 300}, {"eps": 1e-5},
    ),
    "layer norm backward, weights": Case(
        "layer_norm_backward_dwdb",
        {"dw": "*fp32", "db": "*fp32", "final_dw": "*fp32", "final_db": "*fp32", "M": "i32", "N": "i32"},
        {"BM": 32, "BN": 64}, lambda m: (up(m["N"], m["BN"]),), {"M": 70, "N": 150},
    ),
    "attention": Case(
        "attention", ATTENTION, {"BM": 64, "BN": 32, "D": 64, "CAUSAL": False}, lambda m: (up(m["CTX"], m["BM"]), 4), HEADS,
        {"scale": 0.1},
    ),
    "causal attention": Case(
        "attention", ATTENTION, {"BM": 64, "BN": 32, "D": 64, "CAUSAL": True}, lambda m: (up(m["CTX"], m["BM"]), 4), HEADS,
        {"scale": 0.1},
    ),
    "persistent matmul": matmul("persistent_matmul", 272, 144, 80, 64, 32, 32, lambda m: (m["SMS"],), extra={"SMS": 6}),
    "persistent matmul of few tiles": matmul(
        "persistent_matmul", 272, 144, 80, 64, 32, 32, lambda m: (fewer(m["SMS"], tiles(m)[0]),), extra={"SMS": 66}
    ),
    "persistent matmul of many tiles": matmul(
        "persistent_matmul", 272, 144, 80, 64, 32, 32, lambda m: (fewer(m["SMS"], tiles(m)[0]),), extra={"SMS": 7}
    ),
    "descriptor matmul": Case(
        "descriptor_matmul", {**MATRIX, "M": "i32:16", "N": "i32:16", "K": "i32:16"}, {"BM": 64, "BN": 64, "BK": 32},
        lambda m: (up(m["N"], m["BN"]), up(m["M"], m["BM"])), {"M": 144, "N": 80, "K": 112},
    ),
    "host descriptor matmul": Case(
        "host_descriptor_matmul",
        {"a": "tensordesc<fp16[64, 32]>", "b": "tensordesc<fp16[64, 32]>", "c": "tensordesc<fp16[64, 64]>"},
        {"BM": 64, "BN": 64, "BK": 32, "K": 112}, (2, 3),
        {"a_shape_0": 144, "a_shape_1": 112, "a_stride_0": 112, "b_shape_0": 80, "b_shape_1": 112, "b_stride_0": 112,
         "c_shape_0": 144, "c_shape_1": 80, "c_stride_0": 80},
    ),
    "column sums": Case(
        "column_sums", {"x": "*fp32", "out": "*fp32", "rows": "i32", "columns": "i32"}, {"BM": 32, "BN": 64},
        lambda m: (up(m["rows"], m["BM"]), up(m["columns"], m["BN"])), {"rows": 75, "columns": 130},
    ),
    "transposed": Case(
        "transposed", {"x": "*fp32", "out": "*fp32", "M": "i32:16", "N": "i32:16"}, {"BM": 32, "BN": 64},
        lambda m: (up(m["M"], m["BM"]), up(m["N"], m["BN"])), {"M": 80, "N": 144},
    ),
    "left early": Case("left_early", FLAT, {"BLOCK": 128}, (8,), {"n": 333}),
    "branched": Case("branched", FLAT, {"BLOCK": 128}, lambda m: (up(m["n"], m["BLOCK"]),), {"n": 333}),
    "split matmul": Case(
        "split_matmul", {**MATRIX, "c": "*fp32", "M": "i32:16", "N": "i32:16", "K": "i32:16"},
        {"BM": 64, "BN": 32, "BK": 32, "SPLIT": 2}, lambda m: (*tiles(m), m["SPLIT"]), {"M": 144, "N": 80, "K": 176},
    ),
    "matmul in single precision": matmul("matmul", 144, 80, 96, 64, 64, 32, tiles, single=True),
    "pairs swapped": Case("pairs_swapped", FLAT, {"BLOCK": 128}, lambda m: (up(m["n"], m["BLOCK"]),), {"n": 334}),
    "running sums": Case("running_sums", FLAT, {"BLOCK": 128}, (3,), {"n": 1000}),
}  # fmt: skip
"""Launches whose bytes are compared with the interpreter's."""

BLOCK_POINTER = Case(
    "row_sums_by_block_pointer", {"a": "*fp16", "b": "*fp32", "M": "i32:16", "N": "i32:16"}, {"BM": 32, "BN": 64},
    lambda m: (up(m["M"], m["BM"]),), {"M": 80, "N": 144},
)  # fmt: skip
"""For Triton up to 3.6, which deprecated block pointers afterwards."""

REFUSED = {
    "grouped matmul": (
        Case(
            "grouped_matmul",
            {"a_pointers": "*i64", "b_pointers": "*i64", "c_pointers": "*i64", "sizes": "*i32", "strides": "*i32", "groups": "i32"},
            {"SMS": 4, "BM": 32, "BN": 32, "BK": 32}, lambda m: (4,), {"groups": 2},
        ),
        "scf.while|loaded",
    ),
    "layer norm backward, input": (
        Case(
            "layer_norm_backward_dx",
            {"dx": "*fp16", "dy": "*fp16", "dw": "*fp16", "db": "*fp16", "x": "*fp16", "w": "*fp16", "mean_of": "*fp32",
             "rstd_of": "*fp32", "lock": "*i32", "stride": "i32", "n": "i32"},
            {"GROUP": 4, "BLOCK": 256}, lambda m: (8,), {"stride": 256, "n": 200},
        ),
        "scf.while|cf.",
    ),
    "gathered": (
        Case(
            "gathered", {"table": "*fp32", "where": "*i32", "out": "*fp32", "n": "i32", "width": "i32"}, {"BLOCK": 128},
            lambda m: (4,), {"n": 512, "width": 1},
        ),
        "loaded at line",
    ),
}  # fmt: skip
"""Kernels that are refused, and what the error says."""
