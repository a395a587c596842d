"""What each operation of Triton's IR means to the reader."""

from __future__ import annotations

import re

from costmodel.frontends.triton import arithmetic, memory
from costmodel.frontends.triton.comparisons import NEVER, compared
from costmodel.frontends.triton.events import Effort, Exchange, Shuffles, Sync
from costmodel.frontends.triton.layouts import Layout
from costmodel.frontends.triton.loops import loop
from costmodel.frontends.triton.module_text import Operation, tensor_type
from costmodel.frontends.triton.operations import FLOATS, IGNORED, INTEGERS, LIBRARY
from costmodel.frontends.triton.polynomials import Polynomial, block
from costmodel.frontends.triton.reading import Handler, Reader
from costmodel.frontends.triton.values import Chosen, Mask, Opaque, Pointer, Value
from costmodel.ir.types import WorkKind

__all__ = ["HANDLERS", "dtype_name"]

_AXES = {"x": 0, "y": 1, "z": 2}
_DTYPES = {
    "f64": "f64", "f32": "f32", "f16": "f16", "bf16": "bf16", "i64": "i64", "i32": "i32", "i16": "i16", "i8": "i8", "i1": "i8",
}  # fmt: skip


def dtype_name(element: str) -> str:
    """The name of our dtype for an element type as printed."""
    if element.startswith("!tt.ptr"):
        return "i64"
    return "f8" if element.startswith("f8") else _DTYPES.get(element, element)


def _constant(reader: Reader, operation: Operation) -> None:
    reader.give(operation, arithmetic.constant(operation))


def _program(reader: Reader, operation: Operation) -> None:
    axis = _AXES[operation.text.strip().split(" ")[0]]
    if operation.name == "tt.get_num_programs":
        value = reader.grid[axis]
    else:
        value = Polynomial.of(block(axis)) if reader.grid[axis].number != 1 else Polynomial.of(0)
    reader.give(operation, value)


def _range(reader: Reader, operation: Operation) -> None:
    reader.give(operation, arithmetic.tensor_range(reader.algebra, operation))


def _same(reader: Reader, operation: Operation) -> None:
    reader.give(operation, reader[operation.operands[0]])


def _bitcast(reader: Reader, operation: Operation) -> None:
    """The same bits: offsets of a pointer are in elements, which have to stay as wide."""
    value = reader[operation.operands[0]]
    widths = {_bytes(tensor_type(t).element.removeprefix("!tt.ptr<").rstrip(">")) for t in operation.types.split(" -> ")}
    if isinstance(value, Pointer) and len(widths) > 1:
        value = Opaque("a pointer to elements of another width")
    reader.give(operation, value)


def _expand(reader: Reader, operation: Operation) -> None:
    source, axis = tensor_type(operation.types.rsplit(" -> ", 1)[0].strip("() ")), int(operation.attribute("axis") or 0)
    reader.give(operation, arithmetic.shifted(reader.algebra, reader[operation.operands[0]], axis, source))


def _transpose(reader: Reader, operation: Operation) -> None:
    source = tensor_type(operation.types.rsplit(" -> ", 1)[0].strip("() "))
    found = re.search(r"order = array<i32: ([\d, ]+)>", operation.text)
    if found is None:
        raise reader.fail(operation, "expected the order of its dimensions")
    order = [int(n) for n in found.group(1).split(",")]
    reader.give(operation, arithmetic.reordered(reader.algebra, reader[operation.operands[0]], order, source))


def _reshape(reader: Reader, operation: Operation) -> None:
    source = tensor_type(operation.types.rsplit(" -> ", 1)[0].strip("() "))
    target = tensor_type(operation.result_type)
    reader.give(operation, arithmetic.reshaped(reader.algebra, reader[operation.operands[0]], source, target))


def _pointer(reader: Reader, operation: Operation) -> None:
    base, offset = (reader[n] for n in operation.operands)
    if isinstance(offset, Chosen):
        reader.notes[f"{reader.where(operation)}: indices that tl.where replaces are counted where they were"] = None
        offset = offset.index
    if isinstance(base, Pointer) and isinstance(offset, Polynomial):
        reader.give(operation, Pointer(base.buffer, base.offset + offset))
    else:
        unknown = base if isinstance(base, Opaque) else offset
        reader.give(operation, unknown if isinstance(unknown, Opaque) else Opaque("a pointer that is not an argument's"))


