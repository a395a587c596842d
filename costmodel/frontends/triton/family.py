"""`from_triton_family`: many configurations of one Triton kernel, few of them compiled, priced together.

Configurations that the compiler treats alike are a family: one `ir.Kernel`, in which block sizes, warps, stages and what follows
from them are sizes. A family is made ready for pricing once, which takes longer than to compile one of its members. What was
compiled is exact. What was not is said by `family_rules`, seen to hold once in each family (`family_search`), and limited to what
lies between compiled configurations, and to more pipeline stages. Nothing goes as far as machine code: shared bytes are the
compiler's, registers are estimated (`resources="estimated"`); for what was not compiled they lie between the estimates of those
it follows from, which says little where block sizes differ.

Layouts change with almost every block size of a matrix product, so it is stages that need no compilation, and pricing that gains:
960 configurations of the tutorial's (tiles, groups, warps, 5 numbers of stages) for H100 were 276 compilations, 108 families and
51 s of one core, and 3 s at other sizes; one by one they are 0.23 s each.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sympy

from costmodel.cost import Scorer
from costmodel.device import Device, find_device
from costmodel.errors import CostModelError, DescriptionError, SizeError, UnsupportedError
from costmodel.frontends.triton.family_numbers import put_together
from costmodel.frontends.triton.family_products import expressed
from costmodel.frontends.triton.family_search import Point, Search, Values
from costmodel.frontends.triton.kernel import Grid, TritonKernel, jitted
from costmodel.frontends.triton.many import from_triton_configurations
from costmodel.ir import Kernel
from costmodel.symbols import is_identifier

__all__ = ["TritonFamily", "TritonSpace", "from_triton_family"]


@dataclass(frozen=True, slots=True)
class TritonFamily:
    """Configurations that differ in numbers only."""

    kernel: Kernel
    """Its sizes are the runtime integers, and what differs between the configurations."""
    configurations: tuple[int, ...]
    """Their positions in the space."""
    sizes: pd.DataFrame
    """A row for each of them: block sizes under their own names, numbers that follow from several under names of ours."""


@dataclass(frozen=True)
class TritonSpace:
    """Configurations of a Triton kernel, and what they do."""

    name: str
    parameters: tuple[str, ...]
    points: tuple[Point | CostModelError, ...]
    """What is known of each configuration, or why nothing is."""
    values: tuple[Values, ...]
    """The configurations."""
    compiled: int
    """Compilations that it took."""
    mistaken: int
    """Families that were not as foretold, and so were compiled whole."""

    @cached_property
    def families(self) -> tuple[TritonFamily, ...]:
        """The families, largest first."""
        groups: dict[Any, list[int]] = {}
        for n, point in enumerate(self.points):
            if isinstance(point, Point):
                groups.setdefault((point.numbers.skeleton, point.numbers.divided), []).append(n)
        found = [family for members in groups.values() for family in self._families(members)]
        return tuple(sorted(found, key=lambda f: -len(f.configurations)))

    @property
    def refused(self) -> dict[int, CostModelError]:
        """Configurations that are not understood, by position, and why."""
        return {n: p for n, p in enumerate(self.points) if isinstance(p, CostModelError)}

    def kernel(self, **configuration: Any) -> TritonKernel:
        """One configuration, as `from_triton` would give it.

        Args:
            configuration: a value of each parameter.

        Raises:
            DescriptionError: it is not one of the space.
            UnsupportedError: it is not understood.
        """
        wanted = tuple(configuration.get(n) for n in self.parameters)
        if configuration.keys() != set(self.parameters) or wanted not in self.values:
            given = ", ".join(f"{n}={v!r}" for n, v in configuration.items())
            raise DescriptionError(
                f"Triton kernel {self.name}: {given or 'nothing'} is no configuration of this space over "
                f"{', '.join(self.parameters)}; use from_triton for it, or put it into the space"
            )
        point = self.points[self.values.index(wanted)]
        if isinstance(point, CostModelError):
            raise point
        return point.compiled or self._derived(point, wanted)

    def score(self, device: Device | str, **sizes: int) -> pd.DataFrame:
        """Price every configuration.

        Args:
            device: a device or its name.
            sizes: every runtime integer argument.

        Returns:
            A row for each configuration, in their order: its parameters, `seconds` (infinite if it cannot run, NaN if it is not
            understood), `bound`, `occupancy`, `reason`, and whether it was `compiled`.

        Raises:
            SizeError: a runtime integer is missing.
        """
        gpu = device if isinstance(device, Device) else find_device(device)
        count = len(self.values)
        prices: dict[str, Any] = {"seconds": np.full(count, np.nan), "bound": np.full(count, "", dtype=object)}
        prices |= {"occupancy": np.full(count, np.nan), "reason": np.full(count, "", dtype=object)}
        for family in self.families:
            found = self._scored(family, gpu, sizes)
            for name, column in prices.items():
                column[list(family.configurations)] = found[name].to_numpy()
        for n, error in self.refused.items():
            prices["reason"][n] = str(error)
        compiled = [isinstance(p, Point) and p.compiled is not None for p in self.points]
        return pd.DataFrame(list(self.values), columns=list(self.parameters)).assign(**prices, compiled=compiled)

    def _scored(self, family: TritonFamily, device: Device, sizes: Mapping[str, int]) -> pd.DataFrame:
        """Prices of a family's configurations, in its order."""
        for name in (n for n in sizes if n not in family.kernel.params or n in family.sizes):
            raise SizeError(f"Triton kernel {self.name}: {name!r} is none of its runtime integers")
        points = [p for p in (self.points[n] for n in family.configurations) if isinstance(p, Point)]
        told: dict[str, Any] = {"registers": [p.registers for p in points], "spilled": [p.spilled_bytes / 4 for p in points]}
        try:
            return Scorer(family.kernel, device, **told).score(family.sizes.assign(**sizes)).frame()
        except UnsupportedError:  # counted for known numbers only
            alone = [self._derived(p, self.values[n]) for n, p in zip(family.configurations, points, strict=True)]
            return pd.concat([Scorer(k.kernel, device, **k.told).score(sizes).frame() for k in alone])

    def _families(self, members: list[int]) -> list[TritonFamily]:
        """Configurations with one skeleton as one family, or as several where two of its sizes are reciprocal."""
        points = [p for p in (self.points[n] for n in members) if isinstance(p, Point)]
        pattern = self._pattern(points[0])
        taken = {
            *pattern.kernel.params,
            *(b.name for b in pattern.kernel.buffers),
            *(i.index.name for i in pattern.kernel.loops()),
        }
        own = {tuple(self.values[n][k] for n in members): name for k, name in enumerate(self.parameters) if name not in taken}
        names = iter(n for n in (f"n{k}" for k in itertools.count(1)) if n not in taken | set(self.parameters))
        columns = list(zip(*(p.numbers.values for p in points), strict=True))
        found = expressed({_positive(c) for c in columns}, lambda c: own.get(c) or next(names))
        if (column := found.reciprocal()) is not None:
            parts = [[n for n, v in zip(members, column, strict=True) if v == value] for value in sorted(set(column))]
            return [family for part in parts for family in self._families(part)]
        slots = [sympy.sign(c[0]) * found.expressions[_positive(c)] for c in columns]
        kernel, _ = put_together(pattern, slots, found.sizes)
        return [TritonFamily(kernel, tuple(members), pd.DataFrame(found.sizes, index=range(len(members))))]

    def _pattern(self, point: Point) -> TritonKernel:
        """A compiled configuration with the same skeleton."""
        same = (p.compiled for p in self.points if isinstance(p, Point) and p.numbers.skeleton == point.numbers.skeleton)
        return next(k for k in same if k is not None)

    def _derived(self, point: Point, values: Values) -> TritonKernel:
        pattern = self._pattern(point)
        kernel, replicas = put_together(pattern, [sympy.Integer(v) for v in point.numbers.values])
        chosen = dict(zip(self.parameters, values, strict=True))
        statics = tuple((n, chosen.get(n, v)) for n, v in pattern.kernel.statics)
        kernel = replace(kernel, statics=statics, registers=sympy.Integer(point.registers))
        return replace(
            pattern, kernel=kernel, registers=point.registers, spilled_bytes=point.spilled_bytes,
            shared_bytes=int(sympy.sympify(kernel.shared_bytes)), replicas=replicas,
        )  # fmt: skip


