"""Compiles registers.csv anew: `python -m tests.golden.compile_registers [KERNEL …]` (some minutes, needs nvcc; 13.0 was used).

Rows name a set, a kernel and its sizes; the other columns are registers of a thread and bytes of spill stores in the code, as
`ptxas -v` reports them, all from PTX for compute_75. Sets: `seen` are descriptions of the package, with which the constants of `charges.registers` were
chosen; `held out` are `tests.held_out_kernels` (looked at once, and two terms for loads from global memory added then);
`blind` are `tests.blind_kernels`, compiled when nothing was changed any more.
"""

from __future__ import annotations

import csv
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from costmodel.cost import find_description
from costmodel.ir import Description
from costmodel.measure import cuda_source
from costmodel.measure.compile import compile_for
from tests import blind_kernels, held_out_kernels

FILE = Path(__file__).with_name("registers.csv")
ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_90")


def described(name: str) -> Description:
    """A description of the package or of the tests."""
    own = getattr(held_out_kernels, name, None) or getattr(blind_kernels, name, None)
    return own if isinstance(own, Description) else find_description(name)


def compiled(row: dict[str, str]) -> dict[str, str]:
    """The row with what the compiler says now."""
    description = described(row["kernel"])
    given: dict[str, Any] = {**description.defaults, **json.loads(row["sizes"])}
    kernel = description.trace(**{n: given[n] for n in description.static})
    source = cuda_source(kernel, {n: given[n] for n in kernel.params})
    filled = dict(row)
    for architecture, found in zip(ARCHITECTURES, compile_for(source, ARCHITECTURES, virtual="compute_75"), strict=True):
        filled[architecture] = str(found.registers)
        filled[f"{architecture} spilled"] = str(found.spill_store_bytes)
    return filled


def main(chosen: list[str]) -> None:
    """Write the file again, compiling all kernels or those that are named."""
    with FILE.open() as lines:
        rows = list(csv.DictReader(lines))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        done = list(pool.map(lambda row: compiled(row) if row["kernel"] in (chosen or {row["kernel"]}) else row, rows))
    with FILE.open("w", newline="") as lines:
        names = ["set", "kernel", "sizes", *(c for a in ARCHITECTURES for c in (a, f"{a} spilled"))]
        writer = csv.DictWriter(lines, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(done)


if __name__ == "__main__":
    main(sys.argv[1:])