def _integer(reader: Reader, operation: Operation) -> None:
    function = arithmetic.POINTWISE.get(operation.name)
    values = [reader[n] for n in operation.operands]
    result: Value
    if operation.name == "arith.cmpi":
        result = compared(reader.algebra, operation, values[0], values[1])
    elif function is not None:
        result = function(reader.algebra, values[0], values[1])
    elif operation.name == "arith.extui" and isinstance(values[0], Polynomial) and not reader.algebra.not_negative(values[0]):
        result = Opaque("what may be negative, taken as unsigned")
    elif operation.name in ("arith.extsi", "arith.extui", "arith.trunci"):
        result = values[0] if isinstance(values[0], Polynomial | Chosen | Opaque) else Opaque("a truth value as a number")
    else:
        result = next((v for v in values if isinstance(v, Opaque)), Opaque(f"the result of {operation.name}"))
    result = arithmetic.fitting(reader.algebra, result, tensor_type(operation.result_type).element)
    reader.give(operation, result)
    if operation.results[0] not in reader.addressing:
        _effort(reader, operation, (("integer", INTEGERS[operation.name]),))


def _select(reader: Reader, operation: Operation) -> None:
    chosen, first, second = (reader[n] for n in operation.operands)
    if not isinstance(first, Polynomial) or not isinstance(second, Polynomial):
        if isinstance(first, Mask | Polynomial):
            reader.give(operation, Opaque("chosen by tl.where"))
        else:
            reader.give(operation, Opaque("computed from data"))
        _effort(reader, operation, FLOATS["arith.select"])
        return
    value: Value = first if first == second else Opaque("an index chosen by tl.where")
    if isinstance(chosen, Mask) and first != second:
        if not chosen.conditions or chosen == NEVER:
            value = second if chosen == NEVER else first
        elif second.number is not None and any(first in c[1:] for c in chosen.conditions):
            value = Chosen(chosen.conditions, first, second)
    reader.give(operation, value)
    if operation.results[0] not in reader.addressing:
        _effort(reader, operation, (("integer", 1),))


def _float(reader: Reader, operation: Operation) -> None:
    reader.skip(operation)
    kinds = FLOATS[operation.name]
    if operation.name == "arith.mulf" and _fused(reader, operation):
        return
    if operation.name in ("arith.addf", "arith.subf") and any(n in reader.products for n in operation.operands):
        kinds = (("fma", 1),)
    _effort(reader, operation, kinds)


def _fused(reader: Reader, operation: Operation) -> bool:
    """Whether the compiler makes this product and the sum it goes into one instruction."""
    name = operation.results[0]
    return reader.uses.get(name) == 1 and name in reader.products


def _library(reader: Reader, operation: Operation) -> None:
    reader.skip(operation)
    symbol = re.search(r'symbol = "(\w+)"', operation.text)
    if symbol is None or symbol.group(1) not in LIBRARY:
        named = symbol.group(1) if symbol else "without a name"
        raise reader.fail(operation, f"library function {named}: its operations are not known; known: {', '.join(LIBRARY)}")
    _effort(reader, operation, LIBRARY[symbol.group(1)])


def _effort(reader: Reader, operation: Operation, kinds: tuple[tuple[WorkKind, int], ...]) -> None:
    """Arithmetic on every element that a thread holds."""
    tensor = tensor_type(operation.result_type)
    dtype = dtype_name(tensor.element)
    if any(kind == "convert" for kind, _ in kinds):
        source = tensor_type(re.split(r" to | -> ", operation.types)[0].strip("() "))
        dtype = max((dtype_name(source.element), dtype), key=lambda d: int(re.sub(r"\D", "", d)))
    held, where = reader.layout(tensor).held, reader.where(operation)
    for kind, amount in kinds:
        name = dtype if kind != "integer" and dtype != "i8" else "i32"
        reader.emit(*([Effort(kind, name, amount, held, where)] * bool(amount)))


def _ignored(reader: Reader, operation: Operation) -> None:
    reader.skip(operation)


