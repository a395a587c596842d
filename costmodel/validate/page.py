"""The report of a validation: one HTML page that needs no network, and the same figures as Markdown.

Needs the extra `report` (jinja2 for the templates, plotly for its script, which is written into the page). A plot shows
at most `samples.MOST_POINTS` configurations; figures and histograms are always of all.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from statistics import median
from typing import Any

from costmodel.cost import CHARGES
from costmodel.errors import DataError
from costmodel.provenance import Provenance, provenance
from costmodel.report import jsonable, units
from costmodel.report.facts import assignments
from costmodel.validate.baselines import BASELINES
from costmodel.validate.fitted import FITTED, fits_on
from costmodel.validate.run import Report
from costmodel.validate.samples import Points
from costmodel.validate.suite import Skipped

__all__ = ["markdown", "page", "write_report"]

_COUNTED = ("bytes", "unweighted_bytes", "roofline", "carver")
_DASH = "–"


def write_report(folder: Path, reports: Sequence[Report], skipped: Sequence[Skipped] = ()) -> tuple[Path, ...]:
    """Write `index.html` and `report.md`.

    Args:
        folder: made if it is not there.
        reports: thorough ones have plots.
        skipped: what could not be compared.

    Returns:
        The files written.

    Raises:
        DataError: the extra `report` is not installed, or the folder is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder}: is a file; expected a folder for the report")
    made = provenance()
    texts = {"index.html": page(reports, skipped, made), "report.md": markdown(reports, skipped, made)}
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return tuple(folder / name for name in texts)


