"""The lines of `costmodel score` as a JSON Schema: what may be asked, what is answered, and the kernels of `define`.

What the schema cannot say is left to the reader of requests: that lists are equally long, that spilled words come with
registers, that sizes are those of the kernel and in range.
"""

from __future__ import annotations

from typing import Any

from costmodel.ir.json_schema import kernel_definitions

__all__ = [
    "DEFINITION",
    "LONGEST_LINE_BYTES",
    "MOST_KERNELS",
    "MOST_REGISTERS",
    "MOST_ROWS",
    "MOST_SPILLED_WORDS",
    "REQUEST",
    "line_schema",
]

LONGEST_LINE_BYTES = 1 << 26
MOST_ROWS = 1 << 20
"""Configurations in the lists of one request."""
MOST_KERNELS = 1024
"""Definitions that are remembered; the oldest goes first."""
MOST_REGISTERS = 1 << 16
"""Of a thread, whatever the device; what it has is checked when it is priced."""
MOST_SPILLED_WORDS = 1 << 17
"""Of 4 bytes. Source: CUDA C++ programming guide, technical specifications: 512 KB of local memory for a thread."""

Json = dict[str, Any]
_VALUE: Json = {"type": ["number", "string", "boolean"]}
_ID: Json = {"description": "any JSON value; the answer has it too"}


def _object(required: tuple[str, ...], **properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def _each(kind: str) -> Json:
    return {"type": "array", "items": {"type": [kind, "null"]}}


REQUEST = _object(
    ("sizes",),
    id=_ID,
    kernel={"type": ["string", "null"], "description": "what is priced; may be left out if --kernel is given"},
    device={
        "type": ["string", "null"],
        "description": "GPU, as `costmodel devices` lists them; may be left out if --device is given",
    },
    sizes={
        "type": "object",
        "additionalProperties": {"anyOf": [_VALUE, {"type": "array", "items": _VALUE, "minItems": 1, "maxItems": MOST_ROWS}]},
        "description": "each argument of the kernel: a value, or a list of values; lists are equally long, values are repeated",
    },
    registers={
        "type": ["integer", "null"],
        "minimum": 1,
        "maximum": MOST_REGISTERS,
        "description": "of a thread, as a compiler has told",
    },
    spilled={
        "type": ["number", "null"],
        "minimum": 0,
        "maximum": MOST_SPILLED_WORDS,
        "description": "words of 4 bytes that each sweep over the accumulators stores and loads; only with registers",
    },
)
DEFINITION = _object(
    ("define", "ir"),
    id=_ID,
    define={"type": "string", "minLength": 1, "description": "name that later requests give as their kernel"},
    ir={"$ref": "#/definitions/kernel"},
)
_ANSWERS = {
    "priced": _object(
        ("seconds", "bound"),
        id=_ID,
        seconds={"type": "number", "minimum": 0, "description": "predicted time of one launch"},
        bound={"type": "string", "description": "the term that takes most of it"},
        terms={
            "type": "object",
            "additionalProperties": {"type": "number"},
            "description": "with --breakdown: seconds of each term that takes some; they add up to the time",
        },
        occupancy={"type": "number", "description": "with --breakdown: resident warps, as a share of what an SM can hold"},
        registers={"type": "integer", "description": "with --breakdown: of a thread"},
    ),
    "cannot_run": _object(
        ("seconds", "reason"),
        id=_ID,
        seconds={"type": "null"},
        reason={"type": "string", "description": "why this configuration has no time"},
        modelled={
            "const": False,
            "description": "where it is not the device that rules it out: a value is no size, a requirement is not met",
        },
    ),
    "priced_lists": _object(
        ("seconds", "bound"),
        id=_ID,
        seconds=_each("number"),
        bound=_each("string"),
        reason={**_each("string"), "description": "null where there is a time; left out where all have one"},
        modelled={
            "type": "array",
            "items": {"type": "boolean"},
            "description": "beside reason: false where it would be in a single answer",
        },
        terms={"type": "object", "additionalProperties": _each("number")},
        occupancy=_each("number"),
        registers=_each("integer"),
    ),
    "defined": _object(
        ("defined", "arguments"), id=_ID, defined={"type": "string"}, arguments={"type": "array", "items": {"type": "string"}}
    ),
    "error": _object(
        ("error", "kind"),
        id=_ID,
        error={"type": "string", "description": "what is wrong with the request, and how to put it right"},
        kind={
            "type": "string",
            "description": "BadRequest, Size, Description, Profile, Unsupported, …, or Internal: a fault of ours",
        },
    ),
}


def line_schema() -> Json:
    """The schema (draft 7) of any line, with the definitions `request` and `answer`, and `kernel` of a definition's `ir`."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "A line of costmodel score",
        "anyOf": [{"$ref": "#/definitions/request"}, {"$ref": "#/definitions/answer"}],
        "definitions": {
            "request": {"oneOf": [{"$ref": "#/definitions/price"}, {"$ref": "#/definitions/define"}]},
            "price": REQUEST,
            "define": DEFINITION,
            "answer": {"oneOf": [{"$ref": f"#/definitions/{name}"} for name in _ANSWERS]},
            **_ANSWERS,
            **kernel_definitions(),
        },
    }
