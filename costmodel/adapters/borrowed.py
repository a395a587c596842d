"""Arguments of a host's kernel, remembered without being kept alive: they are tensors that fill a GPU."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from costmodel.adapters.ranking import Config

__all__ = ["borrowed"]


def borrowed(values: Config) -> Callable[[], dict[str, Any]]:
    """What gives the values again; None for one that is gone by then.

    Example:
        >>> class Tensor: pass
        >>> x = Tensor()
        >>> arguments = borrowed({"x": x, "n": 3})
        >>> arguments()["x"] is x
        True
        >>> del x
        >>> arguments()
        {'x': None, 'n': 3}
    """
    found = {name: _borrowed(value) for name, value in values.items()}
    return lambda: {name: value() for name, value in found.items()}


def _borrowed(value: Any) -> Callable[[], Any]:
    try:
        return weakref.ref(value)
    except TypeError:  # numbers and texts
        return lambda: value
