"""Triton's autotuner: what cannot launch is never compiled, and only the best by prediction are measured.

`@predicted("H100", top_k=0.2)` above `@triton.autotune` needs no description: the kernel that is tuned is read itself, at each
configuration and with the arguments that it is called with. `prune_configs_by` is for kernels that are described.

Hook: `@triton.autotune(…, prune_configs_by={"early_config_prune": …, "perf_model": …, "top_k": …})`. Triton cuts through
configurations that a model cannot tell apart (up to 3.7 at a fraction of all, not of those that survived), and asks `perf_model`
for one configuration at a time; so both the pruning and the cut are made in `early_config_prune`, for the whole list at once,
and `top_k` asks Triton for no further cut. Source: triton 3.6.0, 3.7.1 and 3.9.0, `runtime/autotuner.py`
(`Autotuner.prune_configs`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from costmodel.adapters.borrowed import borrowed
from costmodel.adapters.ranking import Config, Kernels, NotModelledWarning, Pricer, Sizes, checked_top
from costmodel.adapters.triton_launch import Launch, launch_of
from costmodel.device import Device, find_device
from costmodel.errors import CostModelError, DescriptionError, UnsupportedError
from costmodel.frontends.triton.compiling import compute_capability
from costmodel.ir import Kernel

__all__ = ["predicted", "prune_configs_by"]

_Tuned = TypeVar("_Tuned")
_HOST = "Triton's autotuner"
_REMEDY = "leave such configurations out"
"""Where the kernel itself is read, there is no description to correct."""


def predicted(device: Device | str | None = None, *, top_k: float = 1.0, **options: Any) -> Callable[[_Tuned], _Tuned]:
    """A decorator above `@triton.autotune`: only the best configurations by prediction are compiled and measured.

    Each configuration is lowered without machine code, with the types, constants, sizes and grid of the call, and priced. Those
    that cannot launch are dropped, the others are cut; an `early_config_prune` of the kernel's own goes first, and the share is
    one of what survived it. What is not understood is measured as ever, and one warning names the operation and the line.

    Args:
        device: the GPU, or its name; None for the one that torch is on when the kernel is first tuned.
        top_k: of those that can launch: how many to measure, an int; or which share, a float. A group that the model cannot
            tell apart is measured whole.
        options: of `Scorer`: `without`, `warm`.

    Raises:
        DescriptionError: what is decorated is no autotuner.
        ProfileError: no such device.
        SizeError: `top_k` is neither a count nor a share.

    Example:
        With `configs` and a kernel::

            from costmodel.adapters.triton import predicted
            @predicted("H100", top_k=0.2)
            @triton.autotune(configs, key=["M", "N", "K"])
            @triton.jit
            def matmul(a, b, c, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr): ...
    """
    found = find_device(device) if isinstance(device, str) else device
    top = checked_top(top_k)

    def decorate(fn: _Tuned) -> _Tuned:
        tuned: Any = fn
        while not hasattr(tuned, "early_config_prune") and hasattr(tuned, "fn"):
            tuned = tuned.fn
        if not hasattr(tuned, "early_config_prune"):
            name = getattr(fn, "__name__", type(fn).__name__)
            raise DescriptionError(f"{name}: expected @triton.autotune beneath @predicted, got {type(fn).__name__}")
        tuned.early_config_prune = _Predicting(tuned, found, top, options).prune
        return fn

    return decorate


class _Predicting:
    """The pruning of one autotuner."""

    def __init__(self, tuned: Any, device: Device | None, top_k: float, options: Mapping[str, Any]) -> None:
        self.tuned, self.device, self.top_k, self.options = tuned, device, top_k, options
        self.earlier = tuned.early_config_prune
        self.pricer: Pricer | None = None
        self.refused: dict[str, str] = {}
        self.warned = False

    def prune(self, configs: Sequence[Any], named_args: Mapping[str, Any], /, **kwargs: Any) -> Sequence[Any]:
        """Those to be measured, fastest first; Triton calls this."""
        kept = self.earlier(configs, named_args, **kwargs) if self.earlier else configs
        if len(kept) < 2 or not self._ready():
            return kept
        assert self.pricer is not None
        prices = self.pricer.price([{"config": config, "given": {**named_args, **kwargs}} for config in kept])
        return [kept[row] for row in (*prices.best(self.top_k), *prices.unknown)]

    def _ready(self) -> bool:
        """Whether there is a device to predict for; says once if not."""
        if self.pricer is not None:
            return True
        try:
            device = self.device or _live_device()
            self.capability = compute_capability(device)
            self.pricer = Pricer(self._kernel, device, self._sizes, host=_HOST, remedy=_REMEDY, **self.options)
        except Exception as error:  # a host's search is never ended by its model
            if not self.warned:
                what = (
                    f"{_HOST}: {self.tuned.base_fn.__name__} is not modelled and is tuned as without a model: {error} (said once)"
                )
                warnings.warn(what, NotModelledWarning, stacklevel=4)
            self.warned = True
        return self.pricer is not None

    def _kernel(self, asked: Config) -> tuple[Kernel, Mapping[str, Any]]:
        """The kernel that is launched; one that was not understood is not tried again for other sizes."""
        launch = self._launch(asked)
        what = repr((launch.signature, launch.constexprs, launch.grid, launch.options))
        if what in self.refused:
            raise UnsupportedError(self.refused[what])
        try:
            found = launch.kernel(self.capability)
        except CostModelError as error:
            self.refused[what] = str(error)
            raise
        return found.kernel, found.told

    def _sizes(self, asked: Config) -> Mapping[str, int]:
        return self._launch(asked).sizes

    def _launch(self, asked: Config) -> Launch:
        return launch_of(self.tuned, asked["config"], asked["given"], self.capability)


def _live_device() -> Device:
    """The GPU that torch is on."""
    import torch

    return find_device(torch.cuda.get_device_name())


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
    pruning = _Pruning(Pricer(kernel, device, sizes, host=_HOST, **options), checked_top(top_k))
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
