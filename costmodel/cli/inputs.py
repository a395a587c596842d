"""What the command line takes: K=V settings, search spaces, measured files."""

from __future__ import annotations

import difflib
import itertools
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import yaml
from rich.console import Console
from rich.progress import Progress

from costmodel.cost import search_space
from costmodel.errors import DataError, SizeError
from costmodel.ir import Description

__all__ = ["MOST_CONFIGURATIONS", "settings", "table_of", "tables"]

MOST_CONFIGURATIONS = 20_000_000
"""Larger spaces are refused: their table would not fit into memory."""

Item = TypeVar("Item")


def settings(given: list[str] | None, description: Description) -> dict[str, Any]:
    """The arguments named by `--set`.

    Raises:
        SizeError: not `K=V`, an unknown argument, or a value that is no number where one is needed.
    """
    found: dict[str, Any] = {}
    for item in given or ():
        name, sign, text = item.partition("=")
        name = name.strip()
        if not sign or not name or not text.strip():
            raise SizeError(f"--set {item}: expected K=V, such as --set {description.arguments[0]}=1024")
        _known(name, description, f"--set {item}")
        if name in found:
            raise SizeError(f"--set {item}: {name} is {found[name]} already; give it once, or a list of values in a --space file")
        found[name] = _value(name, text.strip(), description)
    return found


def _known(name: str, description: Description, where: str) -> None:
    if name not in description.arguments:
        near = difflib.get_close_matches(name, description.arguments, 1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise SizeError(
            f"{where}: {description.name} has no argument {name!r}{hint}; arguments: {', '.join(description.arguments)}"
        )


def _value(name: str, text: str, description: Description) -> Any:
    words = {"true": True, "false": False}
    if name in description.static and text.lower() in words:
        return words[text.lower()]
    try:
        return int(text.replace("_", ""), 0)
    except ValueError:
        if name in description.static:
            return text
        raise SizeError(f"--set {name}={text}: expected a whole number") from None


def table_of(description: Description, space: Path | None, fixed: dict[str, Any]) -> pd.DataFrame:
    """The configurations of a space file (or the description's own space), with the fixed arguments on top.

    Raises:
        DataError: the file cannot be read or names unknown arguments; there is no space.
        SizeError: an argument has no values, or there are too many combinations.
    """
    if space is not None and space.suffix in (".csv", ".parquet"):
        return _read_table(space).assign(**fixed)
    values = search_space(description) if space is None else _read_space(space)
    if values is None:
        raise DataError(
            f"{description.name} has no search space of its own; give one with --space FILE (argument: list of values)"
        )
    where = "its SPACE" if space is None else str(space)
    for name in values:
        if name not in description.arguments:
            _unknown(name, description, where)
    lists = {n: v if isinstance(v, list) else [v] for n, v in (values | fixed).items()}
    for name in description.arguments:
        if name not in lists and name not in description.defaults:
            raise SizeError(f"{description.name}: no values for {name!r}; add it to {where} or pass --set {name}=…")
        if name in lists and not lists[name]:
            raise SizeError(f"{where}: {name!r} has no values")
    count = 1
    for choices in lists.values():
        count *= len(choices)
    if count > MOST_CONFIGURATIONS:
        raise SizeError(
            f"{where}: {count:,} combinations; at most {MOST_CONFIGURATIONS:,}. Fix some arguments with --set, or give a table"
        )
    return pd.DataFrame(list(itertools.product(*lists.values())), columns=list(lists))


def _unknown(name: str, description: Description, where: str) -> None:
    near = difflib.get_close_matches(name, description.arguments, 1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise DataError(f"{where}: {description.name} has no argument {name!r}{hint}; arguments: {', '.join(description.arguments)}")


def _read_table(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except Exception as error:  # pandas and pyarrow raise whatever their parsers met
        raise DataError(f"{path}: cannot be read as a table: {error}") from None


def _read_space(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    try:
        values = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (json.JSONDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{path}: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict) or not values:
        raise DataError(f"{path}: expected a mapping from arguments to a value or a list of values, got {type(values).__name__}")
    return {str(n): v for n, v in values.items()}


def tables(files: Iterable[str], load: Callable[[str], Iterable[Item]]) -> Iterator[Item]:
    """All tables of all files, with progress on stderr."""
    names = list(files)
    console = Console(stderr=True)
    if not console.is_terminal:
        for n, name in enumerate(names):
            print(f"{n + 1}/{len(names)} {name}", file=sys.stderr)
            yield from load(name)
        return
    with Progress(console=console, transient=True) as progress:
        for name in progress.track(names, description="validating"):
            yield from load(name)
