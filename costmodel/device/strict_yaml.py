"""Reads a YAML file and refuses what YAML readers let pass in silence.

A key given twice, a key that is not text, a merge key, several documents and an empty file are
errors that name the line. Scalars keep their YAML 1.1 meaning, as PyYAML and most readers have it
(so `3.35e12` is text), and the schema explains the fix.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import yaml

from costmodel.errors import ProfileError

__all__ = ["Plain", "read_mapping"]

Plain: TypeAlias = dict[str, object]

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_mapping(path: Path, shown: str) -> Plain:
    """Read the mapping a YAML file holds.

    Args:
        path: the file.
        shown: how messages name it.

    Raises:
        ProfileError: unreadable, not YAML, not a mapping, or a key is repeated or not text.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
        raise ProfileError(f"{shown}: {reason}") from error
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            value = None if node is None else _plain(node, loader, shown, "")
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}: " if mark else ""
        raise ProfileError(f"{shown}: {line}not valid YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise ProfileError(f"{shown}: not valid YAML: {error}") from error
    if not isinstance(value, dict):
        got = "nothing" if value is None else type(value).__name__
        raise ProfileError(f"{shown}: expected `field: value` lines, got {got}")
    return value


def _plain(node: yaml.Node, loader: yaml.SafeLoader, shown: str, path: str) -> object:
    """Return the plain value of a node; `path` is the dotted place of it."""
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, loader, shown, path)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, loader, shown, f"{path}[{i}]") for i, item in enumerate(node.value)]
    try:
        return loader.construct_object(node)
    except ValueError as error:
        raise ProfileError(f"{shown}: line {node.start_mark.line + 1}: {path}: {error}") from error


def _mapping(node: yaml.MappingNode, loader: yaml.SafeLoader, shown: str, path: str) -> Plain:
    """Return a mapping node as a dict, refusing keys that repeat or are not text."""
    lines: dict[str, int] = {}
    result: Plain = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if key_node.tag != "tag:yaml.org,2002:str":
            got = f"{getattr(key_node, 'value', '?')!r} (quote it if it is one)"
            raise ProfileError(f"{shown}: line {line}: expected a field name, got {got}")
        key = str(key_node.value)
        place = f"{path}.{key}" if path else key
        if key in lines:
            first = f"given twice, first on line {lines[key]} (keep one)"
            raise ProfileError(f"{shown}: line {line}: {place}: {first}")
        lines[key] = line
        result[key] = _plain(value_node, loader, shown, place)
    return result
