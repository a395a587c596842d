"""Every error the package raises on purpose.

Each message says where, what was expected, what was given, and how to fix it.
"""

from __future__ import annotations

__all__ = [
    "CostModelError",
    "DataError",
    "DescriptionError",
    "MeasureError",
    "ProfileError",
    "SizeError",
    "UnsupportedError",
]


class CostModelError(Exception):
    """Base of all deliberate errors; the command line prints it and exits with 2."""


class DescriptionError(CostModelError):
    """A kernel description is malformed; names the kernel, statement and access."""


class UnsupportedError(DescriptionError):
    """The description is well formed but outside what can be counted; says what to do instead."""


class SizeError(CostModelError):
    """A size is missing, unknown, not an integer, out of range, or breaks a requirement."""


class ProfileError(CostModelError):
    """A hardware profile is malformed or unknown; names the file, the field and the fix."""


class DataError(CostModelError):
    """A data file cannot be used: unreadable, or without the columns that are needed."""


class MeasureError(CostModelError):
    """A live GPU, or a kernel on it, cannot be measured; says what failed and what to do."""
