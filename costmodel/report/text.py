"""A `Cost` as the breakdown that one pastes into a bug report: `print(cost)`, or in colour on a terminal."""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.segment import Segment
from rich.style import Style
from rich.table import Table as RichTable
from rich.text import Text

from costmodel.cost.result import Cost
from costmodel.report import facts, units

__all__ = ["Bar", "Fitting", "breakdown", "grid", "pairs", "plain", "render", "table"]

_NARROWEST, _WIDEST = 80, 120
_BAR_CELLS = 12
_EIGHTHS = " ▏▎▍▌▋▊▉"
_UNLIMITED = 10_000
_TERM_COLUMNS = tuple(map(frozenset, ((), ("bar",), ("bar", "peak rate"), ("bar", "peak rate", "amount"))))
"""What narrow consoles leave out."""
_ACCESS_COLUMNS = (tuple(range(8)), (0, 1, 2, 3, 4, 6, 7), (0, 1, 2, 3, 4, 6), (1, 2, 4, 6))
"""What they keep: the lines go first, then the efficiency."""


def render(cost: Cost, width: int | None = None) -> str:
    """Return the breakdown as plain text.

    Args:
        cost: what `estimate` returned.
        width: columns to use; those of the terminal, between 80 and 120, if None.
    """
    if width is None:
        width = min(max(shutil.get_terminal_size((100, 24)).columns, _NARROWEST), _WIDEST)
    return plain(breakdown(cost), width)


def plain(shown: RenderableType, width: int) -> str:
    """Return what a console of that width would show: no colours, no spaces at the ends of lines."""
    sink = io.StringIO()
    Console(file=sink, width=width, color_system=None, force_terminal=False, legacy_windows=False).print(shown)
    return "\n".join(line.rstrip() for line in sink.getvalue().rstrip().splitlines())


def breakdown(cost: Cost) -> RenderableType:
    """Return the breakdown for a `rich` console."""
    title = Text.assemble((cost.kernel, "bold"), " on ", (cost.device.title, "bold"), f" ({cost.device.name})")
    parts: list[RenderableType] = [title]
    if cost.sizes:
        parts.append(Text(facts.assignments(cost.sizes), style="dim"))
    parts += ["", pairs(facts.headline(cost), strong=2), "", Fitting(*(_terms(cost, leave) for leave in _TERM_COLUMNS))]
    if facts.notes(cost):
        parts += ["", pairs(facts.notes(cost), dim=True)]
    parts += ["", pairs(facts.launch(cost))]
    levels = facts.level_table(cost.levels)
    if levels.rows:
        parts += ["", Text(levels.title, style="bold"), Fitting(table(levels), table(levels, (0, 1, 2, 3)))]
    if cost.accesses:
        parts += ["", *_accesses(cost)]
    return Group(*parts)


def _accesses(cost: Cost) -> tuple[RenderableType, ...]:
    """Return the accesses: in one table where their indices fit, and listed under a smaller one where they do not."""
    shown, short = facts.access_table(cost.accesses), facts.access_table(cost.accesses, by_buffer=True)
    listed = Group(
        Fitting(*(table(short, columns) for columns in _ACCESS_COLUMNS)),
        "",
        pairs(tuple((access.statement, access.access) for access in facts.issued(cost.accesses))),
    )
    return Text(shown.title, style="bold"), Fitting(table(shown), listed)


def grid() -> RichTable:
    """Return an empty table in the house style: no frame, one rule under the headings."""
    return RichTable(
        box=box.SIMPLE_HEAD,
        header_style="dim",
        pad_edge=False,
        padding=(0, 1),
        show_edge=False,
        collapse_padding=True,
    )


def table(shown: facts.Table, columns: Sequence[int] | None = None) -> RichTable:
    """Return a finished table, or some columns of it: words left and folded where they must be, numbers right and whole."""
    kept = range(len(shown.columns)) if columns is None else columns
    built = grid()
    for n in kept:
        words = n < shown.words
        built.add_column(shown.columns[n], justify="left" if words else "right", no_wrap=not words, overflow="fold")
    for row in shown.rows:
        built.add_row(*(Text(row[n]) for n in kept))
    return built


def pairs(rows: tuple[tuple[str, str], ...], *, strong: int = 0, dim: bool = False) -> RichTable:
    """Return labels with their facts, the first `strong` of them in bold."""
    built = RichTable.grid(padding=(0, 2))
    built.add_column(no_wrap=True, style="dim")
    built.add_column(style="dim" if dim else "")
    for n, (label, fact) in enumerate(rows):
        built.add_row(label, Text(fact, style="bold" if n < strong else ""))
    return built


def _terms(cost: Cost, leave_out: frozenset[str]) -> RichTable:
    """Return the terms with their shares of the time, largest first."""
    built = grid()
    built.add_column("term", no_wrap=True)
    heads = ["share", "", "alone", "amount", "peak rate", "eff."] if "bar" not in leave_out else []
    for head in heads or ("share", "alone", "amount", "peak rate", "eff."):
        if head not in leave_out:
            built.add_column(head, justify="left" if heads and head == "share" else "right", no_wrap=True)
    for term in cost.terms:
        share = term.share_s / cost.seconds
        cells: dict[str, RenderableType] = {
            "bar": Bar(share),
            "share": units.percent(share),
            "alone": units.seconds(term.seconds),
            "amount": units.amount(term.amount, term.unit),
            "peak rate": units.rate(term.rate, term.unit),
            "eff.": units.percent(term.efficiency),
        }
        built.add_row(Text(term.name), *(cell for name, cell in cells.items() if name not in leave_out))
    return built


class Fitting:
    """The first of some renderings that fits the width uncut; the last one where none does."""

    def __init__(self, *forms: RenderableType) -> None:
        self.forms = forms

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it."""
        for form in self.forms[:-1]:
            if Measurement.get(console, options.update(width=_UNLIMITED), form).maximum <= options.max_width:
                yield form
                return
        yield self.forms[-1]


class Bar:
    """A share of 1 as a bar of text."""

    def __init__(self, share: float, cells: int = _BAR_CELLS) -> None:
        self.share = min(max(share, 0.0), 1.0)
        self.cells = cells

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw eighths of a cell, or whole ones where the terminal knows ASCII only."""
        if options.ascii_only:
            text = "#" * round(self.share * self.cells)
        else:
            whole, eighths = divmod(round(self.share * self.cells * 8), 8)
            text = "█" * whole + _EIGHTHS[eighths].strip()
        yield Segment(text.ljust(self.cells), Style(color="cyan"))

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """Take exactly its cells."""
        return Measurement(self.cells, self.cells)
