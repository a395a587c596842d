"""How long Triton kernels take to be analysed, and to be found in a cache, in a process that did nothing before.

`python -m tests.triton_timed NAME…` prints milliseconds by kernel as JSON. Compiling and imports, and what they leave to the
garbage collector, are left out.
"""

from __future__ import annotations

import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from tests.triton_cases import CASES


def milliseconds(run: Callable[[], Any], clock: Callable[[], float]) -> float:
    """Of one call."""
    start = clock()
    run()
    return (clock() - start) * 1e3


def timed(name: str) -> dict[str, float]:
    """Milliseconds of this process for analyses, of the clock for what is read."""
    from costmodel.frontends.triton import compiling, from_triton, kernel
    from tests import triton_kernels

    case = CASES[name]
    fn = getattr(triton_kernels, case.kernel)
    configurations = [{"num_warps": 2 * case.num_warps, "num_stages": 2}, {"num_warps": case.num_warps, "num_stages": 3}]
    made = [compiling.compiled(fn, case.signature, case.constexprs, 90, c) for c in configurations]
    _, divisors = compiling.parsed_signature(fn, case.signature, case.constexprs)
    grid = kernel.extents_of(case.kernel, case.grid, case.signature, case.constexprs)

    def analyse(n: int) -> float:
        return milliseconds(
            lambda: kernel.described(made[n], case.kernel, grid, divisors, case.constexprs, 90), time.process_time
        )

    gc.collect()
    found = {"first": analyse(0), "new configuration": analyse(1), "again": min(analyse(1) for _ in range(5))}
    with tempfile.TemporaryDirectory() as folder:

        def look_up() -> float:
            options = configurations[1]
            return milliseconds(
                lambda: from_triton(fn, case.signature, case.constexprs, case.grid, cache=folder, **options), time.perf_counter
            )

        def from_disk() -> float:
            kernel._MEMORY.clear()
            return look_up()

        look_up()
        return found | {"from disk": min(from_disk() for _ in range(5)), "from memory": min(look_up() for _ in range(5))}


if __name__ == "__main__":
    print(json.dumps({name: timed(name) for name in sys.argv[1:]}))
