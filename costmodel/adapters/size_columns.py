"""Configurations of a host as a table of a kernel's arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from costmodel.errors import CostModelError
from costmodel.ir import Description, Kernel

__all__ = ["Config", "Sizes", "arguments_of", "said"]

Ints = npt.NDArray[np.int64]
Config = Mapping[str, Any]
"""Values of a host's parameters, by name."""
Sizes = Mapping[str, Any] | Callable[[Config], Mapping[str, Any]]
"""How a configuration becomes arguments of the description.

A mapping says for an argument the name of a host's parameter, a number, or a function of the configuration; arguments that it
leaves out are parameters of their own name, or have a default. A function gives all arguments of one configuration.
"""


def arguments_of(
    kernel: Description | Kernel, sizes: Sizes, configs: Sequence[Config]
) -> tuple[pd.DataFrame, Ints, dict[int, str]]:
    """A row for each configuration that has all arguments; which these are; and what the others lack, by position."""
    defaults = kernel.defaults if isinstance(kernel, Description) else {}
    names = kernel.arguments if isinstance(kernel, Description) else kernel.params
    columns: dict[str, list[Any]] = {}
    lacking: dict[int, str] = {}
    if isinstance(sizes, Mapping):
        for name in dict.fromkeys((*sizes, *names)):
            otherwise = {name: defaults[name]} if name in defaults and name not in sizes else {}
            columns[name] = _column(sizes.get(name, name), configs, otherwise)
    else:
        each = [_called(lambda config: {**defaults, **sizes(config)}, config) for config in configs]
        lacking = _lacking(each)
        given = [{} if at in lacking else found for at, found in enumerate(each)]
        columns = {name: _column(name, given, {}) for name in dict.fromkeys(n for found in given for n in found)}
    for column in columns.values():
        lacking = _lacking(column) | lacking
    kept = [at for at in range(len(configs)) if at not in lacking]
    table = pd.DataFrame({n: [column[at] for at in kept] for n, column in columns.items()}, index=range(len(kept)))
    return table, np.array(kept, np.int64), lacking


@dataclass(frozen=True, slots=True)
class _Lacking:
    """Stands for an argument that a configuration does not give."""

    why: str


def _column(given: Any, configs: Sequence[Config], otherwise: Mapping[str, Any]) -> list[Any]:
    """The values of one argument: a parameter, or what is said of it otherwise; a function's; or one for all."""
    if isinstance(given, str):
        lacking = otherwise.get(given, _Lacking(f"the configuration has no parameter {given!r}"))
        return [config.get(given, lacking) for config in configs]
    return [_called(given, config) for config in configs] if callable(given) else [given] * len(configs)


def _lacking(values: Sequence[Any]) -> dict[int, str]:
    return {at: value.why for at, value in enumerate(values) if isinstance(value, _Lacking)}


def _called(function: Callable[[Config], Any], config: Config) -> Any:
    try:
        return function(config)
    except Exception as error:  # a host's search is never ended by its model
        return _Lacking(said(error))


def said(error: Exception) -> str:
    """What went wrong, in a line."""
    if isinstance(error, CostModelError):
        return str(error)
    if isinstance(error, KeyError):
        return f"the configuration has no parameter {error}"
    return f"{type(error).__name__}: {error}"
