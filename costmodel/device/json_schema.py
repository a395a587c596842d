"""JSON Schemas of profile files, so that editors complete and check them.

They are made from the models that the loader checks by, with the descriptions and units of the fields. A board gives only
what differs from its architecture, so no field is required of it but those that no shipped architecture gives. What a
schema cannot say is left to the loader: a whole number written 80.0, infinities, sources that miss a figure, and figures that
contradict each other.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from costmodel.device.figures import figure_unit
from costmodel.device.model import MATRIX_INPUTS
from costmodel.device.profiles import BOARD_ONLY, architectures_give
from costmodel.device.schema import device_json_schema, field_names, field_text

__all__ = ["profile_schemas", "write_schemas"]

_ALWAYS = ("architecture", "sources")
"""Required in every file."""


def profile_schemas() -> dict[str, dict[str, Any]]:
    """Return the schema of each kind of file, by the path from the profile folder at which it is kept."""
    given = architectures_give()
    board = _file_schema("Board", optional=given, left_out=frozenset())
    architecture = _file_schema("Architecture", optional=None, left_out=frozenset(BOARD_ONLY))
    return {"board.schema.json": board, "architectures/architecture.schema.json": architecture}


def write_schemas(folder: Path) -> list[Path]:
    """Write the schemas into a profile folder and return their paths."""
    paths = []
    for name, schema in profile_schemas().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(schema, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        paths.append(path)
    return paths


def _file_schema(kind: str, optional: frozenset[str] | None, left_out: frozenset[str]) -> dict[str, Any]:
    """Return the schema of one kind of file.

    Args:
        kind: what it describes.
        optional: paths that may be missing; None if all but `_ALWAYS` may.
        left_out: fields that do not belong in the file.
    """
    whole = device_json_schema()
    properties: dict[str, Any] = {}
    required = []
    for name, field in whole["properties"].items():
        if name in left_out:
            continue
        group = _group_of(field, whole["$defs"])
        needed = [] if optional is None else _needed(name, group or whole, optional)
        properties[name] = _described((name,), field) if group is None else _group(name, group, needed)
        if name in _ALWAYS or (needed and name in whole["required"]):
            required.append(name)
    properties["sources"] |= {
        "propertyNames": {"enum": _citable(left_out)},
        "additionalProperties": {"type": "string", "pattern": "\\S"},
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": f"{kind} profile of costmodel",
        "description": "Numbers are plain, in the unit the field's name ends with; exponents have a point and a sign (3.35e+12).",
        "type": "object",
        "additionalProperties": False,
        "required": required,
        "properties": properties,
    }


def _group_of(field: dict[str, Any], groups: dict[str, Any]) -> dict[str, Any] | None:
    """Return the schema of the group that a field is, or may be where it may be left out; None for other fields."""
    references = [f["$ref"] for f in (field, *field.get("anyOf", ())) if "$ref" in f]
    return groups[references[0].rpartition("/")[2]] if references else None


def _group(name: str, group: dict[str, Any], required: list[str]) -> dict[str, Any]:
    """Return the schema of a group of fields."""
    return {
        "description": f"{field_text((name,))}.",
        "type": "object",
        "additionalProperties": False,
        "properties": {inner: _described((name, inner), field) for inner, field in group["properties"].items()},
    } | ({"required": required} if required else {})


def _needed(name: str, owner: dict[str, Any], optional: frozenset[str]) -> list[str]:
    """Return the fields of a group, or the field itself, that no architecture gives and that have no default."""
    inner = [n for n in field_names((name,)) if n in owner["required"] and f"{name}.{n}" not in optional]
    return inner if field_names((name,)) else [n for n in (name,) if n in owner["required"] and n not in optional]


def _described(path: tuple[str, ...], field: dict[str, Any]) -> dict[str, Any]:
    """Return a field's schema with its description and unit instead of the title pydantic makes up."""
    unit = figure_unit(".".join(path)) if field.get("type") != "boolean" else ""
    text = field_text(path) + (f" [{unit}]" if unit else "")
    return {"description": text} | {k: v for k, v in field.items() if k not in ("title", "default")}


def _citable(left_out: frozenset[str]) -> list[str]:
    """Return the keys that `sources:` may have: fields and groups of them."""
    keys = []
    for name in field_names():
        if name in left_out or name == "sources":
            continue
        keys.append(name)
        keys += [f"{name}.{inner}" for inner in field_names((name,))]
    return keys + [f"throughput.matrix_fma.{dtype}" for dtype in MATRIX_INPUTS]
