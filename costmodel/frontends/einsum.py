"""An einsum and a schedule as a kernel, to see in a minute what a tiling would cost.

    from_einsum("km,kn->mn", tile={"m": ("BM", "TM"), "n": ("BN", "TN"), "k": "BK"}, stage="AB", vector={"m": 4, "n": 4})

Operands are A, B, …, row-major in the order of their letters; the result is `out`. Sizes are the letters in upper case, tiles
named by text are sizes too. Every output letter gets a dimension of the grid, the last one x; a tiled one gets threads as well,
each with `vector` neighbouring elements in every strip of the tile. Contracted letters become loops, around tiles where they
have some. A staged operand is copied to shared memory by the whole block, the others are read where they are used.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from costmodel.dtypes import DType, f32
from costmodel.errors import DescriptionError
from costmodel.frontends.einsum_plan import EinsumPlan, Tile, listed, mapped, parsed
from costmodel.ir import Array, Builder, Description, Kernel, ceil_div

__all__ = ["from_einsum"]


def from_einsum(
    spec: str,
    *,
    tile: Mapping[str, Tile],
    stage: Sequence[str] = (),
    vector: Mapping[str, int] | None = None,
    pad: Mapping[str, int] | None = None,
    pipeline: int = 1,
    dtype: DType = f32,
    accumulator: DType = f32,
    name: str = "einsum",
) -> Kernel:
    """Describe an einsum under a schedule.

    Args:
        spec: such as `"mk,kn->mn"`; one letter for each index, none twice in one operand.
        tile: for an output letter, what a block and a thread have of it, `("BM", "TM")`, or the block alone; for a contracted
            letter, what is worked on between barriers. Text names a size, a number is fixed.
        stage: operands to stage in shared memory, such as `"AB"`.
        vector: for a letter, neighbouring elements that one access moves where the letter is an array's last, of up to 16 bytes.
        pad: for a staged operand, elements added to its rows in shared memory.
        pipeline: stages of shared memory; more than one are filled by asynchronous copies.
        dtype: of operands and result.
        accumulator: in which products are summed.
        name: of the kernel.

    Returns:
        The kernel. It requires that tiles divide sizes.

    Raises:
        DescriptionError: the einsum or the schedule is malformed, or its fixed numbers do not divide each other.
        UnsupportedError: a repeated letter within an operand, more than 26 operands or three tiled output letters.

    Example:
        >>> from costmodel import estimate
        >>> from costmodel.frontends import from_einsum
        >>> product = from_einsum("mk,kn->mn", tile={"m": 16, "n": 16, "k": 16}, stage="AB")
        >>> product.params
        ('M', 'K', 'N')
        >>> estimate(product, "H100", M=4096, K=4096, N=4096).bound
        'shared'
    """
    operands, output = parsed(spec)
    if not isinstance(name, str) or not name.strip():
        raise DescriptionError(f"einsum {spec!r}: name: expected text such as 'gemm', got {name!r}")
    plan = EinsumPlan(
        spec,
        operands,
        output,
        mapped(spec, "tile", tile),
        listed(spec, "stage", stage),
        mapped(spec, "vector", {} if vector is None else vector),
        mapped(spec, "pad", {} if pad is None else pad),
        pipeline,
        dtype,
        accumulator,
    )
    plan.check()
    names = plan.sizes()

    def describe(k: Builder, **sizes: Any) -> None:
        _Nest(plan, k, sizes).write()

    parameters = [inspect.Parameter("k", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    parameters += [inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY) for n in names]
    describe.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return Description(describe, (), name).trace()


class _Nest:
    """Writes the loops."""

    def __init__(self, plan: EinsumPlan, k: Builder, sizes: Mapping[str, Any]) -> None:
        self.plan, self.k = plan, k
        self.size = {x: sizes[x.upper()] for x in plan.letters}
        self.block = {x: _given(b, sizes) for x in plan.letters if (b := plan.block(x)) is not None}
        self.own = {x: _given(plan.thread(x), sizes) for x in plan.output}
        self.strip = {x: plan.vector.get(x, 1) for x in plan.letters}
        self.origin: dict[str, Any] = {}
        """First element of a letter that the block (or the current step) works on."""
        self.thread: dict[str, Any] = {}
        self._require()
        self.across = {x: self.block[x] // self.own[x] for x in plan.output if x in self.block}

    def write(self) -> None:
        plan, k = self.plan, self.k
        arrays = [
            k.buffer(name, [self.size[x] for x in letters], plan.dtype, read_only=True)
            for name, letters in zip(plan.names, plan.operands, strict=True)
        ]
        out = k.buffer("out", [self.size[x] for x in plan.output], plan.dtype)
        tiles = {
            name: self._shared(name, letters)
            for name, letters in zip(plan.names, plan.operands, strict=True)
            if name in plan.stage
        }
        parts = [
            self._register(f"part_{name}", letters, plan.dtype) for name, letters in zip(plan.names, plan.operands, strict=True)
        ]
        total = k.register("sum", [self.own[x] for x in plan.output], plan.accumulator)
        k.launch_bound(math.prod(self.across.values()))
        with self._grid(), self._block():
            with self._steps():
                for name, letters, array in zip(plan.names, plan.operands, arrays, strict=True):
                    if name in tiles:
                        self._copy(letters, array, tiles[name])
                if tiles:
                    k.barrier()
                with self._inside() as inner:
                    for name, letters, array, part in zip(plan.names, plan.operands, arrays, parts, strict=True):
                        self._read(name, letters, tiles.get(name), array, part, inner)
                    self._multiply(parts, total)
                if tiles and plan.contracted:
                    k.barrier()
            self._store(total, out)

    def _require(self) -> None:
        for x, block in self.block.items():
            self.k.require(self.size[x] % block == 0)
            self.k.require(block % (self.own[x] if x in self.own else self.strip[x]) == 0)
        for x, own in self.own.items():
            self.k.require(own % self.strip[x] == 0)

    def _shared(self, name: str, letters: str) -> Array:
        extents = [self.block[x] for x in letters if x in self.block] or [1]
        extents[-1] = extents[-1] + self.plan.pad.get(name, 0)
        return self.k.shared(f"tile_{name}", [self.plan.pipeline, *extents], self.plan.dtype, dynamic=True)

    def _register(self, name: str, letters: str, dtype: DType) -> Array:
        return self.k.register(name, [self.own[x] for x in letters if x in self.own] or [1], dtype)

    @contextmanager
    def _grid(self) -> Iterator[None]:
        """A dimension for each output letter, x for the last; all but the last two share z."""
        counts = {x: self.size[x] // self.block.get(x, 1) for x in reversed(self.plan.output)}
        letters = list(counts)
        extents = [counts[x] for x in letters[:2]]
        if letters[2:]:
            extents.append(math.prod(counts[x] for x in letters[2:]))
        with self.k.blocks(*extents) as indices:
            found = list(indices) if len(extents) > 1 else [indices]
            places = dict(zip(letters[:2], found, strict=False))
            rest = found[2] if letters[2:] else 0
            for n, x in enumerate(letters[2:]):
                last = n + 3 == len(letters)
                places[x] = rest if last else rest % counts[x]
                rest = rest if last else rest // counts[x]
            self.origin = {x: place * self.block.get(x, 1) for x, place in places.items()}
            yield

    @contextmanager
    def _block(self) -> Iterator[None]:
        letters = [x for x in reversed(self.plan.output) if x in self.across]
        with self.k.threads(*(self.across[x] for x in letters)) as indices:
            self.thread = dict(zip(letters, indices if len(letters) > 1 else [indices], strict=True))
            yield

    @contextmanager
    def _steps(self) -> Iterator[None]:
        """Loops over contracted letters: single elements of those without tiles, outside, then tiles."""
        letters = sorted(self.plan.contracted, key=lambda x: x in self.block)
        with ExitStack() as loops:
            for x in letters:
                tiled = self.block.get(x, 1)
                stages = self.plan.pipeline if x == letters[-1] else 1
                self.origin[x] = loops.enter_context(self.k.serial(self.size[x] // tiled, f"step_{x}", stages=stages)) * tiled
            yield

    @contextmanager
    def _inside(self) -> Iterator[dict[str, Any]]:
        """Loops over the tiles of contracted letters; yields the place in each."""
        with ExitStack() as loops:
            tiled = [x for x in self.plan.contracted if x in self.block]
            yield {x: loops.enter_context(self.k.unrolled(self.block[x], x)) for x in tiled}

    def _copy(self, letters: str, source: Array, tile: Array) -> None:
        """The block copies a tile, neighbouring threads neighbouring vectors of a row."""
        threads, width = math.prod(self.across.values()), self.strip[letters[-1]] if letters[-1] in self.block else 1
        tiled = [x for x in letters if x in self.block]
        elements = math.prod(self.block[x] for x in tiled)
        at_once = threads * width
        rest_idles = isinstance(elements, int) and isinstance(at_once, int) and elements % at_once > 0
        self.k.require(elements % (width if rest_idles else at_once) == 0)
        linear: Any = 0
        for x in self.plan.output:
            if x in self.across:
                linear = linear * self.across[x] + self.thread[x]
        with (
            self.k.unrolled(ceil_div(elements, at_once) if rest_idles else elements // at_once, "copy") as i,
            ExitStack() as guard,
        ):
            rest, local = (linear + i * threads) * width, dict[str, Any]()
            if rest_idles:
                guard.enter_context(self.k.when(rest < elements))
            for n, x in enumerate(reversed(tiled)):
                last = n + 1 == len(tiled)
                local[x] = rest if last else rest % self.block[x]
                rest = rest if last else rest // self.block[x]
            origin = source[tuple(self.origin[x] + local.get(x, 0) for x in letters)]
            target = tile[(0, *(local[x] for x in tiled))] if tiled else tile[0, 0]
            asynchronous = self.plan.pipeline > 1
            self.k.copy(origin.wide(width), target.wide(width), f"stage {source.buffer.name}", asynchronous=asynchronous)

    def _read(self, name: str, letters: str, tile: Array | None, source: Array, part: Array, inner: Mapping[str, Any]) -> None:
        """What a thread needs of an operand in one step, into registers."""
        with self._elements(letters, letters[-1]) as (places, kept, width):
            local = {**places, **inner}
            into = part[tuple(kept[x] for x in letters if x in kept) or 0].wide(width)
            if tile is None:
                at = source[tuple(self.origin[x] + local.get(x, 0) for x in letters)]
            else:
                tiled = [x for x in letters if x in self.block]
                at = tile[(0, *(local[x] for x in tiled))] if tiled else tile[0, 0]
            self.k.copy(at.wide(width), into, f"read {name}")

    def _multiply(self, parts: Sequence[Array], total: Array) -> None:
        with ExitStack() as loops:
            at = {x: loops.enter_context(self.k.unrolled(own, f"own_{x}")) for x, own in self.own.items()}
            loads = [
                part[tuple(at[x] for x in letters if x in at) or 0]
                for part, letters in zip(parts, self.plan.operands, strict=True)
            ]
            place = total[tuple(at[x] for x in self.plan.output)]
            factors, summed = len(parts), bool(self.plan.contracted)
            work = [self.k.fma(self.plan.accumulator)] * (summed and factors > 1)
            work += [self.k.add(self.plan.accumulator)] * (factors - 1 - len(work) if factors > 1 else int(summed))
            self.k.do("multiply", loads=[*loads, place] if summed else loads, stores=place, work=work)

    def _store(self, total: Array, out: Array) -> None:
        output = self.plan.output
        with self._elements(output, output[-1]) as (places, kept, width):
            to = out[tuple(self.origin[x] + places.get(x, 0) for x in output)]
            self.k.copy(total[tuple(kept[x] for x in output)].wide(width), to.wide(width), "store")

    @contextmanager
    def _elements(self, letters: str, fast: str) -> Iterator[tuple[dict[str, Any], dict[str, Any], int]]:
        """Loops over what a thread has of some letters: places in the tile, places in registers, width of an access."""
        width = self.strip[fast] if fast in self.own else 1
        places: dict[str, Any] = {}
        kept: dict[str, Any] = {}
        with ExitStack() as loops:
            for x in (x for x in letters if x in self.own):
                strip = self.strip[x]
                i = loops.enter_context(self.k.unrolled(self.own[x] // strip, f"strip_{x}"))
                e: Any = 0 if x == fast or strip == 1 else loops.enter_context(self.k.unrolled(strip, f"of_{x}"))
                kept[x] = i * strip + e
                if x in self.thread:
                    places[x] = (i * self.across[x] + self.thread[x]) * strip + e
            yield places, kept, width


def _given(part: int | str, sizes: Mapping[str, Any]) -> Any:
    """A fixed number, or the size that a name stands for."""
    return sizes[part] if isinstance(part, str) else part
