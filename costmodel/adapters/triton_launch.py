"""A launch of a Triton kernel as its autotuner knows it: types, constants, sizes and grid, specialised by Triton itself.

Triton's own binder is asked, for the target that is predicted: which arguments are constants (those declared so, ones, None),
which are multiples of 16, what a tensor's or a descriptor's type is. Values that `triton.heuristics` computes are computed; a
hook that gives a host's descriptors their block is called on copies of them, without tensors. Source: triton 3.6.0, 3.7.1 and
3.9.0, `runtime/jit.py` (`create_function_from_signature`, `JITFunction.run`) and `runtime/autotuner.py` (`Heuristics.run`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from costmodel.errors import UnsupportedError
from costmodel.frontends.triton import TritonKernel, from_triton
from costmodel.frontends.triton.kernel import extents_of

__all__ = ["Launch", "launch_of"]

_OF_THE_LAUNCH = ("grid", "warmup")
"""What the autotuner is told beside arguments and options."""


@dataclass(frozen=True, slots=True)
class Launch:
    """One configuration, and what it is launched with; tensors are not kept."""

    fn: Any
    """The function under `@triton.jit`."""
    signature: Mapping[str, str]
    constexprs: Mapping[str, Any]
    grid: tuple[Any, ...]
    """Over sizes where the caller's function of them can be evaluated so, else of these sizes."""
    sizes: Mapping[str, int]
    options: Mapping[str, Any]

    def kernel(self, capability: int) -> TritonKernel:
        """Read without machine code.

        Raises:
            UnsupportedError: something in the kernel is not understood.
        """
        return from_triton(
            self.fn,
            self.signature,
            self.constexprs,
            self.grid,
            target=f"sm_{capability}",
            resources="estimated",
            **self.options,
        )


def launch_of(tuned: Any, config: Any, given: Mapping[str, Any], capability: int) -> Launch:
    """What Triton would launch.

    Args:
        tuned: the `Autotuner`.
        config: a `triton.Config` of it.
        given: arguments by name, `grid` among them.
        capability: 90 for sm_90.

    Raises:
        UnsupportedError: it runs something else than a function under `@triton.jit`, or an argument's type is not understood.
    """
    fn, values = _computed(tuned.fn, {**given, **config.all_kwargs()})
    name = tuned.base_fn.__name__
    if not hasattr(fn, "params"):
        raise UnsupportedError(
            f"Triton kernel {name}: {type(fn).__name__}; expected a function under @triton.jit, not interpreted"
        )
    if "ir_override" in values:
        raise UnsupportedError(
            f"Triton kernel {name}: ir_override={values['ir_override']!r}: its IR is replaced by that of a file"
        )
    if config.pre_hook is not None:
        values = _hooked(config.pre_hook, values)
    plain = {n: v for n, v in values.items() if n not in _OF_THE_LAUNCH}
    bound, types, options = _binder(fn, capability)(**plain)
    signature: dict[str, str] = {}
    constexprs: dict[str, Any] = {}
    sizes: dict[str, int] = {}
    for (argument, value), (kind, hint) in zip(bound.items(), types, strict=True):
        if kind == "constexpr":
            constexprs[argument] = getattr(value, "value", value) if type(value).__name__ == "constexpr" else value
            continue
        if type(value) is int and value == 0:  # an offset or a seed; sizes are at least 1
            constexprs[argument] = 0
            continue
        if not isinstance(kind, str):
            raise UnsupportedError(
                f"Triton kernel {name}: argument {argument} is a tuple; expected tensors, descriptors and numbers"
            )
        aligned = isinstance(hint, str) and "D" in hint
        signature[argument] = kind + (":16" if aligned else ":1" if kind.startswith("*") else "")
        sizes |= _sizes(argument, kind, value)
    extents = _extents(name, values["grid"], signature, constexprs, bound)
    return Launch(fn, signature, constexprs, extents, sizes, options)


def _computed(fn: Any, values: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The function beneath what computes values of its arguments, and these."""
    while not hasattr(fn, "params") and hasattr(fn, "values"):
        for argument, rule in fn.values.items():
            values[argument] = rule(dict(values))
        fn = fn.fn
    return fn, values


def _hooked(hook: Callable[[dict[str, Any]], Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with descriptors as the hook leaves them: it does so before each launch."""
    descriptors = {n: copy.copy(v) for n, v in values.items() if hasattr(v, "block_shape")}
    if descriptors:
        hook({n: None if hasattr(v, "data_ptr") else v for n, v in values.items()} | descriptors)
    return {**values, **descriptors}


@lru_cache(maxsize=64)
def _binder(fn: Any, capability: int) -> Callable[..., tuple[dict[str, Any], list[Any], dict[str, Any]]]:
    from triton.backends.compiler import GPUTarget
    from triton.compiler.compiler import make_backend
    from triton.runtime.jit import create_function_from_signature

    backend = make_backend(GPUTarget("cuda", capability, 32))
    made: Callable[..., Any] = create_function_from_signature(fn.signature, fn.params, backend)
    return made


def _sizes(argument: str, kind: str, value: Any) -> dict[str, int]:
    """The numbers that an argument brings along."""
    if kind.startswith("tensordesc"):
        extents = {f"{argument}_shape_{d}": int(n) for d, n in enumerate(value.shape)}
        return extents | {f"{argument}_stride_{d}": int(n) for d, n in enumerate(value.strides[:-1])}
    return {argument: int(value)} if isinstance(value, int) and not isinstance(value, bool) else {}


def _extents(
    name: str, grid: Any, signature: Mapping[str, str], constexprs: Mapping[str, Any], bound: Mapping[str, Any]
) -> tuple[Any, ...]:
    """The grid over sizes, so that one description serves them all; of these sizes where the caller's function needs numbers."""
    if callable(grid):
        try:
            return extents_of(name, grid, signature, constexprs)
        except Exception:  # it is somebody else's function, made for numbers
            grid = grid(dict(bound))
    return tuple(int(extent) for extent in grid)
