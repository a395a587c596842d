"""The emulator on kernels made for it, and every shipped description on data."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from costmodel import kernel
from costmodel.cost import find_description
from costmodel.dtypes import bf16, f32
from costmodel.ir import Kernel
from tests.emulate import EmulationError, emulate, filled, rounded
from tests.emulations import EMULATIONS
from tests.oracle import evaluate


def contents(traced: Kernel, sizes: dict[str, int], values: Any, random: np.random.Generator) -> dict[str, np.ndarray]:
    """Every global and constant array: all are filled, written ones too, since some are read first."""
    return {
        b.name: rounded(values(random, evaluate(b.elements, sizes)), b.dtype)
        for b in traced.buffers
        if b.space in ("global", "constant")
    }


def referred(name: str, traced: Kernel, buffers: dict[str, np.ndarray], sizes: dict[str, Any]) -> dict[str, np.ndarray]:
    """What the `reference` of CODE says, on global arrays of the described shapes in double precision."""
    torch = pytest.importorskip("torch", reason="needs torch: pip install 'costmodel[torch]'")
    code = sys.modules[find_description(name).function.__module__].CODE[name]
    shapes = {b.name: [evaluate(n, sizes) for n in b.shape] for b in traced.buffers if b.space == "global"}
    tensors = {n: torch.from_numpy(buffers[n].reshape(shape)) for n, shape in shapes.items()}
    return {n: t.numpy() for n, t in code["reference"](tensors, sizes).items()}


CASES = [(name, at) for name, emulation in EMULATIONS.items() for at in range(len(emulation.sizes))]


@pytest.mark.parametrize(("name", "at"), CASES)
def test_a_description_computes_what_it_should(name, at):
    emulation, description = EMULATIONS[name], find_description(name)
    given = {**description.defaults, **emulation.sizes[at]}
    traced = description.trace(**{n: given[n] for n in description.static})
    sizes = {n: given[n] for n in description.params}
    buffers = contents(traced, sizes, emulation.values, np.random.default_rng(0))
    given_values = {n: v.astype(np.float64) for n, v in buffers.items()}
    expected = emulation.expected(given_values, given) if emulation.expected else referred(name, traced, given_values, given)
    emulate(traced, sizes, buffers, emulation.compute(traced, sizes, buffers), start=emulation.start, races=emulation.races)
    for array, values in expected.items():
        found, wanted = buffers[array].reshape(-1), np.asarray(values, np.float64).reshape(-1)
        assert np.abs(found - wanted).max() <= emulation.tolerance * np.abs(wanted).max(), array
