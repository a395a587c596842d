"""How a description is run on data: what its statements compute, on which sizes, and what must come out.

An `Emulation` has a `compute` for a traced kernel, its sizes and its buffers, and the expected contents of what it writes: by the
`reference` of the description's CODE, or else by `expected`, in NumPy. Inputs are small integers where sums of them are exact in
any order, and standard normal elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from costmodel.ir import Kernel
from tests.emulate import Point

__all__ = ["LANES", "Arrays", "Emulation", "beginning", "integers", "normal", "partner", "plain"]

Arrays = dict[str, np.ndarray]
LANES = 32


def integers(random: np.random.Generator, shape: Any) -> Any:
    return random.integers(-3, 4, shape).astype(np.float64)


def normal(random: np.random.Generator, shape: Any) -> Any:
    return random.standard_normal(shape)


@dataclass(frozen=True)
class Emulation:
    """How a description is run on data."""

    sizes: Sequence[Mapping[str, Any]]
    """Sizes and static arguments to run it with."""
    compute: Callable[[Kernel, Mapping[str, int], Arrays], Mapping[str, Callable[..., Any]]] = lambda kernel, sizes, buffers: {}
    expected: Callable[[Arrays, Mapping[str, Any]], Arrays] | None = None
    """None: the `reference` of CODE."""
    values: Callable[[np.random.Generator, Any], np.ndarray] = integers
    start: Mapping[str, float] | None = None
    races: bool = True
    tolerance: float = 0.0
    """Largest difference, relative to the largest value expected; 0 where all sums are exact."""


def plain(**functions: Callable[..., Any]) -> Callable[[Kernel, Mapping[str, int], Arrays], Mapping[str, Callable[..., Any]]]:
    """A `compute` that needs neither sizes nor buffers; `_` in a name stands for a blank."""

    def compute(kernel: Kernel, sizes: Mapping[str, int], buffers: Arrays) -> Mapping[str, Callable[..., Any]]:
        names = {s.statement.name for s in kernel.statements()}
        return {name: f for name, f in ((n.replace("_", " "), f) for n, f in functions.items()) if name in names}

    return compute


def beginning(kernel: Kernel, pattern: str, function: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
    """The same function for all statements whose names begin like this regular expression."""
    return {s.statement.name: function for s in kernel.statements() if re.match(pattern, s.statement.name)}


def partner(p: Point, values: np.ndarray, step: str) -> Any:
    """What a butterfly's shuffle brings: 16 lanes away first, one last."""
    return values[p.threads ^ (LANES // 2 >> p[step])]
