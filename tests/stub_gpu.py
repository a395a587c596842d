"""A GPU that keeps what it was asked, and four small kernels with code beside them."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np

from costmodel.cost import find_description
from costmodel.errors import MeasureError
from costmodel.measure.bench import GpuBench
from costmodel.measure.live import Clocks
from costmodel.measure.task import Settings, Task

MODULE = '''
import numpy as np
from costmodel import kernel
from costmodel.dtypes import bf16, f16, f32, i32


@kernel(static=("FLAG",), name="scaled")
def scaled(k, *, N, B, S=2, FLAG=True):
    """y = w·x, with a staged buffer for the sake of its bytes."""
    k.require(N % B == 0)
    y = k.buffer("y", (N,), f32)
    x = k.buffer("x", (N,), f32, read_only=True)
    w = k.constant("w", (4,), f32)
    tile = k.shared("tile", (B + 1,), f32, dynamic=True)
    more = k.shared("more", (B,), f16, dynamic=True)
    with k.blocks(N // B) as b, k.threads(B) as t:
        k.copy(x[b * B + t], tile[t], "stage")
        k.do("scale", loads=[tile[t], w[0]], work=k.fma(f32), stores=y[b * B + t])


@kernel
def added(k, *, N, B):
    """y += x."""
    x, y = k.buffer("x", (N,), bf16), k.buffer("y", (N,), bf16)
    with k.blocks(N // B) as b, k.threads(B) as t:
        k.do("add", loads=[x[b * B + t], y[b * B + t]], work=k.add(f32), stores=y[b * B + t])


@kernel
def total(k, *, N, B):
    """The sum of x, and how often it was added to."""
    x, s, n = k.buffer("x", (N,), f32), k.buffer("s", (1,), f32), k.buffer("n", (1,), i32)
    with k.blocks(N // B) as b, k.threads(B) as t:
        k.do("sum", loads=[x[b * B + t]], work=k.add(f32), stores=s[0], atomic=True)
        k.do("count", work=k.add(f32), stores=n[0], atomic=True)


@kernel
def gathered(k, *, N, B, STEP):
    """y[i] = x[p[i]]."""
    p, x, y = k.buffer("p", (N,), i32, read_only=True), k.buffer("x", (N,), f32), k.buffer("y", (N,), f32)
    with k.blocks(N // B) as b, k.threads(B) as t:
        k.load(p[b * B + t], x[b * B + t])
        k.store(y[b * B + t])


def _permutation(sizes, random):
    return {"p": random.permutation(sizes["N"]).astype(np.int32) // sizes["STEP"]}


CODE = {
    "scaled": {
        "cuda": "all.cu", "arguments": ("N",), "reference": lambda t, s: {"y": t["x"] * t["w"][0]},
        "space": {"N": [1024, 2048], "B": [64, 128]},
    },
    "added": {"cuda": "all.cu", "entry": "plus", "arguments": ("N",), "reference": lambda t, s: {"y": t["x"] + t["y"]}},
    "total": {
        "cuda": "all.cu", "arguments": ("N",), "tolerance": 1e-3,
        "reference": lambda t, s: {"s": t["x"].sum()[None], "n": t["n"] + s["N"]},
    },
    "gathered": {
        "cuda": "all.cu", "arguments": ("N",), "inputs": _permutation, "reference": lambda t, s: {"y": t["x"][t["p"].long()]},
    },
}
'''


class Program:
    registers, static_shared_bytes, local_bytes, binary = 32, 128, 8, b""

    def __init__(self, entry: str, macros: dict) -> None:
        self.entry, self.macros, self.constants = entry, macros, dict[str, np.ndarray]()


class Stub:
    """A GPU that does what `kernels` say, and keeps what it was asked."""

    name, architecture = "stub", "sm_90"

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.builds: list[dict] = []
        self.errors: dict[str, Exception] = {}
        self.broken = False
        self.flushes = 0
        self.hz, self.now_s = [1.98e9], 0.0

    def _say(self, what: str, *about: Any) -> None:
        self.asked.append((what, *about))
        if what in self.errors:
            raise self.errors[what]

    def facts(self):
        return {"name": self.name, "architecture": self.architecture}

    def clocks(self):
        return Clocks(self.hz.pop(0) if len(self.hz) > 1 else self.hz[0], 2.6e9, 300.0, None)

    def build(self, source, entry, macros, quiet=contextlib.nullcontext):
        self.builds.append(dict(macros))
        self._say("build", entry, source)
        with quiet():
            self._say("load")
        return Program(entry, dict(macros))

    def unload(self, program):
        self._say("unload", program.macros)

    def fill_constant(self, program, name, values):
        program.constants[name] = values

    def start(self, program, launch, arguments):
        self._say("start", program.entry, launch, tuple(arguments))
        if not self.broken:
            getattr(self, program.entry)(program, *arguments)

    def empty(self, program):
        pass

    def scaled(self, program, y, x, n):
        y.copy_(x * float(program.constants["w"][0]))

    def plus(self, program, x, y, n):
        y.add_(x)

    def total(self, program, x, s, n, size):
        s.add_(x.sum())
        n.add_(int(size))

    def gathered(self, program, p, x, y, n):
        y.copy_(x[p.long()])

    def times_s(self, run, repeats, before=None):
        for _ in range(repeats):
            if before is not None:
                before()
            run()
        times_s = np.linspace(1.0, 2.0, repeats) * 1e-3
        self.now_s += times_s.sum()
        return times_s

    def flush_l2(self):
        self.flushes += 1

    def synchronize(self):
        self._say("synchronize")

    def explain(self, error):
        return error if isinstance(error, MeasureError) else None


def bench_on(device: Any) -> GpuBench:
    """A bench over a stub, whose launches take its own time."""
    gpu = Stub()
    bench = GpuBench(gpu, contextlib.nullcontext, device)
    bench.timer.now = lambda: gpu.now_s
    return bench


def task(module: Path, name: str, **sizes: Any) -> Task:
    description = find_description(f"{module}:{name}")
    full: dict[str, Any] = {n: sizes.get(n, description.defaults.get(n)) for n in description.arguments}
    return Task(f"{module}:{name}", tuple(full.items()), Settings(series_s=0.01))


def measured(bench: GpuBench, one: Task) -> tuple[dict, list[str]]:
    stages: list[str] = []
    return bench.measure(one, stages.append), stages
