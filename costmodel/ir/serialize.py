"""Kernels as versioned JSON. Expressions are text in a whitelisted grammar; nothing in a file is run."""

from __future__ import annotations

import json
from typing import Any, cast, get_args

import sympy

from costmodel.dtypes import DTYPES
from costmodel.errors import DescriptionError
from costmodel.ir.checks import finish
from costmodel.ir.json_schema import FIELDS, FORMAT, OPTIONAL, field_types
from costmodel.ir.types import (
    Access,
    Barrier,
    Buffer,
    Guard,
    Kernel,
    Loop,
    LoopKind,
    Node,
    Space,
    Statement,
    Work,
    WorkKind,
)  # fmt: skip
from costmodel.symbols import Condition, index, is_identifier, parse, parse_condition, size, to_text

__all__ = ["FORMAT", "from_json", "to_json"]

Json = dict[str, Any]
_DEEPEST = 32


def to_json(kernel: Kernel) -> str:
    """Write a kernel as JSON text that `from_json` reads back to an equal kernel."""
    document = {
        "format": FORMAT,
        "name": kernel.name,
        "params": list(kernel.params),
        "statics": dict(kernel.statics),
        "buffers": [
            {
                "name": b.name,
                "space": b.space,
                "dtype": b.dtype.name,
                "shape": _texts(b.shape),
                "strides": _texts(b.strides),
                "read_only": b.read_only,
                "dynamic": b.dynamic,
                "exchange": b.exchange,
            }
            for b in kernel.buffers
        ],
        "requirements": [_condition(c) for c in kernel.requirements],
        "max_threads": None if kernel.max_threads is None else to_text(kernel.max_threads),
        "registers": None if kernel.registers is None else to_text(kernel.registers),
        "body": [_node(n) for n in kernel.body],
        **({} if kernel.shared_bytes is None else {"shared_bytes": to_text(kernel.shared_bytes)}),
        **({} if kernel.launch_grid is None else {"launch_grid": _texts(kernel.launch_grid)}),
    }
    return json.dumps(document, indent=1)


def _texts(expressions: tuple[sympy.Expr, ...]) -> list[str]:
    return [to_text(e) for e in expressions]


def _condition(condition: Condition) -> str:
    op, left, right = condition
    return f"{to_text(left)} {op} {to_text(right)}"


def _access(a: Access) -> Json:
    return {"buffer": a.buffer.name, "index": _texts(a.index), "width": to_text(a.width), "cached": a.cached}


def _node(node: Node) -> Json:
    if isinstance(node, Barrier):
        return {"barrier": True}
    if isinstance(node, Loop):
        return {
            "loop": str(node.index), "kind": node.kind, "axis": node.axis, "extent": to_text(node.extent),
            "unroll": to_text(node.unroll), "stages": to_text(node.stages), "body": [_node(n) for n in node.body],
        }  # fmt: skip
    if isinstance(node, Guard):
        share = None if node.fraction is None else to_text(node.fraction)
        return {"guard": [_condition(c) for c in node.conditions], "fraction": share, "body": [_node(n) for n in node.body]}
    return {
        "statement": node.name, "loads": [_access(a) for a in node.loads], "stores": [_access(a) for a in node.stores],
        "work": [{"kind": w.kind, "dtype": w.dtype.name, "amount": to_text(w.amount)} for w in node.work],
        "asynchronous": node.asynchronous, "atomic": node.atomic,
    }  # fmt: skip


def from_json(text: str) -> Kernel:
    """Read a kernel that `to_json` wrote, or that another program wrote in the same format.

    Raises:
        DescriptionError: not JSON, another format version, a missing or unknown key, an expression outside
            the grammar, or a kernel that fails the structural checks.
    """
    try:
        document = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise DescriptionError(f"kernel JSON: {error}") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        given = document.get("format") if isinstance(document, dict) else type(document).__name__
        raise DescriptionError(f"kernel JSON: expected an object with format {FORMAT!r}, got {given!r}")
    return _Reader(document).kernel()


