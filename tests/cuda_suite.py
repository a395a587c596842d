"""The CUDA files of `validation/kernels`, many configurations of them in one compilation: for nvcc, and for g++ as host code.

A configuration is a namespace: its macros are defined, its entry is renamed, its file is included, the macros are undefined again.
`compiled` asks nvcc what it takes of each; `run` runs one on the CPU (`cuda_on_cpu.h`) and says what it read and wrote.
"""

from __future__ import annotations

import ctypes
import fcntl
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from costmodel.cost import find_description
from costmodel.ir import Buffer, Description, Kernel
from costmodel.measure.compile import found_tool
from costmodel.measure.listing import counted_ptx
from tests.oracle import evaluate

KERNELS = Path(__file__).resolve().parent.parent / "validation" / "kernels"
CAPACITY = 1 << 18
"""Bytes of dynamic shared memory that a kernel could take on the CPU."""
GAP = 4096
"""Bytes between buffers that belong to none."""


@dataclass(frozen=True)
class Configuration:
    """One kernel and all its arguments."""

    name: str
    sizes: Mapping[str, int]
    file: str = ""
    """Of its code, if not the one beside its description."""

    @property
    def description(self) -> Description:
        return find_description(self.name)

    @cached_property
    def kernel(self) -> Kernel:
        return self.description.trace(**{n: v for n, v in self.all.items() if n in self.description.static})

    @property
    def all(self) -> dict[str, int]:
        """Arguments, defaults included."""
        return {**self.description.defaults, **self.sizes}

    @property
    def bound(self) -> dict[str, int]:
        """Those that are symbols of the traced kernel."""
        return {n: self.all[n] for n in self.kernel.params}

    @property
    def code(self) -> dict[str, Any]:
        return dict(sys.modules[self.description.function.__module__].CODE[self.name])

    @property
    def macros(self) -> dict[str, int]:
        """What the file is compiled with: all that is no argument of the entry."""
        return {n: v for n, v in self.all.items() if n not in self.code["arguments"]}

    @property
    def buffers(self) -> list[Buffer]:
        """Pointers of the entry, in order."""
        return [b for b in self.kernel.buffers if b.space == "global"]

    def shared_bytes(self, dynamic: bool) -> int:
        """Of a block."""
        chosen = [b for b in self.kernel.buffers if b.space == "shared" and b.dynamic == dynamic]
        return sum(evaluate(b.reserved_bytes, self.bound) for b in chosen)

    def value(self, expression: Any) -> int:
        return evaluate(expression, self.bound)

    def __str__(self) -> str:
        return f"{self.name} {' '.join(f'{n}={v}' for n, v in self.sizes.items())}"


def of(name: str, **sizes: int) -> Configuration:
    """A description with these arguments."""
    return Configuration(name, sizes)


def one_source(
    configurations: Sequence[Configuration], after: str = "", of_each: Callable[[int, int], str] = lambda *_: ""
) -> str:
    """All of them in one file; configurations of one file and the same macros share a namespace.

    Args:
        configurations: the entry of each becomes `entry_` and its number.
        after: text at the end of each namespace.
        of_each: text behind it for each configuration, by its number and that of its namespace.
    """
    shared: list[tuple[tuple[Path, dict[str, int]], dict[str, int]]] = []  # file and macros, number by entry
    for number, c in enumerate(configurations):
        key, entry = (KERNELS / (c.file or c.code["cuda"]), c.macros), c.code.get("entry", c.name)
        own = next((entries for other, entries in shared if other == key and entry not in entries), None)
        if own is None:
            shared.append((key, own := {}))
        own[entry] = number
    parts = []
    for space, ((path, macros), entries) in enumerate(shared):
        text = path.read_text()
        others = {n: f"{n}_{space}" for n in re.findall(r'extern "C" __global__[^;{]*?(\w+)\((?:const )?\w+\*', text)}
        names: dict[str, Any] = {**macros, **others, **{entry: f"entry_{number}" for entry, number in entries.items()}}
        own_macros = re.findall(r"^#define (\w+)", text, re.MULTILINE)
        parts += [f"#define {n} {v if isinstance(v, str) else int(v)}" for n, v in names.items()]
        parts += [f"namespace configuration_{space} {{", f'#include "{path}"', after, "}"]
        parts += [of_each(number, space) for number in entries.values()]
        parts += [f"#undef {n}" for n in (*names, *own_macros)]
    return "\n".join(parts) + "\n"


def one_folder(root: Path, worker: str, name: str) -> Path:
    """Where something is built once in a session: `root` is a process's own folder, beside those of the other workers."""
    folder = (root.parent if worker else root) / name
    folder.mkdir(exist_ok=True)
    return folder


