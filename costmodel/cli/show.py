"""What the command line prints: tables for people, values for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import pandas as pd
from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from costmodel.report.facts import assignments
from costmodel.report.text import Fitting, grid, pairs
from costmodel.report.units import percent, ratio, seconds
from costmodel.validate import Report
from costmodel.validate.suite import Skipped

__all__ = ["ranking", "report_values", "reports", "skipped_lines"]


def ranking(values: dict[str, Any], best: pd.DataFrame) -> RenderableType:
    """The fastest configurations; columns that never vary are said once."""
    infeasible = values["infeasible"]
    same = [c for c in best.columns if c not in ("seconds", "bound", "occupancy") and best[c].nunique() <= 1 and len(best) > 1]
    count = f"{values['configurations']:,} configurations, {sum(infeasible.values()):,} cannot run"
    head = [("kernel", f"{values['kernel']} on {values['device']}"), ("space", count)]
    if same:
        head.append(("all have", " ".join(f"{c}={best[c].iloc[0]}" for c in same)))
    parts: list[RenderableType] = [pairs(tuple(head), strong=1), Text("")]
    if not best.empty:
        shown = [c for c in best.columns if c not in (*same, "seconds", "bound", "occupancy")]
        parts.append(Fitting(_ranked(best, shown, apart=True), _ranked(best, shown, apart=False)))
    if infeasible:
        parts += [Text("")] * (not best.empty) + _reasons(infeasible)
    return Group(*parts)


def _ranked(best: pd.DataFrame, shown: Sequence[str], *, apart: bool) -> RichTable:
    """The configurations with a column for each argument, or, where those do not fit, with one for all of them."""
    built = grid()
    for head in ("", *(shown if apart else ()), "time", "slower", "occupancy"):
        built.add_column(head, justify="right", no_wrap=True)
    built.add_column("bound", no_wrap=True)
    if not apart:
        built.add_column("configuration", overflow="fold")
    for n, row in enumerate(best.to_dict("records")):
        slower = row["seconds"] / best["seconds"].iloc[0] - 1.0
        figures = (seconds(row["seconds"]), f"{slower * 100:+.1f} %", percent(row["occupancy"]), Text(row["bound"]))
        if apart:
            built.add_row(str(n + 1), *(Text(str(row[c])) for c in shown), *figures)
        else:
            built.add_row(str(n + 1), *figures, Text(" ".join(f"{c}={row[c]}" for c in shown)))
    return built


def _reasons(infeasible: dict[str, int], most: int = 5) -> list[RenderableType]:
    rows = sorted(infeasible.items(), key=lambda item: -item[1])
    shown = tuple((f"{n:,}×", reason) for reason, n in rows[:most])
    rest = sum(n for _, n in rows[most:])
    return [Text("cannot run", style="dim"), pairs((*shown, *((((f"{rest:,}×", "for other reasons"),)) if rest else ())))]


def report_values(report: Report) -> dict[str, Any]:
    """A report as the JSON that `validate` promises: everything but the points of the plots."""
    figures = asdict(replace(report, points=None))
    del figures["points"]
    return {
        **{key: figures[key] for key in ("file", "kernel", "gpu", "device")},
        **figures["metrics"],
        **{key: v for key, v in figures.items() if key not in ("file", "kernel", "gpu", "device", "metrics")},
    }


def reports(found: Sequence[Report]) -> RenderableType:
    """The figures of all reports, the baselines under each, then failures and counters."""
    return Group(*(part for r in found for part in (*_figures_of(r), *_details(r), Text(""))))


def skipped_lines(skipped: Sequence[Skipped], compared: Sequence[Report]) -> list[str]:
    """A line for each data set that was left out, its GPUs together, and what reading the others took."""
    gpus: dict[tuple[str, str, str, str], list[str]] = {}
    for s in skipped:
        gpus.setdefault((s.file, s.kernel, s.what, s.reason.partition("; ")[0]), []).append(s.gpu)
    lines = []
    for (file, kernel, what, reason), names in gpus.items():
        whose = f"{kernel} on {', '.join(names)}: " if kernel else ""
        lines.append(f"left out: {file}: {whose}{what}: {reason}")
    return lines + [f"note: {file}: {note}" for file, note in dict.fromkeys((r.file, n) for r in compared for n in r.notes)]


def _figures_of(report: Report) -> tuple[RenderableType, ...]:
    m = report.metrics
    title = f"{report.kernel} on {report.gpu} ({report.device}): {m.n:,} rows, {report.configs_per_s:,.0f} configurations/s"
    built = grid()
    built.add_column("", no_wrap=True)
    for name in ("rho", "tau", "top1", "top5", "top10", "mape", "|log2|", "sigma", "ties"):
        built.add_column(name, justify="right", no_wrap=True)
    figures = (m.rho, m.tau, m.top1, m.top5, m.top10, m.mape, m.median_abs_log2, m.sigma, m.tie_rate)
    built.add_row("model", *map(_decimal, figures))
    for name, b in report.baselines.items():
        cells = (b.rho, b.tau, b.top1, b.top5, b.top10, b.mape)
        built.add_row(
            Text(_SHORT.get(name, name).replace("_", " "), style="dim"), *(Text(_decimal(x), style="dim") for x in cells)
        )
    return Text(title, style="bold"), built


_SHORT = {"nvidia_matmul_heuristics": "nvidia", "other_gpu_median": "other gpus"}


def _thorough(report: Report) -> list[RenderableType]:
    """What changes without each charge, and the worst configurations."""
    base, parts = report.ablation_base, list[RenderableType]()
    if base is not None:
        built = grid()
        built.add_column("without", no_wrap=True)
        for name in ("rho", "top10", "mape"):
            built.add_column(name, justify="right", no_wrap=True)
        for charge, m in report.ablation.items():
            changes = (m.rho - base.rho, m.top10 - base.top10, m.mape - base.mape)
            built.add_row(charge, *("–" if c != c else f"{c:+.3f}" for c in changes))
        parts += [Text(""), Text("Change without each charge", style="bold"), built]
    if report.outliers:
        built = grid()
        for name in ("measured", "predicted", "ratio"):
            built.add_column(name, justify="right", no_wrap=True)
        built.add_column("bound", no_wrap=True)
        built.add_column("configuration", overflow="fold")
        for o in report.outliers:
            figures = (seconds(o.measured_ms * 1e-3), seconds(o.predicted_ms * 1e-3), ratio(o.ratio), o.bound)
            built.add_row(*map(Text, figures), Text(assignments(o.configuration)))
        parts += [Text(""), Text("The five worst", style="bold"), built]
    return parts


def _details(report: Report) -> list[RenderableType]:
    parts: list[RenderableType] = []
    if report.infeasible_but_ran:
        total = sum(report.infeasible_but_ran.values())
        parts += [Text(""), Text(f"{total:,} rows ran although the model says they cannot")]
        parts += _reasons(report.infeasible_but_ran)[1:]
    if report.failed:
        parts += [
            Text(""),
            Text(
                f"{report.failed:,} rows failed when measured; of {report.failed_foreseen:,} the model says that they cannot run"
            ),
        ]
    if report.counters:
        built = grid()
        built.add_column("counter", no_wrap=True)
        built.add_column("median", justify="right")
        built.add_column("mean", justify="right")
        for name, error in report.counters.items():
            built.add_row(name, f"{error['median'] * 100:.2f} %", f"{error['mean'] * 100:.2f} %")
        parts += [Text(""), Text("Relative error of the counters", style="bold"), built]
    return parts + _thorough(report)


def _decimal(value: float) -> str:
    return "–" if value != value else f"{value:.3f}"
