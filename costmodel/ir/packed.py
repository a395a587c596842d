"""Kernels as small documents that are read in less than a millisecond: for a cache of our own, not for interchange.

What `to_json` writes is for anybody: expressions as text, each key and structure checked when it is read. A packed kernel was
checked before it was written, and whoever keeps it sees to it that it is read as it was written (a digest, the same version of
this package and of sympy). Expressions are rows of one table; nothing is checked again, and nothing is run.
"""

from __future__ import annotations

from typing import Any

from costmodel.dtypes import DTYPES
from costmodel.ir.types import Access, Barrier, Buffer, Guard, Kernel, Loop, Node, Statement, Work, sites_of
from costmodel.symbols import Condition, Table, read_table

__all__ = ["packed", "unpacked"]

Rows = list[Any]


def packed(kernel: Kernel) -> dict[str, Any]:
    """A kernel as JSON's dictionaries and lists.

    Raises:
        DescriptionError: an expression that cannot be kept.
    """
    pack = _Packing(kernel)
    limits = (kernel.max_threads, kernel.registers, kernel.shared_bytes)
    return {
        "name": kernel.name,
        "params": list(kernel.params),
        "statics": [list(s) for s in kernel.statics],
        "buffers": [pack.buffer(b) for b in kernel.buffers],
        "requirements": [pack.condition(c) for c in kernel.requirements],
        "limits": [None if e is None else pack.table.put(e) for e in limits],
        "launch_grid": None if kernel.launch_grid is None else pack.table.put_all(kernel.launch_grid),
        "body": [pack.node(n) for n in kernel.body],
        "expressions": pack.table.rows,
    }


class _Packing:
    """Writes parts of a kernel, expressions into one table."""

    def __init__(self, kernel: Kernel) -> None:
        self.table = Table()
        self.places = {b.name: n for n, b in enumerate(kernel.buffers)}

    def buffer(self, b: Buffer) -> Rows:
        put = self.table.put_all
        return [b.name, b.dtype.name, b.space, put(b.shape), put(b.strides), b.read_only, b.dynamic, b.exchange]

    def condition(self, condition: Condition) -> Rows:
        op, left, right = condition
        return [op, self.table.put(left), self.table.put(right)]

    def access(self, a: Access) -> Rows:
        return [self.places[a.buffer.name], self.table.put_all(a.index), self.table.put(a.width), a.cached]

    def node(self, node: Node) -> Rows:
        put = self.table.put
        if isinstance(node, Barrier):
            return []
        if isinstance(node, Loop):
            body = [self.node(n) for n in node.body]
            return ["loop", put(node.index), put(node.extent), node.kind, body, node.axis, put(node.unroll), put(node.stages)]
        if isinstance(node, Guard):
            body, share = [self.node(n) for n in node.body], None if node.fraction is None else put(node.fraction)
            return ["guard", [self.condition(c) for c in node.conditions], body, share]
        work = [[w.kind, w.dtype.name, put(w.amount)] for w in node.work]
        loads, stores = ([self.access(a) for a in group] for group in (node.loads, node.stores))
        return ["statement", node.name, loads, stores, work, node.asynchronous, node.atomic]


def unpacked(document: dict[str, Any]) -> Kernel:
    """The kernel that was packed.

    Raises:
        LookupError, TypeError or ValueError: it is no packed kernel.
    """
    e = read_table(document["expressions"])
    buffers = tuple(
        Buffer(name, tuple(e[n] for n in shape), DTYPES[dtype], space, tuple(e[n] for n in strides), read_only, dynamic, exchange)
        for name, dtype, space, shape, strides, read_only, dynamic, exchange in document["buffers"]
    )
    read = _Unpacking(e, buffers)
    threads, registers, shared = (None if n is None else e[n] for n in document["limits"])
    launch = document["launch_grid"] and tuple(e[n] for n in document["launch_grid"])
    body = tuple(read.node(n) for n in document["body"])
    return Kernel(
        document["name"], tuple(document["params"]), tuple((n, v) for n, v in document["statics"]), buffers,
        tuple(read.condition(c) for c in document["requirements"]), body, threads, registers, shared,
        launch, tuple(sites_of(body)),
    )  # fmt: skip


class _Unpacking:
    """Reads parts of a kernel."""

    def __init__(self, expressions: list[Any], buffers: tuple[Buffer, ...]) -> None:
        self.e, self.buffers = expressions, buffers

    def condition(self, row: Rows) -> Condition:
        op, left, right = row
        return op, self.e[left], self.e[right]

    def accesses(self, rows: list[Rows]) -> tuple[Access, ...]:
        e, buffers = self.e, self.buffers
        return tuple(Access(buffers[b], tuple([e[n] for n in at]), e[width], cached) for b, at, width, cached in rows)

    def node(self, row: Rows) -> Node:
        if not row:
            return Barrier()
        if row[0] == "statement":
            _, name, loads, stores, work, asynchronous, atomic = row
            done = tuple(Work(kind, DTYPES[dtype], self.e[amount]) for kind, dtype, amount in work)
            return Statement(name, self.accesses(loads), self.accesses(stores), done, asynchronous, atomic)
        if row[0] == "loop":
            _, index, extent, kind, body, axis, unroll, stages = row
            inner, e = tuple(self.node(n) for n in body), self.e
            return Loop(e[index], e[extent], kind, inner, axis, e[unroll], e[stages])
        _, conditions, body, share = row
        held = tuple(self.condition(c) for c in conditions)
        return Guard(held, tuple(self.node(n) for n in body), None if share is None else self.e[share])
