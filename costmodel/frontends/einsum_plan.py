"""An einsum and its schedule, checked."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any, NoReturn

from costmodel.dtypes import DType
from costmodel.errors import DescriptionError, UnsupportedError
from costmodel.symbols import is_identifier

__all__ = ["EinsumPlan", "Tile", "listed", "mapped", "parsed"]

WIDEST_BYTES = 16
"""That one access of a thread moves. Source: CUDA programming guide, device memory accesses: words of 1, 2, 4, 8 or 16 bytes."""
ASYNCHRONOUS_BYTES = (4, 8, 16)
"""That one asynchronous copy moves. Source: PTX ISA, cp.async: cp-size."""

Tile = int | str | tuple[int | str, int | str]
"""What a block and a thread have of a letter, or the block alone; text names a size."""


def parsed(spec: str) -> tuple[tuple[str, ...], str]:
    """Letters of the operands, and of the result.

    Raises:
        DescriptionError: no einsum with an output.
        UnsupportedError: a letter twice in one operand, or more operands than there are names for.
    """
    if not isinstance(spec, str):
        raise DescriptionError(f"einsum {spec!r}: expected text such as 'mk,kn->mn', got {type(spec).__name__}")
    left, arrow, output = spec.replace(" ", "").partition("->")
    operands = tuple(left.split(","))
    if not arrow or not output or not all(part.isalpha() and part.isascii() and part.islower() for part in (*operands, output)):
        raise DescriptionError(f"einsum {spec!r}: expected lower-case letters such as 'mk,kn->mn', with an output")
    if len(operands) > len(ascii_uppercase):
        raise UnsupportedError(
            f"einsum {spec!r}: {len(operands)} operands; named A to Z there are {len(ascii_uppercase)} at most"
        )
    for part in (*operands, output):
        if len(set(part)) < len(part):
            raise UnsupportedError(f"einsum {spec!r}: {part!r} has a letter twice (a diagonal); describe it with @kernel")
    for letter in output:
        if not any(letter in part for part in operands):
            raise DescriptionError(f"einsum {spec!r}: output letter {letter!r} is in no operand")
    return operands, output


def mapped(spec: str, argument: str, given: Any) -> dict[Any, Any]:
    """What was given for letters or operands.

    Raises:
        DescriptionError: no mapping.
    """
    if not isinstance(given, Mapping):
        raise DescriptionError(f"einsum {spec!r}: {argument}: expected a mapping such as {_EXAMPLES[argument]}, got {given!r}")
    return dict(given)


def listed(spec: str, argument: str, given: Any) -> tuple[Any, ...]:
    """Operands that were given.

    Raises:
        DescriptionError: no collection of names, or one twice.
    """
    if not isinstance(given, Collection):
        raise DescriptionError(f"einsum {spec!r}: {argument}: expected operands such as 'AB', got {given!r}")
    names = tuple(given)
    for name in names:
        if names.count(name) > 1:
            raise DescriptionError(f"einsum {spec!r}: {argument}: {name!r} is given twice; name each operand once")
    return names


_EXAMPLES = {"tile": "{'m': ('BM', 'TM'), 'k': 16}", "vector": "{'m': 4}", "pad": "{'A': 1}"}


@dataclass(frozen=True, slots=True)
class EinsumPlan:
    """An einsum and its schedule, as given."""

    spec: str
    operands: tuple[str, ...]
    output: str
    tile: dict[str, Tile]
    stage: tuple[str, ...]
    vector: dict[str, int]
    pad: dict[str, int]
    pipeline: int
    dtype: DType
    accumulator: DType

    @property
    def letters(self) -> tuple[str, ...]:
        """All, in order of appearance."""
        return tuple(dict.fromkeys("".join(self.operands)))

    @property
    def contracted(self) -> tuple[str, ...]:
        """Those that are summed over."""
        return tuple(x for x in self.letters if x not in self.output)

    @property
    def names(self) -> tuple[str, ...]:
        """A, B and so on, one for each operand."""
        return tuple(chr(ord("A") + n) for n in range(len(self.operands)))

    def block(self, letter: str) -> int | str | None:
        """What a block has of a letter; None where it is not tiled."""
        tile = self.tile.get(letter)
        return tile[0] if isinstance(tile, tuple) else tile

    def thread(self, letter: str) -> int | str:
        """What a thread has of a letter."""
        tile = self.tile.get(letter)
        return tile[1] if isinstance(tile, tuple) else 1

    def sizes(self) -> list[str]:
        """Parameters of the kernel."""
        tiles = [part for x in self.letters for part in (self.block(x), self.thread(x)) if isinstance(part, str)]
        return list(dict.fromkeys([*(x.upper() for x in self.letters), *tiles]))

    def check(self) -> None:
        """Refuse what cannot be scheduled.

        Raises:
            DescriptionError: an unknown letter or operand, a number out of range, or fixed numbers that do not fit each other.
            UnsupportedError: more than three tiled output letters.
        """
        self._check_names()
        self._check_tiles()
        self._check_numbers()
        for letter, width in self.vector.items():
            if width > 1:
                self._check_vector(letter, width)
        for name in self.stage:
            self._check_staged(name)

    def _refuse(self, why: str) -> NoReturn:
        raise DescriptionError(f"einsum {self.spec!r}: {why}")

    def _check_names(self) -> None:
        for argument, keys, known in (
            ("tile", self.tile, self.letters),
            ("vector", self.vector, self.letters),
            ("stage", self.stage, self.names),
            ("pad", self.pad, self.stage),
        ):
            for key in keys:
                if key not in known:
                    self._refuse(f"{argument}: unknown {key!r}; expected {', '.join(known) or 'nothing'}")
        for argument, dtype in (("dtype", self.dtype), ("accumulator", self.accumulator)):
            if not isinstance(dtype, DType):
                self._refuse(f"{argument}: expected a DType such as f32, got {dtype!r}")

    def _check_tiles(self) -> None:
        for letter, tile in self.tile.items():
            given = f"tile[{letter!r}] = {tile!r}"
            parts = tile if isinstance(tile, tuple) else (tile,)
            if not all(map(_is_extent, parts)) or (isinstance(tile, tuple) and len(tile) != 2):
                self._refuse(f"{given}: expected a positive number or a name, or two of them: (block, thread)")
            if letter in self.contracted and isinstance(tile, tuple):
                self._refuse(f"{given}: a contracted letter has one tile; threads do not share it")
            block, thread = self.block(letter), self.thread(letter)
            if _leaves(block, thread):
                self._refuse(f"{given}: expected a thread to have a divisor of the block's {block}, got {thread}")
        tiled = [x for x in self.output if self.block(x) is not None]
        if not tiled:
            self._refuse(f"no output letter is tiled, so a block has one thread; tile one of {', '.join(self.output)}")
        if len(tiled) > 3:
            raise UnsupportedError(
                f"einsum {self.spec!r}: {len(tiled)} tiled output letters; a block has three dimensions: leave some untiled"
            )

    def _check_numbers(self) -> None:
        given = [(f"vector[{x!r}]", number, 1) for x, number in self.vector.items()]
        given += [(f"pad[{x!r}]", number, 0) for x, number in self.pad.items()]
        for argument, number, least in (*given, ("pipeline", self.pipeline, 1)):
            if type(number) is not int or number < least:
                self._refuse(f"{argument}: expected a whole number of at least {least}, got {number!r}")
        if self.pipeline > 1 and not (self.stage and self.contracted):
            self._refuse(f"pipeline={self.pipeline} needs a staged operand and a contracted letter")

    def _check_vector(self, letter: str, width: int) -> None:
        """It divides what there is of the letter, and one access can move it."""
        given = f"vector[{letter!r}] = {width}"
        summed = letter in self.contracted
        held = self.block(letter) if summed else self.thread(letter)
        if held is None:
            self._refuse(f"{given}: {letter!r} has no tile; give it one, of a multiple of {width}, or leave the vector out")
        if _leaves(held, width):
            whose = "a step" if summed else "a thread"
            self._refuse(f"{given}: expected a divisor of the {held} that {whose} has of {letter!r}; see tile[{letter!r}]")
        moved = [part for name, part in zip(self.names, self.operands, strict=True) if name in self.stage or not summed]
        moved += [self.output]
        if not any(part.endswith(letter) for part in moved):
            if summed:
                self._refuse(f"{given}: no staged operand ends in {letter!r}, so that no access moves {width}; leave it out")
            return  # neighbours of a thread, one access each
        widths = [n for n in (1, 2, 4, 8, 16) if n * self.dtype.itemsize <= WIDEST_BYTES]
        if width not in widths:
            self._refuse(
                f"{given}: one access moves {', '.join(map(str, widths))} elements of {self.dtype} ({WIDEST_BYTES} bytes at most)"
            )

    def _check_staged(self, name: str) -> None:
        """Rows in shared memory keep vectors aligned, and asynchronous copies have a size that there is."""
        last = self.operands[self.names.index(name)][-1]
        width = self.vector.get(last, 1) if self.block(last) is not None else 1
        pad, size = self.pad.get(name, 0), width * self.dtype.itemsize
        if pad % width:
            self._refuse(f"pad[{name!r}] = {pad}: expected a multiple of vector[{last!r}] = {width}, for rows that stay aligned")
        if self.pipeline > 1 and size not in ASYNCHRONOUS_BYTES:
            self._refuse(
                f"pipeline={self.pipeline}: {name} would be copied by {size} bytes at a time, expected "
                f"{', '.join(map(str, ASYNCHRONOUS_BYTES))}; give {last!r} a tile and a vector of {4 // self.dtype.itemsize}"
            )


def _is_extent(part: object) -> bool:
    """A positive number, or a name that a size can have beside the builder's, k."""
    return is_identifier(part) and part != "k" if isinstance(part, str) else type(part) is int and part > 0


def _leaves(whole: int | str | None, part: int | str) -> bool:
    """Whether fixed parts of a fixed whole leave a remainder."""
    return isinstance(whole, int) and isinstance(part, int) and whole % part > 0
