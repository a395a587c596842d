"""Runs the launches of `triton_cases`, or of `triton_unseen`, in Triton's interpreter and prints the bytes of each, as JSON.

A script of its own: the interpreter is chosen when Triton is imported, by `TRITON_INTERPRET=1`.
"""

import json
import re
import sys

import numpy as np
import torch
from triton.runtime import interpreter
from triton.tools.tensor_descriptor import TensorDescriptor

from tests import triton_cases, triton_kernels, triton_unseen

TORCH = {"fp32": torch.float32, "fp16": torch.float16, "i1": torch.bool, "i32": torch.int32, "i64": torch.int64}
counted = {"load": 0, "store": 0, "atomic": 0}


def add(kind, pointers, mask):
    itemsize = pointers.get_element_ty().primitive_bitwidth // 8 or 1
    counted[kind] += int(np.broadcast_to(mask.data, pointers.data.shape).sum()) * itemsize


def patch():
    builder = interpreter.InterpreterBuilder
    load, store, atomic = builder.create_masked_load, builder.create_masked_store, builder.create_atomic_rmw

    def counted_load(self, pointers, mask, *rest, **more):
        add("load", pointers, mask)
        return load(self, pointers, mask, *rest, **more)

    def counted_store(self, pointers, value, mask, *rest):
        add("store", pointers, mask)
        return store(self, pointers, value, mask, *rest)

    def counted_atomic(self, op, pointers, value, mask, *rest):
        add("atomic", pointers, mask)
        return atomic(self, op, pointers, value, mask, *rest)

    patch_tensor = interpreter._patch_lang_tensor

    def whole_numbers_of_arrays(tensor, *rest):
        """Triton 3.6 calls int() on arrays of one element, which numpy 2.4 refuses."""
        patch_tensor(tensor, *rest)
        tensor.__index__ = lambda self: int(np.asarray(self.handle.data).reshape(-1)[0])

    interpreter._patch_lang_tensor = whole_numbers_of_arrays
    builder.create_masked_load, builder.create_masked_store = counted_load, counted_store
    builder.create_atomic_rmw = counted_atomic


def run(case, kernels):
    for kind in counted:
        counted[kind] = 0
    arguments = {}
    for name, kind in case.signature.items():
        kind = kind.split(":")[0]
        if kind.startswith("tensordesc"):
            dtype, *block = re.findall(r"\w+", kind)[1:]
            shape = [case.sizes[f"{name}_shape_{d}"] for d in range(len(block))]
            arguments[name] = TensorDescriptor.from_tensor(torch.zeros(shape, dtype=TORCH[dtype]), [int(n) for n in block])
        elif kind.startswith("*"):
            arguments[name] = torch.zeros(1 << 19, dtype=TORCH[kind[1:]])
        else:
            arguments[name] = {**case.sizes, **case.scalars}[name]
    arguments |= case.constexprs
    grid = case.grid(arguments) if callable(case.grid) else case.grid
    getattr(kernels, case.kernel)[grid](**arguments)
    return dict(counted)


if __name__ == "__main__":
    patch()
    if sys.argv[1:] == ["unseen"]:
        found = {n: [run(c, triton_unseen) for c in cases] for n, cases in triton_unseen.CASES.items()}
    else:
        found = {n: run(c, triton_kernels) for n, c in triton_cases.CASES.items()}
    print(json.dumps(found))
