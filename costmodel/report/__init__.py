"""Costs for people and for other programs: text, HTML and plain values. Formatting lives here only."""

from __future__ import annotations

from costmodel.report.html import to_html
from costmodel.report.plain import as_dict, jsonable
from costmodel.report.text import breakdown, render

__all__ = ["as_dict", "breakdown", "jsonable", "render", "to_html"]
