"""Tensors that lie on another device as far as torch can tell, with their elements on the host.

They stand for those of a GPU where there is none. As there, an operation over tensors of both places is refused, but for
copies and for tensors of no dimension, and NumPy cannot look at them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

torch: Any = pytest.importorskip("torch")
dispatch: Any = pytest.importorskip("torch.utils._python_dispatch")
pytree: Any = pytest.importorskip("torch.utils._pytree")

FAR = torch.device("meta")
"""A device without memory: what is not done here cannot be done at all."""
_BETWEEN = (torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default)


class Far(torch.Tensor):
    """A tensor on `FAR`."""

    @staticmethod
    def __new__(cls, near: Any) -> Far:
        layout = (near.shape, near.stride(), near.storage_offset())
        made: Far = torch.Tensor._make_wrapper_subclass(cls, *layout, dtype=near.dtype, device=FAR)
        made.near = near
        return made

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        return _done(function, args, dict(kwargs or {}))


class _NearGenerator(torch.Generator):
    def __new__(cls, **_: Any) -> Any:
        return super().__new__(cls, torch.device("cpu"))


class _Making(dispatch.TorchDispatchMode):
    def __torch_dispatch__(self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        return _done(function, args, dict(kwargs or {}))


@contextlib.contextmanager
def far_device(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """While it is entered, `device=FAR` makes tensors that are `Far`, and draws numbers for them."""
    monkeypatch.setattr(torch, "Generator", _NearGenerator)
    with _Making():
        yield


def _done(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    given = [t for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
    places = {t.device for t in given if t.dim()} or {t.device for t in given}
    if len(places) > 1 and function not in _BETWEEN:
        raise RuntimeError(f"{function}: expected all tensors to be on the same device, found {places}")
    asked = kwargs.get("device")
    far = FAR in {t.device for t in given[:1]} if asked is None else torch.device(asked) == FAR
    host = {**kwargs, "device": torch.device("cpu")} if asked is not None else kwargs
    out = function(*pytree.tree_map(_near, args), **pytree.tree_map(_near, host))
    if given and out is _near(given[0]):
        return given[0]
    return pytree.tree_map(lambda t: Far(t) if far and isinstance(t, torch.Tensor) else t, out)


def _near(value: Any) -> Any:
    return value.near if isinstance(value, Far) else value
