"""Bytes between memory levels, one flow for each access and pair of levels.

Three figures that are never mixed: requested bytes (what the program asks for at the level nearest
to the registers), footprint bytes (distinct bytes), and, once a device is known, transferred bytes
(`charges`). A global load has three flows: DRAM to L2 carries its footprint over the whole grid, L2
to L1 the sum over blocks of each block's footprint, L1 to registers what is requested. Those are
compulsory bytes; what capacity adds is a charge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from html import escape
from typing import Any

import sympy

from costmodel.counts.footprint import Footprint, footprint
from costmodel.counts.nests import executions
from costmodel.errors import SizeError
from costmodel.ir import Access, Kernel, Loop, Site
from costmodel.ir.checks import describe
from costmodel.symbols import compile_program, distinct_values, to_latex, to_text

__all__ = ["Flow", "Traffic", "traffic"]

_FIELDS = ("statement", "access", "buffer", "source", "target")
_COUNTS = ("executions", "requested_bytes", "footprint_bytes")


@dataclass(frozen=True, slots=True)
class Flow:
    """Bytes of one access between two levels."""

    statement: str
    access: str
    buffer: str
    source: str
    """Level the bytes come from: dram, l2, l1, shared, constant or register."""
    target: str
    executions: Any
    """Thread-level executions of the access: an expression, or an int when bound."""
    requested_bytes: Any
    footprint_bytes: Any
    """Distinct bytes: over the grid at DRAM, summed over blocks at L2 and shared, over the block's threads at registers."""
    exact: bool | None
    """Whether the footprint is exact (else an upper bound); None until sizes are bound."""
    footprint: Footprint