@contextmanager
def _once(folder: Path) -> Iterator[bool]:
    """Whether it is still to be built here; other processes wait meanwhile."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield not (folder / "done").exists()
        (folder / "done").touch()


# -- by nvcc


@dataclass(frozen=True)
class Taken:
    """What `ptxas -v` says of one configuration, and the instructions of its PTX."""

    registers: int
    spilled_bytes: int
    static_shared_bytes: int
    instructions: Counter[str]


def compiled(configurations: Sequence[Configuration], architectures: Sequence[str], folder: Path) -> dict[tuple[int, str], Taken]:
    """Each configuration, by number and architecture, out of one run of nvcc and one of ptxas for each architecture."""
    nvcc, ptxas = found_tool("nvcc"), found_tool("ptxas")
    assert nvcc
    assert ptxas
    source, ptx = folder / "suite.cu", folder / "suite.ptx"
    with _once(folder) as needed:
        if needed:
            source.write_text(one_source(configurations))
            virtual = architectures[0].replace("sm_", "compute_")
            subprocess.run([nvcc, "-ptx", "-w", f"-arch={virtual}", source, "-o", ptx], check=True, capture_output=True)
            for architecture in architectures:
                command = [ptxas, "-v", f"-arch={architecture}", str(ptx), "-o", str(folder / "suite.cubin")]
                said = subprocess.run(command, check=True, capture_output=True, text=True).stderr
                (folder / architecture).write_text(said)
    counted = {
        name: counted_ptx(text)
        for name, text in re.findall(r"\.entry (entry_\d+)\((.*?)(?=\.entry |\Z)", ptx.read_text(), re.DOTALL)
    }
    found = {}
    for architecture in architectures:
        said = (folder / architecture).read_text()
        for number, text in re.findall(r"Compiling entry function 'entry_(\d+)'(.*?)(?=Compiling entry|\Z)", said, re.DOTALL):
            numbers = [re.search(p, text) for p in (r"Used (\d+) registers", r"(\d+) bytes spill stores", r"(\d+) bytes smem")]
            registers, spilled, shared = (int(n.group(1)) if n else 0 for n in numbers)
            found[int(number), architecture] = Taken(registers, spilled, shared, counted[f"entry_{number}"])
    return found


# -- by g++


class Totals(ctypes.Structure):
    """What a grid did to one buffer by loads or by stores, as `tests.oracle.AccessCounts` names it."""

    _fields_ = [(n, ctypes.c_int64) for n in ("executions", "requested_bytes", "requests", "sectors", "lines", "wavefronts")]

    def __getattr__(self, name: str) -> int:  # for mypy: the fields
        raise AttributeError(name)


@dataclass(frozen=True)
class Ran:
    """What a run left and did."""

    buffers: dict[str, npt.NDArray[Any]]
    """Contents of the global buffers, flat."""
    totals: dict[tuple[str, str], Totals]
    """By buffer and `load` or `store`; `""` is shared memory."""
    shuffles: int
    """Of warps."""


class OnCpu:
    """Configurations compiled as host code."""

    def __init__(self, configurations: Sequence[Configuration], folder: Path) -> None:
        self.configurations = configurations
        here = Path(__file__).parent

        def called(number: int, space: int) -> str:
            constants = [b.name for b in configurations[number].kernel.buffers if b.space == "constant"]
            places = {f"dynamic_{number}": "dynamic_shared", **{f"constant_{number}_{n}": n for n in constants}}
            lines = [f'extern "C" void* {n}() {{ return configuration_{space}::{place}; }}' for n, place in places.items()]
            entry = f"configuration_{space}::entry_{number}"
            return "\n".join([f'extern "C" void call_{number}(void** given) {{ call_entry({entry}, given); }}', *lines])

        text = one_source(configurations, f"thread_local float4 dynamic_shared[{CAPACITY // 16}];", called)
        shared = ["g++", "-std=c++20", "-w", "-fPIC", f"-I{here}"]
        hooks = ["-O0", "-fsanitize=thread", "--param", "tsan-instrument-func-entry-exit=0"]
        jobs = [
            [*shared, *hooks, "-c", folder / "suite.cpp", "-o", folder / "suite.o"],
            [*shared, "-O2", "-c", here / "cuda_on_cpu.cpp", "-o", folder / "runner.o"],
            [*shared, "-shared", folder / "suite.o", folder / "runner.o", "-o", folder / "suite.so"],
        ]
        with _once(folder) as needed:
            if needed:
                (folder / "suite.cpp").write_text(f'#include "cuda_on_cpu.h"\n{text}')
                for job in jobs:
                    subprocess.run([str(part) for part in job], check=True)
        self.library = ctypes.CDLL(str(folder / "suite.so"))
        self.library.run_grid.restype = ctypes.c_char_p

    def run(
        self,
        number: int,
        contents: Mapping[str, npt.NDArray[Any]],
        backwards: bool = False,
        merge: bool = False,
        unwritten: bool = False,
    ) -> Ran:
        """Launch one configuration.

        Args:
            number: of the configuration.
            contents: flat arrays of the global and constant buffers; global ones are copied first.
            backwards: the last thread of a block begins.
            merge: count a load of an address once for each thread between two barriers, as compilers merge them.
            unwritten: shared memory may be read that nobody has written.

        Raises:
            AssertionError: the kernel does something wrong; the text says what and where.
        """
        c, library = self.configurations[number], self.library
        sizes = [contents[b.name].nbytes for b in c.buffers]
        arena = np.zeros(sum(sizes) + GAP * (len(sizes) + 2), np.uint8)
        at = (arena.ctypes.data + GAP + 255) // 256 * 256
        bounds: list[int] = []
        views: dict[str, npt.NDArray[Any]] = {}
        for buffer, size in zip(c.buffers, sizes, strict=True):
            offset = at - arena.ctypes.data
            views[buffer.name] = arena[offset : offset + size].view(contents[buffer.name].dtype)
            views[buffer.name][:] = contents[buffer.name]
            bounds += [at, at + size]
            at = (at + size + GAP // 2 + 255) // 256 * 256
        bounds.append(arena.ctypes.data + arena.nbytes)
        for buffer in (b for b in c.kernel.buffers if b.space == "constant"):
            place = getattr(library, f"constant_{number}_{buffer.name}")
            place.restype = ctypes.c_void_p
            ctypes.memmove(place(), contents[buffer.name].ctypes.data, contents[buffer.name].nbytes)
        pointers = [ctypes.c_void_p(first) for first in bounds[:-1:2]]
        given = [*pointers, *(ctypes.c_int(c.all[n]) for n in c.code["arguments"])]
        arguments = (ctypes.c_void_p * max(len(given), 1))(*(ctypes.addressof(g) for g in given))
        totals, shuffles = (Totals * (2 * len(sizes) + 2))(), ctypes.c_int()
        dynamic = getattr(library, f"dynamic_{number}")
        dynamic.restype = ctypes.c_void_p
        wrong = library.run_grid(
            getattr(library, f"call_{number}"), arguments, _three(c, c.kernel.grid_shape()), _three(c, c.kernel.block_shape()),
            int(backwards), int(merge), int(unwritten), (ctypes.c_size_t * len(bounds))(*bounds), len(sizes),
            ctypes.c_void_p(dynamic()), ctypes.c_size_t(c.shared_bytes(dynamic=True)), ctypes.c_size_t(CAPACITY), totals,
            ctypes.byref(shuffles),
        )  # fmt: skip
        assert not wrong, f"{c}: {wrong.decode()}"
        names = [*(b.name for b in c.buffers), ""]
        done = {(n, kind): totals[2 * i + j] for i, n in enumerate(names) for j, kind in enumerate(("load", "store"))}
        return Ran({n: v.copy() for n, v in views.items()}, done, shuffles.value)


def _three(c: Configuration, shape: Sequence[Any]) -> Any:
    return (ctypes.c_uint * 3)(*(c.value(n) for n in shape))


def contents(c: Configuration, seed: int = 0) -> dict[str, npt.NDArray[Any]]:
    """What a launch finds: standard normal inputs, what the description's `inputs` says, NaN in what is only written."""
    random = np.random.default_rng(seed)
    special = c.code.get("inputs", lambda *_: {})(c.all, random)
    accesses = [s.statement for s in c.kernel.statements()]
    loaded = {a.buffer.name for s in accesses for a in s.loads}
    found: dict[str, npt.NDArray[Any]] = {}
    for b in (b for b in c.kernel.buffers if b.space in ("global", "constant")):
        dtype = np.dtype({"f32": "f4", "f64": "f8", "i32": "i4"}[b.dtype.name])
        if b.name in special:
            found[b.name] = special[b.name].astype(dtype).reshape(-1)
        elif b.name in loaded or b.space == "constant":
            found[b.name] = random.standard_normal(c.value(b.elements)).astype(dtype)
        else:
            found[b.name] = np.full(c.value(b.elements), np.nan, dtype)
    return found


def expected(c: Configuration, given: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """What the description's reference computes of this, in double precision, in the shapes of the buffers."""
    import torch

    tensors = {b.name: shaped(c, b, given[b.name]) for b in c.kernel.buffers if b.name in given}
    doubled = {n: torch.from_numpy(a.astype("f8") if a.dtype.kind == "f" else a.copy()) for n, a in tensors.items()}
    return {n: t.numpy() for n, t in c.code["reference"](doubled, c.all).items()}


def shaped(c: Configuration, buffer: Buffer, flat: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A flat buffer as its description indexes it."""
    strides = [c.value(s) * flat.itemsize for s in buffer.strides]
    return np.lib.stride_tricks.as_strided(flat, [c.value(n) for n in buffer.shape], strides)
