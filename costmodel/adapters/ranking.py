"""Prices for the configurations of somebody else's search: seconds, or why there are none, for a whole list in one call.

A host (an autotuner, a compiler) has configurations: values of its own parameters, by name. `Pricer` turns a list of them into
one table of a description's arguments and prices it. Three things can come of a configuration: a time; the word that it cannot
launch on the device (threads, shared memory, registers, grid); or nothing, because it is *not modelled*: the description
requires otherwise, an argument cannot be had, the kernel cannot be counted. Hosts drop what cannot launch, order what has a
time, and treat what is not modelled as they would without us; one warning says so. Where no configuration at all could launch,
the model is doubted rather than the host: then none is modelled.
"""

from __future__ import annotations

import math
import numbers
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from costmodel.adapters.size_columns import Config, Sizes, arguments_of, said
from costmodel.cost import Scorer
from costmodel.device import Device, find_device
from costmodel.errors import CostModelError, SizeError
from costmodel.ir import Description, Kernel, described

__all__ = ["Config", "Kernels", "NotModelledWarning", "Pricer", "Prices", "Sizes", "checked_top"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Made = Kernel | tuple[Kernel, Mapping[str, Any]]
Kernels = Description | Kernel | Callable[[Config], Made]
"""A kernel, or what makes one for a configuration, such as a front end that compiles it.

What is made may come with options of `Scorer` that a compiler has told: `(kernel, {"registers": 168, "spilled": 4})`.
"""
_EQUAL = 1e-9
"""Relative difference below which two predictions are one: more than rounding, less than any charge."""
_MOST_FAILURES = 64
"""Faults of the model, rather than of configurations, while the rows to blame are looked for by halving."""


class NotModelledWarning(UserWarning):
    """Some configurations have no prediction; the host treats them as it would without a model."""


@dataclass(frozen=True, slots=True)
class Prices:
    """What the configurations of a list cost, in its order."""

    seconds: Floats
    """Infinite where a configuration cannot launch, NaN where it is not modelled."""
    reason: npt.NDArray[Any]
    """Why it cannot launch or is not modelled; an empty text where it has a time."""
    group: Ints
    """From 0, the fastest: configurations that the model cannot tell apart have one number; -1 where there is no time."""

    @property
    def launches(self) -> npt.NDArray[np.bool_]:
        """All but those of which the model says that they cannot launch."""
        result: npt.NDArray[np.bool_] = ~np.isinf(self.seconds)
        return result

    @property
    def modelled(self) -> npt.NDArray[np.bool_]:
        """Those with a time."""
        result: npt.NDArray[np.bool_] = np.isfinite(self.seconds)
        return result

    @property
    def unknown(self) -> Ints:
        """Positions of those that are not modelled, as they came."""
        return np.flatnonzero(np.isnan(self.seconds))

    @property
    def order(self) -> Ints:
        """Positions of those with a time, fastest first; within a group as they came."""
        timed = np.flatnonzero(self.modelled)
        result: Ints = timed[np.argsort(self.group[timed], kind="stable")]
        return result

    def best(self, top: float) -> Ints:
        """Positions of the fastest, in their order; a group is taken whole or not at all.

        Args:
            top: how many at least, an int; or which share of those with a time, a float up to 1.

        Raises:
            SizeError: it is neither.
        """
        order = self.order
        wanted = checked_top(top) if isinstance(top, numbers.Integral) else math.ceil(checked_top(top) * order.size)
        if wanted >= order.size:
            return order
        last = self.group[order[int(wanted) - 1]]
        result: Ints = order[self.group[order] <= last]
        return result


def checked_top(top: float) -> float:
    """How many to keep, if it is a count or a share.

    Raises:
        SizeError: it is neither an int of at least 1 nor a float above 0 and up to 1.
    """
    count = isinstance(top, numbers.Integral) and not isinstance(top, bool)
    fine = top >= 1 if count else isinstance(top, numbers.Real) and not isinstance(top, bool) and 0 < top <= 1
    if not fine:
        raise SizeError(f"top: expected a count (an int, at least 1) or a share (a float, above 0 and up to 1.0), got {top!r}")
    return top


class Pricer:
    """Prices configurations of a host, many at once.

    Example:
        >>> from costmodel.adapters.ranking import Pricer
        >>> from costmodel.cost import find_description
        >>> pricer = Pricer(find_description("vector_add"), "H100", {"N": 1 << 26, "B": "BLOCK"})
        >>> prices = pricer.price([{"BLOCK": 64}, {"BLOCK": 256}, {"BLOCK": 4096}])
        >>> prices.order.tolist(), prices.reason[2]
        ([0, 1], '4096 threads per block, at most 1024')
    """

    def __init__(
        self,
        kernel: Kernels,
        device: Device | str,
        sizes: Sizes | None = None,
        *,
        host: str = "the host",
        remedy: str = "correct the description or `sizes`, or leave such configurations out",
        **options: Any,
    ) -> None:
        """Take a kernel, a device, and how configurations become arguments.

        Args:
            kernel: a description, a traced kernel, or a function of a configuration that returns one.
            device: a device or its name.
            sizes: see `Sizes`; None if the host's parameters have the names of the arguments.
            host: its name, for the warning.
            remedy: what the user can do about what is not modelled, for the warning.
            options: of `Scorer`: `registers`, `spilled` (numbers, or names that `sizes` gives), `warm`, `without`.

        Raises:
            DescriptionError: the kernel is no description.
            ProfileError: no such device.
            SizeError: `sizes` names what is no argument, or an option is out of range.
        """
        self.device = device if isinstance(device, Device) else find_device(device)
        self.host, self.remedy = host, remedy
        self._options = options
        self._sizes: Sizes = {} if sizes is None else sizes
        self._warned = False
        self._made = None if isinstance(kernel, Description | Kernel) or not callable(kernel) else kernel
        self._scorer = None if self._made else Scorer(described(kernel), self.device, **options)
        if self._scorer and isinstance(self._sizes, Mapping):
            self._check(self._scorer, self._sizes)

    def price(self, configs: Sequence[Config], *, entire: bool = True) -> Prices:
        """Price a list of configurations in one table for each kernel among them; the first that is not modelled warns.

        Args:
            configs: in any order.
            entire: these are all that the host has: where none of them could launch, the model is not believed.
        """
        found = _Found(np.full(len(configs), np.nan), np.full(len(configs), "", dtype=object))
        for scorer, rows in self._scorers(configs, found):
            table, kept, lacking = arguments_of(scorer.kernel, self._sizes, [configs[row] for row in rows])
            for at, why in lacking.items():
                found.reason[rows[at]] = why
            self._fill(scorer, table, rows[kept], found)
        if entire:
            _doubt(found)
        prices = Prices(found.seconds, found.reason, _groups(found.seconds))
        if prices.unknown.size and not self._warned:
            self._warned = True
            warnings.warn(self._told(prices), NotModelledWarning, stacklevel=3)
        return prices

    def _check(self, scorer: Scorer, sizes: Mapping[str, Any]) -> None:
        named = {v for v in self._options.values() if isinstance(v, str)}
        for name in sizes:
            if name not in scorer.arguments and name not in named:
                raise SizeError(
                    f"{scorer.kernel.name}: sizes name {name!r}, which is no argument; arguments: {', '.join(scorer.arguments)}"
                )

    def _scorers(self, configs: Sequence[Config], found: _Found) -> Iterator[tuple[Scorer, Ints]]:
        """Each kernel and the configurations that are launches of it."""
        if self._scorer:
            yield self._scorer, np.arange(len(configs))
            return
        assert self._made is not None
        kernels: dict[Any, tuple[Scorer, list[int]]] = {}
        for row, config in enumerate(configs):
            try:
                made = self._made(config)
                kernel, told = made if isinstance(made, tuple) else (made, {})
                key = (id(kernel), *sorted(told.items()))
                if key not in kernels:
                    kernels[key] = (Scorer(described(kernel), self.device, **self._options, **told), [])
                kernels[key][1].append(row)
            except Exception as error:  # a host's search is never ended by its model
                found.reason[row] = said(error)
        for scorer, rows in kernels.values():
            yield scorer, np.array(rows)

    def _fill(self, scorer: Scorer, table: pd.DataFrame, rows: Ints, found: _Found) -> None:
        """Price the rows of a table; where the model itself fails, each half of it."""
        if not rows.size:
            return
        try:
            scores = scorer.score(table, errors="report")
        except CostModelError as error:
            found.reason[rows] = str(error)
            return
        except Exception as error:
            found.failures += 1
            if rows.size == 1 or found.failures > _MOST_FAILURES:
                found.reason[rows] = said(error)
                return
            for half in np.array_split(np.arange(rows.size), 2):
                self._fill(scorer, table.iloc[half], rows[half], found)
            return
        found.seconds[rows] = np.where(scores.outside, np.nan, scores.seconds)
        found.reason[rows] = scores.reason

    def _told(self, prices: Prices) -> str:
        reasons = list(dict.fromkeys(prices.reason[prices.unknown]))
        name = self._scorer.kernel.name if self._scorer else "the kernel"
        more = f" (and {len(reasons) - 1} other reasons)" if len(reasons) > 1 else ""
        return (
            f"{self.host}: {prices.unknown.size} of {prices.seconds.size} configurations of {name} on {self.device.name} are not "
            f"modelled and are treated as without a model: {reasons[0]}{more}; {self.remedy} "
            "(said once)"
        )


@dataclass(slots=True)
class _Found:
    """What is known so far of a list of configurations."""

    seconds: Floats
    reason: npt.NDArray[Any]
    failures: int = 0


def _doubt(found: _Found) -> None:
    """A model that says that nothing of all can launch is not believed."""
    if found.seconds.size and np.isinf(found.seconds).all():
        found.seconds[:] = np.nan
        found.reason[:] = [f"it could not launch, and no other could: {reason}" for reason in found.reason]


def _groups(seconds: Floats) -> Ints:
    """Numbers from 0 that rise with the seconds and are equal where these are."""
    group = np.full(seconds.size, -1, np.int64)
    timed = np.flatnonzero(np.isfinite(seconds))
    order = timed[np.argsort(seconds[timed], kind="stable")]
    ascending = seconds[order]
    group[order] = np.cumsum(np.append(0, ascending[1:] > ascending[:-1] * (1 + _EQUAL)))[: order.size]
    return group
