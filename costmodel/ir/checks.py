"""Structural checks of a traced kernel: each error names the kernel, the statement and the access."""

from __future__ import annotations

from dataclasses import replace

import sympy

from costmodel.errors import DescriptionError, UnsupportedError
from costmodel.ir.types import Access, Barrier, Guard, Kernel, Loop, Node, Site, Statement, sites_of
from costmodel.symbols import free_names, to_text

__all__ = ["finish"]

_LANE_NAMES = {"thread_x", "thread_y", "thread_z"}
_DEEPEST = 32
_ORDER = {"block": 0, "thread": 1, "serial": 2}


def finish(kernel: Kernel) -> Kernel:
    """Check a kernel and fill in its sites.

    Raises:
        DescriptionError: malformed: no statement, loops in an impossible order, unknown names, …
        UnsupportedError: well formed but not countable.
    """
    sites = tuple(sites_of(kernel.body))
    where = f"kernel {kernel.name}"
    if not any(isinstance(s.leaf, Statement) for s in sites):
        raise DescriptionError(f"{where}: it has no statement; expected at least one k.do, k.copy, k.load or k.store")
    for name in _LANE_NAMES & set(kernel.params):
        raise DescriptionError(f"{where}: {name!r} is the name of a thread index; rename the size")
    _check_loops(kernel, where)
    for buffer in kernel.buffers:
        for extent in (n for n in buffer.shape if n.is_number and int(n) < 1):
            raise DescriptionError(f"{where}: buffer {buffer.name!r}: an extent is {extent}; expected at least 1")
    given = ("k.shared_bytes_per_block", kernel.shared_bytes)
    for what, bound in (("k.launch_bound", kernel.max_threads), ("k.registers_per_thread", kernel.registers), given):
        if bound is not None:
            _known((bound,), set(kernel.params), f"{where}: {what}")
    if kernel.launch_grid is not None:
        _known(kernel.launch_grid, set(kernel.params), f"{where}: launch_grid")
    for condition in kernel.requirements:
        _known(condition[1:], set(kernel.params), f"{where}: k.require")
    for buffer in kernel.buffers:
        _known((*buffer.shape, *buffer.strides), set(kernel.params), f"{where}: shape of buffer {buffer.name!r}")
    checked: set[tuple[int, ...]] = set()
    for site in sites:
        _check_site(kernel, site, where, checked)
    return replace(kernel, sites=sites)


def _check_loops(kernel: Kernel, where: str) -> None:
    seen: set[tuple[str, int]] = set()
    _check_bodies(kernel.body, where)
    for loop in kernel.loops():
        if loop.kind != "serial":
            if (loop.kind, loop.axis) in seen:
                raise DescriptionError(f"{where}: k.{loop.kind}s(…) appears twice; a kernel has one grid and one block shape")
            seen.add((loop.kind, loop.axis))
        for what, value in (("extent", loop.extent), ("unroll", loop.unroll), ("stages", loop.stages)):
            if value.is_number and int(value) < 1:
                raise DescriptionError(f"{where}: loop {loop.index}: {what} is {value}; expected at least 1")


def _check_bodies(body: tuple[Node, ...], where: str) -> bool:
    """Whether there is a leaf in a body; each loop in it has to have one, and each guard a share of executions."""
    found = [_check_body(node, where) for node in body]
    return any(found)


def _check_body(node: Node, where: str) -> bool:
    if not isinstance(node, Loop | Guard):
        return True
    filled = _check_bodies(node.body, where)
    if isinstance(node, Guard):
        if node.fraction is not None and not (node.fraction.is_number and 0 <= node.fraction <= 1):
            raise DescriptionError(f"{where}: a guard's fraction is {node.fraction}; expected a share between 0 and 1")
    elif not filled:
        raise DescriptionError(f"{where}: loop {node.index} is empty; put a statement or a barrier into it, or leave it out")
    return filled


def _known(expressions: tuple[sympy.Expr, ...], names: set[str], where: str, access: Access | None = None) -> None:
    unknown = sorted(free_names(*expressions) - names)
    if unknown:
        where = where if access is None else f"{where} {describe(access)}"
        raise DescriptionError(
            f"{where}: {', '.join(unknown)} is not defined here; expected only arguments of the description and indices of "
            f"enclosing loops ({', '.join(sorted(names)) or 'none'})"
        )


