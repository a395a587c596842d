"""Helion: its search starts from the configurations that are best by prediction, and never compiles what cannot launch.

Hooks: `@helion.kernel(autotuner_fn=…)`, a function `f(bound_kernel, args, **kw) -> BaseAutotuner`; `autotune_config_filter`, a
function of a `Config` that returns it or None; `settings.autotune_seed_configs`, which the searches read when they are made.
Helion's own generator proposes the configurations that are priced, in one table. Source: helion 1.5.1, `runtime/settings.py`
(`default_autotuner_fn`), `autotuner/base_search.py` (`_apply_config_filter`, `_autotune_seed_configs`),
`autotuner/config_generation.py` (`random_config`), `autotuner/finite_search.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from costmodel.adapters.borrowed import borrowed
from costmodel.adapters.ranking import Config, Kernels, Pricer, Sizes, checked_top
from costmodel.device import Device

__all__ = ["autotuning"]


def autotuning(
    kernel: Kernels,
    device: Device | str,
    sizes: Sizes | None = None,
    *,
    seeds: int = 10,
    candidates: int = 1000,
    measure_only: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Arguments of `@helion.kernel`.

    A configuration is Helion's (`block_sizes`, `num_warps`, `num_stages`, …) with the kernel's arguments by name, tensors among
    them: `sizes` is best a function such as `lambda c: {"M": c["x"].shape[0], "BM": c["block_sizes"][0]}`.

    Args:
        kernel: as for `ranking.Pricer`.
        device: a device or its name.
        sizes: see `ranking.Sizes`.
        seeds: how many of the candidates, the best by prediction, Helion's search starts from; a group that the model cannot
            tell apart may make them more.
        candidates: how many random configurations are priced, beside Helion's default.
        measure_only: measure the seeds and nothing else: no search.
        options: of `Scorer`.

    Returns:
        `autotuner_fn` and `autotune_config_filter`.

    Example:
        With `gemm` a description::

            from costmodel.adapters.helion import autotuning
            @helion.kernel(**autotuning(gemm, "H100", lambda c: {"M": c["x"].shape[0], "BM": c["block_sizes"][0]}))
            def matmul(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor: ...
    """
    pricer = Pricer(kernel, device, sizes, host="Helion's autotuner", **options)
    search = _Search(pricer, int(checked_top(int(seeds))), candidates, measure_only)
    return {"autotuner_fn": search.autotuner, "autotune_config_filter": search.launching}


class _Search:
    """The two functions, and what the last kernel was called with."""

    def __init__(self, pricer: Pricer, seeds: int, candidates: int, measure_only: bool) -> None:
        self.pricer, self.seeds, self.candidates, self.measure_only = pricer, seeds, candidates, measure_only
        self.given = borrowed({})
        self.own_seeds: list[Any] | None = None
        self.launches: dict[Any, bool] = {}

    def autotuner(self, bound_kernel: Any, args: Sequence[Any], **kwargs: Any) -> Any:
        """Helion's own search from the best candidates, or a search among them only; Helion calls this."""
        from helion.autotuner.finite_search import FiniteSearch
        from helion.runtime.settings import default_autotuner_fn

        self.given = borrowed(_arguments(bound_kernel, args))
        self.launches = {}
        settings = bound_kernel.settings
        if self.own_seeds is None:
            own = settings.autotune_seed_configs or ()
            self.own_seeds = list(own) if isinstance(own, list | tuple) else [own]
        best = self._best(bound_kernel)
        if self.measure_only and len(best) > 1:
            return FiniteSearch(bound_kernel, args, best)
        settings.autotune_seed_configs = [*self.own_seeds, *best]
        return default_autotuner_fn(bound_kernel, args, **kwargs)

    def launching(self, config: Any) -> Any:
        """The configuration, unless it cannot launch; Helion calls this."""
        return config if self._launches([config])[0] else None

    def _best(self, bound_kernel: Any) -> list[Any]:
        """The best of random configurations by prediction; none if they are not modelled."""
        settings = bound_kernel.settings
        generation = bound_kernel.config_spec.create_config_generation(
            overrides=settings.autotune_config_overrides or None,
            advanced_controls_files=settings.autotune_search_acf or None,
            process_group_name=bound_kernel.env.process_group_name,
        )
        found = dict.fromkeys(
            (bound_kernel.config_spec.default_config(), *(generation.random_config() for _ in range(self.candidates)))
        )
        proposed = list(found)
        prices = self.pricer.price(self._configs(proposed))
        self.launches.update(zip(proposed, prices.launches.tolist(), strict=True))
        return [proposed[row] for row in prices.best(self.seeds)]

    def _launches(self, configs: Sequence[Any]) -> list[bool]:
        new = [config for config in configs if config not in self.launches]
        if new:
            self.launches.update(zip(new, self.pricer.price(self._configs(new), entire=False).launches.tolist(), strict=True))
        return [self.launches[config] for config in configs]

    def _configs(self, configs: Sequence[Any]) -> list[Config]:
        given = self.given()
        return [{**given, **config.config} for config in configs]


def _arguments(bound_kernel: Any, args: Sequence[Any]) -> Config:
    """The kernel's arguments by name; none where it is called in a way that has no names (several shapes at once)."""
    try:
        return dict(bound_kernel.kernel.signature.bind(*args).arguments)
    except TypeError:
        return {}
