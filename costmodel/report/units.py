"""Numbers as people read them: three significant digits and a prefix.

Traffic and rates take SI prefixes (1 kB = 1000 bytes), as bandwidths are quoted; capacities take binary
ones (1 KiB = 1024 bytes), as memories are built. What does not exist (NaN) and what has no limit
(infinity) have signs of their own, so no caller tests for them.
"""

from __future__ import annotations

import math

__all__ = ["amount", "binary_bytes", "count", "percent", "rate", "ratio", "seconds", "si", "si_bytes"]

NONE = "–"
_LARGE = ("", "k", "M", "G", "T", "P", "E")
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_EXACT_BELOW = 100_000


def si(value: float, unit: str = "") -> str:
    """Return three significant digits with an SI prefix before the unit.

    Args:
        value: a quantity of 0 or more.
        unit: what follows the prefix.

    Example:
        >>> si(3.352e12, "B/s"), si(999.96, "FMA"), si(0, "B")
        ('3.35 TB/s', '1.00 kFMA', '0 B')
    """
    if _special(value):
        return _special(value)
    step = 0
    while step < len(_LARGE) - 1 and abs(value) >= 999.5:
        value, step = value / 1000, step + 1
    number = _digits(value) if abs(value) < 999.5 else f"{value:.3g}"
    return f"{number} {_LARGE[step]}{unit}".rstrip()


def si_bytes(value: float) -> str:
    """Return bytes that move.

    Example:
        >>> si_bytes(68_719_476_736)
        '68.7 GB'
    """
    return si(value, "B")


def binary_bytes(value: float) -> str:
    """Return bytes that are there: capacities, allocations.

    Example:
        >>> binary_bytes(49_152), binary_bytes(100), binary_bytes(5_767_168)
        ('48 KiB', '100 B', '5.5 MiB')
    """
    if _special(value):
        return _special(value)
    step = 0
    while step < len(_BINARY) - 1 and abs(value) >= 1024:
        value, step = value / 1024, step + 1
    return f"{value:.4g} {_BINARY[step]}"


def seconds(value: float) -> str:
    """Return a duration in the unit that suits it.

    Example:
        >>> seconds(0.0032684), seconds(4.1e-6), seconds(81)
        ('3.27 ms', '4.10 µs', '81.0 s')
    """
    if _special(value):
        return _special(value)
    if value == 0:
        return "0 s"
    for scale, unit in ((1, "s"), (1e3, "ms"), (1e6, "µs"), (1e9, "ns")):
        if abs(value) * scale >= 0.9995:
            return f"{_digits(value * scale)} {unit}"
    return f"{value * 1e9:#.3g} ns"


def count(value: float) -> str:
    """Return a number of things: exact while it is short, with a prefix above.

    Example:
        >>> count(16_384), count(1_073_741_824), count(2.5)
        ('16,384', '1.07 G', '2.50')
    """
    if _special(value):
        return _special(value)
    if abs(value) >= _EXACT_BELOW:
        return si(value)
    return f"{int(value):,}" if float(value).is_integer() else _digits(value)


def ratio(value: float) -> str:
    """Return a plain quotient with three significant digits.

    Example:
        >>> ratio(1.0), ratio(16.25), ratio(0.0312), ratio(10_531.4), ratio(float("nan"))
        ('1.00', '16.2', '0.031', '10,531', '–')
    """
    if _special(value):
        return _special(value)
    if abs(value) >= 999.5:
        return f"{value:,.0f}" if abs(value) < _EXACT_BELOW else si(value)
    return f"{value:.3f}" if 0.0005 <= abs(value) < 0.0995 else _digits(value)


def percent(value: float) -> str:
    """Return a share as a percentage, whole unless it is small.

    Example:
        >>> percent(0.627), percent(0.004), percent(1e-6), percent(0), percent(1)
        ('63 %', '0.4 %', '<0.1 %', '0 %', '100 %')
    """
    if _special(value):
        return _special(value)
    if 0 < value < 0.0005:
        return "<0.1 %"
    digits = 1 if 0 < abs(value) < 0.0995 else 0
    return f"{value * 100:.{digits}f} %"


def amount(value: float, unit: str) -> str:
    """Return an amount of some unit; bytes and seconds by their symbols, others by name.

    Example:
        >>> amount(2e9, "bytes"), amount(6.87e10, "fma"), amount(4e-6, "s"), amount(12, "cycles")
        ('2.00 GB', '68.7 G fma', '4.00 µs', '12 cycles')
    """
    if unit in _SECONDS:
        return seconds(value)
    if unit in _BYTES:
        return si_bytes(value)
    return f"{count(value)} {unit}"


def rate(value: float, unit: str) -> str:
    """Return an amount per second, beside a column that names the unit; nothing for seconds themselves.

    Example:
        >>> rate(3.35e12, "bytes"), rate(3.3e13, "fma"), rate(1, "s")
        ('3.35 TB/s', '33.0 T/s', '–')
    """
    if unit in _SECONDS:
        return NONE
    return si(value, "B/s") if unit in _BYTES else si(value, "/s")


_SECONDS = ("s", "seconds")
_BYTES = ("B", "byte", "bytes")


def _special(value: float) -> str:
    """Return the sign of what is no finite number; empty for those that are."""
    if math.isnan(value):
        return NONE
    return ("∞" if value > 0 else "−∞") if math.isinf(value) else ""


def _digits(value: float) -> str:
    """Return three significant digits of a number under 1000."""
    if value == 0:
        return "0"
    size = abs(value)
    if size < 0.0995:
        return f"{value:#.3g}" if size >= 0.0001 else f"{value:.2g}"
    return f"{value:.{2 if size < 9.995 else 1 if size < 99.95 else 0}f}"
