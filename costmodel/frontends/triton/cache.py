"""Analysed kernels on disk, found by what they were made from.

The key is a digest of the kernel's source and all that it calls (Triton's own), the signature, constants, grid, options, target,
the versions of Triton and sympy and this package's source: a change of any is another file. Files are written beside their place
and moved there in one step; the oldest go when there are too many. A file begins with a digest of the rest, which was checked
before it was written: what does not agree with it, or cannot be read, counts as not there. Nothing in a file is run.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import sympy

from costmodel.symbols import to_text

__all__ = ["MOST_FILES", "default_folder", "key_of", "kept", "keep"]

MOST_FILES = 4096
"""Kept in one folder; a file has 1 to 10 kB."""


def default_folder() -> Path:
    """`$COSTMODEL_CACHE`, else `costmodel` in the user's cache folder."""
    given = os.environ.get("COSTMODEL_CACHE")
    if given:
        return Path(given) / "triton"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "costmodel" / "triton"


@cache
def _own_digest() -> str:
    """Of the source that makes kernels."""
    package = Path(__file__).parent.parent.parent
    rooms = ("frontends/triton", "ir", "symbols", ".")
    files = [f for room in rooms for f in sorted((package / room).glob("*.py"))]
    return hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()


def key_of(
    fn: Any,
    signature: Mapping[str, str],
    constexprs: Mapping[str, Any],
    grid: tuple[sympy.Expr, ...],
    capability: int,
    options: Mapping[str, Any],
) -> str:
    """The digest of everything that a result depends on."""
    import triton

    parts = {
        "source": fn.cache_key,
        "signature": dict(signature),
        "constexprs": {n: repr(v) for n, v in constexprs.items()},
        "grid": [to_text(e) for e in grid],
        "capability": capability,
        "options": {n: repr(v) for n, v in options.items()},
        "versions": [triton.__version__, sympy.__version__],
        "costmodel": _own_digest(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def kept(folder: Path, key: str) -> dict[str, Any] | None:
    """What was kept under a key; None if nothing was, or nothing that can be read."""
    try:
        text = (folder / f"{key}.json").read_text()
        body = text[_BEFORE:-1]
        document = json.loads(body) if text == _sealed(body) else None
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def _sealed(body: str) -> str:
    return f'{{"digest": "{hashlib.sha256(body.encode()).hexdigest()}", "content": {body}}}'


_BEFORE = len(_sealed("")) - 1


def keep(folder: Path, key: str, document: Mapping[str, Any]) -> None:
    """Keep a document; a folder that cannot be written is left alone."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder, suffix=".part")
        with os.fdopen(handle, "w") as file:
            file.write(_sealed(json.dumps(document)))
        os.replace(name, folder / f"{key}.json")
        _bound(folder)
    except OSError:
        return


def _bound(folder: Path) -> None:
    files = [f for f in os.scandir(folder) if f.name.endswith((".json", ".part"))]
    if len(files) > MOST_FILES:
        for old in sorted(files, key=lambda f: f.stat().st_mtime)[: len(files) - MOST_FILES]:
            Path(old.path).unlink(missing_ok=True)
