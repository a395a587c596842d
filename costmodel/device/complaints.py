"""Words the mistakes in a profile: what was expected, what was given, and how to write it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

from costmodel.errors import ProfileError

__all__ = ["Mistake", "complaint", "did_you_mean", "refuse"]

_NUMBER = re.compile(r"([-+]?\d[\d_]*)(\.\d*)?(?:[eE]([-+]?)(\d+))?")


_EXPECTED = {
    "bool": "true or false",
    "dict": "a mapping",
    "finite": "a finite number",
    "float": "a number",
    "int": "a whole number",
    "string": "text",
    "tuple": "a list",
}


class Mistake(NamedTuple):
    """One thing wrong in a profile."""

    file: str
    """As messages name it."""
    field: str
    """Dotted path."""
    text: str
    """Expected, got, and the fix."""


def refuse(mistakes: Sequence[Mistake]) -> None:
    """Raise one error for all mistakes, a line for each field; do nothing if there are none.

    Raises:
        ProfileError: there are mistakes.
    """
    first = {mistake.field: mistake for mistake in reversed(mistakes)}
    lines = [": ".join(m) for m in mistakes if first[m.field] is m]
    if lines:
        raise ProfileError("\n".join(lines))


def complaint(error: Mapping[str, Any], known: Sequence[str], text: str, hint: str) -> str:
    """Return the message of one pydantic error.

    Args:
        error: an entry of `ValidationError.errors()`.
        known: fields of the group in which it happened.
        text: description of the field.
        hint: where else a missing field can be given.
    """
    kind, got, limits = str(error["type"]), error["input"], error.get("ctx", {})
    if kind == "missing":
        return f"missing{f' ({text})' if text else ''}{hint}"
    if kind == "extra_forbidden":
        return f"unknown field{did_you_mean(str(error['loc'][-1]), known)}"
    if kind == "literal_error":
        return f"expected one of {limits['expected']}, got {_shown(got)}"
    if kind in ("greater_than", "greater_than_equal"):
        return f"expected a number {'>' if kind == 'greater_than' else '>='} 0, got {_shown(got)}"
    if kind == "less_than_equal":
        return f"expected a fraction in (0, 1], got {_shown(got)}"
    if kind == "string_too_short":
        return "expected text, got an empty one"
    expected = _EXPECTED.get(kind.split("_")[0], "a group of fields")
    return f"expected {expected}, got {_shown(got)}{_rewritten(kind, got)}"


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """Return ` (did you mean 'x'?)`, or the known names if none is close."""
    close = get_close_matches(name, known, n=1)
    if close:
        return f" (did you mean {close[0]!r}?)"
    return f" (known: {', '.join(known)})" if known else ""


def _shown(value: object) -> str:
    """Return a value as messages show it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"text {value!r}"
    if isinstance(value, dict):
        return "a group of fields"
    if isinstance(value, list):
        return "a list"
    return "nothing" if value is None else f"{value!r}"


def _rewritten(kind: str, got: object) -> str:
    """Return ` (write …)` where the intention is plain."""
    if kind == "string_type" and isinstance(got, int | float) and not isinstance(got, bool):
        return f" (write '{got}')"
    if kind.startswith("int") and isinstance(got, float) and got.is_integer():
        return f" (write {int(got)})"
    if not kind.startswith(("int", "float")) or not isinstance(got, str):
        return ""
    match = _NUMBER.fullmatch(got.strip())
    if not match:
        return " (write the plain number; its unit is in the field's name)"
    if kind.startswith("int"):
        number = float(got)
        return f" (write {int(number)})" if number.is_integer() else ""
    whole, fraction, sign, exponent = match.groups()
    if exponent is None:
        return f" (write {whole}{fraction or ''})"
    return f" (write {whole}{fraction or '.0'}e{sign or '+'}{exponent})"
