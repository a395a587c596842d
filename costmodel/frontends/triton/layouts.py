"""Which elements of a tensor each thread of a block holds: Triton's layouts as bases.

Every layout maps the bits of register, lane and warp numbers to coordinates: bit `b` of the lane number, say, adds the vector
`lanes[b]` to them. A basis of zeros means that the bit does not matter: several threads hold the same element.

Source: Triton, `lib/Dialect/TritonGPU/IR/LinearLayoutConversions.cpp` and "Linear Layouts", arXiv:2505.23819; the tests compare
with what Triton itself says.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

from costmodel.errors import UnsupportedError

__all__ = ["Layout", "RegisterLoop", "ThreadDigit", "WARP", "layout_of"]

WARP = 32
Basis = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ThreadDigit:
    """Bits `low` to `low + bits` of the thread number, and how far one step of that digit moves along a dimension."""

    low: int
    bits: int
    stride: int


@dataclass(frozen=True, slots=True)
class RegisterLoop:
    """Registers of a thread that lie evenly along one dimension."""

    dimension: int
    extent: int
    stride: int


@dataclass(frozen=True)
class Layout:
    """Bases of a distributed layout, cut to a tensor's shape."""

    shape: tuple[int, ...]
    registers: tuple[Basis, ...]
    lanes: tuple[Basis, ...]
    warps: tuple[Basis, ...]

    @property
    def threads(self) -> int:
        """Of the block."""
        return 1 << (len(self.lanes) + len(self.warps))

    @cached_property
    def held(self) -> int:
        """Different elements that one thread holds."""
        return 1 << sum(any(b) for b in self.registers)

    @cached_property
    def replicas(self) -> int:
        """Threads that hold the same element."""
        return 1 << sum(not any(b) for b in (*self.lanes, *self.warps))

    def along(self, dimension: int) -> tuple[int, int, int]:
        """Registers, lanes and warps among which a dimension is spread."""
        counts = (1 << sum(b[dimension] > 0 for b in bases) for bases in (self.registers, self.lanes, self.warps))
        registers, lanes, warps = counts
        return registers, lanes, warps

    def thread_digits(self, dimension: int) -> tuple[ThreadDigit, ...]:
        """The thread number's part of a coordinate."""
        found: list[ThreadDigit] = []
        for bit, basis in enumerate((*self.lanes, *self.warps)):
            step = basis[dimension]
            last = found[-1] if found else None
            if not step:
                continue
            if last and last.low + last.bits == bit and last.stride << last.bits == step:
                found[-1] = ThreadDigit(last.low, last.bits + 1, last.stride)
            else:
                found.append(ThreadDigit(bit, 1, step))
        return tuple(found)

    def side_by_side(self, dimension: int) -> int:
        """Consecutive elements along a dimension in the registers of a thread."""
        steps = {b[dimension] for b in self.registers if sum(x > 0 for x in b) == 1}
        width = 1
        while width in steps:
            width *= 2
        return width

    def register_loops(self, dimension: int, width: int) -> tuple[RegisterLoop, ...]:
        """The registers apart from `width` consecutive ones along a dimension, as few loops as possible."""
        loops: list[RegisterLoop] = []
        for d in range(len(self.shape)):
            for step in sorted(b[d] for b in self.registers if b[d] and not (d == dimension and b[d] < width)):
                last = loops[-1] if loops and loops[-1].dimension == d else None
                if last and last.stride * last.extent == step:
                    loops[-1] = RegisterLoop(d, last.extent * 2, last.stride)
                else:
                    loops.append(RegisterLoop(d, 2, step))
        return tuple(loops)