def from_triton_family(
    fn: Any,
    signature: Mapping[str, str],
    space: Mapping[str, Sequence[Any]] | Iterable[Mapping[str, Any]],
    grid: Grid,
    *,
    constexprs: Mapping[str, Any] | None = None,
    target: str | Device = "sm_90",
    cache: Path | str | bool = True,
    workers: int | None = 1,
) -> TritonSpace:
    """Find out what many configurations do, and compile few of them.

    Args:
        fn: a function under `@triton.jit`.
        signature: types by argument name, as of `from_triton`.
        space: the values of each parameter, `{"BM": [64, 128], "BN": [64, 128, 256], "num_warps": [4, 8]}`, or a list of
            configurations, each of which gives the same parameters. Arguments of the kernel are its constants, the rest are
            options of the compiler.
        grid: extents, or a function from all arguments by name to them, as in a launch.
        constexprs: constants that are the same in all of them.
        target: `"sm_90"`, or a device or its name.
        cache: folder of analysed kernels; True for the user's, False for none.
        workers: processes that compile; None for one on each core.

    Returns:
        The space: `.score(device, …)` prices it, `.kernel(…)` gives one configuration, `.compiled` counts compilations.

    Raises:
        DescriptionError: there is no configuration, or they do not give the same parameters.

    Example:
        With `matmul` a function under `@triton.jit`::

            types = {"a": "*fp16", "b": "*fp16", "c": "*fp16", "M": "i32:16", "N": "i32:16", "K": "i32:16"}
            values = {"BM": [64, 128, 256], "BN": [64, 128, 256], "BK": [32, 64], "num_warps": [4, 8], "num_stages": [2, 3, 4, 5]}
            grid = lambda m: (-(-m["M"] // m["BM"]), -(-m["N"] // m["BN"]))
            space = from_triton_family(matmul, types, values, grid, target="H100")
            space.score("H100", M=4096, N=4096, K=4096).nsmallest(10, "seconds")
    """
    fn = jitted(fn)
    names, wanted = _listed(fn.__name__, space)

    def compile_all(configurations: Sequence[Values]) -> list[TritonKernel | CostModelError]:
        given = [{**(constexprs or {}), **dict(zip(names, c, strict=True))} for c in configurations]
        return from_triton_configurations(
            fn, signature, given, grid, target=target, cache=cache, workers=workers, resources="estimated"
        )

    search = Search(names, wanted, compile_all)
    search.run()
    points = tuple(search.refused.get(c) or search.known[c] for c in wanted)
    return TritonSpace(fn.__name__, names, points, wanted, len(search.compiled), search.mistaken)


def _positive(column: Sequence[int]) -> tuple[int, ...]:
    """Without the sign, which all of them have."""
    return tuple(abs(v) for v in column)


def _listed(
    name: str, space: Mapping[str, Sequence[Any]] | Iterable[Mapping[str, Any]]
) -> tuple[tuple[str, ...], tuple[Values, ...]]:
    """Parameters and configurations."""
    if isinstance(space, Mapping):
        names, wanted = tuple(space), tuple(itertools.product(*space.values()))
    else:
        rows = list(space)
        names = tuple(rows[0]) if rows else ()
        for n, row in enumerate(rows):
            if row.keys() != set(names):
                raise DescriptionError(
                    f"Triton kernel {name}: configuration {n} gives {', '.join(row)}; expected {', '.join(names)}, as the first"
                )
        wanted = tuple(tuple(row[k] for k in names) for row in rows)
    if not wanted or not names:
        raise DescriptionError(f"Triton kernel {name}: no configuration; expected values of each parameter, or a list of them")
    for bad in (n for n in names if not is_identifier(n)):
        raise DescriptionError(f"Triton kernel {name}: parameter {bad!r} is no name of an argument or option")
    return names, wanted
