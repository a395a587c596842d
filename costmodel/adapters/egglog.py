"""egglog: extract the program whose kernels are fastest.

Hook: `EGraph.extract(expr, cost_model=f)` with `f(egraph, expr, children_costs) -> cost`. egglog asks for one e-node at a time
and compares costs with `<` and `==`. Times are whole femtoseconds here, so that sums do not depend on their order and the cost
of a shared sub-term can be taken off exactly (`egglog.greedy_dag_cost_model`). The e-nodes of a function are priced in one table
when the cost model is made: egglog lends no e-graph while it extracts, and an exception in a cost model ends the process.
Source: egglog-python 13.2.0, `egraph.py` (`CostModel`, `default_cost_model`, `GreedyDagCostModel`, `EGraph.function_values`),
`deconstruct.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from costmodel.adapters.ranking import Config, Kernels, Pricer
from costmodel.device import Device

__all__ = ["KernelCost", "ProgramCost"]

_PER_SECOND = 10**15

SizesOf = Callable[..., Mapping[str, Any]]
"""From the e-graph and the arguments of an e-node, literals as Python values, to arguments of a description."""


@dataclass(frozen=True, slots=True, order=True)
class ProgramCost:
    """Cost of a term: the first field that differs decides."""

    cannot_launch: int
    """Kernels that the device cannot run."""
    not_modelled: int
    """Kernels without a prediction."""
    femtoseconds: int
    """Of all others, one after the other."""
    default: int
    """egglog's own cost, which decides among equals."""

    @property
    def seconds(self) -> float:
        """Predicted time of the kernels that have one."""
        return self.femtoseconds / _PER_SECOND

    def __add__(self, other: ProgramCost) -> ProgramCost:
        """Both terms."""
        return self._joined(other, 1)

    def __sub__(self, other: ProgramCost) -> ProgramCost:
        """Without a sub-term."""
        return self._joined(other, -1)

    def _joined(self, other: ProgramCost, sign: int) -> ProgramCost:
        return ProgramCost(
            self.cannot_launch + sign * other.cannot_launch,
            self.not_modelled + sign * other.not_modelled,
            self.femtoseconds + sign * other.femtoseconds,
            self.default + sign * other.default,
        )


class KernelCost:
    """A cost model for extraction.

    Functions that stand for no kernel cost no time: those that only say what is to be computed belong in `abstract`, or are
    subsumed. These, and kernels that are not modelled, are avoided where the e-graph knows another way; extraction is as egglog's
    own where it knows none.

    Example:
        >>> from costmodel.adapters.egglog import KernelCost

        With `tiled(a: T, b: T, size: i64Like, tile: i64Like) -> T` a function of the e-graph and `gemm` a description::

            kernels = {tiled: (gemm, lambda egraph, a, b, size, tile: {"M": size, "N": size, "K": size, "BM": tile, …})}
            egraph.extract(program, cost_model=KernelCost(egraph, "H100", kernels, abstract=[T.__matmul__]))
    """

    def __init__(
        self,
        egraph: Any,
        device: Device | str,
        kernels: Mapping[Any, tuple[Kernels, SizesOf]],
        *,
        abstract: Iterable[Any] = (),
        **options: Any,
    ) -> None:
        """Take the functions that stand for kernels, and price their e-nodes.

        Args:
            egraph: as it is now; e-nodes that join it later are priced one by one.
            device: a device or its name.
            kernels: for a function of the e-graph, its kernel, and what gives the kernel's arguments.
            abstract: functions that no kernel computes as they stand.
            options: of `Scorer`.
        """
        self._kernels = {
            function: _Function(Pricer(kernel, device, _arguments, host="egglog", **options), sizes)
            for function, (kernel, sizes) in kernels.items()
        }
        self._abstract = set(abstract)
        for function, priced in self._kernels.items():
            priced.learn(egraph, egraph.function_values(function))

    def __call__(self, egraph: Any, expr: Any, children_costs: Sequence[ProgramCost]) -> ProgramCost:
        """The cost of an e-node and its children; egglog calls this."""
        from egglog import default_cost_model
        from egglog.deconstruct import get_callable_fn

        default = default_cost_model(egraph, expr, [])
        called = get_callable_fn(expr)
        function = self._kernels.get(called)
        seconds = function.seconds(egraph, expr) if function else np.nan if called in self._abstract else 0.0
        timed = round(seconds * _PER_SECOND) if np.isfinite(seconds) else 0
        own = ProgramCost(int(np.isinf(seconds)), int(np.isnan(seconds)), timed, default)
        return sum(children_costs, start=own)


class _Function:
    """A function of the e-graph that stands for a kernel."""

    def __init__(self, pricer: Pricer, sizes: SizesOf) -> None:
        self.pricer, self.sizes = pricer, sizes
        self.known: dict[Any, float] = {}

    def learn(self, egraph: Any, exprs: Iterable[Any]) -> None:
        """Price e-nodes in one table."""
        found = [self._sizes(egraph, expr) for expr in exprs]
        new = {_key(sizes): {"sizes": sizes} for sizes in found if _key(sizes) not in self.known}
        prices = self.pricer.price(list(new.values()), entire=False)
        self.known.update(zip(new, prices.seconds.tolist(), strict=True))

    def seconds(self, egraph: Any, expr: Any) -> float:
        """Of the e-node alone; NaN where it is not modelled: what is raised while egglog extracts would end the process."""
        try:
            key = _key(self._sizes(egraph, expr))
            if key not in self.known:
                self.learn(egraph, [expr])
            return self.known[key]
        except Exception:
            return np.nan

    def _sizes(self, egraph: Any, expr: Any) -> Config | Exception:
        """Arguments of the description, or why there are none."""
        from egglog.deconstruct import get_callable_args, get_literal_value

        args = [(get_literal_value(a), a) for a in get_callable_args(expr)]
        try:
            return dict(self.sizes(egraph, *(a if literal is None else literal for literal, a in args)))
        except Exception as error:
            return error


def _key(sizes: Config | Exception) -> Any:
    return str(sizes) if isinstance(sizes, Exception) else frozenset((name, repr(value)) for name, value in sizes.items())


def _arguments(found: Config) -> Config:
    """The sizes of an e-node, or what kept them from being found."""
    if isinstance(found["sizes"], Exception):
        raise found["sizes"]
    sizes: Config = found["sizes"]
    return sizes
