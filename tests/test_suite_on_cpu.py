"""The CUDA files of the suite through the real bench, with g++ in the GPU's place: arguments, macros, launches, references."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest

from costmodel.cli.inputs import table_of
from costmodel.cost import find_description
from costmodel.measure.bench import GpuBench
from costmodel.measure.code import coded_names, find_code, measured_space
from costmodel.measure.live import Clocks
from costmodel.measure.space import space_of
from costmodel.measure.task import Settings, Task

torch = pytest.importorskip("torch")
suite = pytest.importorskip("tests.cuda_suite")

SMALL: dict[str, dict[str, Any]] = {
    "box2d": {"NX": 100, "NY": 50, "R": 2, "BX": 32, "BY": 4},
    "convolution_2d": {"NX": 96, "NY": 40, "BX": 16, "BY": 4, "TX": 2, "TY": 2, "SHMEM": 1},
    "copy": {"N": 1 << 12, "B": 64, "V": 4},
    "gathered_copy": {"N": 1 << 12},
    "gemm": {"M": 64, "N": 64, "K": 32, "BM": 32, "BN": 32, "BK": 8, "TM": 4, "TN": 4},
    "jacobi_3d": {"NX": 40, "NY": 20, "NZ": 10},
    "matrix_sum_coalesced": {"N": 64, "T": 16},
    "matrix_sum_normal": {"N": 64, "T": 16},
    "strided_copy": {"N": 1 << 12},
    "transpose_naive": {"N": 64, "T": 32, "R": 8},
    "transpose_padded": {"N": 64, "T": 32, "R": 8},
    "transpose_shared": {"N": 64, "T": 32, "R": 8},
    "row_layer_norm_warp": {"M": 64, "N": 100},
    "row_softmax_warp": {"M": 64, "N": 100},
    "star3d": {"NX": 40, "NY": 30, "NZ": 20},
    "vector_add": {"N": 1000, "B": 64},
}
"""Problems that a CPU runs; what is not here is taken from the space that is measured."""
SIZES = {"M": 64, "N": 1 << 12}
"""Of kernels that are not in `SMALL`."""


class Program:
    registers, static_shared_bytes, local_bytes, binary = 32, 0, 0, b""

    def __init__(self, number: int) -> None:
        self.number, self.constants = number, dict[str, np.ndarray]()


class Cpu:
    """Runs what was compiled as host code."""

    name, architecture = "cpu", "sm_90"

    def __init__(self, host: Any) -> None:
        self.host = host

    def facts(self):
        return {"name": self.name, "architecture": self.architecture}

    def clocks(self):
        return Clocks(None, None, None, None)

    def build(self, source, entry, macros):
        for number, c in enumerate(self.host.configurations):
            if (c.code.get("entry", c.name), dict(c.macros)) == (entry, macros):
                return Program(number)
        raise AssertionError(f"{entry} {macros} is none of what was compiled")

    def fill_constant(self, program, name, values):
        program.constants[name] = values.reshape(-1)

    def start(self, program, launch, arguments):
        c = self.host.configurations[program.number]
        tensors, numbers = arguments[: len(c.buffers)], arguments[len(c.buffers) :]
        assert launch.grid == tuple(c.value(n) for n in c.kernel.grid_shape())
        assert launch.block == tuple(c.value(n) for n in c.kernel.block_shape())
        assert launch.shared_bytes >= c.shared_bytes(dynamic=True)
        assert [int(n) for n in numbers] == [c.all[n] for n in c.code["arguments"]]
        flat = {b.name: t.as_strided((c.value(b.elements),), (1,)) for b, t in zip(c.buffers, tensors, strict=True)}
        given = {n: t.numpy() for n, t in flat.items()}
        ran = self.host.run(program.number, {**given, **program.constants})
        for n, t in flat.items():
            t.copy_(torch.from_numpy(ran.buffers[n]))

    def times_s(self, run, repeats, before=None):
        return np.full(repeats, 1e-3)

    def flush_l2(self):
        pass

    def synchronize(self):
        pass

    def explain(self, error):
        return None


def _sizes(name: str) -> dict[str, Any]:
    """One configuration of a kernel that its description admits."""
    description = find_description(name)
    own = measured_space(description) or {}
    small = {n: v for n, v in SMALL.get(name, SIZES).items() if n in description.arguments}
    return dict(space_of(description, name, table_of(description, None, small, own), Settings()).tasks[0].sizes)


NAMES = [n for n in coded_names() if find_code(find_description(n)).language == "cuda"]


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> GpuBench:
    configurations = [suite.Configuration(name, _sizes(name)) for name in NAMES]
    return GpuBench(Cpu(suite.OnCpu(configurations, tmp_path_factory.mktemp("host"))), contextlib.nullcontext, "cpu")


@pytest.mark.parametrize("name", NAMES)
def test_a_kernel_is_right_as_the_bench_launches_it(bench, name):
    task = Task(name, tuple(_sizes(name).items()))
    row = bench.measure(task, lambda _: None)
    assert row["status"] == "ok", (task.key, row)