def layout_of(encoding: str, shape: tuple[int, ...], aliases: Mapping[str, str], warps: int) -> Layout:
    """The layout of a tensor.

    Args:
        encoding: as printed, an alias or spelt out.
        shape: of the tensor.
        aliases: layouts by short name.
        warps: of the block.

    Raises:
        UnsupportedError: a kind of layout that is not known.
    """
    registers, lanes, warp_bases = _bases(_spelt(encoding, aliases), shape, aliases)
    cut = [tuple(_within(b, shape) for b in bases) for bases in (registers, lanes, warp_bases)]
    if len(cut[1]) != 5 or 1 << len(cut[2]) != warps:
        raise UnsupportedError(
            f"Triton layout {encoding}: {len(cut[1])} lane and {len(cut[2])} warp bits; expected 5 and {warps} warps"
        )
    for dimension, extent in enumerate(shape):
        steps = [b[dimension] for bases in cut for b in bases if b[dimension]]
        if len(set(steps)) != len(steps) or any(s & (s - 1) for s in steps):
            raise UnsupportedError(
                f"Triton layout {encoding}: coordinate {dimension} mixes bits of the thread number by exclusive or"
            )
        covered = sum(steps) + 1
        cut[0] = (
            *cut[0],
            *(_unit(dimension, len(shape), covered << n) for n in range(int(math.log2(max(extent // covered, 1))))),
        )
    return Layout(shape, cut[0], cut[1], cut[2])


def _within(basis: Basis, shape: tuple[int, ...]) -> Basis:
    return tuple(b if b < n else 0 for b, n in zip(basis, shape, strict=True))


def _unit(dimension: int, rank: int, step: int) -> Basis:
    return tuple(step if d == dimension else 0 for d in range(rank))


def _spelt(encoding: str, aliases: Mapping[str, str]) -> str:
    for _ in range(8):
        if encoding not in aliases:
            return encoding
        encoding = aliases[encoding]
    return encoding


_FIELD = re.compile(r"\b(\w+) = (?:(\d+)|\[([\d, ]*)\])")


@lru_cache(maxsize=1 << 10)
def _fields(text: str) -> tuple[dict[str, int], dict[str, list[int]]]:
    """The first number and the first list of numbers of each name in a layout."""
    single: dict[str, int] = {}
    several: dict[str, list[int]] = {}
    for name, one, many in _FIELD.findall(text):
        if one:
            single.setdefault(name, int(one))
        else:
            several.setdefault(name, [int(n) for n in many.split(",") if n.strip()])
    return single, several


def numbers(text: str, name: str) -> list[int]:
    """A list of whole numbers in a layout."""
    found = _fields(text)[1].get(name)
    if found is None:
        raise UnsupportedError(f"Triton layout {text}: expected {name} = […]")
    return list(found)


def number(text: str, name: str) -> int:
    """One whole number in a layout."""
    found = _fields(text)[0].get(name)
    if found is None:
        raise UnsupportedError(f"Triton layout {text}: expected {name} = …")
    return found


_LAYOUT = re.compile(r"#(?:ttg|triton_gpu)\.(\w+)<\{(.*)\}>$")
_SLICE = re.compile(r"#\w+\.slice<\{dim = (\d+), parent = (.*)\}>$")
_OPERAND = re.compile(r"#\w+\.dot_op<\{opIdx = (\d), parent = (.*?)(?:, kWidth = (\d+))?\}>$")
Bases = tuple[list[Basis], list[Basis], list[Basis]]


def _bases(text: str, shape: tuple[int, ...], aliases: Mapping[str, str]) -> Bases:
    kind = _LAYOUT.match(text)
    if kind is None:
        raise UnsupportedError(f"Triton layout {text or 'none'}: expected #ttg.…<{{…}}>")
    match kind.group(1):
        case "blocked":
            return _blocked(text)
        case "slice":
            return _slice(text, shape, aliases)
        case "nvidia_mma":
            return _accumulator(text, len(shape))
        case "dot_op":
            return _operand(text, shape, aliases)
        case "linear":
            return _linear(text)
    raise UnsupportedError(f"Triton layout {text}: expected blocked, slice, nvidia_mma, dot_op or linear")


def _blocked(text: str) -> Bases:
    counts = [numbers(text, n) for n in ("sizePerThread", "threadsPerWarp", "warpsPerCTA")]
    sizes, order = [1] * len(counts[0]), numbers(text, "order")
    registers, lanes, warps = (_bits(c, sizes, order) for c in counts)
    return registers, lanes, warps


def _bits(counts: list[int], sizes: list[int], order: list[int]) -> list[Basis]:
    """Bases of `counts` steps along each dimension, the first of `order` first; `sizes` grow by them."""
    found = []
    for d in order:
        for _ in range(int(math.log2(counts[d]))):
            found.append(_unit(d, len(sizes), sizes[d]))
            sizes[d] *= 2
    return found


def _slice(text: str, shape: tuple[int, ...], aliases: Mapping[str, str]) -> Bases:
    inner = _SLICE.match(text)
    if inner is None:
        raise UnsupportedError(f"Triton layout {text}: expected dim = …, parent = …")
    dimension = int(inner.group(1))
    whole = (*shape[:dimension], 1, *shape[dimension:])
    parents = _bases(_spelt(inner.group(2), aliases), whole, aliases)
    kept = ([b[:dimension] + b[dimension + 1 :] for b in bases] for bases in parents)
    registers, lanes, warps = kept
    return [b for b in registers if any(b)], lanes, warps


def _accumulator(text: str, rank: int) -> Bases:
    """The sums of a matrix instruction: quads of lanes along a row, two elements each, eight rows, then eight further down."""
    hopper = number(text, "versionMajor") == 3
    if number(text, "versionMajor") not in (2, 3):
        raise UnsupportedError(f"Triton layout {text}: expected matrix instructions of version 2 (Ampere) or 3 (Hopper)")
    row, column = rank - 2, rank - 1
    width = numbers(text, "instrShape")[1 if hopper else -1]
    steps = [_unit(column, rank, 8 << n) for n in range(int(math.log2(width // 8)))]
    registers = [_unit(column, rank, 1), _unit(row, rank, 8), *steps]
    lanes = [_unit(column, rank, s) for s in (2, 4)] + [_unit(row, rank, s) for s in (1, 2, 4)]
    sizes = [1] * (rank - 2) + [16, width]
    order = list(range(rank)) if hopper else list(range(rank))[::-1]
    return registers, lanes, _bits(numbers(text, "warpsPerCTA"), sizes, order)


def _operand(text: str, shape: tuple[int, ...], aliases: Mapping[str, str]) -> Bases:
    """An operand of a matrix instruction, or of multiplications in ordinary registers."""
    inner = _OPERAND.match(text)
    if inner is None:
        raise UnsupportedError(f"Triton layout {text}: expected opIdx = …, parent = …")
    first, parent, rank = inner.group(1) == "0", _spelt(inner.group(2), aliases), len(shape)
    depth, across = (rank - 1, rank - 2) if first else (rank - 2, rank - 1)
    if "blocked" in parent:
        registers, lanes, warps = _blocked(parent)
        held = [b for b in registers if not b[depth]]
        apart = [[_unit(across, rank, b[across]) if b[across] else (0,) * rank for b in bases] for bases in (lanes, warps)]
        return held, apart[0], apart[1]
    if inner.group(3) is None or number(parent, "versionMajor") not in (2, 3):
        raise UnsupportedError(f"Triton layout {text}: expected an operand of mma.sync or wgmma with kWidth")
    packed = int(inner.group(3))
    registers = [_unit(depth, rank, 1 << n) for n in range(int(math.log2(packed)))]
    registers += [_unit(across, rank, 8)] * first + [_unit(depth, rank, 4 * packed)]
    lanes = [_unit(depth, rank, s * packed) for s in (1, 2)] + [_unit(across, rank, s) for s in (1, 2, 4)]
    counts = [*numbers(parent, "warpsPerCTA")]
    sizes, warps = [1] * rank, list[Basis]()
    sizes[across] = 16 if first else 8
    hopper = number(parent, "versionMajor") == 3
    for d in list(range(rank)) if hopper else list(range(rank))[::-1]:
        bits = int(math.log2(counts[d]))
        warps += [(0,) * rank] * bits if d == depth else _bits([counts[d] if e == d else 1 for e in range(rank)], sizes, [d])
    return registers, lanes, warps


def _linear(text: str) -> Bases:
    found = re.search(r"<\{register = (.*), lane = (.*), warp = (.*), block = (.*)\}>$", text)
    if found is None:
        raise UnsupportedError(f"Triton layout {text}: expected register, lane, warp and block bases")
    registers, lanes, warps, _ = ([tuple(b) for b in ast.literal_eval(found.group(n))] for n in (1, 2, 3, 4))
    return registers, lanes, warps
