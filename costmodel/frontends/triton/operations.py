"""What Triton's arithmetic costs a thread for one element: kind of work and how many operations.

Additions, products, comparisons and selections are one operation each. Divisions and the functions of the special unit are what
PTX makes of them: `div.full.f32` is a reciprocal on the special unit and four operations around it, `ex2.approx` and `lg2.approx`
are one special operation, to base e one multiplication more, `sqrt.approx` a reciprocal root and a multiplication.
Sources: PTX ISA 8.7, floating-point instructions; Triton, `ElementwiseOpToLLVM.cpp`. Inferred: what the scaling in
`div.full` costs (two comparisons, two multiplications); library functions by the length of CUDA's published polynomials.
"""

from __future__ import annotations

from costmodel.ir.types import WorkKind

__all__ = ["FLOATS", "IGNORED", "INTEGERS", "LIBRARY"]

_ONE: tuple[tuple[WorkKind, int], ...] = (("add", 1),)
FLOATS: dict[str, tuple[tuple[WorkKind, int], ...]] = {
    "arith.addf": _ONE,
    "arith.subf": _ONE,
    "arith.mulf": _ONE,
    "arith.negf": _ONE,
    "arith.cmpf": _ONE,
    "arith.maxnumf": _ONE,
    "arith.minnumf": _ONE,
    "arith.maximumf": _ONE,
    "arith.minimumf": _ONE,
    "arith.select": _ONE,
    "tt.clampf": (("add", 2),),
    "math.absf": _ONE,
    "math.floor": (("convert", 1),),
    "math.ceil": (("convert", 1),),
    "math.fma": (("fma", 1),),
    "arith.divf": (("special", 1), ("add", 4)),
    "arith.remf": (("special", 1), ("add", 6)),
    "tt.precise_divf": (("special", 1), ("add", 7)),
    "tt.precise_sqrt": (("special", 1), ("add", 7)),
    "math.exp": (("special", 1), ("add", 1)),
    "math.exp2": (("special", 1),),
    "math.log": (("special", 1), ("add", 1)),
    "math.log2": (("special", 1),),
    "math.sqrt": (("special", 1), ("add", 1)),
    "math.rsqrt": (("special", 1),),
    "math.sin": (("special", 1), ("add", 1)),
    "math.cos": (("special", 1), ("add", 1)),
    "math.tanh": (("special", 1),),
    "math.erf": (("special", 1), ("fma", 14)),
    "arith.extf": (("convert", 1),),
    "arith.truncf": (("convert", 1),),
    "tt.fp_to_fp": (("convert", 1),),
    "arith.sitofp": (("convert", 1),),
    "arith.uitofp": (("convert", 1),),
    "arith.fptosi": (("convert", 1),),
    "arith.fptoui": (("convert", 1),),
}
"""Operations of one element by the operation's name."""

LIBRARY: dict[str, tuple[tuple[WorkKind, int], ...]] = {
    "__nv_expf": (("special", 1), ("add", 3)),
    "__nv_exp2f": (("special", 1),),
    "__nv_logf": (("special", 1), ("fma", 10)),
    "__nv_tanhf": (("special", 2), ("fma", 8)),
    "__nv_erff": (("special", 1), ("fma", 14)),
    "__nv_rsqrtf": (("special", 1),),
    "__nv_sqrtf": (("special", 1), ("add", 7)),
    "__nv_fabsf": _ONE,
    "__nv_floorf": (("convert", 1),),
    "__nv_ceilf": (("convert", 1),),
    "__nv_sinf": (("special", 1), ("fma", 14)),
    "__nv_cosf": (("special", 1), ("fma", 14)),
    "__nv_powf": (("special", 2), ("fma", 30)),
    "__nv_fmaf": (("fma", 1),),
    "__nv_fmaxf": _ONE,
    "__nv_fminf": _ONE,
}
"""The same for functions of libdevice."""

INTEGERS: dict[str, int] = {
    "arith.addi": 1,
    "arith.subi": 1,
    "arith.muli": 1,
    "arith.andi": 1,
    "arith.ori": 1,
    "arith.xori": 1,
    "arith.shli": 1,
    "arith.shrui": 1,
    "arith.shrsi": 1,
    "arith.minsi": 1,
    "arith.maxsi": 1,
    "arith.minui": 1,
    "arith.maxui": 1,
    "arith.cmpi": 1,
    "arith.select": 1,
    "arith.extsi": 1,
    "arith.extui": 0,
    "arith.trunci": 0,
    "math.absi": 1,
    "tt.mulhiui": 1,
    "arith.divsi": 20,
    "arith.ceildivsi": 22,
    "arith.divui": 20,
    "arith.remsi": 20,
    "arith.remui": 20,
}
"""Integer operations of one element. A division by a number that is not a constant is a reciprocal and about twenty operations
(inferred from the sequence that `ptxas` emits for `div.s32`); rounding up adds a comparison and a sum."""

IGNORED = frozenset(
    {
        "arith.constant", "tt.get_program_id", "tt.get_num_programs", "tt.make_range", "tt.splat", "tt.broadcast",
        "tt.expand_dims", "tt.addptr", "tt.reshape", "tt.trans", "tt.bitcast", "arith.bitcast", "arith.index_cast",
        "tt.ptr_to_int", "tt.int_to_ptr", "tt.unsplat", "tt.join", "tt.split", "tt.cat", "tt.return",
        "tt.reduce.return", "tt.scan.return", "scf.yield", "ub.poison", "ttg.memdesc_trans", "ttg.memdesc_index",
        "ttg.memdesc_subslice", "ttg.memdesc_subview", "ttg.memdesc_reinterpret", "ttg.memdesc_reshape",
        "ttng.fence_async_shared", "ttng.warp_group_dot_wait", "ttg.local_dealloc", "ttg.async_commit_group",
        "ttg.async_wait", "ttng.tensormap_create", "ttng.tensormap_fenceproxy_acquire",
        "ttng.reinterpret_tensor_descriptor", "ttg.global_scratch_alloc", "ttng.init_barrier", "ttng.barrier_expect",
        "ttng.wait_barrier", "ttng.inval_barrier", "ttng.async_tma_store_wait", "tt.assert", "llvm.intr.assume",
        "tt.extern_elementwise",
    }
)  # fmt: skip
"""Operations without work of their own: they name, move about in registers, or belong to addresses and copies."""
