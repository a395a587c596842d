"""Triton's autotuner: what cannot launch is never compiled, and only the best by prediction are measured.

Hook: `@triton.autotune(…, prune_configs_by={"early_config_prune": …, "perf_model": …, "top_k": …})`. Triton cuts through
configurations that a model cannot tell apart (up to 3.7 at a fraction of all, not of those that survived), and asks `perf_model`
for one configuration at a time; so both the pruning and the cut are made in `early_config_prune`, for the whole list at once,
and `top_k` asks Triton for no further cut. Source: triton 3.6.0, 3.7.1 and 3.9.0, `runtime/autotuner.py`
(`Autotuner.prune_configs`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from costmodel.adapters.borrowed import borrowed
from costmodel.adapters.ranking import Kernels, Pricer, Sizes, checked_top
from costmodel.device import Device

__all__ = ["prune_configs_by"]


def prune_configs_by(
    kernel: Kernels, device: Device | str, sizes: Sizes | None = None, *, top_k: float = 1.0, **options: Any
) -> dict[str, Any]:
    """What `triton.autotune` takes under this name.

    A configuration is what the kernel is called with: its arguments by name, and those of the `triton.Config` (`num_warps`,
    `num_stages` and `num_ctas` among them). Configurations that are not modelled are measured as ever.

    Args:
        kernel: as for `ranking.Pricer`.
        device: a device or its name.
        sizes: see `ranking.Sizes`.
        top_k: of those that can launch: how many to measure, an int; or which share, a float. A group that the model cannot
            tell apart is measured whole.
        options: of `Scorer`.

    Returns:
        `early_config_prune`, which drops and cuts; `perf_model`, the seconds of one configuration, for those who set
        another `top_k` beside it; `top_k`, which keeps what is left.

    Example:
        >>> from costmodel.adapters.triton import prune_configs_by
        >>> from costmodel.cost import find_description
        >>> prune = prune_configs_by(find_description("vector_add"), "H100", {"N": "n_elements", "B": "BLOCK"}, top_k=0.25)
        >>> sorted(prune)
        ['early_config_prune', 'perf_model', 'top_k']
        >>> 1e-4 < prune["perf_model"](n_elements=1 << 26, BLOCK=256) < 1e-3  # seconds
        True
    """
    pruning = _Pruning(Pricer(kernel, device, sizes, host="Triton's autotuner", **options), checked_top(top_k))
    return {"early_config_prune": pruning.prune, "perf_model": pruning.seconds, "top_k": 1.0}


class _Pruning:
    """The two functions, and the prices of the last call."""

    def __init__(self, pricer: Pricer, top_k: float) -> None:
        self.pricer, self.top_k = pricer, top_k
        self.given = borrowed({})
        self.known: dict[frozenset[tuple[str, Any]], float] = {}

    def prune(self, configs: Sequence[Any], named_args: Mapping[str, Any], **kwargs: Any) -> list[Any]:
        """Those to be measured, fastest first; at least one."""
        given = {**named_args, **kwargs}
        own = [config.all_kwargs() for config in configs]
        prices = self.pricer.price([{**given, **each} for each in own])
        self.given = borrowed(given)
        seconds = np.nan_to_num(prices.seconds, nan=0.0, posinf=np.inf)
        self.known = {frozenset(each.items()): float(s) for each, s in zip(own, seconds, strict=True)}
        return [configs[row] for row in (*prices.best(self.top_k), *prices.unknown)]

    def seconds(self, **config: Any) -> float:
        """Predicted time of one configuration: infinite if it cannot launch; 0 if it is not modelled, so that it is kept."""
        given = self.given()
        own = {n: v for n, v in config.items() if n not in given}
        if len(own) + len(given) == len(config) and all(config[n] is v for n, v in given.items()):
            known = self.known.get(frozenset(own.items()))
            if known is not None:
                return known
        found = self.pricer.price([config], entire=False).seconds[0]
        return 0.0 if np.isnan(found) else float(found)
