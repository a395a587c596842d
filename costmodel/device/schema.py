"""Checks the plain data of a profile strictly and turns it into a `Device`.

The pydantic models are derived from the dataclasses of `model`, so that a field is declared once:
numbers must be positive (fields in `MAY_BE_ZERO` may be 0), a `*_fraction` at most 1, nothing is
converted silently, nothing extra is allowed, and all mistakes are reported together.
"""

from __future__ import annotations

import ast
import inspect
import types
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from costmodel.device import model
from costmodel.device.complaints import Mistake, complaint
from costmodel.device.model import MATRIX_INPUTS, VENDORS, Device
from costmodel.device.strict_yaml import Plain

__all__ = ["build_device", "device_json_schema", "field_names", "field_text"]

MAY_BE_ZERO = frozenset({"reserved_bytes_per_block", "fp16_fma", "fp64_fma", "channels", "interleave_bytes"})

_T = TypeVar("_T")


Owner: TypeAlias = Callable[[tuple[str, ...]], str]


def build_device(data: Plain, owner: Owner, hint: str) -> tuple[Device | None, list[Mistake]]:
    """Validate merged profile data and build the device; None if there are mistakes.

    Args:
        data: the fields of `Device`, nested plainly.
        owner: gives, for a field path, the file that states it.
        hint: where else a missing field can be given.
    """
    try:
        checked = _schema(Device).model_validate(data)
    except ValidationError as error:
        return None, [_mistake(e, owner, hint) for e in error.errors()]
    device = _build(Device, checked.model_dump())
    mistakes = [Mistake(owner(path), ".".join(path), text) for path, text in _contradictions(device)]
    return (None if mistakes else device), mistakes


def device_json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a complete device, its groups under `$defs`."""
    return _schema(Device).model_json_schema()


def field_names(path: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return the fields of the device, or of the group at `path`; none if that is no group."""
    cls: Any = Device
    for part in path:
        cls = _group(get_type_hints(cls).get(part)) if is_dataclass(cls) else None
    return tuple(f.name for f in fields(cls)) if is_dataclass(cls) else ()


def field_text(path: tuple[str, ...]) -> str:
    """Return the one-line description of a field, empty for an unknown path."""
    cls: Any = Device
    for part in path[:-1]:
        cls = _group(get_type_hints(cls).get(part))
    return _field_texts().get((getattr(cls, "__name__", ""), path[-1]), "")


@lru_cache(maxsize=1)
def _field_texts() -> dict[tuple[str, str], str]:
    """Read the docstrings under the fields of `model`, which Python itself does not keep."""
    texts: dict[tuple[str, str], str] = {}
    for cls in (n for n in ast.parse(inspect.getsource(model)).body if isinstance(n, ast.ClassDef)):
        for item, after in zip(cls.body, cls.body[1:], strict=False):
            match item, after:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    texts[cls.name, name] = text.splitlines()[0].rstrip(".")
    return texts


@lru_cache(maxsize=32)
def _schema(cls: Any) -> type[BaseModel]:
    """Return the strict pydantic model of a dataclass of `model`."""
    hints = get_type_hints(cls)
    entries: dict[str, Any] = {}
    for f in fields(cls):
        default = ... if f.default is MISSING else f.default
        entries[f.name] = (_checked_type(f.name, hints[f.name]), default)
    config = ConfigDict(extra="forbid", strict=True)
    made: type[BaseModel] = create_model(cls.__name__, __config__=config, **entries)
    return made


def _checked_type(name: str, hint: Any) -> Any:
    """Return the annotation pydantic checks a field by."""
    group = _group(hint)
    if group is not None:
        return _schema(group) if group is hint else _schema(group) | None
    if name == "vendor":
        return _one_of(VENDORS)
    if name == "matrix_fma":
        return dict[_one_of(MATRIX_INPUTS), _number("", float)]  # type: ignore[misc]
    if name == "sources":
        return dict[str, str]
    if hint is str:
        return Annotated[str, Field(min_length=1)]
    if get_origin(hint) is tuple:
        return Annotated[tuple[Annotated[str, Field(min_length=1, strict=True)], ...], Field(strict=False)]
    if get_origin(hint) is types.UnionType:
        return _number(name, get_args(hint)[0]) | None
    return hint if hint is bool else _number(name, hint)


def _group(hint: Any) -> Any:
    """Return the dataclass of a group of fields, of one that may be left out too; None for other fields."""
    return next((h for h in (hint, *get_args(hint)) if isinstance(h, type) and is_dataclass(h)), None)


def _one_of(texts: tuple[str, ...]) -> Any:
    """Return the annotation of a text from a list."""
    return Literal.__getitem__(texts)


def _number(name: str, hint: Any) -> Any:
    """Return the annotation of a number: positive, finite, a fraction at most 1."""
    finite = False if hint is float else None
    if name.endswith("_fraction"):
        return Annotated[hint, Field(gt=0, le=1, allow_inf_nan=finite)]
    if name in MAY_BE_ZERO:
        return Annotated[hint, Field(ge=0, allow_inf_nan=finite)]
    return Annotated[hint, Field(gt=0, allow_inf_nan=finite)]


def _build(cls: type[_T], data: dict[str, Any]) -> _T:
    """Build a dataclass from validated plain data, groups first."""
    hints = get_type_hints(cls)
    groups = {k: _group(hints[k]) if isinstance(v, dict) else None for k, v in data.items()}
    return cls(**{k: v if (group := groups[k]) is None else _build(group, v) for k, v in data.items()})


def _mistake(error: Any, owner: Owner, hint: str) -> Mistake:
    """Return one pydantic error in our words: file, field, what is wrong, the fix."""
    path = tuple(str(p) for p in error["loc"] if p != "[key]")
    text = complaint(error, field_names(path[:-1]), field_text(path), hint)
    return Mistake(owner(path), ".".join(path), text)


def _contradictions(device: Device) -> list[tuple[tuple[str, ...], str]]:
    """List figures that cannot both be true, by the field to look at."""
    l2, shared, limits = device.l2, device.shared, device.limits
    per_block = shared.max_bytes_per_block
    at_most = [
        ("l2", "effective_capacity_bytes", l2.effective_capacity_bytes, l2.capacity_bytes),
        ("shared", "max_bytes_per_block", per_block, shared.capacity_bytes_per_sm),
        ("shared", "static_max_bytes_per_block", shared.static_max_bytes_per_block, per_block),
        ("limits", "threads_per_block", limits.threads_per_block, limits.threads_per_sm),
    ]
    found: list[tuple[tuple[str, ...], str]] = [
        ((group, name), f"expected at most {bound}, got {value}") for group, name, value, bound in at_most if value > bound
    ]
    threads = limits.warps_per_sm * limits.warp_size
    if threads != limits.threads_per_sm:
        text = f"expected warps_per_sm * warp_size = {threads}, got {limits.threads_per_sm}"
        found.append((("limits", "threads_per_sm"), text))
    return found
