"""`costmodel probe`: options, progress, what is printed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from costmodel.cli.options import Json, print_result
from costmodel.measure.probe import Curve, Difference, Probed, lab_of, probe
from costmodel.report.text import grid, pairs
from costmodel.report.units import binary_bytes, si

__all__ = ["probe_command"]

_BY = {"bytes": "working set"}


def probe_command(
    gpu: Annotated[
        str, typer.Option(metavar="N", help="Number of the GPU; fake:NAME rehearses, journal:FILE reads an earlier probe.")
    ] = "0",
    out: Annotated[Path | None, typer.Option(help="Profile to write, .yaml; named after the GPU if left out.")] = None,
    against: Annotated[str | None, typer.Option(help="Stored profile to compare with, if not the GPU's own.")] = None,
    as_json: Json = False,
) -> None:
    """Measure a live GPU into a profile of its own.

    Prints where it differs from the stored profile. Takes under five minutes. An existing profile is not overwritten. A
    journal beside it (.jsonl) keeps every benchmark: a probe that was stopped goes on when called again.

    Example: costmodel probe --gpu 0 --out mine.yaml
    """
    with _progress() as told:
        found = probe(lab_of(gpu), out, against, told=told)
    print_result(_values(found), _shown(found), as_json)


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar on stderr, where that is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("start")

        def told(name: str, done: int, total: int) -> None:
            bar.update(task, description=name, completed=done, total=total)

        yield told


def _values(found: Probed) -> dict[str, Any]:
    return {
        "profile": str(found.path),
        "gpu": found.device.title,
        "against": found.base.name,
        "seconds": found.seconds,
        "resumed": found.resumed,
        "unmeasured": list(found.unmeasured),
        "figures": [asdict(d) for d in found.differences],
        "curves": [asdict(curve) for curve in found.curves],
    }


def _shown(found: Probed) -> RenderableType:
    differences = found.differences
    count = sum(d.differs for d in differences)
    head = (
        ("GPU", found.device.title),
        ("profile", f"{found.path}, not measured: as {found.base.name}"),
        ("differs", f"{count} of {len(differences)} figures from {found.base.name} by more than their spread (marked *)"),
        ("took", f"{found.seconds:.0f} s, {found.resumed} benchmarks resumed"),
        *(("not measured", reason) for reason in found.unmeasured),
    )
    parts: list[RenderableType] = [pairs(head, strong=1), Text(""), _table(differences)]
    for curve in found.curves:
        points = ", ".join(f"{_varied(curve, at)} {_value(curve, value)}" for at, value in curve.points)
        title = f"{curve.name} by {_BY.get(curve.by, curve.by)}, {curve.unit}"
        parts += [Text(""), Text(title[:1].upper() + title[1:], style="bold"), Text(points)]
    return Group(*parts)


def _varied(curve: Curve, at: int) -> str:
    return f"{binary_bytes(at)}:" if curve.by == "bytes" else f"{at}:"


def _value(curve: Curve, value: float) -> str:
    return si(value) if curve.unit == "B/s" else f"{value:.4g}"


def _table(differences: list[Difference]) -> RenderableType:
    built = grid()
    built.add_column("figure", no_wrap=True)
    for name in ("stored", "measured", "difference", "spread"):
        built.add_column(name, justify="right", no_wrap=True)
    built.add_column("", no_wrap=True)
    for d in differences:
        relative = "" if d.relative is None or not d.relative else f"{d.relative:+.1%}"
        spread = f"{d.spread:.1%}" if d.spread else ""
        measured = f"≥ {_figure(d.measured)}" if d.bound else _figure(d.measured)
        built.add_row(d.field, _figure(d.stored), measured, relative, spread, "*" if d.differs else "")
    return built


def _figure(value: float | int | bool | None) -> str:
    """Return a figure as it stands in a profile, with at most six digits."""
    if value is None:
        return "–"
    return str(value).lower() if isinstance(value, int) else f"{value:.6g}"
