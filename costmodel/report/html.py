"""A `Cost` as HTML for a notebook: the tables of the text, in the colours of the page around them."""

from __future__ import annotations

from html import escape

from costmodel.cost.result import Cost
from costmodel.report import facts, units

__all__ = ["to_html"]

_STYLE = """
.costmodel { font: 13px/1.45 system-ui, sans-serif; max-width: 62rem; }
.costmodel h4 { margin: 0 0 .2em; font-size: 1.15em; }
.costmodel code { font-size: .92em; opacity: .75; overflow-wrap: anywhere; }
.costmodel dl { display: grid; grid-template-columns: max-content 1fr; gap: .1em 1em; margin: .7em 0; }
.costmodel dt { opacity: .65; }
.costmodel dd { margin: 0; }
.costmodel .time { font-size: 1.35em; font-weight: 600; }
.costmodel table { border-collapse: collapse; margin: .9em 0 0; font-variant-numeric: tabular-nums; }
.costmodel caption { text-align: left; font-weight: 600; padding: 0 0 .2em; caption-side: top; }
.costmodel th { font-weight: 400; opacity: .65; vertical-align: bottom;
  border-bottom: 1px solid color-mix(in srgb, currentColor 35%, transparent); }
.costmodel th, .costmodel td { padding: .12em .7em; text-align: right; background: none; }
.costmodel th:first-child, .costmodel td:first-child { padding-left: 0; }
.costmodel .word { text-align: left; }
.costmodel .bar { width: 9em; text-align: left; }
.costmodel .bar div { height: .8em; min-width: 1px; background: #2a8fbd; border-radius: 2px; }
.costmodel .note { opacity: .65; font-size: .92em; text-align: left; padding-top: 0; }
""".strip()


def to_html(cost: Cost) -> str:
    """Return the breakdown as one HTML fragment with its own style.

    Args:
        cost: what `estimate` returned; names in it are escaped.
    """
    tables = [facts.level_table(cost.levels), facts.access_table(cost.accesses)]
    return "\n".join(
        (
            f'<div class="costmodel"><style>{_STYLE}</style>',
            f"<h4>{escape(cost.kernel)} on {escape(cost.device.title)}</h4>",
            f"<code>{escape(facts.assignments(cost.sizes))}</code>",
            _facts(facts.headline(cost), strong="time"),
            _terms(cost),
            _facts(facts.launch(cost)),
            *(_table(shown) for shown in tables if shown.rows),
            "</div>",
        )
    )


def _facts(rows: tuple[tuple[str, str], ...], strong: str = "") -> str:
    """Return labels with their facts."""
    cells = (f"<dt>{escape(label)}</dt>{_tag('dd', fact, 'time' if label == strong else '')}" for label, fact in rows)
    return f"<dl>{''.join(cells)}</dl>"


def _terms(cost: Cost) -> str:
    """Return the terms with their bars; a note stands under its term."""
    heads = ("term", "share", "", "alone", "amount", "peak rate", "eff.")
    rows = []
    for term in cost.terms:
        share = term.share_s / cost.seconds
        numbers = (
            units.percent(share),
            units.seconds(term.seconds),
            units.amount(term.amount, term.unit),
            units.rate(term.rate, term.unit),
            units.percent(term.efficiency),
        )
        bar = f'<td class="bar"><div style="width:{min(max(share, 0.0), 1.0):.1%}"></div></td>'
        rows.append(f"<tr>{_cell(term.name, word=True)}{bar}{''.join(_cell(n) for n in numbers)}</tr>")
        if term.note:
            rows.append(f'<tr><td></td><td class="note" colspan="6">{escape(term.note)}</td></tr>')
    return _framed("", heads, rows, words=2)


def _table(shown: facts.Table) -> str:
    """Return a finished table."""
    rows = [f"<tr>{''.join(_cell(text, word=n < shown.words) for n, text in enumerate(row))}</tr>" for row in shown.rows]
    return _framed(shown.title, shown.columns, rows, shown.words)


def _framed(title: str, heads: tuple[str, ...], rows: list[str], words: int) -> str:
    """Return a table around its rows."""
    caption = f"<caption>{escape(title)}</caption>" if title else ""
    head = "".join(_cell(text, word=n < words, tag="th") for n, text in enumerate(heads))
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _cell(text: str, *, word: bool = False, tag: str = "td") -> str:
    """Return one cell."""
    return _tag(tag, text, "word" if word else "")


def _tag(name: str, text: str, kind: str) -> str:
    """Return text in an element, of a class if one is named."""
    attribute = f' class="{kind}"' if kind else ""
    return f"<{name}{attribute}>{escape(text)}</{name}>"
