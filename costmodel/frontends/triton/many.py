"""Many configurations of one Triton kernel, in several processes: converted, or ranked by what they cost.

Ranking goes in two steps, for machine code is what takes a compiler seconds, and minutes where registers spill. All
configurations are lowered as far as layouts and shared memory are known, and priced with estimated registers; those that cannot
launch go no further, and of the others only the best are compiled and priced again.
"""

from __future__ import annotations

import importlib
import math
import multiprocessing
import os
import runpy
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache as remembered
from pathlib import Path
from typing import Any

import pandas as pd

from costmodel.cost import Scorer
from costmodel.device import Device, find_device
from costmodel.errors import CostModelError, DescriptionError, SizeError
from costmodel.frontends.triton.cache import default_folder
from costmodel.frontends.triton.compiling import compute_capability
from costmodel.frontends.triton.kernel import Grid, Resources, TritonKernel, extents_of, from_triton, jitted

__all__ = ["RankedConfiguration", "from_triton_configurations", "rank_triton_configurations"]

_Place = tuple[str, str, str]
"""Module, name and file of a kernel."""


@dataclass(frozen=True, slots=True)
class RankedConfiguration:
    """One configuration, and what it costs."""

    configuration: Mapping[str, Any]
    """As it was given."""
    position: int
    """In the list that was given, from 0."""
    seconds: float
    """Of one launch; infinite if it cannot launch, NaN if it is not understood."""
    reason: str
    """Why it has no time; empty where it has one."""
    kernel: TritonKernel | None
    """`kernel.resources` says whether it was compiled; None if it is not understood."""


@dataclass(frozen=True, slots=True)
class _Job:
    """One configuration, as it goes to another process."""

    fn: Any
    """The kernel, or where another process finds it."""
    signature: Mapping[str, str]
    constexprs: Mapping[str, Any]
    grid: Any
    target: str
    cache: Path | str | bool
    options: Mapping[str, Any]
    resources: Resources


