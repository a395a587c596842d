"""The arrays of one problem: what a kernel reads and writes, as torch tensors, and what it must have written.

Float arrays hold standard normal numbers, fresh for each problem and the same for each seed; what is only written is
poisoned before a check, with NaN or the lowest integer; what is read as well gets its first contents back; what atomics
add to starts from zero. `CODE`'s `inputs` overrides all of that. Where a reference is NaN, a launch must leave the poison.
"""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sympy

from costmodel.dtypes import DType
from costmodel.errors import MeasureError
from costmodel.ir import Buffer, Kernel
from costmodel.measure.code import Code
from costmodel.symbols import size

__all__ = ["Arrays", "Watched", "allocated", "extent"]

TORCH = {
    "f64": "float64", "f32": "float32", "tf32": "float32", "f16": "float16", "bf16": "bfloat16", "f8": "float8_e4m3fn",
    "i64": "int64", "i32": "int32", "i16": "int16", "i8": "int8",
}  # fmt: skip
"""Names of our dtypes in torch."""
TOLERANCES = {"f64": 1e-10, "f32": 1e-4, "tf32": 1e-3, "f16": 1e-2, "bf16": 2e-2, "f8": 1e-1}
"""Largest ‖out − ref‖ / ‖ref‖ of an output; integers must be equal. Sums of thousands of products round to about 1e-6 in
fp32; one rounding of the result is 2⁻¹¹ in fp16 and 2⁻⁸ in bf16, and intermediate ones add to it."""


class Watched(Mapping[str, Any]):
    """Sizes that remember which of them were looked at."""

    def __init__(self, sizes: Mapping[str, Any]) -> None:
        self._sizes, self.seen = sizes, set[str]()

    def __getitem__(self, name: str) -> Any:
        value = self._sizes[name]
        self.seen.add(name)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._sizes)

    def __len__(self) -> int:
        return len(self._sizes)


@dataclass(slots=True)
class Arrays:
    """Of one kernel and problem."""

    kernel: Kernel
    code: Code
    tensors: dict[str, Any]
    """Global buffers in the order of declaration."""
    flat: dict[str, Any]
    """The same from the first to the last element, pitch and all."""
    sizes: Watched
    constants: dict[str, Any] = field(default_factory=dict)
    """Constant buffers."""
    first: dict[str, Any] = field(default_factory=dict)
    """Contents that written buffers start with, where they matter."""
    expected: dict[str, Any] | None = None
    """In double precision; None until the first check."""
    filled: bool = False

    def fits(self, sizes: Mapping[str, Any]) -> bool:
        """Whether another configuration of the same shapes has the same contents."""
        return all(sizes[n] == self.sizes[n] for n in sorted(self.sizes.seen))

    @property
    def size_bytes(self) -> int:
        """Memory taken."""
        held = [self.flat, self.first, self.expected or {}]
        return sum(t.numel() * t.element_size() for group in held for t in group.values())

    def fill(self, seed: int) -> None:
        """Give all buffers their contents; once."""
        if self.filled:
            return
        torch = importlib.import_module("torch")
        given = {} if self.code.inputs is None else self.code.inputs(self.sizes, np.random.default_rng(seed))
        stored, loaded, added = _uses(self.kernel)
        for b in self.kernel.buffers:
            if b.space not in ("global", "constant"):
                continue
            tensor = self.tensors[b.name] if b.space == "global" else _constant(torch, b, self.sizes)
            if b.name in given:
                tensor.copy_(_as_tensor(torch, given[b.name], tensor, f"{self.kernel.name}: inputs of {b.name}"))
            elif b.name in added:
                self.flat[b.name].zero_()
            elif b.name in loaded or b.name not in stored:
                _fill_normal(torch, self.flat.get(b.name, tensor), b, seed)
            if b.space == "constant":
                self.constants[b.name] = tensor
            elif b.name in stored and (b.name in given or b.name in loaded or b.name in added):
                self.first[b.name] = self.flat[b.name].clone()
        self.filled = True

    def poison(self) -> None:
        """Make written buffers ready for a check."""
        torch = importlib.import_module("torch")
        for name in _uses(self.kernel)[0]:
            tensor = self.flat[name]
            if name in self.first:
                tensor.copy_(self.first[name])
            elif tensor.element_size() == 1 and tensor.dtype.is_floating_point:
                tensor.view(torch.uint8).fill_(0x7F)  # NaN of e4m3
            else:
                tensor.fill_(float("nan") if tensor.dtype.is_floating_point else torch.iinfo(tensor.dtype).min)

    def check(self) -> tuple[float, str]:
        """Compare what was written with the reference.

        Returns:
            The largest ‖out − ref‖ / ‖ref‖ of an output (of integers, the share that differs), infinite for NaN; and which
            outputs are wrong, an empty text if none is.

        Raises:
            MeasureError: the reference leaves out a buffer, or gives one of another shape.
        """
        errors = self._errors()
        wrong = [f"{n}: error {e:.3g}, at most {self.tolerance(n):g}" for n, e in errors.items() if not e <= self.tolerance(n)]
        return max(errors.values(), default=0.0), "; ".join(wrong)

    def tolerance(self, name: str) -> float:
        """Of an output."""
        dtype = next(b.dtype for b in self.kernel.buffers if b.name == name)
        if dtype.kind == "integer":
            return 0.0
        return TOLERANCES[dtype.name] if self.code.tolerance is None else self.code.tolerance

    def _errors(self) -> dict[str, float]:
        torch = importlib.import_module("torch")
        if self.expected is None:
            self.expected = self._reference()
        found = {}
        for name, reference in self.expected.items():
            out = self.tensors[name]
            if not out.dtype.is_floating_point:
                found[name] = float((out != reference).double().mean())
                continue
            left, out = torch.isnan(reference), out.double()
            untouched = bool(torch.isnan(out[left]).all())
            norm = float(torch.linalg.vector_norm(reference.nan_to_num(0.0)))
            error = float(torch.linalg.vector_norm(torch.where(left, 0.0, out - reference))) / (norm or 1.0)
            found[name] = error if untouched and error == error else float("inf")  # NaN
        return found

    def _reference(self) -> dict[str, Any]:
        written = _uses(self.kernel)[0]
        known = {n: t for n, t in self.tensors.items() if n not in written}
        known |= {n: f.as_strided(self.tensors[n].shape, self.tensors[n].stride()) for n, f in self.first.items()}
        known |= self.constants
        upcast = {n: t.double() if t.dtype.is_floating_point else t for n, t in known.items()}
        given = self.code.reference(upcast, self.sizes)
        for name in written:
            shape = None if name not in given else tuple(given[name].shape)
            if shape != tuple(self.tensors[name].shape):
                got = "nothing" if shape is None else f"the shape {shape}"
                raise MeasureError(
                    f"{self.kernel.name}: its reference gives {got} for {name!r}; expected {tuple(self.tensors[name].shape)}"
                )
        return {n: given[n].double() if self.tensors[n].dtype.is_floating_point else given[n] for n in sorted(written)}


