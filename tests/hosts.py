"""What the tests of adapters share: the host's library, one warning and no more, and a kernel that no host can launch."""

from __future__ import annotations

import importlib
import re
import warnings
from contextlib import contextmanager

import pytest

from costmodel import kernel
from costmodel.adapters.ranking import NotModelledWarning
from costmodel.dtypes import f32


def host(module, install):
    """The library, whatever it warns of while it is imported; the test is skipped where it is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(module)
        except ImportError as error:
            pytest.skip(f"{error}: {install}")


@contextmanager
def one_warning(text):
    """Whatever runs inside warns once that something is not modelled, in words that match."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        yield
    ours = [str(w.message) for w in told if issubclass(w.category, NotModelledWarning)]
    assert len(ours) == 1, ours
    assert re.search(text, ours[0]), ours[0]


@kernel
def unlike_any(k, *, N, B, WIDTH):
    """An argument that no host has."""
    x = k.buffer("x", (N,), f32)
    with k.blocks(N // B) as b, k.threads(B) as t:
        k.store(x[b * B + t])
