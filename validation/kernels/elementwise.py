"""Element-wise operators as PyTorch launches them: blocks of 128 threads, four elements for each, 128-bit accesses.

One flat array of B · H elements, or two, read once and written once. The tail of a size that is no multiple of four is
moved element by element; here it counts as one more vector. Source of the loop nest: aten/src/ATen/native/cuda/CUDALoops.cuh,
`vectorized_elementwise_kernel` (PyTorch 2.1): grid = ceil(B·H / 512).
"""

from costmodel import kernel
from costmodel.dtypes import f16, f32

THREADS = 128
PER_THREAD = 4
SECOND_INPUT = ("add", "mul", "div", "pow")
"""Operators on two arrays; `addu` and the like take a number instead of the second."""
OPERATIONS = {
    "add": (1, 0), "mul": (1, 0), "relu": (1, 0), "addu": (1, 0), "mulu": (1, 0),
    "div": (7, 1), "divu": (1, 0), "tanh": (14, 2), "gelu": (25, 1), "pow": (40, 3), "powu": (40, 3),
}  # fmt: skip
"""Operations on the FMA lanes and special functions for each element. Source: SASS of CUDA's libdevice functions (counted,
rounded): division is a reciprocal with two Newton steps, `tanhf` an exponential and a reciprocal, `erff` a polynomial of
degree ten and an exponential, `powf` a logarithm and an exponential in extended precision."""


@kernel(static=("op",))
def elementwise(k, *, op, B, H):
    """One fp32 operator over a B × H array."""
    _elementwise(k, op, B * H, f32)


@kernel
def gelu_f16(k, *, M, N):
    """The exact GELU of an M × N array in half precision, computed in single precision."""
    _elementwise(k, "gelu", M * N, f16)


def _elementwise(k, op, elements, dtype):
    vectors = -(-elements // PER_THREAD)
    names = ("x", "y") if op in SECOND_INPUT else ("x",)
    inputs = [k.buffer(name, (vectors * PER_THREAD,), dtype) for name in names]
    out = k.buffer("out", (vectors * PER_THREAD,), dtype)
    simple, special = OPERATIONS[op]
    work = [k.add(f32, simple * PER_THREAD)] + [k.special(f32, special * PER_THREAD)] * bool(special)
    work += [k.convert(f32, (len(inputs) + 1) * PER_THREAD)] * (dtype is not f32)
    with k.blocks(-(-vectors // THREADS)) as block, k.threads(THREADS) as t:
        v = block * THREADS + t
        with k.when(v < vectors):
            at = v * PER_THREAD
            k.do(op, loads=[a[at].wide(PER_THREAD) for a in inputs], work=work, stores=out[at].wide(PER_THREAD))


SPACE = {"elementwise": {"op": "gelu", "B": 8192, "H": [1024, 2048, 4096, 8192]}}
CALL_S = 12e-6
"""Between events around a Python call, beside the kernel: 5 to 30 µs (description of NeuSight's data); their geometric mean."""
# The LLMCompass files do not say what their times hold beside the kernel: those are priced with the device's launch overhead.
LLMCOMPASS = {"A100": "a100_sxm4_80gb"}
"""Of 80 GB: `gelu_fp16` reads and writes 1561 GB/s there, and boards of 40 GB have 1555 at most."""
DATASETS = {
    "neusight_elem": {"description": elementwise, "launch_s": CALL_S},
    "gelu_fp16": {"description": gelu_f16, "gpus": LLMCOMPASS},
}
