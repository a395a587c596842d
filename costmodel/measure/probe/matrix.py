"""Square matrix products by torch: what the vendor's library reaches, a lower bound of what the units do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from costmodel.errors import MeasureError

__all__ = ["product"]


def product(torch: Any, dtype: str, n: int) -> Callable[[], object]:
    """Return a call that multiplies two n×n matrices of random numbers.

    Args:
        torch: the module.
        dtype: key of `Throughput.matrix_fma`.
        n: rows; a multiple of 16.

    Raises:
        MeasureError: torch has no product of that input.
    """
    plain = {"fp64": torch.float64, "fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if dtype in plain:
        torch.set_float32_matmul_precision("high" if dtype == "tf32" else "highest")
        a, b = (torch.randn(n, n, device="cuda").to(plain[dtype]) for _ in range(2))
        out = torch.empty_like(a)
        return lambda: torch.mm(a, b, out=out)
    if dtype == "int8":
        a, b = (torch.randint(-127, 127, (n, n), device="cuda", dtype=torch.int8) for _ in range(2))
        return lambda: torch._int_mm(a, b.t())
    if dtype == "fp8":
        a, b = (torch.randn(n, n, device="cuda").to(torch.float8_e4m3fn) for _ in range(2))
        one = torch.ones((), device="cuda")
        return lambda: torch._scaled_mm(a, b.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16, use_fast_accum=True)
    raise MeasureError(f"matrix product of {dtype}: torch has none; the vendor's figure stands")
