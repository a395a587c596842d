"""TileLang: its autotuner is given the configurations that can launch, best by prediction first.

Hook: `@tilelang.autotune(configs=…)` takes a list of dictionaries, or a function of the kernel's arguments that returns one.
Source: tilelang 0.1.15, `autotuner/tuner.py` (`AutoTuner.run` calls the function, then measures the list in its order).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, overload

from costmodel.adapters.ranking import Config, Kernels, Pricer, Sizes, checked_top
from costmodel.device import Device

__all__ = ["ranked"]

Configs = list[dict[str, Any]]


@overload
def ranked(
    configs: Sequence[Config],
    kernel: Kernels,
    device: Device | str,
    sizes: Sizes | None = ...,
    *,
    top: float = ...,
    **options: Any,
) -> Configs: ...
@overload
def ranked(
    configs: Callable[..., Iterable[Config]],
    kernel: Kernels,
    device: Device | str,
    sizes: Sizes | None = ...,
    *,
    top: float = ...,
    **options: Any,
) -> Callable[..., Configs]: ...
def ranked(
    configs: Iterable[Config] | Callable[..., Iterable[Config]],
    kernel: Kernels,
    device: Device | str,
    sizes: Sizes | None = None,
    *,
    top: float = 1.0,
    **options: Any,
) -> Configs | Callable[..., Configs]:
    """The configurations that can launch, best first; those that are not modelled come last, as they came.

    Args:
        configs: a list, or a function of the kernel's arguments that returns one; `sizes` then sees its arguments too.
        kernel: as for `ranking.Pricer`.
        device: a device or its name.
        sizes: see `ranking.Sizes`.
        top: how many of those that can launch, an int; or which share, a float. A group that the model cannot tell apart is
            kept whole.
        options: of `Scorer`.

    Example:
        >>> from costmodel.adapters.tilelang import ranked
        >>> from costmodel.cost import find_description
        >>> configs = [{"block": 64}, {"block": 2048}, {"block": 256}]
        >>> ranked(configs, find_description("vector_add"), "H100", {"N": 1 << 26, "B": "block"})
        [{'block': 64}, {'block': 256}]
    """
    pricer = Pricer(kernel, device, sizes, host="TileLang's autotuner", **options)
    top = checked_top(top)
    if not callable(configs):
        return _ranked(pricer, list(configs), {}, top)
    signature = inspect.signature(configs)

    @functools.wraps(configs)
    def of_arguments(*args: Any, **kwargs: Any) -> Configs:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return _ranked(pricer, list(configs(*args, **kwargs)), bound.arguments, top)

    return of_arguments


def _ranked(pricer: Pricer, configs: Sequence[Config], given: Config, top: float) -> Configs:
    prices = pricer.price([{**given, **config} for config in configs])
    return [dict(configs[row]) for row in (*prices.best(top), *prices.unknown)]
