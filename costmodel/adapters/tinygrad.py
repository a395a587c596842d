"""tinygrad: BEAM searches with predicted times instead of measured ones, so it needs no GPU.

Hook: `tinygrad.codegen.opt.search._time_program`, replaced for a while. Each program of the search is read by
`frontends.tinygrad` and priced; one that is not understood is timed as ever. Results of the search are neither taken from
tinygrad's disk cache nor put there: its key does not say by what they were found. Source: tinygrad 0.14.0,
`codegen/opt/search.py` (`beam_search` asks for one program at a time).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from costmodel.adapters.ranking import Config, Kernels, Pricer
from costmodel.device import Device
from costmodel.frontends.tinygrad import from_program

__all__ = ["predicted_beam"]


@contextmanager
def predicted_beam(device: Device | str, kernel: Kernels | None = None, **options: Any) -> Iterator[None]:
    """BEAM by prediction, inside the `with`.

    The programs have to be rendered for a device with blocks and threads: `DEV=NULL:OPENCL` needs none of them, `DEV=CUDA`
    a compiler.

    Args:
        device: the GPU that is predicted, or its name.
        kernel: what makes a kernel of `{"program": …, "var_vals": …}`; `frontends.tinygrad.from_program` if None.
        options: of `Scorer`.

    Example:
        With `BEAM=2` in the environment::

            from costmodel.adapters.tinygrad import predicted_beam
            with predicted_beam("H100"):
                (a @ b).realize()
    """
    from tinygrad.codegen.opt import search

    pricer = Pricer(_from_config if kernel is None else kernel, device, host="tinygrad's BEAM", **options)
    if not _ACTIVE:
        _OWN.update({name: getattr(search, name) for name in ("_time_program", "diskcache_get", "diskcache_put")})
        search._time_program = _time_program
        search.diskcache_get, search.diskcache_put = _nothing, _nothing
    _ACTIVE.append(pricer)
    try:
        yield
    finally:
        _ACTIVE.remove(pricer)
        if not _ACTIVE:
            for name, value in _OWN.items():
                setattr(search, name, value)


_ACTIVE: list[Pricer] = []
"""Of the contexts that are open, the last entered one holds; they may be left in any order."""
_OWN: dict[str, Any] = {}
"""What tinygrad has outside of them."""


def _time_program(program: Any, var_vals: dict[str, int], rawbufs: Any, *args: Any, **kwargs: Any) -> list[float]:
    """Stands for tinygrad's timing."""
    seconds = _ACTIVE[-1].price([{"program": program, "var_vals": var_vals}], entire=False).seconds[0]
    measured: Callable[..., list[float]] = _OWN["_time_program"]
    return measured(program, var_vals, rawbufs, *args, **kwargs) if np.isnan(seconds) else [float(seconds)]


def _from_config(config: Config) -> Any:
    return from_program(config["program"])


def _nothing(*args: Any, **kwargs: Any) -> None:
    """In place of the disk cache."""