@dataclass(frozen=True, slots=True)
class Traffic:
    """A table of flows that can be filtered, grouped, summed and bound to sizes."""

    kernel: str
    flows: tuple[Flow, ...]

    def where(self, **fields: str) -> Traffic:
        """The flows with these field values.

        Raises:
            KeyError: an unknown field, or a value that no flow has; the message lists what there is.
        """
        kept = self.flows
        for name, value in fields.items():
            values = {getattr(f, _field(name)) for f in self.flows}
            if value not in values:
                raise KeyError(f"no flow has {name}={value!r}; there are: {', '.join(sorted(values))}")
            kept = tuple(f for f in kept if getattr(f, name) == value)
        return replace(self, flows=kept)

    def by(self, field: str) -> dict[str, Traffic]:
        """The flows grouped by a field."""
        values = dict.fromkeys(getattr(f, _field(field)) for f in self.flows)
        return {v: self.where(**{field: v}) for v in values}

    def total(self, count: str = "requested_bytes") -> Any:
        """Sum of `executions`, `requested_bytes` or `footprint_bytes`."""
        if count not in _COUNTS:
            raise KeyError(f"cannot sum {count!r}; expected one of {', '.join(_COUNTS)}")
        return sum((getattr(f, count) for f in self.flows), sympy.Integer(0))

    def bind(self, **sizes: int) -> Traffic:
        """The same table with numbers.

        Raises:
            SizeError: a size that a formula needs is missing, or is no whole number of at least 1.
        """
        for name, value in sizes.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise SizeError(f"traffic of {self.kernel}: {name}={value!r}: expected a whole number of at least 1")
        return replace(self, flows=tuple(_bind(f, sizes) for f in self.flows))

    def __iter__(self) -> Iterator[Flow]:
        return iter(self.flows)

    def _rows(self, text: Callable[[sympy.Expr], str]) -> list[tuple[str, ...]]:
        marks = {True: "=", False: "≤", None: ""}
        return [
            (
                f.statement,
                _short(f.access),
                f"{f.source} → {f.target}",
                text(f.requested_bytes),
                marks[f.exact] + text(f.footprint_bytes),
            )
            for f in self.flows
        ]

    def __str__(self) -> str:
        head = ("statement", "access", "flow", "requested bytes", "footprint bytes")
        rows = [head, *self._rows(lambda e: f"{e:,}" if isinstance(e, int) else to_text(sympy.sympify(e)))]
        widths = [max(len(r[c]) for r in rows) for c in range(len(head))]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(r, widths, strict=True)).rstrip() for r in rows]
        return "\n".join([f"traffic of {self.kernel}", *lines])

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{h}</th>" for h in ("statement", "access", "flow", "requested bytes", "footprint bytes"))
        text = lambda e: f"{e:,}" if isinstance(e, int) else f"${to_latex(sympy.sympify(e))}$"  # noqa: E731
        body = "".join(
            "<tr>" + "".join(f"<td>{cell if '$' in cell else escape(cell)}</td>" for cell in row) + "</tr>"
            for row in self._rows(text)
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _short(access: str) -> str:
    return access if len(access) <= 40 else access[: access.index("[")] + "[…]"


def _field(name: str) -> str:
    if name not in _FIELDS:
        raise KeyError(f"flows have no field {name!r}; expected one of {', '.join(_FIELDS)}")
    return name


def _bind(flow: Flow, sizes: dict[str, int]) -> Flow:
    f = flow.footprint
    expressions = [flow.executions, flow.requested_bytes, flow.footprint_bytes]
    forms = [a for form in f.forms for a in form]
    pairs = [e for pair in f.equal for e in pair]
    try:
        values = compile_program([*expressions, *forms, *pairs])(sizes)
    except KeyError as missing:
        raise SizeError(f"traffic of {flow.statement}: size {missing} is not bound; pass {missing.args[0]}=…") from None
    numbers = [int(v) for v in values]
    rest, exact = numbers[3:], f.certain
    for form in f.forms:
        args, rest = rest[: len(form)], rest[len(form) :]
        exact = exact and distinct_values(args[::2], args[1::2])[1]
    exact = exact and all(a == b for a, b in zip(rest[::2], rest[1::2], strict=True))
    return replace(flow, executions=numbers[0], requested_bytes=numbers[1], footprint_bytes=numbers[2], exact=exact)


def traffic(kernel: Kernel) -> Traffic:
    """All flows of a kernel, symbolic.

    Raises:
        UnsupportedError: a guard or extent that cannot be counted.
    """
    return Traffic(kernel.name, tuple(_flows(kernel)))


def _flows(kernel: Kernel) -> Iterator[Flow]:
    for site in kernel.statements():
        count = executions(kernel, site)
        for access in site.statement.loads:
            yield from _path(kernel, site, access, count, store=False)
        for access in site.statement.stores:
            yield from _path(kernel, site, access, count, store=True)


def _path(kernel: Kernel, site: Site, access: Access, count: sympy.Expr, *, store: bool) -> Iterator[Flow]:
    """The flows of one access, farthest level first for loads."""
    space = access.buffer.space
    inner = tuple(loop for loop in site.loops if loop.kind != "block")
    blocks = tuple(loop for loop in site.loops if loop.kind == "block")
    per_block = footprint(kernel, site, access, inner)
    in_blocks = sympy.Mul(*(loop.extent for loop in blocks))
    chains: dict[str, list[tuple[str, str, Footprint, sympy.Expr]]] = {
        "global": [
            ("dram", "l2", footprint(kernel, site, access, site.loops), sympy.Integer(1)),
            ("l2", "l1", per_block, in_blocks),
            ("l1", "register", per_block, in_blocks),
        ],
        "constant": [("constant", "register", footprint(kernel, site, access, site.loops), sympy.Integer(1))],
        "shared": [("shared", "register", per_block, in_blocks)],
    }
    for source, target, print_, copies in chains.get(space, []):
        yield Flow(
            site.statement.name, describe(access), access.buffer.name,
            *((target, source) if store else (source, target)),
            count, count * access.bytes, copies * print_.elements * access.buffer.dtype.itemsize,
            None, print_ if not _blocks_guarded(site, blocks, copies) else replace(print_, certain=False),
        )  # fmt: skip


def _blocks_guarded(site: Site, blocks: tuple[Loop, ...], copies: sympy.Expr) -> bool:
    """Whether a guard or an extent makes blocks differ, so that one block's footprint is an upper bound for all."""
    if copies == 1:
        return False
    indices = {loop.index for loop in blocks}
    conditions = [e for g in site.guards for c in g.conditions for e in c[1:]]
    return any(e.free_symbols & indices for e in (*conditions, *(loop.extent for loop in site.loops)))