def page(reports: Sequence[Report], skipped: Sequence[Skipped], made: Provenance) -> str:
    """The page as one text."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise DataError(_MISSING) from None
    ids = _ids(reports)
    view = _view(reports, skipped, made) | {
        "ids": ids,
        "css": _template("page.css"),
        "js": _template("page.js"),
        "plotly": get_plotlyjs(),
        "data": _inert(_data(reports, ids)),
    }
    return _rendered("page.html.j2", view, escape=True)


def markdown(reports: Sequence[Report], skipped: Sequence[Skipped], made: Provenance) -> str:
    """The figures as Markdown, for a repository."""
    text = _rendered("report.md.j2", _view(reports, skipped, made), escape=False)
    joined = re.sub(r"\|\n\n(?=\|)", "|\n", text)  # the rows of one table
    apart = re.sub(r"(?m)^(\|.*\n(?=[^|\n])|\* .*\n(?=[^*\n]))", r"\1\n", re.sub(r"(?m)^([^|\n].*)\n(?=\|)", r"\1\n\n", joined))
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"(?m)^(?=##)", "\n", apart)).strip() + "\n"


def _rendered(name: str, view: Mapping[str, Any], *, escape: bool) -> str:
    try:
        import jinja2
    except ImportError:
        raise DataError(_MISSING) from None
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template), autoescape=escape, undefined=jinja2.StrictUndefined, trim_blocks=not escape
    )
    environment.filters |= _FILTERS
    text: str = environment.get_template(name).render(view)
    return text


_MISSING = "a report needs jinja2 and plotly: pip install 'costmodel[report]'"


def _template(name: str) -> str:
    return (resources.files("costmodel.validate") / "templates" / name).read_text(encoding="utf-8")


def _view(reports: Sequence[Report], skipped: Sequence[Skipped], made: Provenance) -> dict[str, Any]:
    """What both forms show."""
    there = {name for r in reports for name in (*r.baselines, *r.absent)}
    return {
        "made": made,
        "reports": reports,
        "skipped": skipped,
        "left_out": _left_out(skipped),
        "rows": sum(r.metrics.n for r in reports),
        "kernels": len({r.kernel for r in reports}),
        "gpus": len({r.device for r in reports}),
        "tiles": _tiles(reports),
        "baselines": BASELINES,
        "baseline_names": [name for name in BASELINES if name in there],
        "charges": CHARGES if any(r.ablation for r in reports) else {},
        "fitted": FITTED,
        "fits_on": fits_on,
    }


def _left_out(skipped: Sequence[Skipped]) -> list[dict[str, Any]]:
    """What was left out, the GPUs of a kernel together, and the first clause of the reason."""
    found: dict[tuple[str, str, str, str], dict[str, Any]] = {}
    for s in skipped:
        key = (Path(s.file).name, s.kernel, s.what, s.reason.partition("; ")[0])
        entry = found.setdefault(key, dict(zip(("file", "kernel", "what", "reason"), key, strict=True)) | {"gpus": [], "rows": 0})
        entry["gpus"].append(s.gpu or _DASH)
        entry["rows"] += s.rows
    return list(found.values())


def _tiles(reports: Sequence[Report]) -> list[dict[str, str]]:
    """What to see first."""

    def spread(name: str, worst: Callable[[list[float]], float]) -> tuple[float, float]:
        values = [v for r in reports if not math.isnan(v := getattr(r.metrics, name))]
        return (median(values), worst(values)) if values else (math.nan, math.nan)

    rho, top10, mape = spread("rho", min), spread("top10", min), spread("mape", max)
    beaten = sum(r.metrics.rho >= _best(r, _COUNTED) for r in reports)
    tiles = [
        (_d3(rho[0]), f"median Spearman ρ; the worst is {_d3(rho[1])}"),
        (_d3(top10[0]), f"median top10, best time over the best of its first ten; the worst is {_d3(top10[1])}"),
        (_percent(mape[0]), f"median mean error of seconds; the worst is {_percent(mape[1])}"),
        (f"{beaten} of {len(reports)}", "rank at least as well as the best baseline on counts"),
    ]
    trained = [r for r in reports if "trees" in r.baselines]
    if trained:
        won = sum(r.metrics.rho >= r.baselines["trees"].rho for r in trained)
        tiles.append((f"{won} of {len(trained)}", "rank at least as well as trees that saw 500 measurements"))
    spent = sum(r.metrics.n / r.configs_per_s for r in reports)
    tiles.append((units.si(sum(r.metrics.n for r in reports) / spent), "configurations priced per second of one core"))
    return [{"value": value, "name": name} for value, name in tiles]


def _best(report: Report, names: Sequence[str]) -> float:
    """The best Spearman correlation of some baselines; NaN without any."""
    values = [b.rho for name in names if (b := report.baselines.get(name)) and not math.isnan(b.rho)]
    return max(values, default=math.nan)


def _ids(reports: Sequence[Report]) -> list[str]:
    """An anchor for each report."""
    names = [re.sub(r"[^a-z0-9]+", "-", f"{r.kernel} {r.gpu}".casefold()).strip("-") for r in reports]
    return [name if names.index(name) == n else f"{name}-{n}" for n, name in enumerate(names)]


def _data(reports: Sequence[Report], ids: Sequence[str]) -> dict[str, Any]:
    """What the script draws."""
    bounds = sorted({str(b) for r in reports if r.points for b in r.points.bound})
    shown = [(r.metrics.rho, _best(r, _COUNTED)) for r in reports]
    least = min((x for pair in shown for x in pair if not math.isnan(x)), default=0.0)
    return {
        "bounds": bounds,
        "least": max(least, -1.0),
        "cases": [_case(r, i, bounds) for r, i in zip(reports, ids, strict=True)],
    }


def _case(report: Report, anchor: str, bounds: Sequence[str]) -> dict[str, Any]:
    overview = {
        "model": report.metrics.rho,
        "counts": _best(report, _COUNTED),
        "trees": _best(report, ("trees",)),
        "other": _best(report, ("other_gpu",)),
    }
    case: dict[str, Any] = {"id": anchor, "name": f"{report.kernel} · {report.gpu}", "overview": overview}
    return case | _ablated(report) | (_plotted(report.points, bounds) if report.points else {})


def _ablated(report: Report) -> dict[str, Any]:
    """What changes without each charge."""
    base = report.ablation_base
    if base is None:
        return {}
    fields = ("rho", "top10", "mape")
    changes = [
        {"name": name} | {f: getattr(without, f) - getattr(base, f) for f in fields} for name, without in report.ablation.items()
    ]
    return {"ablation": changes}


def _plotted(points: Points, bounds: Sequence[str]) -> dict[str, Any]:
    where = {name: n for n, name in enumerate(bounds)}
    return {
        "measured": [_short(v) for v in points.measured_ms],
        "predicted": [_short(v) for v in points.predicted_ms],
        "bound": [where[str(b)] for b in points.bound],
        "columns": {str(name): column.tolist() for name, column in points.table.items()},
        "edges": [_short(v) for v in points.edges],
        "counts": points.counts.tolist(),
    }


def _inert(value: Any) -> str:
    """JSON that cannot end the element it stands in."""
    return json.dumps(jsonable(value), separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def _d3(value: float) -> str:
    return _DASH if value is None or math.isnan(value) else f"{value:.3f}"


def _percent(value: float) -> str:
    """A share; tenths below ten per cent."""
    if value is None or math.isnan(value):
        return _DASH
    return f"{value * 100:,.1f} %" if value < 0.0995 else f"{value * 100:,.0f} %"


def _clipped(value: float, worst: float, best: float) -> float:
    """How good a figure is, from 0 at the worst to 1 at the best."""
    return 0.0 if math.isnan(value) else round(min(max((value - worst) / (best - worst), 0.0), 1.0), 3)


def _signed(value: float) -> str:
    """A change; a dot where it rounds to none."""
    if math.isnan(value):
        return _DASH
    return "·" if abs(value) < 0.0005 else f"{value:+.3f}".replace("-", "−")


def _change(value: float) -> str:
    """Colour of a change of ρ: full at a tenth."""
    return f"--{'loss' if value < 0 else 'gain'}:{min(abs(value) / 0.1, 1.0):.2f}"


def _largest(terms: Mapping[str, float], most: int = 5) -> list[dict[str, Any]]:
    total = sum(terms.values()) or 1.0
    shown = [(name, ms) for name, ms in terms.items() if ms / total >= 0.01][:most]
    return [{"name": name, "ms": ms, "share": round(ms / total, 3)} for name, ms in shown]


_FILTERS = {
    "d3": _d3,
    "pct": _percent,
    "ms": lambda ms: units.seconds(ms * 1e-3),
    "times": lambda ratio: f"{ratio:.2f}×" if ratio >= 1 else f"1∕{1 / ratio:.2f}",
    "share": lambda v: _clipped(v, 0.5, 1.0),
    "error": lambda v: _clipped(v, 0.6, 0.0),
    "signed": _signed,
    "change": _change,
    "plain": lambda v: "" if v is None or (isinstance(v, float) and math.isnan(v)) else f"{v:.6g}",
    "words": lambda name: name.replace("_", " "),
    "filename": lambda path: Path(path).name,
    "assignments": assignments,
    "largest": _largest,
    "md": lambda text: str(text).replace("|", "\\|").replace("<", "&lt;"),
}
