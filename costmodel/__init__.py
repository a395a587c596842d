"""Predict GPU kernel time without a GPU: described once, counted without a device, charged with one.

The public names below are imported on first use, so `import costmodel` itself stays instant.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from costmodel.errors import (
    CostModelError,
    DataError,
    DescriptionError,
    ProfileError,
    SizeError,
    UnsupportedError,
)

if TYPE_CHECKING:
    from costmodel.cost import Cost, Scorer, estimate, rank
    from costmodel.device import Device, device_names, find_device
    from costmodel.ir import kernel

__version__ = "0.1.0"

__all__ = [
    "Cost",
    "CostModelError",
    "DataError",
    "DescriptionError",
    "Device",
    "ProfileError",
    "Scorer",
    "SizeError",
    "UnsupportedError",
    "__version__",
    "device_names",
    "estimate",
    "find_device",
    "kernel",
    "rank",
]

_HOME = {
    "Cost": "costmodel.cost",
    "Scorer": "costmodel.cost",
    "estimate": "costmodel.cost",
    "rank": "costmodel.cost",
    "Device": "costmodel.device",
    "device_names": "costmodel.device",
    "find_device": "costmodel.device",
    "kernel": "costmodel.ir",
}


def __getattr__(name: str) -> object:
    """Import the room that holds a public name, once (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'costmodel' has no attribute {name!r}; it offers {', '.join(__all__)}")
    value: object = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the lazy names too, for completion."""
    return sorted({*globals(), *__all__})