def from_triton_configurations(
    fn: Any,
    signature: Mapping[str, str],
    configurations: Sequence[Mapping[str, Any]],
    grid: Grid,
    *,
    target: str | Device = "sm_90",
    cache: Path | str | bool = True,
    workers: int | None = None,
    resources: Resources = "compiled",
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
        resources: as of `from_triton`.

    Returns:
        For each configuration its kernel, or the error that says why there is none.
    """
    count = min(workers or os.cpu_count() or 1, len(configurations))
    jobs = _jobs(fn, signature, configurations, grid, target, cache, resources, elsewhere=count > 1)
    with _processes(count) as each:
        return each(_converted, jobs)


def rank_triton_configurations(
    fn: Any,
    signature: Mapping[str, str],
    configurations: Sequence[Mapping[str, Any]],
    grid: Grid,
    device: Device | str,
    sizes: Mapping[str, int],
    *,
    compile_top: float = 8,
    cache: Path | str | bool = True,
    workers: int | None = None,
) -> list[RankedConfiguration]:
    """Order configurations by predicted time, and compile only the best.

    Args:
        fn: a function under `@triton.jit`, at the top level of a module or file.
        signature: types by argument name, as of `from_triton`.
        configurations: as of `from_triton_configurations`.
        grid: extents, or a function of all arguments to them.
        device: the GPU, or its name.
        sizes: every runtime integer argument.
        compile_top: how many of the best to compile, an int, 0 for none; or which share of those that can launch, a float.
        cache: folder of analysed kernels; True for the user's, False for none.
        workers: processes; None for one on each core, 1 for none besides this.

    Returns:
        Those that were compiled, fastest first; those that were not, fastest first; those that cannot launch; those that are not
        understood.

    Raises:
        SizeError: a size is missing, or `compile_top` is neither a count nor a share.
        CostModelError: pricing failed by a fault of its own; the configuration is named.

    Example:
        With `matmul` a function under `@triton.jit`::

            types = {"a": "*fp16", "b": "*fp16", "c": "*fp16", "M": "i32:16", "N": "i32:16", "K": "i32:16"}
            configurations = [{"BM": bm, "BN": bn, "BK": 64, "num_warps": 8} for bm in (64, 128, 256) for bn in (64, 128, 256)]
            grid = lambda m: (-(-m["M"] // m["BM"]), -(-m["N"] // m["BN"]))
            best = rank_triton_configurations(matmul, types, configurations, grid, "H100", {"M": 4096, "N": 4096, "K": 4096})[0]
            best.configuration, best.seconds
    """
    _check_top(compile_top)
    device = device if isinstance(device, Device) else find_device(device)
    count = min(workers or os.cpu_count() or 1, len(configurations))
    jobs = _jobs(fn, signature, configurations, grid, device, cache, "estimated", elsewhere=count > 1)
    with _processes(count) as each:
        priced = each(_priced, [(job, device, dict(sizes)) for job in jobs])
        timed = sorted((n for n, (seconds, _, _) in enumerate(priced) if math.isfinite(seconds)), key=lambda n: priced[n][0])
        wanted = compile_top if isinstance(compile_top, int) else math.ceil(compile_top * len(timed))
        best = [(n, jobs[n]) for n in timed[: int(wanted)]]
        again = each(_priced, [(replace(j, resources="compiled"), device, dict(sizes)) for _, j in best if isinstance(j, _Job)])
    for (n, _), found in zip(best, again, strict=True):
        priced[n] = found
    ranked = [RankedConfiguration(configurations[n], n, *found) for n, found in enumerate(priced)]
    return sorted(ranked, key=_rank)


def _rank(one: RankedConfiguration) -> tuple[int, float, int]:
    if one.kernel is None or math.isnan(one.seconds):
        return 3, 0.0, one.position
    if math.isinf(one.seconds):
        return 2, 0.0, one.position
    return int(one.kernel.resources != "compiled"), one.seconds, one.position


def _check_top(top: float) -> None:
    whole = isinstance(top, int) and not isinstance(top, bool) and top >= 0
    if not whole and not (isinstance(top, float) and 0 <= top <= 1):
        raise SizeError(f"compile_top={top!r}: expected a count (an int, at least 0) or a share (a float, from 0 to 1.0)")


def _jobs(
    fn: Any, signature: Mapping[str, str], configurations: Sequence[Mapping[str, Any]], grid: Grid, target: str | Device,
    cache: Path | str | bool, resources: Resources, *, elsewhere: bool,
) -> list[_Job | CostModelError]:  # fmt: skip
    """Each configuration's, or why it has none; grids are worked out here, for functions stay in their process."""
    fn = jitted(fn)
    names, sm = set(fn.arg_names), f"sm_{compute_capability(target)}"
    folder = default_folder() if cache is True else cache
    found: list[_Job | CostModelError] = []
    for configuration in configurations:
        constexprs = {n: v for n, v in configuration.items() if n in names}
        options = {n: v for n, v in configuration.items() if n not in names}
        try:
            extents = extents_of(fn.__name__, grid, signature, constexprs)
        except CostModelError as error:
            found.append(error)
            continue
        there = (fn.__module__, fn.__name__, fn.fn.__code__.co_filename) if elsewhere else fn
        found.append(_Job(there, dict(signature), constexprs, extents, sm, folder, options, resources))
    return found


@contextmanager
def _processes(count: int) -> Iterator[Callable[..., list[Any]]]:
    """What calls a function for each of a list, in so many processes."""
    if count <= 1:
        yield lambda function, items: [function(item) for item in items]
        return
    with ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield lambda function, items: list(pool.map(function, items))


def _converted(job: _Job | CostModelError) -> TritonKernel | CostModelError:
    """A configuration's kernel, or why it has none."""
    if isinstance(job, CostModelError):
        return job
    try:
        fn = _found_again(*job.fn) if isinstance(job.fn, tuple) else job.fn
        return from_triton(
            fn,
            job.signature,
            job.constexprs,
            job.grid,
            target=job.target,
            cache=job.cache,
            resources=job.resources,
            **job.options,
        )
    except CostModelError as error:
        return error


def _priced(asked: tuple[_Job | CostModelError, Device, dict[str, int]]) -> tuple[float, str, TritonKernel | None]:
    """Seconds of a configuration, why it has none, and its kernel.

    Raises:
        SizeError: a size is missing.
        CostModelError: pricing failed by a fault of its own; the configuration is named.
    """
    job, device, sizes = asked
    found = _converted(job)
    if isinstance(found, CostModelError) or isinstance(job, CostModelError):
        return math.nan, str(found), None
    missing = [n for n in found.kernel.params if n not in sizes]
    if missing:
        raise SizeError(f"{found.kernel.name}: no value for {', '.join(missing)}; give it in sizes=")
    try:
        scores = Scorer(found.kernel, device, **found.told).score(pd.DataFrame([sizes]))
    except CostModelError as error:
        return math.nan, str(error), found
    except Exception as error:
        asked_for = {**job.constexprs, **job.options}
        raise CostModelError(
            f"Triton kernel {found.kernel.name}: {asked_for} on {device.name}: not priced, for a fault of costmodel's "
            f"({type(error).__name__}: {error}); leave the configuration out, and report it"
        ) from error
    seconds = math.nan if scores.outside[0] else float(scores.seconds[0])
    return seconds, str(scores.reason[0]), found


@remembered
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
