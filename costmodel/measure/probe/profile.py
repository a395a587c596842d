"""Writes what was measured as a board's profile: complete, each figure with its source.

What was not measured is that of a stored profile of the same architecture, and says so. A figure that can only be too low
(`Figure.bound`) gives way to a higher one of the stored profile.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from costmodel.device import Device, find_device
from costmodel.errors import MeasureError
from costmodel.measure.probe.lab import Figure

__all__ = ["board_name", "default_path", "profile_text", "refuse_existing", "stored_value", "write_profile"]

_OUTSIDE = ("name", "title", "vendor", "architecture", "compute_capability", "aliases", "sources")


def board_name(title: str) -> str:
    """Return a file name for a GPU.

    Example:
        >>> board_name("NVIDIA GeForce RTX 4070")
        'nvidia_geforce_rtx_4070'
    """
    return re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_")


def default_path(title: str) -> Path:
    """Return where a profile goes if nothing else is said."""
    return Path(f"{board_name(title)}.yaml")


def stored_value(device: Device, field: str) -> Any:
    """Return a figure of a device by its path; None where it has none."""
    at: Any = device
    for part in field.split("."):
        at = at.get(part) if isinstance(at, Mapping) else getattr(at, part, None)
    return at


def profile_text(name: str, facts: Mapping[str, Any], base: Device, figures: Sequence[Figure]) -> str:
    """Return a profile.

    Args:
        name: of the board: the file's, without its end.
        facts: of the machine.
        base: the stored profile that fills what was not measured.
        figures: what was measured.
    """
    values = {key: value for key, value in _plain(asdict(base)).items() if key not in _OUTSIDE}
    sources = {path: f"as {base.name}: {base.sources.get(path, 'no source')}" for path in _leaves(values)}
    said = (
        f"costmodel probe {str(facts['date'])[:10]}, {facts['name']}, driver {facts.get('driver', facts.get('cuda', 'unknown'))}"
    )
    for figure in figures:
        if figure.bound and (stored_value(base, figure.field) or 0) >= figure.value:
            continue
        _put(values, figure.field, _typed(figure.value, stored_value(base, figure.field)))
        sources[figure.field] = f"{said}: {_how(figure)}"
    l2 = values["l2"]
    l2["effective_capacity_bytes"] = min(l2["effective_capacity_bytes"], l2["capacity_bytes"])
    head = {"name": name, "title": facts["name"], "architecture": base.architecture, "aliases": []}
    lines = f"# Written by `costmodel probe`; what it could not measure is that of {base.name}.\n"
    whole = head | values | {"sources": dict(sorted(sources.items()))}
    return lines + yaml.safe_dump(whole, sort_keys=False, width=4096, allow_unicode=True)


def write_profile(path: Path, text: str) -> Device:
    """Write a new profile and read it back.

    Raises:
        MeasureError: the file exists.
        ProfileError: the profile is malformed.
    """
    refuse_existing(path)
    path.write_text(text)
    return find_device(path)


def refuse_existing(path: Path) -> None:
    """Refuse to overwrite a profile.

    Raises:
        MeasureError: the file exists, or its name is not a profile's.
    """
    if path.suffix != ".yaml":
        raise MeasureError(f"{path}: expected a file name that ends with .yaml")
    if path.exists():
        raise MeasureError(f"{path} exists and is not overwritten; name another file with --out, or remove it")


def _how(figure: Figure) -> str:
    return figure.how if figure.spread == 0 else f"median of 7, spread {figure.spread:.1%}; {figure.how}"


def _typed(value: Any, stored: Any) -> Any:
    """Return a figure in the type of the field."""
    if isinstance(value, bool) or isinstance(stored, bool):
        return bool(value)
    return int(value) if isinstance(stored, int) else float(value)


def _put(values: dict[str, Any], field: str, value: Any) -> None:
    *groups, last = field.split(".")
    at = values
    for group in groups:
        at = at[group]
    at[last] = value


def _plain(value: Any) -> Any:
    """Return nested mappings as dicts, without what is not given."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items() if inner is not None}
    return list(value) if isinstance(value, tuple) else value


def _leaves(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    found: list[str] = []
    for key, value in values.items():
        found += _leaves(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [prefix + key]
    return found
