"""Matches the figures of one profile file with the sources it cites.

A key of `sources:` is a field path or a group (`dram`, `dram.bandwidth_bytes_per_s`); the longest
that fits a figure is its source. A figure without one, and a source without a figure, are errors.
"""

from __future__ import annotations

from costmodel.device.complaints import Mistake, did_you_mean
from costmodel.device.strict_yaml import Plain

__all__ = ["cited_figures", "field_paths", "figure_paths"]


def cited_figures(data: Plain, shown: str) -> tuple[dict[str, str], list[Mistake]]:
    """Return the source of each figure a file states, and what is wrong with its sources.

    Args:
        data: the file's mapping, `sources` among it.
        shown: how messages name the file.
    """
    sources = data.get("sources", {})
    if not isinstance(sources, dict):
        text = f"expected `field: citation` lines, got {type(sources).__name__}"
        return {}, [Mistake(shown, "sources", text)]
    cited: dict[str, str] = {}
    mistakes = []
    stated = {k: v for k, v in data.items() if k != "sources"}
    for figure in figure_paths(stated):
        key = next((p for p in _prefixes(figure) if p in sources), None)
        if key is None:
            keys = " or ".join(f"`{key}: …`" for key in dict.fromkeys((_prefixes(figure)[-1], figure)))
            add = f"add {keys} under `sources:`"
            mistakes.append(Mistake(shown, figure, f"no source ({add})"))
        else:
            cited[figure] = str(sources[key])
    known = sorted(field_paths(stated))
    for key, text in sources.items():
        if not isinstance(text, str) or not text.strip():
            mistakes.append(Mistake(shown, f"sources.{key}", f"expected a citation, got {text!r}"))
        elif key not in known:
            hint = did_you_mean(key, known)
            mistakes.append(Mistake(shown, f"sources.{key}", f"covers no figure of this file{hint}"))
    return cited, mistakes


def figure_paths(data: Plain) -> list[str]:
    """List the dotted paths of numbers and flags."""
    return [path for path, value in _leaf_paths(data).items() if isinstance(value, bool | int | float)]


def field_paths(data: Plain) -> set[str]:
    """Return the dotted paths of all fields and groups."""
    return {group for path in _leaf_paths(data) for group in _prefixes(path)}


def _leaf_paths(data: Plain, prefix: str = "") -> Plain:
    """Return what is not a group, by dotted path."""
    found: Plain = {}
    for key, value in data.items():
        found |= _leaf_paths(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found


def _prefixes(path: str) -> list[str]:
    """List a path and its groups, longest first."""
    parts = path.split(".")
    return [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
