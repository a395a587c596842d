"""`costmodel measure`: options, executors, progress."""

from __future__ import annotations

import math
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from costmodel.cli.executors import executor_of
from costmodel.cli.inputs import settings, table_of
from costmodel.cli.options import Json, Sets, print_result
from costmodel.cost import find_description
from costmodel.errors import CostModelError, MeasureError
from costmodel.measure import Outcome, Settings, Sweep, measure
from costmodel.measure.code import coded_names, measured_space
from costmodel.measure.live import GpuError
from costmodel.measure.task import Row
from costmodel.report.text import pairs

__all__ = ["measure_command"]

_BUDGET = re.compile(r"(\d+(?:\.\d+)?)(s|m|h)")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_COUNTERS_PART = 0.25
"""Of the budget: kept for counters where they are asked for, since times take all that they are given."""
_LINE_S = 10.0
_MOST_REASONS = 5


def measure_command(
    out: Annotated[Path, typer.Option(help="File to write, .parquet or .json (T4); of --suite, a folder.")],
    target: Annotated[
        str | None,
        typer.Argument(metavar="[DESCRIPTION]", help="file.py:function, or the name of one of the package's; not with --suite."),
    ] = None,
    space: Annotated[
        Path | None,
        typer.Option(help="YAML or JSON (argument: list or value), CSV or Parquet table; the description's own if left out."),
    ] = None,
    sets: Sets = None,
    suite: Annotated[bool, typer.Option("--suite", help="Measure every description that has code beside it.")] = False,
    gpus: Annotated[
        str, typer.Option(metavar="N,…", help="Indices of GPUs, or fake:NAME for a dry run with the model's own times.")
    ] = "0",
    jobs: Annotated[int, typer.Option(min=1, help="Processes for each GPU: while one runs, the others compile.")] = 1,
    dask: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Measure on the workers of a Dask scheduler, one process on each.")
    ] = None,
    device: Annotated[str | None, typer.Option("--device", "-d", help="Profile that predicts, if not the GPU's own.")] = None,
    counters: Annotated[int, typer.Option(min=0, help="Configurations of each kernel whose hardware counters ncu reads.")] = 0,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Stop after this many configurations of each kernel, drawn at random.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="Stop after this (90s, 20m, 2h); call again to go on.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds for a configuration, once compiled.")] = 60.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the inputs and of the order.")] = 0,
    restart: Annotated[bool, typer.Option("--restart", help="Throw away what was measured before.")] = False,
    as_json: Json = False,
) -> None:
    """Measure a space of configurations on a GPU.

    A journal beside the output keeps what was measured: a sweep that was stopped, or killed, goes on when called again.

    Example: costmodel measure gemm --set M=4096 --set N=4096 --set K=4096 --out gemm.parquet
    """
    if suite == (target is not None):
        raise MeasureError("expected a description, or --suite and none")
    if suite and (space is not None or sets):
        raise MeasureError("--suite measures each description's own space; leave out --space and --set")
    chosen = replace(Settings(), seed=seed, timeout_s=timeout)
    began, budget_s = time.monotonic(), math.inf if budget is None else seconds_of(budget)
    command = " ".join(["costmodel", *sys.argv[1:]])
    if suite:
        todo = [(name, out / f"{name}.parquet", _own_table(name)) for name in coded_names()]
        if not todo:
            raise MeasureError("--suite: no description of the package has code beside it (CODE in its module)")
    else:
        assert target is not None
        description = find_description(target)
        todo = [(target, out, table_of(description, space, settings(sets, description), measured_space(description)))]
    asked = [Sweep(name, table, path, chosen, device, counters, limit, restart, command) for name, path, table in todo]
    passes = [(1.0, asked)]
    if counters:  # times of all kernels come before counters of any
        times, counts = [replace(one, counters=0) for one in asked], [replace(one, restart=False) for one in asked]
        passes = [(1.0 - _COUNTERS_PART, times), (1.0, counts)]
    outcomes: dict[str, Outcome] = {}
    errors: dict[str, str] = {}
    with executor_of(gpus, jobs, dask) as (executor, slots, local):
        for part, sweeps in passes:
            for n, one in enumerate(sweeps):
                left_s = _share(began + part * budget_s, len(sweeps) - n)
                try:
                    with _progress(one.target) as watch:
                        done = measure(one, executor, slots, watch=watch, left_s=left_s, local=local)
                except CostModelError as error:
                    if not suite or isinstance(error, GpuError):
                        raise
                    errors[one.target] = f"{one.target}: {error}"
                    continue
                errors.pop(one.target, None)
                before = outcomes.get(one.target)
                measured, seconds = (before.measured, before.seconds) if before else (0, 0.0)
                outcomes[one.target] = replace(done, measured=measured + done.measured, seconds=seconds + done.seconds)
    values = [asdict(o) for o in outcomes.values()]
    told = {"sweeps": values, "errors": list(errors.values())} if suite else values[0]
    print_result(told, shown([*outcomes.values()], [*errors.values()]), as_json)
    if errors:
        raise MeasureError(f"{len(errors)} of {len(todo)} kernels were not measured; the first: {next(iter(errors.values()))}")