def _check_site(kernel: Kernel, site: Site, where: str, checked: set[tuple[int, ...]]) -> None:
    """Check a leaf and the loops around it that no earlier one had: `checked` holds their identities, outermost first."""
    label = "barrier" if isinstance(site.leaf, Barrier) else f"statement {site.leaf.name!r}"
    here = f"{where}: {label}"
    _check_order(site, here)
    if not any(loop.kind == "thread" for loop in site.loops) and any(loop.kind == "thread" for loop in kernel.loops()):
        raise DescriptionError(f"{here}: it stands outside k.threads, but every thread of a block runs it; move it inside")
    if len(site.loops) + len(site.guards) > _DEEPEST:
        raise DescriptionError(f"{here}: loops and guards nest deeper than {_DEEPEST}")
    names = set(kernel.params)
    around: tuple[int, ...] = ()
    for loop in site.loops:
        around = (*around, id(loop))
        if around not in checked:
            checked.add(around)
            _check_extent(loop, site, names, here)
        names.add(loop.index.name)
    lanes = {loop.index.name for loop in site.loops if loop.kind == "thread"}
    for guard in site.guards:
        for op, left, right in guard.conditions:
            _known((left, right), names, f"{here}: guard {left} {op} {right}") if free_names(left, right) - names else None
            if isinstance(site.leaf, Barrier) and free_names(left, right) & lanes:
                raise DescriptionError(
                    f"{here}: it stands under a guard on threads, so some threads never arrive; move it out of k.when"
                )
    if isinstance(site.leaf, Statement):
        _check_statement(site.leaf, names, set(kernel.params), here)


def _check_order(site: Site, here: str) -> None:
    kinds = [loop.kind for loop in site.loops]
    if kinds != sorted(kinds, key=_ORDER.__getitem__):
        raise DescriptionError(f"{here}: loops nest as {' > '.join(kinds)}; expected blocks, then threads, then serial loops")


def _check_extent(loop: Loop, site: Site, names: set[str], here: str) -> None:
    _known((loop.extent, loop.unroll, loop.stages), names, f"{here}: loop {loop.index.name}")
    used = free_names(loop.extent)
    threads = {o.index.name for o in site.loops if o.kind == "thread"}
    outer = {o.index.name for o in site.loops}
    if loop.kind != "serial" and used & outer:
        raise DescriptionError(f"{here}: the extent of {loop.index} depends on a loop index; a grid and a block are rectangular")
    if used & threads:
        raise UnsupportedError(
            f"{here}: the extent of {loop.index} depends on a thread index; loop to the largest extent and put the body under "
            f"k.when(index < limit): warps run as long as their slowest lane"
        )


def _check_statement(statement: Statement, names: set[str], params: set[str], here: str) -> None:
    for item in statement.work:
        _known((item.amount,), params, f"{here}: amount of {item.kind}")
        if item.amount.is_number and item.amount < 0:
            raise DescriptionError(f"{here}: the amount of {item.kind} is {item.amount}; expected at least 0")
    for access in (*statement.loads, *statement.stores):
        _known((*access.index, access.width), names, f"{here}: access", access)
        _known((access.width,), params, f"{here}: width of", access)
        last = access.buffer.strides[-1]
        if access.width != 1 and last != 1:
            raise DescriptionError(
                f"{here}: access {describe(access)}: it is {access.width} wide, but the last stride is {last}, not 1"
            )
        for position in (i for i in access.index if i.is_number and int(i) < 0):
            raise DescriptionError(f"{here}: access {describe(access)}: index {position} is negative; count from the start")
        if access.width.is_number and int(access.width) < 1:
            raise DescriptionError(f"{here}: access {describe(access)}: the width is {access.width}; expected at least 1 element")
    for access in statement.stores:
        if access.buffer.space == "constant":
            raise DescriptionError(
                f"{here}: it stores to {access.buffer.name!r}, which is in constant memory; declare it with k.buffer"
            )
        if access.buffer.read_only:
            raise DescriptionError(f"{here}: it stores to {access.buffer.name!r}, which is declared read_only=True")
    spaces = [a.buffer.space for a in (*statement.loads, *statement.stores)]
    copies = (len(statement.loads), len(statement.stores), spaces) == (1, 1, ["global", "shared"])
    read, written = ({a.buffer.space for a in accesses} for accesses in (statement.loads, statement.stores))
    multiplies = read <= {"shared", "register"} and written <= {"register"}
    if statement.asynchronous and not (copies or multiplies):
        raise DescriptionError(
            f"{here}: asynchronous copies go from one global access to one shared access, asynchronous matrix instructions from "
            f"shared arrays or registers to registers; got {' and '.join(spaces)}"
        )
    if statement.atomic and not statement.stores:
        raise DescriptionError(f"{here}: atomic without a store; name the accessed element in stores=")
    if not (spaces or statement.work):
        raise DescriptionError(f"{here}: it does nothing; give loads=, stores= or work=")


def describe(access: Access) -> str:
    """An access as its author wrote it: `A[kt*KWG + q, m]`."""
    return f"{access.buffer.name}[{', '.join(to_text(i) for i in access.index)}]"