def allocated(kernel: Kernel, code: Code, sizes: Mapping[str, Any], device: Any) -> Arrays:
    """Arrays without contents."""
    torch = importlib.import_module("torch")
    tensors, flats = {}, {}
    for b in kernel.buffers:
        if b.space == "global":
            flat = flats[b.name] = torch.empty(
                extent(b.elements, sizes), dtype=getattr(torch, TORCH[b.dtype.name]), device=device
            )
            shape, strides = ([extent(e, sizes) for e in part] for part in (b.shape, b.strides))
            tensors[b.name] = flat.as_strided(shape, strides)
    return Arrays(kernel, code, tensors, flats, Watched(sizes))


def extent(expression: sympy.Expr, sizes: Mapping[str, Any]) -> int:
    """The value of an expression over sizes."""
    return int(
        sympy.sympify(expression).xreplace({size(n): sympy.Integer(v) for n, v in sizes.items() if not isinstance(v, str)})
    )


def _uses(kernel: Kernel) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """Global buffers that are stored to, loaded from, and added to by atomics."""
    stored, loaded, added = set[str](), set[str](), set[str]()
    for site in kernel.statements():
        stored |= {a.buffer.name for a in site.statement.stores if a.buffer.space == "global"}
        loaded |= {a.buffer.name for a in site.statement.loads}
        added |= {a.buffer.name for a in site.statement.stores if site.statement.atomic}
    return frozenset(stored), frozenset(loaded), frozenset(added)


def _constant(torch: Any, buffer: Buffer, sizes: Mapping[str, Any]) -> Any:
    return torch.empty([extent(e, sizes) for e in buffer.shape], dtype=getattr(torch, TORCH[buffer.dtype.name]))


def _fill_normal(torch: Any, tensor: Any, buffer: Buffer, seed: int) -> None:
    """Standard normal numbers, drawn on the device: drawing 10⁸ of them on the host takes seconds."""
    if buffer.dtype.kind == "integer":
        raise MeasureError(f"{buffer.name}: {_name(buffer.dtype)} contents have a meaning; give them by 'inputs' in CODE")
    generator = torch.Generator(device=tensor.device).manual_seed(zlib.crc32(f"{seed} {buffer.name}".encode()))
    tensor.copy_(torch.randn(tensor.shape, generator=generator, device=tensor.device, dtype=torch.float32))


def _as_tensor(torch: Any, values: Any, like: Any, where: str) -> Any:
    array = torch.from_numpy(np.ascontiguousarray(values))
    if tuple(array.shape) != tuple(like.shape):
        raise MeasureError(f"{where}: the shape {tuple(array.shape)}; expected {tuple(like.shape)}")
    return array.to(like.device)


def _name(dtype: DType) -> str:
    return f"{dtype.kind} ({dtype.name})"