def _own_table(name: str) -> pd.DataFrame:
    description = find_description(name)
    return table_of(description, None, {}, measured_space(description))


def seconds_of(text: str) -> float:
    """A time such as `20m`.

    Raises:
        MeasureError: it is none.

    Example:
        >>> seconds_of("1.5m")
        90.0
    """
    found = _BUDGET.fullmatch(text.strip())
    if found is None:
        raise MeasureError(f"--budget {text}: expected a number and a unit, such as 90s, 20m or 2h")
    return float(found[1]) * _SECONDS[found[2]]


def _share(ends: float, kernels: int) -> Callable[[], float]:
    """Seconds left of this kernel's share of the time: what is left is divided among the kernels that are."""
    now = time.monotonic()
    share = now + max(ends - now, 0.0) / kernels
    return lambda: share - time.monotonic()


@contextmanager
def _progress(name: str) -> Iterator[Callable[[Row, int, int], None]]:
    """Tells on stderr how far it is: a bar on a terminal, a line now and then elsewhere."""
    console = Console(stderr=True)
    failed = 0
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[failed]}"),
        )
        with Progress(*columns, console=console, transient=True) as bar:
            line = bar.add_task(name, total=None, failed="")

            def show(row: Row, done: int, total: int) -> None:
                nonlocal failed
                failed += row["status"] != "ok"
                bar.update(line, completed=done, total=total, failed=f"{failed} failed" if failed else "")

            yield show
        return
    began = told = time.monotonic()
    first = 0

    def tell(row: Row, done: int, total: int) -> None:
        nonlocal told, failed, first
        first = first or done
        failed += row["status"] != "ok"
        if time.monotonic() - told > _LINE_S:
            told = time.monotonic()
            rate = (done - first + 1) / (told - began)
            print(f"{name}: {done}/{total}, {rate:.1f}/s, {failed} failed, {(total - done) / rate:.0f} s left", file=sys.stderr)

    yield tell


def shown(outcomes: list[Outcome], errors: list[str]) -> RenderableType:
    """What became of the sweeps."""
    parts: list[RenderableType] = []
    for o in outcomes:
        statuses = ", ".join(f"{n} {name}" for name, n in o.statuses.items()) or "nothing yet"
        rows: list[tuple[str, Any]] = [("kernel", f"{o.kernel} on {o.gpu}"), ("configurations", statuses)]
        if o.remaining:
            rows.append(("unfinished", f"{o.remaining} are left; the same command (with no --limit) goes on with them"))
        if o.left_out:
            rows.append(("left out", f"{sum(o.left_out.values())} that the description refuses: {_most(o.left_out)}"))
        if o.reasons:
            rows.append(("failures", _most(o.reasons)))
        rows.append(("predicted with", o.predicted_with or "no profile of this GPU; give --device"))
        rows += [("counters", f"of {o.counted} configurations")] if o.counted else []
        rows += [("note", note) for note in o.notes]
        rows.append(("written", f"{o.out} ({o.measured} measured in {o.seconds:.0f} s)"))
        parts += [*([Text("")] if parts else []), pairs(tuple(rows), strong=1)]
    parts += [Text(f"not measured: {error}") for error in errors]
    return Group(*parts)


def _most(counts: dict[str, int]) -> str:
    """The most frequent ones."""
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    more = f"; and {len(ordered) - _MOST_REASONS} more" if len(ordered) > _MOST_REASONS else ""
    return "; ".join(f"{n} × {reason}" for reason, n in ordered[:_MOST_REASONS]) + more
