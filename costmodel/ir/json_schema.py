"""The objects of `costmodel.kernel/1`: their fields, which the reader checks, and the JSON Schema that is made of them.

What a schema cannot say is left to the reader: that expressions keep to the grammar and name what is in scope, that loops nest
in the order of a launch, and the other checks of a description.
"""

from __future__ import annotations

from typing import Any, get_args

from costmodel.dtypes import DTYPES
from costmodel.ir.types import LoopKind, Space, WorkKind

__all__ = ["FIELDS", "FORMAT", "OPTIONAL", "field_types", "kernel_definitions"]

FORMAT = "costmodel.kernel/1"
Json = dict[str, Any]
_TYPES: dict[str, type] = {
    "string": str, "integer": int, "boolean": bool, "array": list, "object": dict, "null": type(None),
}  # fmt: skip
_EXPRESSION = "an expression: whole numbers, names in scope, + - * / ** ( ), floor_div, ceil_div, mod, min, max, xor of two"


def _text(description: str, **more: Any) -> Json:
    return {"type": "string", "description": description, **more}


def _one_of(options: tuple[str, ...], description: str) -> Json:
    return _text(description, enum=list(options))


def _expression(description: str) -> Json:
    return _text(f"{description}; {_EXPRESSION}")


def _maybe(description: str) -> Json:
    return {"type": ["string", "null"], "description": f"{description}; {_EXPRESSION}"}


def _flag(description: str) -> Json:
    return {"type": "boolean", "description": description}


def _list(of: Json, description: str, **more: Any) -> Json:
    return {"type": "array", "items": of, "description": description, **more}


def _object(name: str) -> Json:
    return {"$ref": f"#/definitions/{name}"}


def _conditions(description: str) -> Json:
    return _list(_text("two expressions with < <= > >= == or != between them"), description)


_BODY = _list(_object("node"), "what is in it, in program order")

FIELDS: dict[str, dict[str, Json]] = {
    "kernel": {
        "format": _text("this format and its version", const=FORMAT),
        "name": _text("of the kernel"),
        "params": _list(_text("a name"), "sizes: whole numbers of at least 1 that a request gives"),
        "statics": {
            "type": "object",
            "additionalProperties": {"type": ["integer", "boolean", "string"]},
            "description": "values with which the kernel was made, for information; usually {}",
        },
        "buffers": _list(_object("buffer"), "all arrays that the kernel touches"),
        "requirements": _conditions("what sizes must meet; a configuration that does not has no time"),
        "max_threads": _maybe("threads of a block as the compiler was told them (__launch_bounds__), null if it was not"),
        "registers": _maybe("registers of a thread where they are known; null lets them be estimated"),
        "shared_bytes": _expression("shared memory of a block where a compiler has told; left out, the arrays are added up"),
        "launch_grid": _list(
            _expression("blocks"),
            "blocks along x, y, z as launched, where block loops take their numbers apart; usually left out",
            minItems=3,
            maxItems=3,
        ),
        "body": _BODY,
    },
    "buffer": {
        "name": _text("of the array"),
        "space": _one_of(get_args(Space), "where it is; register arrays are a thread's own"),
        "dtype": _one_of(tuple(DTYPES), "of an element"),
        "shape": _list(_expression("an extent"), "extents as stored, padding included, in elements", minItems=1),
        "strides": _list(_expression("a stride"), "elements from one index to the next, as many as extents", minItems=1),
        "read_only": _flag("const __restrict__ global memory"),
        "dynamic": _flag("shared memory that is sized at launch"),
        "exchange": _flag("registers of other lanes, reached by shuffles"),
    },
    "loop": {
        "loop": _text("the index: a name that body may use"),
        "kind": _one_of(get_args(LoopKind), "the grid, the threads of a block, or a loop in each thread; so they nest"),
        "axis": {
            "type": "integer",
            "minimum": 0,
            "maximum": 2,
            "description": "of block and thread loops: 0 is x (lanes of a warp are neighbours along it), 1 is y, 2 is z; else 0",
        },
        "extent": _expression("iterations"),
        "unroll": _expression("copies of the body in a machine loop; the extent itself unrolls fully; usually 1"),
        "stages": _expression("of a software pipeline; usually 1"),
        "body": {**_BODY, "minItems": 1},
    },
    "guard": {
        "guard": _conditions("all must hold for the body to run"),
        "fraction": _maybe("share of executions that pass, from 0 to 1, where it is known; null lets it be counted"),
        "body": _BODY,
    },
    "statement": {
        "statement": _text("a name, for messages"),
        "loads": _list(_object("access"), "what one thread reads in one execution"),
        "stores": _list(_object("access"), "what it writes"),
        "work": _list(_object("work"), "what it computes"),
        "asynchronous": _flag("a copy from global to shared memory, or a matrix instruction, that the thread does not wait for"),
        "atomic": _flag("the stores are atomic read-modify-writes"),
    },
    "barrier": {"barrier": {"type": "boolean", "const": True, "description": "all threads of the block wait for each other"}},
    "access": {
        "buffer": _text("the name of an array"),
        "index": _list(_expression("an index"), "one for each dimension of the array"),
        "width": _expression("consecutive elements that one thread takes at once; usually 1"),
        "cached": _flag("false for accesses that bypass L1"),
    },
    "work": {
        "kind": _one_of(get_args(WorkKind), "fused multiply-adds, other arithmetic, matrix multiply-adds, …"),
        "dtype": _one_of(tuple(DTYPES), "of the operands"),
        "amount": _expression("operations of one thread; of mma, multiply-adds of a warp"),
    },
}
"""Fields of each object, in the order in which they are written."""
OPTIONAL = frozenset({"shared_bytes", "launch_grid"})
"""Fields that may be left out."""
_NODES = ("loop", "guard", "statement", "barrier")


def field_types(field: Json) -> tuple[type, ...]:
    """What Python makes of a field's JSON."""
    named = field["type"]
    return tuple(_TYPES[name] for name in ([named] if isinstance(named, str) else named))


def kernel_definitions() -> dict[str, Json]:
    """The definitions of a JSON Schema (draft 7), `kernel` and what it is made of."""
    return {
        **{name: _closed(fields) for name, fields in FIELDS.items()},
        "node": {"oneOf": [_object(name) for name in _NODES]},
    }


def _closed(fields: dict[str, Json]) -> Json:
    """An object of exactly these fields; what kind of node it is shows before its body is looked into."""
    return {
        "type": "object",
        "required": [name for name in fields if name not in OPTIONAL],
        "additionalProperties": False,
        "properties": fields,
    }
