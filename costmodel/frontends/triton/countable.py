"""Whether a kernel can be counted: tried once when it is made, where its masks and bounds do not plainly show it."""

from __future__ import annotations

from collections.abc import Mapping

import sympy

from costmodel.counts import executions
from costmodel.errors import UnsupportedError
from costmodel.frontends.triton.module_text import Location
from costmodel.ir import Kernel, Site
from costmodel.symbols import CeilDiv, FloorDiv, Maximum, Minimum, Mod

__all__ = ["checked"]

_WRITTEN = {FloorDiv: "//", CeilDiv: "tl.cdiv", Mod: "%", Minimum: "tl.minimum", Maximum: "tl.maximum"}
_OPERATIONS = {"load": "tt.load", "store": "tt.store", "atomic": "tt.atomic_rmw"}


def checked(kernel: Kernel, places: Mapping[str, Location]) -> Kernel:
    """The kernel, if each of its statements can be counted.

    Args:
        kernel: the kernel.
        places: of statements in the source.

    Raises:
        UnsupportedError: one cannot; the message names the operation and the source line.
    """
    tried: set[tuple[int, ...]] = set()
    for site in kernel.statements():
        key = (*map(id, site.loops), *map(id, site.guards))
        if key in tried:
            continue
        tried.add(key)
        used = _functions(site)
        if not used:
            continue
        try:
            executions(kernel, site)
        except UnsupportedError as error:
            name = site.statement.name
            operation = _OPERATIONS.get(name.split(" ")[0], name.split(" (")[0])
            raise UnsupportedError(
                f"Triton kernel {kernel.name}: {places.get(name, '')} ({operation}): how often it runs cannot be counted: "
                f"a mask, branch or loop bound on the way to it takes {', '.join(used)} of what moves; expected "
                "sums of indices times constants or sizes, divided by constants or sizes, and never negative there"
            ) from error
    return kernel


def _functions(site: Site) -> list[str]:
    """What divides, or picks the smaller or larger, of block indices, threads or counters in guards and extents."""
    indices = {loop.index for loop in site.loops}
    forms = [e for g in site.guards for c in g.conditions for e in c[1:]] + [loop.extent for loop in site.loops]
    calls = {c for e in forms if e.free_symbols & indices for c in e.atoms(*_WRITTEN) if c.free_symbols & indices}
    return sorted({_WRITTEN[type(c)] for c in calls if not _of_threads(c)})


def _of_threads(call: sympy.Expr) -> bool:
    """Whether it is a digit of the thread number, which layouts bring."""
    return all(s.name.startswith("thread_") for s in call.free_symbols) and isinstance(call, Mod | FloorDiv)
