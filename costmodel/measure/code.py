"""The code beside a description: `CODE` in its module says which file implements it and what the results must be.

Only what the description does not say stands there: the file (`cuda` or `triton`), the `entry`, the sizes that are
run-time `arguments` (all others are macros), the `reference`, and optionally `inputs`, a `tolerance` and the `space` that
is measured where that is not the module's `SPACE`. Grid, block and
dynamic shared bytes are the description's own extents; pointers are its global buffers in the order of declaration, before
all sizes; its constant buffers are `__constant__` symbols of the same name.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from costmodel.cost import description_names, find_description, search_space
from costmodel.errors import MeasureError
from costmodel.ir import Description

__all__ = ["Code", "coded_names", "find_code", "measured_space", "source_digest"]

_KEYS = frozenset(("cuda", "triton", "entry", "arguments", "reference", "inputs", "tolerance", "space"))


@dataclass(frozen=True, slots=True)
class Code:
    """What runs when a description is measured."""

    description: Description
    language: Literal["cuda", "triton"]
    path: Path
    """CUDA C++ for a run-time compiler, or a Python module with `launch(tensors, sizes)`."""
    entry: str
    """Of CUDA: the `extern "C" __global__` function."""
    arguments: tuple[str, ...]
    """Of CUDA: sizes passed as `int` after the pointers; all others are macros."""
    reference: Callable[..., Mapping[str, Any]]
    """`reference(tensors, sizes)`: what the written buffers must hold; NaN where nothing is written."""
    inputs: Callable[..., Mapping[str, Any]] | None
    """`inputs(sizes, random)`: contents of buffers that random normal numbers do not suit."""
    tolerance: float | None
    """Largest ‖out − ref‖ / ‖ref‖; by the output's dtype if None."""


def find_code(description: Description) -> Code:
    """What implements a description.

    Raises:
        MeasureError: its module has no `CODE` for it, or one that is not as it should be.
    """
    module, entry = _entry(description)
    where = f"CODE[{description.name!r}] in {module}"
    if entry is None:
        raise MeasureError(f"{description.name}: nothing to run: {module} has no CODE[{description.name!r}] that names a file")
    for key in sorted(set(entry) - _KEYS):
        raise MeasureError(f"{where}: unknown key {key!r}; known: {', '.join(sorted(_KEYS))}")
    if ("cuda" in entry) == ("triton" in entry):
        raise MeasureError(f"{where}: expected one of 'cuda' and 'triton', the file that implements it")
    if not callable(entry.get("reference")):
        raise MeasureError(f"{where}: expected a function 'reference': a kernel whose results nobody checks is not timed")
    language: Literal["cuda", "triton"] = "cuda" if "cuda" in entry else "triton"
    path = module.parent / entry[language]
    if not path.is_file():
        raise MeasureError(f"{where}: {path}: no such file")
    arguments = tuple(entry.get("arguments", ()))
    for name in arguments:
        if name not in description.params:
            has = ", ".join(description.params) or "none"
            raise MeasureError(f"{where}: arguments: {name!r} is no size of {description.name}; it has {has}")
    return Code(
        description,
        language,
        path,
        entry.get("entry", description.name),
        arguments,
        entry["reference"],
        entry.get("inputs"),
        entry.get("tolerance"),
    )


def coded_names() -> tuple[str, ...]:
    """Descriptions of the package that have code beside them: the suite."""
    return tuple(n for n in description_names() if _entry(find_description(n))[1] is not None)


def measured_space(description: Description) -> dict[str, Any] | None:
    """The space that is measured when none is given: the code's own, else the description's; None where there is neither."""
    own = (_entry(description)[1] or {}).get("space")
    return search_space(description) if own is None else dict(own)


def source_digest(description: Description) -> str:
    """SHA-256 of the description's file and of the file that implements it, if any."""
    module, entry = _entry(description)
    digest = hashlib.sha256(module.read_bytes())
    if entry is not None:
        digest.update(find_code(description).path.read_bytes())
    return digest.hexdigest()


def _entry(description: Description) -> tuple[Path, Mapping[str, Any] | None]:
    """The file of a description, and what its `CODE` says of it."""
    module = sys.modules.get(description.function.__module__)
    path = Path(description.function.__code__.co_filename).resolve()
    return path, getattr(module, "CODE", {}).get(description.name)
