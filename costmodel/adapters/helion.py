"""Helion: its search starts from the configurations that are best by prediction, and never compiles what cannot launch.

Hooks: `@helion.kernel(autotuner_fn=…)`, a function `f(bound_kernel, args, **kw) -> BaseAutotuner`; `autotune_config_filter`, a
function of a `Config` that returns it or None; `settings.autotune_seed_configs`, which the searches read when they are made.
What is priced is the bound kernel itself, as `costmodel.frontends.helion` reads it, or a description where that refuses it.
Helion's own generator proposes the configurations, which are priced in one table. Source: helion 1.5.1, `runtime/settings.py`
(`default_autotuner_fn`), `autotuner/base_search.py` (`_apply_config_filter`, `_autotune_seed_configs`),
`autotuner/config_generation.py` (`random_config`), `autotuner/finite_search.py`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

from costmodel.adapters.borrowed import borrowed
from costmodel.adapters.ranking import Config, Kernels, NotModelledWarning, Pricer, Sizes, checked_top
from costmodel.device import Device, find_device
from costmodel.errors import ProfileError, SizeError
from costmodel.frontends.helion import HelionSpace

__all__ = ["autotuning"]

_HOST = "Helion's autotuner"
_READ = "read by costmodel"
"""Beside the parameters of a configuration: a function that reads the kernel as the configuration has it."""


def autotuning(
    device: Device | str | None = None,
    kernel: Kernels | None = None,
    sizes: Sizes | None = None,
    *,
    seeds: int = 10,
    candidates: int = 1000,
    measure_only: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Arguments of `@helion.kernel`.

    Args:
        device: a device or its name; None for the GPU that the kernel's tensors are on.
        kernel: None for the decorated kernel itself; a description (as for `ranking.Pricer`) of one that `from_helion` refuses.
        sizes: of a description, see `ranking.Sizes`. A configuration is Helion's (`block_sizes`, `num_warps`, …) with the
            arguments of the call by name, tensors among them: best a function such as
            `lambda c: {"M": c["x"].shape[0], "BM": c["block_sizes"][0]}`.
        seeds: how many of the candidates, the best by prediction, Helion's search starts from; a group that the model cannot
            tell apart may make them more.
        candidates: how many random configurations are priced, beside Helion's default.
        measure_only: measure the seeds, two at least, and nothing else: no search.
        options: of `Scorer`.

    Returns:
        `autotuner_fn` and `autotune_config_filter`.

    Raises:
        SizeError: `sizes` without a description, or `seeds` is no count.
        ProfileError: no such device.

    Example:
        Predicted for an H100; without the name, for the GPU that the tensors are on::

            from costmodel.adapters.helion import autotuning
            @helion.kernel(**autotuning("H100"))
            def matmul(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor: ...
    """
    if kernel is None:
        if sizes is not None:
            raise SizeError("sizes without a description: expected one before them; the kernel itself needs none")
        kernel, sizes = (lambda config: config[_READ]().kernel), (lambda config: config[_READ]().sizes)
    made = partial(Pricer, kernel, sizes=sizes, host=_HOST, **options)
    search = _Search(made, device, int(checked_top(int(seeds))), candidates, measure_only)

    def autotuner_fn(bound_kernel: Any, args: Sequence[Any], **kwargs: Any) -> Any:
        return search.autotuner(bound_kernel, args, **kwargs)

    def config_filter(config: Any) -> Any:
        return search.launching(config)

    return {"autotuner_fn": autotuner_fn, "autotune_config_filter": config_filter}  # Helion copies methods with all they hold


