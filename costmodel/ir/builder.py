"""What a description calls while it runs: a builder that records buffers, loops, guards and statements."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import sympy

from costmodel.dtypes import DType
from costmodel.errors import DescriptionError
from costmodel.ir.arrays import Array, Reference
from costmodel.ir.checks import finish
from costmodel.ir.expressions import Comparison, Divisibility, Expr, Integer, to_sympy
from costmodel.ir.types import Access, Barrier, Buffer, Guard, Kernel, Loop, LoopKind, Node, Space, Statement, Work
from costmodel.symbols import Condition, Mod, index, is_identifier, to_text

__all__ = ["Builder", "Static"]

Static = int | bool | str


class Builder:
    """Records one kernel while its description runs."""

    def __init__(self, name: str, facts: Divisibility) -> None:
        self._name = name
        self._facts = facts
        self._buffers: dict[str, Buffer] = {}
        self._requirements: list[Condition] = []
        self._bodies: list[list[Node]] = [[]]
        self._indices: set[str] = set()
        self._taken: set[str] = set()
        self._max_threads: sympy.Expr | None = None
        self._registers: sympy.Expr | None = None
        self._shared_bytes: sympy.Expr | None = None

    # -- buffers

    def buffer(
        self,
        name: str,
        shape: Sequence[Integer],
        dtype: DType,
        *,
        strides: Sequence[Integer] | None = None,
        read_only: bool = False,
    ) -> Array:
        """A global array.

        Args:
            name: identifier.
            shape: extents, slowest dimension first.
            dtype: of the elements.
            strides: elements from one index to the next; row-major if left out.
            read_only: `const __restrict__`: loads may take the read-only path, which L1 caches on every GPU.
        """
        return self._array(name, shape, dtype, "global", strides, read_only=read_only)

    def shared(
        self,
        name: str,
        shape: Sequence[Integer],
        dtype: DType,
        *,
        strides: Sequence[Integer] | None = None,
        dynamic: bool = False,
    ) -> Array:
        """A shared-memory array; pad it by a larger last extent.

        Args:
            name: identifier.
            shape: extents as stored, slowest dimension first.
            dtype: of the elements.
            strides: elements from one index to the next; row-major if left out.
            dynamic: sized at launch (`extern __shared__`): may exceed the static limit of 48 KiB.
        """
        return self._array(name, shape, dtype, "shared", strides, dynamic=dynamic)

    def exchange(self, name: str, lanes: Integer, dtype: DType) -> Array:
        """Registers of a warp's lanes as the others read them: a load of it is a shuffle.

        To the hardware that is a pass through the crossbar of shared memory, of which it takes none. Nothing has to store to it.
        """
        return self._array(name, (lanes,), dtype, "shared", None, exchange=True)

    def register(self, name: str, shape: Sequence[Integer], dtype: DType) -> Array:
        """An array that lives in the registers of each thread."""
        return self._array(name, shape, dtype, "register", None)

    def constant(self, name: str, shape: Sequence[Integer], dtype: DType) -> Array:
        """An array in constant memory."""
        return self._array(name, shape, dtype, "constant", None)

    def _array(
        self,
        name: str,
        shape: Sequence[Integer],
        dtype: DType,
        space: Space,
        strides: Sequence[Integer] | None,
        *,
        read_only: bool = False,
        dynamic: bool = False,
        exchange: bool = False,
    ) -> Array:
        where = f"kernel {self._name}: buffer {name!r}"
        if not is_identifier(name):
            raise DescriptionError(f"{where}: the name must be an identifier")
        if name in self._buffers:
            raise DescriptionError(f"{where}: declared twice; give the second one another name")
        if not isinstance(dtype, DType):
            raise DescriptionError(f"{where}: expected a DType such as f32, got {dtype!r}")
        if not isinstance(shape, tuple | list) or not shape:
            raise DescriptionError(f"{where}: expected a non-empty tuple of extents, got {shape!r}")
        try:
            extents = tuple(to_sympy(n) for n in shape)
        except DescriptionError as error:
            raise DescriptionError(f"{where}: {error}") from None
        if strides is None:
            steps = [sympy.Integer(1)]
            for extent in extents[:0:-1]:
                steps.insert(0, steps[0] * extent)
        else:
            steps = [to_sympy(s) for s in strides]
        if len(steps) != len(extents):
            raise DescriptionError(f"{where}: expected {len(extents)} strides, got {len(steps)}")
        self._buffers[name] = Buffer(name, extents, dtype, space, tuple(steps), read_only, dynamic, exchange)
        return Array(self._buffers[name], self._name)

    # -- conditions

    def require(self, *conditions: Comparison | bool) -> None:
        """Sizes must meet these; a configuration that does not is infeasible, and says so."""
        for given in conditions:
            if given is True:
                continue
            op, left, right = self._condition(given, "require")
            self._requirements.append((op, left, right))
            if op == "==" and right == 0 and isinstance(left, Mod):
                self._facts.add(left.args[0], left.args[1])

    @contextmanager
    def when(self, *conditions: Comparison | bool, fraction: float | Fraction | None = None) -> Iterator[None]:
        """Run the body where all conditions hold.

        Args:
            conditions: comparisons of sizes and indices.
            fraction: share of executions that pass, in [0, 1]. Leave it out where the conditions say enough
                to count it; give it where the branch depends on data (then `conditions` may be empty).
        """
        if fraction is None and not conditions:
            raise DescriptionError(
                f"kernel {self._name}: k.when() without a condition: give one, or fraction=… for a branch on data"
            )
        if fraction is not None and not (isinstance(fraction, int | float | Fraction) and 0 <= fraction <= 1):
            raise DescriptionError(f"kernel {self._name}: k.when(fraction={fraction}): expected a share between 0 and 1")
        self._bodies.append([])
        yield
        body = tuple(self._bodies.pop())
        share = None if fraction is None else sympy.Rational(str(fraction))
        self._bodies[-1].append(Guard(tuple(self._condition(c, "when") for c in conditions), body, share))

    def _condition(self, given: object, method: str) -> Condition:
        if isinstance(given, Comparison):
            return given.condition
        if isinstance(given, bool):
            return ("==", sympy.Integer(int(given)), sympy.Integer(1))
        raise DescriptionError(f"kernel {self._name}: k.{method}: expected a comparison such as i < N, got {given!r}")

    # -- loops

    @contextmanager
    def blocks(self, *extents: Integer) -> Iterator[Any]:
        """The grid: up to three extents, x (launched first) to z. Yields one index or a tuple of them."""
        with self._parallel("block", extents) as indices:
            yield indices

    @contextmanager
    def threads(self, *extents: Integer) -> Iterator[Any]:
        """The threads of a block: up to three extents, x (fastest within a warp) to z."""
        with self._parallel("thread", extents) as indices:
            yield indices

    @contextmanager
    def serial(
        self, extent: Integer, name: str | None = None, *, start: Integer = 0, unroll: Integer = 1, stages: Integer = 1
    ) -> Iterator[Expr]:
        """A loop in each thread, from `start` for `extent` steps.

        Args:
            extent: trip count; it may depend on outer serial or block indices (triangular nests).
            name: of the index, for reading; made unique.
            start: first value of the yielded index.
            unroll: copies of the body in one machine iteration.
            stages: software pipeline stages: of asynchronous copies, or of global loads into registers, 2 where those of the next
                step are on their way while one is worked on.
        """
        symbol = self._index(name or "i")
        self._bodies.append([])
        yield Expr(symbol + to_sympy(start), self._facts)
        body = tuple(self._bodies.pop())
        self._bodies[-1].append(Loop(symbol, to_sympy(extent), "serial", body, 0, to_sympy(unroll), to_sympy(stages)))

    @contextmanager
    def unrolled(self, extent: Integer, name: str | None = None, *, start: Integer = 0) -> Iterator[Expr]:
        """A loop in each thread that the compiler unrolls completely."""
        with self.serial(extent, name, start=start, unroll=extent) as i:
            yield i

    @contextmanager
    def _parallel(self, kind: LoopKind, extents: Sequence[Integer]) -> Iterator[Any]:
        if not 1 <= len(extents) <= 3:
            raise DescriptionError(f"kernel {self._name}: k.{kind}s: expected one to three extents, got {len(extents)}")
        symbols = [self._index(f"{kind}_{'xyz'[axis]}") for axis in range(len(extents))]
        self._bodies.append([])
        indices = tuple(Expr(s, self._facts) for s in symbols)
        yield indices if len(indices) > 1 else indices[0]
        body = tuple(self._bodies.pop())
        for axis, (symbol, extent) in enumerate(zip(symbols, extents, strict=True)):
            body = (Loop(symbol, to_sympy(extent), kind, body, axis),)
        self._bodies[-1].extend(body)

    def _index(self, name: str) -> sympy.Symbol:
        if not is_identifier(name):
            raise DescriptionError(f"kernel {self._name}: loop name {name!r} must be an identifier")
        unique, n = name, 1
        while unique in self._indices or unique in self._taken:
            unique, n = f"{name}_{n}", n + 1
        self._indices.add(unique)
        return index(unique)

    # -- statements

    def do(
        self,
        name: str,
        *,
        loads: Reference | Sequence[Reference] = (),
        stores: Reference | Sequence[Reference] = (),
        work: Work | Sequence[Work] = (),
        asynchronous: bool = False,
        atomic: bool = False,
    ) -> None:
        """One statement of one thread: reads `loads`, does `work`, writes `stores`."""
        works = self._work(name, work)
        self._bodies[-1].append(
            Statement(name, self._accesses(name, loads), self._accesses(name, stores), works, asynchronous, atomic)
        )

    def copy(self, source: Reference, target: Reference, name: str | None = None, *, asynchronous: bool = False) -> None:
        """Move an element (or vector) from one array to another."""
        if isinstance(source, Reference) and isinstance(target, Reference) and source.access.width != target.access.width:
            widths = f"{to_text(source.access.width)} elements to {to_text(target.access.width)}"
            raise DescriptionError(f"kernel {self._name}: k.copy moves {widths}; give both sides the same .wide(…)")
        (read,), (written,) = self._accesses(name or "copy", source), self._accesses(name or "copy", target)
        self.do(name or f"{read.buffer.name} to {written.buffer.name}", loads=source, stores=target, asynchronous=asynchronous)

    def load(self, *references: Reference, name: str | None = None) -> None:
        """Read into registers that are not described as an array."""
        accesses = self._accesses(name or "load", references)
        if not accesses:
            raise DescriptionError(f"kernel {self._name}: k.load() without an access; give one such as A[i, j]")
        self.do(name or f"load {accesses[0].buffer.name}", loads=references)

    def store(self, *references: Reference, name: str | None = None) -> None:
        """Write a value that is in registers."""
        accesses = self._accesses(name or "store", references)
        if not accesses:
            raise DescriptionError(f"kernel {self._name}: k.store() without an access; give one such as A[i, j]")
        self.do(name or f"store {accesses[0].buffer.name}", stores=references)

    def barrier(self) -> None:
        """All threads of the block wait for each other."""
        self._bodies[-1].append(Barrier())

    def launch_bound(self, threads: Integer) -> None:
        """The compiler knows the block size (`__launch_bounds__`, OpenCL's required work-group size) and caps registers by it."""
        self._max_threads = to_sympy(threads)

    def registers_per_thread(self, registers: Integer) -> None:
        """The register count, where a compiler has told it."""
        self._registers = to_sympy(registers)

    def shared_bytes_per_block(self, bytes_: Integer) -> None:
        """Shared memory of a block, where a compiler has told it: arrays that live one after the other may lie in one place."""
        self._shared_bytes = to_sympy(bytes_)

    def _work(self, name: str, given: Work | Sequence[Work]) -> tuple[Work, ...]:
        items = tuple(given) if isinstance(given, list | tuple) else (given,)
        for item in items:
            if not isinstance(item, Work):
                raise DescriptionError(f"kernel {self._name}: statement {name!r}: expected work such as k.fma(f32), got {item!r}")
        return items

    def _accesses(self, name: str, given: Reference | Sequence[Reference]) -> tuple[Access, ...]:
        items = tuple(given) if isinstance(given, list | tuple) else (given,)
        for item in items:
            if not isinstance(item, Reference):
                raise DescriptionError(
                    f"kernel {self._name}: statement {name!r}: expected an access such as A[i, j], got {item!r}"
                )
        return tuple(item.access for item in items)

    # -- work

    @staticmethod
    def fma(dtype: DType, amount: Integer = 1) -> Work:
        """Fused multiply-adds of one thread."""
        return Work("fma", _dtype(dtype, "fma"), to_sympy(amount))

    @staticmethod
    def add(dtype: DType, amount: Integer = 1) -> Work:
        """Additions, multiplications, comparisons of one thread: one operation each, on the FMA lanes."""
        return Work("add", _dtype(dtype, "add"), to_sympy(amount))

    @staticmethod
    def mma(m: Integer, n: Integer, depth: Integer, dtype: DType) -> Work:
        """One matrix instruction of 32 threads: an `m` × `n` tile, `depth` multiply-adds for each element."""
        return Work("mma", _dtype(dtype, "mma"), to_sympy(m) * to_sympy(n) * to_sympy(depth))

    @staticmethod
    def integer(dtype: DType, amount: Integer = 1) -> Work:
        """Integer operations of the algorithm itself (not of addresses, which are counted from the accesses)."""
        return Work("integer", _dtype(dtype, "integer"), to_sympy(amount))

    @staticmethod
    def special(dtype: DType, amount: Integer = 1) -> Work:
        """Exponentials, reciprocals, roots, sines of one thread."""
        return Work("special", _dtype(dtype, "special"), to_sympy(amount))

    @staticmethod
    def convert(dtype: DType, amount: Integer = 1) -> Work:
        """Conversions between dtypes of one thread."""
        return Work("convert", _dtype(dtype, "convert"), to_sympy(amount))

    def result(self, params: tuple[str, ...], statics: tuple[tuple[str, Static], ...]) -> Kernel:
        """The finished kernel.

        Raises:
            DescriptionError: what was recorded is malformed.
        """
        return finish(
            Kernel(
                self._name, params, statics, tuple(self._buffers.values()), tuple(self._requirements),
                tuple(self._bodies[0]), self._max_threads, self._registers, self._shared_bytes,
            )
        )  # fmt: skip

    def reserve(self, names: Sequence[str]) -> None:
        """Keep loop indices from taking the names of sizes."""
        self._taken.update(names)


def _dtype(given: object, kind: str) -> DType:
    if isinstance(given, DType):
        return given
    raise DescriptionError(f"k.{kind}({given!r}): expected a DType such as f32")
