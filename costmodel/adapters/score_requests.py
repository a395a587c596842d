"""What a line of `costmodel score` asks for.

    {"id": 7, "kernel": "gemm", "device": "H100", "sizes": {"M": 4096, "N": 4096, …}, "registers": 128}
    {"id": 8, "define": "mine", "ir": {…}}

`sizes` gives each argument of the kernel: one value, or a list of values to be priced together (single ones are repeated).
`define` names a kernel in the format of `costmodel.ir.to_json`. `id` comes back as it was given. PROTOCOL.md says all of it.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from costmodel.adapters.score_schema import DEFINITION, MOST_REGISTERS, MOST_SPILLED_WORDS, REQUEST
from costmodel.errors import CostModelError, SizeError

__all__ = ["BadRequestError", "Definition", "Request", "check_names", "parse"]

_KEYS = tuple(REQUEST["properties"])
_KNOWN = frozenset(_KEYS)
_DEFINITION_KEYS = tuple(DEFINITION["properties"])
_SCALARS = (int, float, str, bool)
_BLANK = " \t\r\n"
_SHOWN = 60
_SHOWN_BYTES = 8 * _SHOWN
_DECODER = json.JSONDecoder()
_ENCODER = json.JSONEncoder(allow_nan=False)


class BadRequestError(CostModelError):
    """A line is no request; says what was expected."""

    def __init__(self, message: str, own: str = "") -> None:
        super().__init__(message)
        self.id = own
        """Of the request, as far as it was found: the beginning of an answer."""


class Request(NamedTuple):
    """Price one configuration, or a list of them."""

    id: str
    """The beginning of its answer: `"id": 7, `, or nothing."""
    kernel: str
    device: str
    sizes: Mapping[str, Any]
    registers: int | None = None
    """Of a thread, where a compiler has told."""
    spilled: float = 0.0
    rows: int | None = None
    """Configurations in lists; None where every size is one value."""


@dataclass(frozen=True, slots=True)
class Definition:
    """Give a kernel a name."""

    id: str
    name: str
    ir: Mapping[str, Any]


def parse(line: bytes, kernel: str | None, device: str | None) -> Request | Definition:
    """Read one line.

    Args:
        line: JSON text.
        kernel: what is meant where a request names no kernel.
        device: what is meant where it names no device.

    Raises:
        BadRequestError: it is no request.
    """
    try:
        text = line.decode().strip(_BLANK)
        given, end = _DECODER.raw_decode(text)
        if end < len(text):
            raise ValueError(f"more after its end: column {end + 1}")
    except (ValueError, RecursionError) as error:
        raise BadRequestError(f"expected a JSON object on one line, got {_shown(line)} ({error})") from None
    if not isinstance(given, dict):
        raise BadRequestError(f"expected a JSON object, got {_shown(line)}")
    own = _id(given["id"]) if "id" in given else ""
    if "define" in given:
        return _definition(given, own)
    if not given.keys() <= _KNOWN:
        key = next(k for k in given if k not in _KNOWN)
        raise BadRequestError(f"unknown key {key!r}{_near(key, _KEYS)}; expected {', '.join(_KEYS)}, or define and ir", own)
    own_kernel, own_device, sizes = given.get("kernel"), given.get("device"), given.get("sizes")
    kernel, device = kernel if own_kernel is None else own_kernel, device if own_device is None else own_device
    if not isinstance(kernel, str) or not isinstance(device, str):
        name, value = ("device", device) if isinstance(kernel, str) else ("kernel", kernel)
        wrong = "is missing" if value is None else f"is {_shown(value)}"
        raise BadRequestError(f"{name} {wrong}: expected a name; give it, or --{name} for all requests", own)
    if not isinstance(sizes, dict):
        raise BadRequestError(f'sizes: expected an object such as {{"N": 4096}}, got {_shown(sizes)}', own)
    rows = _rows(sizes, own)
    registers, spilled = given.get("registers"), given.get("spilled")
    if registers is not None and (type(registers) is not int or not 1 <= registers <= MOST_REGISTERS):
        raise BadRequestError(f"registers: expected a positive whole number up to {MOST_REGISTERS}, got {_shown(registers)}", own)
    if spilled is None:
        spilled = 0.0
    elif type(spilled) not in (int, float) or not 0 <= spilled <= MOST_SPILLED_WORDS:
        raise BadRequestError(f"spilled: expected a number of words, from 0 to {MOST_SPILLED_WORDS}, got {_shown(spilled)}", own)
    elif spilled and registers is None:
        raise BadRequestError(f"spilled: {spilled} words without registers; give both, or neither", own)
    return Request(own, kernel, device, sizes, registers, spilled, rows)


def check_names(request: Request, kernel: str, arguments: tuple[str, ...]) -> None:
    """Refuse sizes that the kernel does not have.

    Raises:
        SizeError: one is unknown.
    """
    for name in request.sizes:
        if name not in arguments:
            raise SizeError(f"{kernel}: unknown size {name!r}{_near(name, arguments)}; expected {', '.join(arguments)}")


def _id(given: Any) -> str:
    """An identifier as it is answered."""
    if type(given) is int:
        return f'"id": {given}, '
    try:
        return f'"id": {_ENCODER.encode(given)}, '
    except (ValueError, RecursionError) as error:
        raise BadRequestError(
            f"id: expected a JSON value that can be written again, such as a number or a text ({error})"
        ) from None


def _definition(given: dict[str, Any], own: str) -> Definition:
    for key in given:
        if key not in _DEFINITION_KEYS:
            raise BadRequestError(f"unknown key {key!r}; a definition has {', '.join(_DEFINITION_KEYS)}", own)
    name, ir = given["define"], given.get("ir")
    if not isinstance(name, str) or not name:
        raise BadRequestError(f"define: expected a name for the kernel, got {_shown(name)}", own)
    if not isinstance(ir, dict):
        raise BadRequestError(f"ir: expected the object that costmodel.ir.to_json writes, got {_shown(ir)}", own)
    return Definition(own, name, ir)


def _rows(sizes: dict[str, Any], own: str) -> int | None:
    """Length of the lists, if there are any, when all is as it should be."""
    length: int | None = None
    for name, value in sizes.items():
        if type(value) is list:
            if any(type(v) not in _SCALARS for v in value):
                raise BadRequestError(f"sizes: {name}: expected numbers, got {_shown(value)}", own)
            if not value or length not in (None, len(value)):
                other = "an empty list" if not value else f"{len(value)} values where another size has {length}"
                raise BadRequestError(f"sizes: {name}: {other}; lists must be equally long", own)
            length = len(value)
        elif type(value) not in _SCALARS:
            raise BadRequestError(f"sizes: {name}: expected a number, or a list of them, got {_shown(value)}", own)
    return length


def _near(name: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _shown(value: Any) -> str:
    try:
        text = value[:_SHOWN_BYTES].decode(errors="replace") if isinstance(value, bytes) else _text(value)
    except RecursionError:
        return "values nested too deep"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _text(value: Any) -> str:
    return "nothing" if value is None else json.dumps(value)
