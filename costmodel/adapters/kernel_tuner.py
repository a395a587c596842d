"""Kernel Tuner: a strategy that measures in predicted order, and a restriction to what can launch.

Hooks: `tune_kernel(strategy=…)` takes any object with `tune(searchspace, runner, tuning_options)`; `restrictions=` takes
constraints of python-constraint. Source: kernel_tuner 1.5.0, `interface.py`, `strategies/common.py` (`CostFunc`),
`searchspace.py`, and `util.infer_restrictions_from_cache` for the form of a restriction by membership.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from costmodel.adapters.ranking import Kernels, Pricer, Prices, Sizes
from costmodel.adapters.stopping import Progress, StopRule
from costmodel.device import Device

__all__ = ["PredictedOrder"]

_SEED = 0
"""Of the order of configurations that are not modelled."""
_STOP = StopRule()
_ANY_THREADS = 1 << 30
"""Kernel Tuner bounds the product of the block sizes; here the price says which of them cannot launch."""


class PredictedOrder:
    """A strategy for Kernel Tuner: the fastest by prediction are measured first.

    `max_fevals` and `time_limit` of `strategy_options` bound it; a stop rule ends it earlier. Configurations that cannot launch
    are left out. Those that are not modelled come last, in random order, as Kernel Tuner's `random_sample` would take them.

    Example:
        >>> from costmodel.adapters.kernel_tuner import PredictedOrder
        >>> from costmodel.cost import find_description
        >>> strategy = PredictedOrder(find_description("vector_add"), "A100", {"N": 1 << 26, "B": "block_size_x"})

        `tune_kernel(…, strategy=strategy, restrictions=strategy.restrictions(tune_params), strategy_options={"max_fevals": 50})`
    """

    def __init__(
        self,
        kernel: Kernels,
        device: Device | str,
        sizes: Sizes | None = None,
        *,
        stop: StopRule | None = _STOP,
        batch: int = 1,
        **options: Any,
    ) -> None:
        """Take a kernel, a device, and how tunable parameters become arguments.

        Args:
            kernel: as for `ranking.Pricer`.
            device: a device or its name.
            sizes: see `ranking.Sizes`.
            stop: when to stop before the budget does; None for never. It holds where the objective is the time.
            batch: configurations handed to the runner at once; more than one serves Kernel Tuner's parallel runner.
            options: of `Scorer`.
        """
        self.pricer = Pricer(kernel, device, sizes, host="Kernel Tuner", **options)
        self.stop, self.batch = stop, batch

    def tune(self, searchspace: Any, runner: Any, tuning_options: Any) -> list[dict[str, Any]]:
        """Measure until the budget or the stop rule ends it; Kernel Tuner calls this.

        Raises:
            ValueError: `strategy_options` has an option that no strategy knows.
        """
        from kernel_tuner.strategies.common import CostFunc, get_options
        from kernel_tuner.util import StopCriterionReached

        get_options(tuning_options.strategy_options, {}, unsupported=["x0"])
        measure = CostFunc(searchspace, tuning_options, runner, snap=False)
        prices = self.pricer.price(_configs(searchspace))
        stop = self.stop if tuning_options.objective == ["time"] else None
        progress = Progress()
        try:
            for rows in self._batches(prices):
                if stop and stop.done(progress, prices.seconds[rows[0]]):
                    continue
                before = len(measure.results)
                measure.eval_all([searchspace.list[row] for row in rows], check_restrictions=False)
                for row, result in zip(rows, measure.results[before:], strict=True):
                    if prices.modelled[row] and isinstance(result.get("time"), Real):
                        progress.add(prices.seconds[row], float(result["time"]))
        except StopCriterionReached as reached:
            if tuning_options.verbose:
                print(reached)
        results: list[dict[str, Any]] = measure.results
        return results

    def restrictions(
        self, tune_params: Mapping[str, Sequence[Any]], restrictions: Sequence[Any] | Callable[..., bool] = ()
    ) -> list[Any]:
        """The restrictions of a space, and one more that leaves out what cannot launch on the device.

        The space is built once with the restrictions given, and priced as one table.

        Args:
            tune_params: as for `tune_kernel`.
            restrictions: likewise: a list, or one function.
        """
        from constraint import FunctionConstraint
        from kernel_tuner.searchspace import Searchspace

        own = [restrictions] if callable(restrictions) else list(restrictions)
        space = Searchspace(dict(tune_params), own, _ANY_THREADS)
        launches = self.pricer.price(_configs(space)).launches
        refused = {config for config, fine in zip(space.list, launches, strict=True) if not fine}
        return [*own, FunctionConstraint(_Launching(frozenset(refused)))]

    def _batches(self, prices: Prices) -> Iterator[list[int]]:
        """Rows in the order in which they are to be measured; no batch has both kinds."""
        unknown = np.random.default_rng(_SEED).permutation(prices.unknown)
        for rows in (prices.order.tolist(), unknown.tolist()):
            for start in range(0, len(rows), self.batch):
                yield rows[start : start + self.batch]


@dataclass(frozen=True)
class _Launching:
    """Whether a configuration can launch."""

    refused: frozenset[tuple[Any, ...]]

    def __call__(self, *values: Any) -> bool:
        return values not in self.refused


def _configs(searchspace: Any) -> list[dict[str, Any]]:
    names = searchspace.param_names
    return [dict(zip(names, values, strict=True)) for values in searchspace.list]