class _Search:
    """What the hooks do, and the kernel that is tuned."""

    def __init__(
        self, made: Callable[[Device | str], Pricer], device: Device | str | None, seeds: int, candidates: int, measure_only: bool
    ) -> None:
        given = None if device is None else made(device)
        self.pricer = cache(lambda live: given or _for_live(made, live))
        self.seeds, self.candidates, self.measure_only = max(seeds, 2 if measure_only else 1), candidates, measure_only
        self.tuned: _Tuned | None = None
        self.seeded: dict[int, tuple[Any, list[Any]]] = {}

    def autotuner(self, bound_kernel: Any, args: Sequence[Any], **kwargs: Any) -> Any:
        """Helion's own search from the best candidates, or a search among them only; Helion calls this."""
        from helion.autotuner.finite_search import FiniteSearch
        from helion.runtime.settings import default_autotuner_fn

        pricer = self.pricer(bound_kernel.env.device)
        self.tuned = _Tuned(pricer, bound_kernel, args) if pricer else None
        best = self.tuned.best(_proposed(bound_kernel, self.candidates), self.seeds) if self.tuned else []
        if self.measure_only and len(best) > 1:
            return FiniteSearch(bound_kernel, args, best)
        settings = bound_kernel.settings
        settings.autotune_seed_configs = [*self._own_seeds(settings), *best]
        return default_autotuner_fn(bound_kernel, args, **kwargs)

    def _own_seeds(self, settings: Any) -> list[Any]:
        """A user's seeds, whether or not something was tuned with these settings before."""
        given = settings.autotune_seed_configs or ()
        own = list(given) if isinstance(given, list | tuple) else [given]
        return self.seeded.setdefault(id(settings), (settings, own))[1]

    def launching(self, config: Any) -> Any:
        """The configuration, unless it cannot launch; Helion calls this."""
        return config if self.tuned is None or self.tuned.launches(config) else None


class _Tuned:
    """Prices a bound kernel's configurations."""

    def __init__(self, pricer: Pricer, bound_kernel: Any, args: Sequence[Any]) -> None:
        self.pricer, self.space = pricer, HelionSpace(bound_kernel, pricer.device)
        self.given = borrowed(_arguments(bound_kernel, args))
        self.known: dict[Any, bool] = {}

    def best(self, proposed: Sequence[Any], seeds: int) -> list[Any]:
        """The best of some configurations by prediction; none if they are not modelled."""
        prices = self.pricer.price(self._configs(proposed))
        self.known.update(zip(proposed, prices.launches.tolist(), strict=True))
        return [proposed[row] for row in prices.best(seeds)]

    def launches(self, config: Any) -> bool:
        """Whether nothing is known that keeps a configuration from being launched."""
        if config not in self.known:
            self.known[config] = bool(self.pricer.price(self._configs([config]), entire=False).launches[0])
        return self.known[config]

    def _configs(self, configs: Sequence[Any]) -> list[Config]:
        given = self.given()
        return [{**given, **config.config, _READ: cache(partial(self.space.kernel, config))} for config in configs]


def _for_live(made: Callable[[Device | str], Pricer], live: Any) -> Pricer | None:
    """What prices for a GPU of this machine; None, with a warning, where it has no profile."""
    import torch

    name = torch.cuda.get_device_name(live) if live.type == "cuda" else f"tensors on the {live.type}"
    try:
        return made(find_device(name))
    except ProfileError as error:
        told = f"{error}; searched as without a model; name a device: autotuning('H100') (said once)"
        warnings.warn(f"{_HOST}: {told}", NotModelledWarning, stacklevel=4)
        return None


def _proposed(bound_kernel: Any, count: int) -> list[Any]:
    """Helion's default configuration and random ones of its generator, each once."""
    settings, spec = bound_kernel.settings, bound_kernel.config_spec
    generation = spec.create_config_generation(
        overrides=settings.autotune_config_overrides or None,
        advanced_controls_files=settings.autotune_search_acf or None,
        process_group_name=bound_kernel.env.process_group_name,
    )
    return list(dict.fromkeys((spec.default_config(), *(generation.random_config() for _ in range(count)))))


def _arguments(bound_kernel: Any, args: Sequence[Any]) -> Config:
    """The kernel's arguments by name; none where it is called in a way that has no names (several shapes at once)."""
    try:
        return dict(bound_kernel.kernel.signature.bind(*args).arguments)
    except TypeError:
        return {}
