"""PyTorch Inductor: template configurations of a matrix product are ordered and cut before any code is generated for them.

Hook: `InductorChoices._finalize_template_configs`, in a subclass that `torch._inductor.config.inductor_choices_class` makes or
`torch._inductor.virtualized.V.set_choices_handler` installs. Source: torch 2.13.0, `_inductor/choices.py`,
`_inductor/kernel_inputs.py` (`MMKernelInputs`), `_inductor/config.py` (an instance must have `uuid`).
"""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any

import costmodel
from costmodel.adapters.ranking import Config, Kernels, Pricer, Sizes, checked_top
from costmodel.device import Device
from costmodel.ir import Description

__all__ = ["choices_class"]


def choices_class(
    device: Device | str, kernels: Mapping[str, tuple[Kernels, Sizes | None]], *, top: float = 1.0, **options: Any
) -> Callable[[], Any]:
    """A subclass of `InductorChoices` for `torch._inductor.config.inductor_choices_class`.

    A configuration is the template's parameters (`BLOCK_M`, `BLOCK_N`, `BLOCK_K`, `num_stages`, `num_warps`, …) with `M`, `N`,
    `K` and batch `B` of the product (1 if there is none), `shapes` of all operands, `dtype` of the first (`torch.bfloat16`) and
    `template`, its name. Choices that are no template (ATen's) and those of other operations stay first, as they came; templates
    that are not modelled stay last.

    Args:
        device: a device or its name.
        kernels: for an operation (`mm`, `addmm`, `bmm`, …), its kernel and how a configuration becomes its arguments.
        top: how many templates that can launch, an int; or which share, a float. A group that the model cannot tell apart is
            kept whole.
        options: of `Scorer`.

    Example:
        With `gemm` a description::

            from costmodel.adapters.inductor import choices_class
            sizes = {"BM": "BLOCK_M", "BN": "BLOCK_N", "BK": "BLOCK_K", "STAGES": "num_stages"}
            torch._inductor.config.inductor_choices_class = choices_class("H100", {"mm": (gemm, sizes)}, top=8)
    """
    from torch._inductor.choices import InductorChoices
    from torch._inductor.select_algorithm import ExternKernelChoice

    pricers = {op: Pricer(kernel, device, sizes, host="Inductor", **options) for op, (kernel, sizes) in kernels.items()}
    kept = checked_top(top)
    name = _digest(device, kernels, top, options)

    class PredictedChoices(InductorChoices):
        """Orders and cuts template configurations."""

        def uuid(self) -> str:
            """Of what it chooses by, for the keys of Inductor's caches."""
            return name

        def _finalize_template_configs(
            self, template_choices: Any, kernel_inputs: Any, templates: Any, op_name: str, kwarg_overrides: Any = None
        ) -> list[Any]:
            choices = super()._finalize_template_configs(template_choices, kernel_inputs, templates, op_name, kwarg_overrides)
            pricer = pricers.get(op_name)
            modelled = [c for c in choices if pricer and not isinstance(c.template, ExternKernelChoice)]
            if not modelled or pricer is None:
                return list(choices)
            ours = set(map(id, modelled))
            problem = _problem(kernel_inputs)
            prices = pricer.price([{**problem, **_parameters(choice)} for choice in modelled])
            others = (c for c in choices if id(c) not in ours)
            return list(chain(others, (modelled[row] for row in (*prices.best(kept), *prices.unknown))))

    return PredictedChoices


def _problem(kernel_inputs: Any) -> Config:
    """What the operands say."""
    from torch._inductor.kernel_inputs import MMKernelInputs

    shapes = [tuple(map(int, shape)) for shape in kernel_inputs.shapes_hinted()]
    known = {"shapes": shapes, "dtype": str(kernel_inputs.dtype())}
    if not isinstance(kernel_inputs, MMKernelInputs):
        return known
    left, right = shapes[kernel_inputs._mat1_idx], shapes[kernel_inputs._mat2_idx]
    return {**known, "M": left[-2], "N": right[-1], "K": left[-1], "B": math.prod(left[:-2])}


def _parameters(choice: Any) -> Config:
    """What the template is instantiated with."""
    return {"template": choice.template.name, **choice.extra_kwargs, **choice.params.to_kwargs()}


def _digest(device: Device | str, kernels: Mapping[str, tuple[Any, Any]], top: float, options: Any) -> str:
    """Changes with what the choice depends on, as far as it can be read."""
    parts = [costmodel.__version__, str(device), repr(top), repr(sorted(options.items()))]
    for op, pair in sorted(kernels.items()):
        parts += [op, *(_text(part) for part in pair)]
    return f"costmodel-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()}"


def _text(part: Any) -> str:
    function = part.function if isinstance(part, Description) else part
    if isinstance(function, Mapping):
        return repr(sorted((n, _text(v)) for n, v in function.items()))
    try:
        return inspect.getsource(function) if callable(function) else repr(function)
    except (OSError, TypeError):
        return repr(function)