def _combination(reader: Reader, operation: Operation) -> list[tuple[WorkKind, str, int]]:
    """Work of combining two elements."""
    found: list[tuple[WorkKind, str, int]] = []
    for inner in operation.inner():
        dtype = dtype_name(tensor_type(inner.result_type).element) if inner.types else "f32"
        if inner.name in FLOATS:
            found += [(kind, dtype if dtype != "i8" else "f32", n) for kind, n in FLOATS[inner.name]]
        elif inner.name in INTEGERS:
            found += [("integer", "i32", INTEGERS[inner.name])] * bool(INTEGERS[inner.name])
        elif inner.name not in IGNORED:
            raise reader.fail(inner, "this operation is not known inside a reduction")
    return found


def _reduce(reader: Reader, operation: Operation) -> None:
    """`tt.reduce` and `tt.scan`: in registers, by shuffles over a warp, through shared memory over warps."""
    reader.skip(operation)
    axis, where = int(operation.attribute("axis") or 0), reader.where(operation)
    sources = [tensor_type(t) for t in _operand_types(operation)]
    layout, combine = reader.layout(sources[0]), _combination(reader, operation)
    registers, lanes, warps = layout.along(axis)
    left = max(layout.held // registers, 1)
    scans = operation.name == "tt.scan"
    for kind, dtype, amount in combine:
        inside = left * (registers - 1) * (2 if scans else 1)
        reader.emit(*([Effort(kind, dtype, amount, inside, where)] * bool(inside)))
    step = tuple((kind, dtype, amount * left) for kind, dtype, amount in combine)
    words = sum(left * max(_bytes(s.element) // 4, 1) for s in sources)
    if lanes > 1:
        reader.emit(Shuffles(lanes.bit_length() - 1, words, step, where))
    if warps > 1:
        across = tuple((kind, dtype, amount) for kind, dtype, amount in combine)
        for source in sources:
            reader.emit(Exchange(dtype_name(source.element), left, 1, where))
        reader.emit(Shuffles(warps.bit_length() - 1, len(sources), across, where))
        for source in sources:
            reader.emit(Exchange(dtype_name(source.element), 1, left, where))


def _operand_types(operation: Operation) -> list[str]:
    inner = operation.types.rsplit(" -> ", 1)[0].strip()
    from_list = inner[1:-1] if inner.startswith("(") else inner
    parts, depth, start = [], 0, 0
    for n, c in enumerate(from_list):
        depth += (c in "<([{") - (c in ">)]}")
        if c == "," and depth == 0:
            parts.append(from_list[start:n].strip())
            start = n + 1
    return [*parts, from_list[start:].strip()]


def _bytes(element: str) -> int:
    digits = re.sub(r"\D.*$", "", re.sub(r"^\D+", "", dtype_name(element)))
    return max(int(digits or 32) // 8, 1)


def _convert(reader: Reader, operation: Operation) -> None:
    """`ttg.convert_layout`: within a thread, by shuffles, or through shared memory."""
    value = reader[operation.operands[0]]
    reader.give(operation, value)
    before, after = (tensor_type(t.strip()) for t in operation.types.split(" -> "))
    old, new, where = reader.layout(before), reader.layout(after), reader.where(operation)
    if (old.lanes, old.warps) == (new.lanes, new.warps):
        return
    words = max(old.held * _bytes(before.element) // 4, 1)
    if old.warps == new.warps:
        reader.emit(Shuffles(1, words, (), where))
    else:
        reader.emit(Exchange(dtype_name(before.element), _stored(old), new.held, where))


def _stored(layout: Layout) -> int:
    return max(layout.held, 1)


def _barrier(reader: Reader, _: Operation) -> None:
    reader.emit(Sync())


HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(IGNORED, _ignored),
    **dict.fromkeys(FLOATS, _float),
    **dict.fromkeys(INTEGERS, _integer),
    "arith.select": _select,
    "arith.constant": _constant,
    "tt.get_program_id": _program,
    "tt.get_num_programs": _program,
    "tt.make_range": _range,
    "tt.splat": _same,
    "tt.unsplat": _same,
    "tt.broadcast": _same,
    "tt.bitcast": _bitcast,
    "arith.index_cast": _same,
    "tt.expand_dims": _expand,
    "tt.trans": _transpose,
    "tt.reshape": _reshape,
    "tt.addptr": _pointer,
    "tt.extern_elementwise": _library,
    "tt.reduce": _reduce,
    "tt.scan": _reduce,
    "ttg.convert_layout": _convert,
    "gpu.barrier": _barrier,
    "ttg.barrier": _barrier,
    "scf.for": loop,
    "scf.if": Reader.branch,
    **memory.HANDLERS,
}
"""By the operation's name."""