class _Reader:
    """Reads one document; `where` walks along for the error messages."""

    def __init__(self, document: Json) -> None:
        self.document = document
        self.symbols: dict[str, sympy.Symbol] = {}
        self.buffers: dict[str, Buffer] = {}
        self.read: dict[str, sympy.Expr] = {}
        """Expressions by their text, which stands in a document many times; `finish` sees to it that names are in scope."""

    def expression(self, text: str, symbols: dict[str, sympy.Symbol]) -> sympy.Expr:
        if not isinstance(text, str) or text not in self.read:
            found = parse(text, symbols)
            self.read[text] = found
        return self.read[text]

    def kernel(self) -> Kernel:
        d = _take(self.document, "kernel", "kernel")
        for given in d["params"]:
            name = _name(given, "params")
            if name in self.symbols:
                raise DescriptionError(f"kernel JSON: params: {name!r} appears twice")
            self.symbols[name] = size(name)
        for key, value in d["statics"].items():
            if not isinstance(value, int | str):
                raise DescriptionError(
                    f"kernel JSON: statics.{_name(key, 'statics')}: expected a number, a truth value or text, got {value!r}"
                )
            _name(key, "statics")
        for entry in d["buffers"]:
            buffer = self.buffer(entry)
            if buffer.name in self.buffers:
                raise DescriptionError(f"kernel JSON: buffers: {buffer.name!r} appears twice")
            self.buffers[buffer.name] = buffer
        body = tuple(self.node(n, self.symbols, f"body[{i}]") for i, n in enumerate(d["body"]))
        return finish(
            Kernel(
                d["name"], tuple(d["params"]), tuple(d["statics"].items()), tuple(self.buffers.values()),
                tuple(parse_condition(c, self.symbols) for c in d["requirements"]), body,
                None if d["max_threads"] is None else self.expression(d["max_threads"], self.symbols),
                None if d["registers"] is None else self.expression(d["registers"], self.symbols),
                None if "shared_bytes" not in d else self.expression(d["shared_bytes"], self.symbols),
                None if "launch_grid" not in d else self.three(d["launch_grid"]),
            )
        )  # fmt: skip

    def three(self, texts: list[Any]) -> tuple[sympy.Expr, sympy.Expr, sympy.Expr]:
        if len(texts) != 3:
            raise DescriptionError(f"kernel JSON: launch_grid: expected blocks along x, y and z, got {texts!r}")
        x, y, z = (self.expression(text, self.symbols) for text in texts)
        return x, y, z

    def buffer(self, entry: Any) -> Buffer:
        d = _take(entry, "buffers", "buffer")
        where = f"buffer {_name(d['name'], 'buffers')!r}"
        shape = tuple(self.expression(n, self.symbols) for n in d["shape"])
        strides = tuple(self.expression(n, self.symbols) for n in d["strides"])
        if not shape or len(shape) != len(strides):
            raise DescriptionError(
                f"kernel JSON: {where}: expected as many strides as extents, got {len(strides)} and {len(shape)}"
            )
        space = cast(Space, _choice(d["space"], get_args(Space), f"{where}.space"))
        return Buffer(
            d["name"],
            shape,
            DTYPES[_choice(d["dtype"], tuple(DTYPES), f"{where}.dtype")],
            space,
            strides,
            d["read_only"],
            d["dynamic"],
            d["exchange"],
        )

    def node(self, entry: Any, symbols: dict[str, sympy.Symbol], where: str) -> Node:
        if where.count(".body[") > _DEEPEST:
            raise DescriptionError(f"kernel JSON: {where[:60]}…: loops and guards nest deeper than {_DEEPEST}")
        if isinstance(entry, dict) and "loop" in entry:
            return self.loop(entry, symbols, where)
        if isinstance(entry, dict) and "guard" in entry:
            d = _take(entry, where, "guard")
            share = None if d["fraction"] is None else parse(d["fraction"], {})
            return Guard(tuple(parse_condition(c, symbols) for c in d["guard"]), self.body(d, symbols, where), share)
        if isinstance(entry, dict) and "statement" in entry:
            return self.statement(entry, symbols, where)
        if entry == {"barrier": True}:
            return Barrier()
        raise DescriptionError(
            f"kernel JSON: {where}: expected an object with 'loop', 'guard', 'statement' or 'barrier', got {str(entry)[:60]}"
        )

    def body(self, d: Json, symbols: dict[str, sympy.Symbol], where: str) -> tuple[Node, ...]:
        return tuple(self.node(n, symbols, f"{where}.body[{i}]") for i, n in enumerate(d["body"]))

    def loop(self, entry: Json, symbols: dict[str, sympy.Symbol], where: str) -> Loop:
        d = _take(entry, where, "loop")
        name = _name(d["loop"], where)
        if name in symbols:
            raise DescriptionError(
                f"kernel JSON: {where}: loop index {name!r} is already a size or an enclosing index; rename it"
            )
        if not 0 <= d["axis"] <= 2:
            raise DescriptionError(f"kernel JSON: {where}.axis: expected 0, 1 or 2, got {d['axis']}")
        kind = cast(LoopKind, _choice(d["kind"], get_args(LoopKind), f"{where}.kind"))
        inner = {**symbols, name: index(name)}
        extent, unroll, stages = (self.expression(d[key], symbols) for key in ("extent", "unroll", "stages"))
        return Loop(index(name), extent, kind, self.body(d, inner, where), d["axis"], unroll, stages)

    def statement(self, entry: Json, symbols: dict[str, sympy.Symbol], where: str) -> Statement:
        d = _take(entry, where, "statement")
        loads = tuple(self.access(a, symbols, f"{where}.loads") for a in d["loads"])
        stores = tuple(self.access(a, symbols, f"{where}.stores") for a in d["stores"])
        work = tuple(self.work(w, symbols, f"{where}.work") for w in d["work"])
        return Statement(d["statement"], loads, stores, work, d["asynchronous"], d["atomic"])

    def access(self, entry: Any, symbols: dict[str, sympy.Symbol], where: str) -> Access:
        d = _take(entry, where, "access")
        buffer = self.buffers[_choice(d["buffer"], tuple(self.buffers), f"{where}.buffer")]
        if len(d["index"]) != len(buffer.shape):
            raise DescriptionError(
                f"kernel JSON: {where}: {buffer.name} takes {len(buffer.shape)} indices, got {len(d['index'])}"
            )
        return Access(
            buffer, tuple(self.expression(i, symbols) for i in d["index"]), self.expression(d["width"], symbols), d["cached"]
        )

    def work(self, entry: Any, symbols: dict[str, sympy.Symbol], where: str) -> Work:
        d = _take(entry, where, "work")
        kind = cast(WorkKind, _choice(d["kind"], get_args(WorkKind), f"{where}.kind"))
        return Work(kind, DTYPES[_choice(d["dtype"], tuple(DTYPES), f"{where}.dtype")], self.expression(d["amount"], symbols))


def _take(entry: Any, where: str, name: str) -> Json:
    """The entry, with exactly the fields of such an object, of their types."""
    fields = FIELDS[name]
    if not isinstance(entry, dict):
        raise DescriptionError(f"kernel JSON: {where}: expected an object, got {type(entry).__name__}")
    for problem, keys in (("missing", fields.keys() - entry.keys() - OPTIONAL), ("unknown", entry.keys() - fields.keys())):
        if keys:
            raise DescriptionError(f"kernel JSON: {where}: {problem} key {', '.join(sorted(keys))}; expected {', '.join(fields)}")
    for key, value in entry.items():
        kinds = field_types(fields[key])
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise DescriptionError(f"kernel JSON: {where}.{key}: got {value!r} of the wrong type")
    return entry


def _name(name: Any, where: str) -> str:
    if not isinstance(name, str) or not is_identifier(name):
        raise DescriptionError(f"kernel JSON: {where}: {name!r} is not an identifier")
    return name


def _choice(value: str, options: tuple[str, ...], where: str) -> str:
    if value not in options:
        raise DescriptionError(f"kernel JSON: {where}: {value!r} is not one of {', '.join(options) or 'none declared'}")
    return value
