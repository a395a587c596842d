"""PyTorch Inductor: template configurations of a matrix product are ordered and cut before any code is generated for them.

Hook: `InductorChoices._finalize_template_configs`, in a subclass that `torch._inductor.config.inductor_choices_class` makes or
`torch._inductor.virtualized.V.set_choices_handler` installs. Source: torch 2.13.0, `_inductor/choices.py`,
`_inductor/kernel_inputs.py` (`MMKernelInputs`), `_inductor/config.py` (an instance must have `uuid`).
"""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any

import costmodel
from costmodel.adapters.ranking import Config, Kernels, Pricer, Sizes, checked_top
from costmodel.device import Device, find_device
from costmodel.ir import Description

__all__ = ["PredictedChoices", "choices_class"]


def choices_class(
    device: Device | str, kernels: Mapping[str, tuple[Kernels, Sizes | None]], *, top: float = 1.0, **options: Any
) -> PredictedChoices:
    """What makes `InductorChoices`, for `torch._inductor.config.inductor_choices_class`.

    A configuration is the template's parameters (`BLOCK_M`, `BLOCK_N`, `BLOCK_K`, `num_stages`, `num_warps`, …) with `M`, `N`,
    `K` and batch `B` of the product (1 if there is none), `shapes` and `strides` of all operands, `dtype` of the first
    (`torch.bfloat16`) and `template`, its name. Choices that are no template (ATen's) and those of other operations stay first,
    as they came; templates that are not modelled stay last, beside those that `top` counts.

    Args:
        device: a device or its name.
        kernels: for an operation (`mm`, `addmm`, `bmm`, …), its kernel and how a configuration becomes its arguments.
        top: how many of the templates that are modelled and can launch, an int; or which share, a float. A group that the model
            cannot tell apart is kept whole.
        options: of `Scorer`.

    Example:
        With `gemm` a description::

            from costmodel.adapters.inductor import choices_class
            sizes = {"BM": "BLOCK_M", "BN": "BLOCK_N", "BK": "BLOCK_K", "STAGES": "num_stages"}
            torch._inductor.config.inductor_choices_class = choices_class("H100", {"mm": (gemm, sizes)}, top=8)
    """
    found = device if isinstance(device, Device) else find_device(device)
    checked_top(top)
    for kernel, sizes in kernels.values():
        Pricer(kernel, found, sizes, **options)
    return PredictedChoices(found, dict(kernels), top, options)


@dataclass(frozen=True)
class PredictedChoices:
    """Makes the choices of one thread; can be pickled where its kernels and sizes can."""

    device: Device
    kernels: Mapping[str, tuple[Kernels, Sizes | None]]
    top: float
    options: Mapping[str, Any]

    def __call__(self) -> Any:
        """An `InductorChoices` that orders and cuts template configurations."""
        pricers = {
            op: Pricer(kernel, self.device, sizes, host="Inductor", **self.options)
            for op, (kernel, sizes) in self.kernels.items()
        }
        return _handler_class()(pricers, self.top, self.uuid())

    def uuid(self) -> str:
        """Changes with what the choice depends on, as far as it can be read."""
        parts = [costmodel.__version__, repr(self.device), repr(self.top), repr(sorted(self.options.items()))]
        for op, pair in sorted(self.kernels.items()):
            parts += [op, *map(_text, pair)]
        return f"costmodel-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()}"


@cache
def _handler_class() -> Any:
    """The subclass of `InductorChoices`: torch is imported when it is needed."""
    from torch._inductor.choices import InductorChoices
    from torch._inductor.select_algorithm import ExternKernelChoice

    class Handler(InductorChoices):
        """Orders and cuts template configurations."""

        def __init__(self, pricers: Mapping[str, Pricer], top: float, name: str) -> None:
            super().__init__()
            self._pricers, self._top, self._name = pricers, top, name

        def uuid(self) -> str:
            """Of what it chooses by, for the keys of Inductor's caches."""
            return self._name

        def _finalize_template_configs(
            self, template_choices: Any, kernel_inputs: Any, templates: Any, op_name: str, kwarg_overrides: Any = None
        ) -> list[Any]:
            choices = super()._finalize_template_configs(template_choices, kernel_inputs, templates, op_name, kwarg_overrides)
            pricer = self._pricers.get(op_name)
            modelled = [c for c in choices if pricer and not isinstance(c.template, ExternKernelChoice)]
            if not modelled or pricer is None:
                return list(choices)
            ours = set(map(id, modelled))
            problem = _problem(kernel_inputs)
            prices = pricer.price([{**problem, **_parameters(choice)} for choice in modelled])
            others = (c for c in choices if id(c) not in ours)
            return list(chain(others, (modelled[row] for row in (*prices.best(self._top), *prices.unknown))))

    return Handler


def _problem(kernel_inputs: Any) -> Config:
    """What the operands say."""
    from torch._inductor.kernel_inputs import MMKernelInputs

    shapes = [tuple(map(int, shape)) for shape in kernel_inputs.shapes_hinted()]
    strides = [tuple(map(int, stride)) for stride in kernel_inputs.strides_hinted()]
    known = {"shapes": shapes, "strides": strides, "dtype": str(kernel_inputs.dtype())}
    if not isinstance(kernel_inputs, MMKernelInputs):
        return known
    left, right = shapes[kernel_inputs._mat1_idx], shapes[kernel_inputs._mat2_idx]
    return {**known, "M": left[-2], "N": right[-1], "K": left[-1], "B": math.prod(left[:-2])}


def _parameters(choice: Any) -> Config:
    """What the template is instantiated with."""
    return {"template": choice.template.name, **choice.extra_kwargs, **choice.params.to_kwargs()}


def _text(part: Any, deep: int = 4) -> str:
    """What a kernel or sizes are made of: source of functions with the values that they use, else what is printed."""
    function = part.function if isinstance(part, Description) else part
    if isinstance(function, Mapping):
        return repr(sorted((str(n), _text(v, deep)) for n, v in function.items()))
    if not inspect.isfunction(function):
        return repr(function)
    name = f"{function.__module__}.{function.__qualname__}"
    if not deep or function.__module__.startswith("costmodel."):
        return name
    try:
        closed = inspect.getclosurevars(function)
        lines = inspect.getsource(function)
    except (OSError, TypeError, ValueError):
        return repr(function)
    used = {n: v for n, v in {**closed.globals, **closed.nonlocals}.items() if not inspect.ismodule(v) and not inspect.isclass(v)}
    values = [(n, _text(v, deep - 1)) for n, v in sorted(used.items())]
    return hashlib.sha256(repr((lines, function.__defaults__, function.__kwdefaults__, values)).encode()).hexdigest()
