"""What a statement computes, written as CUDA: every loaded value is used, every operation described is done once.

Of a statement with stores, each stored element starts from the load of the same place (an accumulator),
else from the first load, and takes its share of the work; the other loads are operands in turn. A
statement without stores folds into a scalar `held`. Loads that no work uses are added.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import sympy

from costmodel.errors import UnsupportedError
from costmodel.ir import Access, Buffer, Kernel, Loop, Statement, Work
from costmodel.measure.c_expressions import Names

__all__ = ["C_TYPES", "Pool", "Values"]

C_TYPES = {
    "f64": "double", "f32": "float", "tf32": "float", "f16": "__half", "bf16": "__nv_bfloat16", "f8": "unsigned char",
    "i64": "long long", "i32": "int", "i16": "short", "i8": "signed char",
}  # fmt: skip
_FMA = {"f64": "fma", "f32": "fmaf", "tf32": "fmaf", "f16": "__hfma", "bf16": "__hfma"}
_INT_BITS = 2**31


@dataclass(slots=True)
class Values:
    """Writes statements of one kernel and remembers what the entry must declare for them."""

    kernel: Kernel
    names: Names
    _parameters: dict[str, None] = field(default_factory=dict)

    def arguments(self) -> tuple[str, ...]:
        """Declarations of `scale` and `shift` of each dtype that needed them."""
        return tuple(f"const {C_TYPES[d]} {n}_{d}" for d in self._parameters for n in ("scale", "shift"))

    def register_array(self, buffer: Buffer, count: int) -> str:
        """Declare an array in registers; accumulators start at zero."""
        leaves = [s.leaf for s in self.kernel.statements() if isinstance(s.leaf, Statement)]
        first = next((n for n, s in enumerate(leaves) for a in s.loads if a.buffer.name == buffer.name), len(leaves))
        written = next((n for n, s in enumerate(leaves) for a in s.stores if a.buffer.name == buffer.name), len(leaves))
        return f"{C_TYPES[buffer.dtype.name]} b_{buffer.name}[{count}]{' = {}' if first <= written else ''};"

    def held(self) -> Iterator[str]:
        """Declare the scalars into which statements without stores fold."""
        for dtype in self._held():
            yield f"{C_TYPES[dtype]} held_{dtype} = 0;"
        if any(w.kind == "integer" for s in self.kernel.statements() for w in s.statement.work):
            yield "int counted = threadIdx.x;"

    def _held(self) -> list[str]:
        leaves = [s.leaf for s in self.kernel.statements() if isinstance(s.leaf, Statement) and not s.leaf.stores]
        return list(dict.fromkeys(_dtype(leaf) for leaf in leaves))

    def place(self, access: Access) -> str:
        """The element an access starts at."""
        elements = self.names.number(access.buffer.elements, f"size of {access.buffer.name}")
        return f"b_{access.buffer.name}[{self.names.text(access.offset, wide=elements > _INT_BITS)}]"

    def statement(self, leaf: Statement, spare: list[str]) -> Iterator[str]:
        """The lines of one statement.

        Args:
            leaf: the statement.
            spare: values in registers that its stores may take up.

        Raises:
            UnsupportedError: matrix instructions, or atomics of a type that CUDA has none for.
        """
        dtype = _dtype(leaf)
        loaded = []
        for n, access in enumerate(leaf.loads):
            width = self.names.number(access.width, f"width of {access.buffer.name}")
            yield self._read(access, width, f"x{n}")
            loaded.append((access, width, f"x{n}"))
        widths = [self.names.number(a.width, f"width of {a.buffer.name}") for a in leaf.stores]
        others = [(of, x) for a, of, x in loaded if not any(_same_place(a, s) for s in leaf.stores)]
        elements = sum(widths) or 1
        at = 0
        for n, (access, width) in enumerate(zip(leaf.stores, widths, strict=True)):
            yield f"Vector<{C_TYPES[access.buffer.dtype.name]}, {width}> y{n};"
            for w in range(width):
                own = [f"{x}.v[{w}]" for a, _, x in loaded if _same_place(a, access)]
                given = [*own[:1], *(v for of, x in others for v in _share(x, of, w, width))]
                if not given or leaf.work:
                    given += spare[at : at + 1]
                yield from self._element(leaf, dtype, given, elements, at, f"v{at}")
                yield f"y{n}.v[{w}] = ({C_TYPES[access.buffer.dtype.name]})v{at};"
                at += 1
            yield from self._write(leaf, access, width, f"y{n}")
        if not leaf.stores:
            flat = [v for _, of, x in loaded for v in _share(x, of, 0, 1)]
            yield from self._element(leaf, dtype, [f"held_{dtype}", *flat], 1, 0, "v0")
            yield f"held_{dtype} = v0;"

    def _read(self, access: Access, width: int, name: str) -> str:
        vector = f"Vector<{C_TYPES[access.buffer.dtype.name]}, {width}>"
        if access.buffer.space in ("register", "constant"):
            parts = ", ".join(_next(self.place(access), w) for w in range(width))
            return f"const {vector} {name} = {{{{{parts}}}}};"
        volatile = "" if access.cached else "volatile "
        if volatile and width == 1:
            return f"const {vector} {name} = {{{{*(const volatile {C_TYPES[access.buffer.dtype.name]}*)&{self.place(access)}}}}};"
        return f"const {vector} {name} = *reinterpret_cast<const {vector}*>(&{self.place(access)});"

    def _write(self, leaf: Statement, access: Access, width: int, name: str) -> Iterator[str]:
        place, c_type = self.place(access), C_TYPES[access.buffer.dtype.name]
        if leaf.atomic:
            if access.buffer.dtype.name not in ("f32", "f64", "i32", "f16", "bf16"):
                raise UnsupportedError(f"kernel {self.kernel.name}: {leaf.name}: CUDA has no atomic addition of {c_type}")
            for w in range(width):
                yield f"atomicAdd(&{_next(place, w)}, {name}.v[{w}]);"
        elif access.buffer.space == "register":
            for w in range(width):
                yield f"{_next(place, w)} = {name}.v[{w}];"
        else:
            yield f"*reinterpret_cast<Vector<{c_type}, {width}>*>(&{place}) = {name};"

    def _element(self, leaf: Statement, dtype: str, given: list[str], elements: int, at: int, name: str) -> Iterator[str]:
        """One stored element: it starts from the first value and takes its share of the work on the others."""
        c_type, left = C_TYPES[dtype], given[1:]
        yield f"{c_type} {name} = ({c_type}){given[0] if given else self._parameter('shift', dtype)};"
        todo = [(w, self._portion(leaf, w, elements, at)) for w in leaf.work]
        remaining = sum(n for w, n in todo if w.kind in ("fma", "add"))
        for work, times in todo:
            if work.kind == "mma":
                raise UnsupportedError(
                    f"kernel {self.kernel.name}: {leaf.name}: matrix instructions cannot be written as CUDA here; "
                    "give their registers with registers=… or k.registers_per_thread(…)"
                )
            if work.kind not in ("fma", "add"):
                yield from self._other(work, times, name, dtype)
                continue
            for n in range(times):
                if not left:
                    yield self._repeated(work, dtype, name, times - n)
                    remaining -= times - n
                    break
                taken = min(2 if work.kind == "fma" else 1, -(-len(left) // remaining))
                yield self._operation(work, dtype, name, left[:taken])
                left, remaining = left[taken:], remaining - 1
        for operand in left:
            yield f"{name} = {name} + ({c_type}){operand};"

    def _portion(self, leaf: Statement, work: Work, elements: int, at: int) -> int:
        amount = self.names.number(work.amount, f"work of {leaf.name}")
        return amount // elements + (1 if at < amount % elements else 0)

    def _operation(self, work: Work, dtype: str, name: str, operands: list[str]) -> str:
        values = [f"({C_TYPES[dtype]}){o}" for o in operands]
        if work.kind == "add":
            return f"{name} = {name} + {values[0]};"
        second = values[1] if len(values) > 1 else self._parameter("scale", dtype)
        if dtype in _FMA:
            return f"{name} = {_FMA[dtype]}({values[0]}, {second}, {name});"
        return f"{name} = {values[0]} * {second} + {name};"

    def _repeated(self, work: Work, dtype: str, name: str, times: int) -> str:
        scale, shift = self._parameter("scale", dtype), self._parameter("shift", dtype)
        line = f"{name} = {name} + {scale};"
        if work.kind == "fma":
            line = (
                f"{name} = {_FMA[dtype]}({name}, {scale}, {shift});" if dtype in _FMA else f"{name} = {name} * {scale} + {shift};"
            )
        return line if times == 1 else f'_Pragma("unroll") for (int o = 0; o < {times}; ++o) {line}'

    def _other(self, work: Work, times: int, name: str, dtype: str) -> Iterator[str]:
        if not times:
            return
        if work.kind == "integer" and not dtype.startswith("i"):
            line = "counted = counted * 3 + (int)threadIdx.y;"
        elif work.kind == "integer":
            line = f"{name} = {name} * 3 + {self._parameter('shift', dtype)};"
        elif work.kind == "special":
            line = f'asm("ex2.approx.f32 %0, %1;" : "=f"({name}) : "f"({name}));' if dtype == "f32" else f"{name} = sqrt({name});"
        else:
            line = f"{name} = ({C_TYPES[dtype]})(int){name};"
        yield line if times == 1 else f'_Pragma("unroll") for (int o = 0; o < {times}; ++o) {line}'

    def _parameter(self, name: str, dtype: str) -> str:
        self._parameters[dtype] = None
        return f"{name}_{dtype}"


class Pool:
    """Accumulators, whose final values stores take up that follow them and load nothing else from registers."""

    def __init__(self, kernel: Kernel, names: Names) -> None:
        self.names = names
        sites = list(kernel.statements())
        self.last: dict[str, int] = {}
        self.inside: dict[str, set[str]] = {}
        self.left: dict[str, int] = {}
        self.dtypes: dict[str, str] = {}
        for n, site in enumerate(sites):
            assert isinstance(site.leaf, Statement)
            read = {a.buffer.name for a in site.leaf.loads}
            updated = [a.buffer for a in site.leaf.stores if a.buffer.space == "register" and a.buffer.name in read]
            for buffer in updated:
                self.last[buffer.name] = n
                rolled = {str(loop.index) for loop in site.serial() if loop.unroll != loop.extent}
                self.inside[buffer.name] = self.inside.get(buffer.name, set()) | rolled
                self.left[buffer.name] = names.number(buffer.elements, buffer.name)
                self.dtypes[buffer.name] = buffer.dtype.name
        self.sizes = dict(self.left)
        for n, site in enumerate(sites):
            assert isinstance(site.leaf, Statement)
            for access in site.leaf.loads:
                if access.buffer.name in self.left and n > self.last[access.buffer.name]:
                    self.left[access.buffer.name] = 0

    def for_statement(self, number: int, leaf: Statement, loops: tuple[Loop, ...]) -> list[str]:
        """Values that the stores of a statement take up: one for each element."""
        if not leaf.stores or any(a.buffer.space == "register" for a in (*leaf.loads, *leaf.stores)):
            return []
        if leaf.loads and not leaf.work:
            return []
        around = {str(loop.index) for loop in loops}
        ready = [n for n, left in self.left.items() if left and number > self.last[n] and not around & self.inside[n]]
        if not ready:
            return []
        name = ready[0]
        elements = sum(self.names.number(a.width, "width") for a in leaf.stores)
        turn, times = sympy.Integer(0), 1
        for loop in loops:
            if loop.kind == "serial" and loop.unroll == loop.extent:
                turn = turn * loop.extent + loop.index
                times *= self.names.number(loop.extent, f"extent of {loop.index}")
        first = self.sizes[name] - self.left[name]
        self.left[name] = max(self.left[name] - times * elements, 0)
        at = self.names.text(turn * elements)
        return [f"b_{name}[({at} + {first + e}) % {self.sizes[name]}]" for e in range(elements)]

    def rest(self) -> Iterator[str]:
        """Lines at the end of the entry that use what nothing else did."""
        for name, left in self.left.items():
            if left:
                yield "if (n_never < 0) {"
                yield f"    {C_TYPES[self.dtypes[name]]} total = 0;"
                yield "    #pragma unroll"
                yield f"    for (int e = {self.sizes[name] - left}; e < {self.sizes[name]}; ++e) total = total + b_{name}[e];"
                yield f"    *reinterpret_cast<{C_TYPES[self.dtypes[name]]}*>(sink) = total;"
                yield "}"

    def arguments(self) -> tuple[str, ...]:
        """What `rest` needs of the entry."""
        return ("void* sink", "const int n_never") if any(self.left.values()) else ()


def _dtype(leaf: Statement) -> str:
    """The type a statement computes in: of its arithmetic, else of what it moves."""
    floats = [w.dtype.name for w in leaf.work if w.kind in ("fma", "add", "special", "convert")]
    moved = [a.buffer.dtype.name for a in (*leaf.stores, *leaf.loads)]
    return (floats or moved or ["f32"])[0]


def _same_place(a: Access, b: Access) -> bool:
    return a.buffer.name == b.buffer.name and a.index == b.index and a.width == b.width


def _share(name: str, width: int, element: int, elements: int) -> list[str]:
    """Which parts of a loaded vector go into one of several stored elements."""
    if width < elements:
        return [f"{name}.v[{element * width // elements}]"]
    return [f"{name}.v[{w}]" for w in range(width) if w * elements // width == element]


def _times(times: int, line: str) -> str:
    return line if times == 1 else f'_Pragma("unroll") for (int o = 0; o < {times}; ++o) {line}'


def _next(place: str, step: int) -> str:
    return place if step == 0 else f"{place[:-1]} + {step}]"
