"""What the command line takes: K=V settings, search spaces, measured files."""

from __future__ import annotations

import difflib
import itertools
import json
import sys
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from rich.console import Console
from rich.progress import Progress

from costmodel.cost import search_space
from costmodel.errors import DataError, SizeError
from costmodel.ir import Description

__all__ = ["MOST_CONFIGURATIONS", "columns", "settings", "table_of", "told"]

MOST_CONFIGURATIONS = 20_000_000
"""Larger spaces are refused: their table would not fit into memory."""

_SHOWN = 40


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
            raise SizeError(f"--set {item}: expected K=V, such as --set {next(iter(description.arguments), 'N')}=1024")
        if name not in description.arguments:
            raise SizeError(_unknown(name, description, f"--set {item}"))
        if name in found:
            raise SizeError(f"--set {item}: {name} is {found[name]} already; give it once, or a list of values in a --space file")
        found[name] = _value(name, text.strip(), description)
    return found


def _unknown(name: str, description: Description, where: str) -> str:
    near = difflib.get_close_matches(name, description.arguments, 1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return f"{where}: {description.name} has no argument {name!r}{hint}; arguments: {', '.join(description.arguments) or 'none'}"


def _value(name: str, text: str, description: Description) -> Any:
    words = {"true": True, "false": False}
    if name in description.static and text.lower() in words:
        return words[text.lower()]
    try:
        return int(text.replace("_", ""), 0)
    except ValueError:
        if name in description.static:
            return text
        shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
        raise SizeError(f"--set {name}={shown}: expected a whole number") from None


def table_of(
    description: Description, space: Path | None, fixed: dict[str, Any], own: dict[str, Any] | None = None
) -> pd.DataFrame:
    """The configurations of a space file (or the description's own space), with the fixed arguments on top.

    Args:
        description: whose arguments they are.
        space: a file; None for the description's own space.
        fixed: arguments with one value.
        own: the description's own space, if not its SPACE.

    Raises:
        DataError: the file cannot be read or names unknown arguments; there is no space.
        SizeError: an argument has no values, or there are too many combinations.
    """
    if space is not None and space.suffix in (".csv", ".parquet"):
        return _read_table(space).assign(**fixed)
    values = own or search_space(description) if space is None else _read_space(space)
    if values is None:
        raise DataError(
            f"{description.name} has no search space of its own; give one with --space FILE (argument: list of values)"
        )
    where = "its SPACE" if space is None else str(space)
    for name in values:
        if name not in description.arguments:
            raise DataError(_unknown(name, description, where))
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


def _read_table(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise DataError(f"{path}: {'is not a file' if path.exists() else 'no such file'}")
    try:
        table = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    except Exception as error:  # pandas and pyarrow raise whatever their parsers met
        raise DataError(f"{path}: cannot be read as a table: {' '.join(str(error).split())}") from None
    if table.empty:
        raise DataError(f"{path}: no rows; expected at least one configuration")
    return table


def _read_space(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    try:
        values = json.loads(text, object_pairs_hook=_mapping) if path.suffix == ".json" else yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise DataError(f"{path}: line {line}: {error.problem}") from None
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise DataError(f"{path}: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict) or not values:
        raise DataError(f"{path}: expected a mapping from arguments to a value or a list of values, got {type(values).__name__}")
    return {str(n): v for n, v in values.items()}


def _mapping(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    """The pairs of a mapping, none of which may hide another."""
    found: dict[Any, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key!r} is given twice")
        found[key] = value
    return found


class _Loader(yaml.SafeLoader):
    """YAML in which a key that is given twice is a mistake."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Refuse to let the last one win."""
        keys = [key.value for key, _ in node.value]
        for n, key in enumerate(keys):
            if key in keys[:n]:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} is given twice", node.value[n][0].start_mark)
        return super().construct_mapping(node, deep)


def columns(given: list[str] | None) -> dict[str, Any]:
    """Columns of measured files, by `--set`: whole numbers, numbers, or texts.

    Raises:
        DataError: not `K=V`, or a column is given twice.
    """
    found: dict[str, Any] = {}
    for item in given or ():
        name, sign, text = (part.strip() for part in item.partition("="))
        if not sign or not name or not text:
            raise DataError(f"--set {item}: expected K=V, such as --set M=4096")
        if name in found:
            raise DataError(f"--set {item}: {name} is {found[name]} already; give it once")
        found[name] = next((value for kind in (int, float) if (value := _as(kind, text)) is not None), text)
    return found


def _as(kind: Callable[[str], Any], text: str) -> Any:
    try:
        return kind(text)
    except ValueError:
        return None


def told(names: list[str]) -> Iterator[str]:
    """The names, with progress on stderr: a line when the next one is asked for, or a bar on a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        for n, name in enumerate(names):
            yield name
            print(f"{n + 1}/{len(names)} {name}", file=sys.stderr)
        return
    with Progress(console=console, transient=True) as progress:
        yield from progress.track(names, description="reading")
