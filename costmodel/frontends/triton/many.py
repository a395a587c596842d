"""Many configurations of one Triton kernel, compiled in several processes."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import runpy
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from costmodel.device import Device
from costmodel.errors import CostModelError, DescriptionError
from costmodel.frontends.triton.cache import default_folder
from costmodel.frontends.triton.compiling import compute_capability
from costmodel.frontends.triton.kernel import Grid, TritonKernel, extents_of, from_triton, jitted

__all__ = ["from_triton_configurations"]

_Place = tuple[str, str, str]
"""Module, name and file of a kernel."""


def from_triton_configurations(
    fn: Any,
    signature: Mapping[str, str],
    configurations: Sequence[Mapping[str, Any]],
    grid: Grid,
    *,
    target: str | Device = "sm_90",
    cache: Path | str | bool = True,
    workers: int | None = None,
) -> list[TritonKernel | CostModelError]:
    """Convert configurations, each of which gives constants and options of the compiler together.

    Args:
        fn: a function under `@triton.jit`, at the top level of a module or file.
        signature: types by argument name, as of `from_triton`.
        configurations: `{"BM": 128, …, "num_warps": 8, "num_stages": 3}`: the kernel's arguments are constants, the rest options.
        grid: extents, or a function of all arguments to them.
        target: `"sm_90"`, or a device or its name.
        cache: folder of analysed kernels; True for the user's, False for none.
        workers: processes; None for one on each core, 1 for none besides this.

    Returns:
        For each configuration its kernel, or the error that says why there is none.
    """
    fn = jitted(fn)
    names = set(fn.arg_names)
    jobs = []
    for configuration in configurations:
        constexprs = {n: v for n, v in configuration.items() if n in names}
        options = {n: v for n, v in configuration.items() if n not in names}
        jobs.append((constexprs, options))
    folder = default_folder() if cache is True else cache
    target = f"sm_{compute_capability(target)}"
    count = min(workers or os.cpu_count() or 1, len(jobs))
    if count <= 1:
        return [_one(fn, signature, c, grid, target, folder, o) for c, o in jobs]
    place = (fn.__module__, fn.__name__, fn.fn.__code__.co_filename)
    extents = [_extents(fn.__name__, grid, signature, c) for c, _ in jobs]
    with ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting = [
            pool.submit(_elsewhere, place, dict(signature), c, e, target, folder, o) if not isinstance(e, CostModelError) else e
            for (c, o), e in zip(jobs, extents, strict=True)
        ]
        return [w if isinstance(w, CostModelError) else w.result() for w in waiting]


def _extents(name: str, grid: Grid, signature: Mapping[str, str], constexprs: Mapping[str, Any]) -> Any:
    try:
        return extents_of(name, grid, signature, constexprs)
    except CostModelError as error:
        return error


def _one(
    fn: Any, signature: Mapping[str, str], constexprs: Mapping[str, Any], grid: Any, target: str | Device, folder: Any,
    options: Mapping[str, Any],
) -> TritonKernel | CostModelError:  # fmt: skip
    try:
        return from_triton(fn, signature, constexprs, grid, target=target, cache=folder, **options)
    except CostModelError as error:
        return error


def _elsewhere(
    place: _Place, signature: dict[str, str], constexprs: dict[str, Any], grid: Any, target: str | Device, folder: Any,
    options: dict[str, Any],
) -> TritonKernel | CostModelError:  # fmt: skip
    """One configuration, in a process of its own."""
    return _one(_found_again(*place), signature, constexprs, grid, target, folder, options)


def _found_again(module: str, name: str, file: str) -> Any:
    """A kernel by its name, in its module, else in its file."""
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        found = runpy.run_path(file).get(name)
    if found is None:
        raise DescriptionError(
            f"Triton kernel {name}: not found again in module {module} or file {file}; define it at the top level"
        )
    return found
