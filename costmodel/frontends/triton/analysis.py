"""The whole way from compiled modules to a kernel."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import sympy

from costmodel.errors import UnsupportedError
from costmodel.frontends.triton.arguments import argument_values, element_types, named, size_names
from costmodel.frontends.triton.building import Builder
from costmodel.frontends.triton.compiling import Compiled, alike
from costmodel.frontends.triton.conditions import plain, shorter
from costmodel.frontends.triton.countable import checked
from costmodel.frontends.triton.events import Repeat, inner
from costmodel.frontends.triton.grid import regrouped, unwrapped
from costmodel.frontends.triton.handlers import HANDLERS
from costmodel.frontends.triton.module_text import Module, parse_lines, parse_module, tensor_type
from costmodel.frontends.triton.polynomials import ONE, Algebra, Polynomial
from costmodel.frontends.triton.reading import Reader, Staged
from costmodel.ir import Buffer, Kernel, Loop, Statement
from costmodel.ir.checks import finish
from costmodel.ir.types import sites_of
from costmodel.symbols import Condition, Mod, free_names, index, is_identifier, size

__all__ = ["analysed"]


def analysed(
    compiled: Compiled, name: str, grid: tuple[sympy.Expr, ...], divisors: Mapping[str, int], constexprs: Mapping[str, Any]
) -> tuple[Kernel, dict[str, int], tuple[str, ...]]:
    """The kernel, how many threads load the same element of each statement, and notes.

    Raises:
        UnsupportedError: something is not understood.
    """
    alike(name, compiled.pipelined)
    _inlined(name, compiled.plain)
    module = named(parse_module(compiled.plain), tuple(divisors))
    _alone(module)
    sizes = size_names(argument_values(module))
    algebra = Algebra({a: divisors.get(a, 1) for a in sizes})
    extents = tuple(algebra.from_sympy(e) for e in grid)
    extents = (*extents, *([ONE] * (3 - len(extents))))
    reader = Reader(module, compiled.threads // 32, extents, _staging(module.name, compiled.pipelined), algebra, HANDLERS)
    reading = reader.read()
    events, axes = regrouped(algebra, reading.events, extents)
    symbols: dict[str, sympy.Expr] = {a: size(a) for a in sizes}
    symbols |= {f"%x{n}": index(f"block_{'xyz'[n]}") for n in range(3)}
    ends = axes.ends
    for repeat in (e for e in inner(events) if isinstance(e, Repeat)):
        name_ = f"i{repeat.atom[2:]}"
        symbols[repeat.atom] = index(f"{name_}_" if name_ in sizes else name_)
        repeat.extent = shorter(algebra, repeat, ends)
        ends[repeat.atom] = repeat.extent - ONE
    symbols |= {atom: algebra.to_sympy(p, symbols) for atom, p in _defined(algebra, axes.meaning)}
    events, wrapped = unwrapped(algebra, events, ends)
    aligned = dict(divisors)
    builder = Builder(algebra, reader.layout, compiled.threads // 32, symbols, aligned, module.aliases, ends)
    builder.arrays(events, element_types(module))
    for tile in reading.tiles:
        builder.tile(tile)
    body = builder.body(events)
    for n, (name_, threads) in enumerate((("thread_x", 32), ("thread_y", compiled.threads // 32))):
        body = (Loop(index(name_), sympy.Integer(threads), "thread", body, n),)
    for n, extent in enumerate(axes.extents):
        body = (Loop(index(f"block_{'xyz'[n]}"), builder.expression(extent), "block", body, n),)
    used = {a.buffer.name for s in _sites(body) for a in s}
    buffers = tuple(b for b in builder.buffers.values() if b.name in used)
    even: list[Condition] = [("==", Mod(builder.expression(a), builder.expression(b)), sympy.Integer(0)) for a, b in axes.even]
    needed = _sizes(body, buffers, even)
    sizes = [a for a in sizes if a in needed]
    requirements: list[Condition] = [
        ("==", Mod(size(a), sympy.Integer(divisors[a])), sympy.Integer(0)) for a in sizes if divisors.get(a, 1) > 1
    ]
    statics = tuple((n, v) for n, v in constexprs.items() if isinstance(v, int | str) and is_identifier(n))
    x, y, z = (builder.expression(e) for e in extents)
    kernel = Kernel(
        name, tuple(sizes), statics, buffers, (*requirements, *even), body,
        sympy.Integer(compiled.threads), sympy.Integer(compiled.registers), sympy.Integer(compiled.shared_bytes),
        (x, y, z) if len(axes.extents) > sum(e != ONE for e in extents) else None,
    )  # fmt: skip
    notes = (*reading.notes, *axes.notes, *wrapped)
    finished = finish(kernel) if plain(algebra, events) else checked(finish(kernel), builder.places)
    return finished, {n: r for n, r in builder.replicas.items() if r > 1}, notes


def _defined(algebra: Algebra, meaning: Mapping[str, Polynomial]) -> list[tuple[str, Polynomial]]:
    """Coordinates of tiles last: they may be made of program ids."""
    return sorted(
        ((a, algebra.replaced(p, {b: q for b, q in meaning.items() if b != a})) for a, p in meaning.items()), key=lambda d: d[0]
    )


def _sites(body: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    return [(*s.leaf.loads, *s.leaf.stores) for s in sites_of(body) if isinstance(s.leaf, Statement)]


def _sizes(body: tuple[Any, ...], buffers: tuple[Buffer, ...], requirements: list[Condition]) -> frozenset[str]:
    """The sizes that anything counted depends on."""
    found = [e for b in buffers for e in (*b.shape, *b.strides)] + [e for c in requirements for e in c[1:]]
    for site in sites_of(body):
        found += [loop.extent for loop in site.loops] + [e for g in site.guards for c in g.conditions for e in c[1:]]
        accesses = (*site.leaf.loads, *site.leaf.stores) if isinstance(site.leaf, Statement) else ()
        found += [e for a in accesses for e in a.index]
    return free_names(*dict.fromkeys(found))


def _alone(module: Module) -> None:
    """Refuse clusters, which would be counted wrongly without a word."""
    clusters = re.search(r'"ttg\.num-ctas" = (\d+)', module.attributes)
    if clusters is None or clusters.group(1) != "1":
        raise UnsupportedError(f"Triton kernel {module.name}: num_ctas is not 1; expected kernels without clusters of blocks")


def _inlined(name: str, module: str) -> None:
    """Refuse calls of functions that stay functions, naming the line of the first."""
    call = re.search(r"tt\.call @(\S+?)\(.*loc\((#loc\d*)\)", module)
    if call is not None:
        where = parse_lines(module, ()).location(call.group(2))
        callee = call.group(1).rsplit("__", 2)[0].rsplit(".", 1)[-1]
        raise UnsupportedError(
            f"Triton kernel {name}: {where} (tt.call): {callee} is not inlined; expected functions without noinline=True"
        )


_COPIES = ("ttg.async_copy_global_to_local", "ttng.async_tma_copy_global_to_local")
_VIEWS = ("ttg.memdesc_index", "ttg.memdesc_subview", "ttg.memdesc_subslice")


def _staging(kernel: str, pipelined: str) -> dict[tuple[str, int, int], Staged]:
    """Loads that became asynchronous copies: one before the loop for each step that they run ahead, one in the loop.

    Copies into one ring are of one load; a line that is unrolled has as many rings as it has loads.
    """
    module = parse_lines(pipelined, (*_COPIES, *_VIEWS))
    rings: dict[str, str] = {}
    counts: dict[tuple[tuple[str, int, int], str], Staged] = {}
    for operation in module.body.operations:
        if operation.name in _VIEWS:
            rings[operation.results[0]] = rings.get(operation.operands[0], operation.operands[0])
            continue
        at = module.location(operation.where)
        key = (at.file, at.line, at.column)
        result = operation.types.rsplit(" -> ", 1)[-1]
        encoding = tensor_type(result if result.startswith("!") else f"!ttg.memdesc{result}").encoding
        if not encoding:
            raise UnsupportedError(f"Triton kernel {kernel}: {at}: an asynchronous copy into an array without a layout")
        ring = next((rings[n] for n in operation.operands if n in rings), "")
        before = counts.get((key, ring))
        counts[key, ring] = Staged(1 + (before.stages if before else 0), module.aliases.get(encoding, encoding))
    found: dict[tuple[str, int, int], Staged] = {}
    for (key, _), staged in counts.items():
        if found.setdefault(key, staged) != staged:
            where = f"{key[0]}:{key[1]}"
            raise UnsupportedError(
                f"Triton kernel {kernel}: {where}: copies of one unrolled line have different layouts or stages; "
                "write the loads on lines of their own"
            )
    return found
