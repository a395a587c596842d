"""Run by `test_triton_suite` in a process of its own, with TRITON_INTERPRET=1: the Triton kernels of the suite on the CPU.

Prints JSON: for each case the largest error, relative to the largest value expected, and the bytes that its loads and stores move,
by buffer; lanes that are masked off move none.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from costmodel.cost import find_description
from tests.oracle import evaluate

__all__ = ["CASES"]

_GEMM = {"BM": 32, "BN": 32, "BK": 32, "GROUP": 2, "WARPS": 2, "DOWN": 1, "STAGES": 2, "INSTRUCTION": "mma", "DTYPE": "f16"}
_ATTENTION = {"BM": 64, "BN": 32, "WARPS": 4, "STAGES": 2, "INSTRUCTION": "mma", "CAUSAL": 0}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("gemm_triton", {**_GEMM, "M": 64, "N": 96, "K": 64}),
    ("gemm_triton", {**_GEMM, "M": 40, "N": 80, "K": 48}),
    ("gemm_triton", {**_GEMM, "M": 130, "N": 48, "K": 80, "GROUP": 5}),
    ("gemm_triton", {**_GEMM, "M": 70, "N": 33, "K": 41}),
    ("attention_triton", {**_ATTENTION, "H": 2, "S": 50, "D": 64}),
    ("attention_triton", {**_ATTENTION, "H": 1, "S": 128, "D": 64, "CAUSAL": 1}),
    ("attention_triton", {**_ATTENTION, "H": 2, "S": 75, "D": 128, "CAUSAL": 1}),
    ("softmax_triton", {"M": 3, "N": 400, "W": 512, "WARPS": 4, "DTYPE": "f32"}),
    ("softmax_triton", {"M": 2, "N": 1000, "W": 1024, "WARPS": 4, "DTYPE": "f16"}),
    ("layer_norm_triton", {"M": 3, "N": 400, "W": 256, "WARPS": 2, "DTYPE": "f32"}),
    ("layer_norm_triton", {"M": 2, "N": 1000, "W": 512, "WARPS": 2, "DTYPE": "f16"}),
]
"""Descriptions and sizes: some that tiles do not fill, some that the description refuses. Not bf16: the interpreter of Triton 3.6
multiplies the bits of it."""


class _Meter:
    """Counts what the interpreter's loads and stores touch, by the tensor whose memory it is."""

    def __init__(self, builder: Any) -> None:
        self.tensors: dict[str, Any] = {}
        self.moved: dict[str, int] = defaultdict(int)
        load, store = builder.create_masked_load, builder.create_masked_store

        def metered_load(self_: Any, ptrs: Any, mask: Any, *others: Any) -> Any:
            self.count("load", ptrs, mask)
            return load(self_, ptrs, mask, *others)

        def metered_store(self_: Any, ptrs: Any, value: Any, mask: Any, *others: Any) -> Any:
            self.count("store", ptrs, mask)
            return store(self_, ptrs, value, mask, *others)

        builder.create_masked_load, builder.create_masked_store = metered_load, metered_store

    def count(self, kind: str, ptrs: Any, mask: Any) -> None:
        active = np.broadcast_to(mask.data, ptrs.data.shape)
        touched = ptrs.data[active].astype(np.int64)
        for name, tensor in self.tensors.items():
            first, size = tensor.data_ptr(), tensor.element_size()
            inside = int(((touched >= first) & (touched < first + tensor.numel() * size)).sum())
            if inside:
                self.moved[f"{name} {kind}"] += inside * size


def _main() -> None:
    import torch
    from triton.runtime import interpreter

    patched = interpreter._patch_lang_tensor

    def patch_tensor(tensor: Any, scope: Any) -> None:
        """Triton 3.6 converts arrays of one element to numbers, which NumPy 2.4 refuses (triton-lang/triton#9171)."""
        patched(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    interpreter._patch_lang_tensor = patch_tensor
    kinds = {"f32": torch.float32, "f16": torch.float16}
    meter, found = _Meter(interpreter.InterpreterBuilder), []
    torch.manual_seed(0)
    for name, sizes in CASES:
        description = find_description(name)
        module = sys.modules[description.function.__module__]
        code = module.CODE[name]
        everything = {**description.defaults, **sizes}
        kernel = description.trace(**{n: everything[n] for n in description.static})
        written = {a.buffer.name for s in kernel.statements() for a in s.statement.stores}
        tensors = {}
        for b in (b for b in kernel.buffers if b.space == "global"):
            shape = [evaluate(n, sizes) for n in b.shape]
            values = torch.full(shape, torch.nan) if b.name in written else torch.randn(shape)
            tensors[b.name] = values.to(kinds[b.dtype.name])
        wide = {n: t.double() for n, t in tensors.items()}
        meter.tensors, meter.moved = tensors, defaultdict(int)
        importlib.import_module(f"validation.kernels.{Path(code['triton']).stem}").launch(tensors, sizes)
        errors = [
            float((tensors[n].double() - wanted).abs().max() / wanted.abs().max())
            for n, wanted in code["reference"](wide, sizes).items()
        ]
        found.append({"error": max(errors), "moved": meter.moved})
    print(json.dumps(found))


if __name__ == "__main__":
    _main()
