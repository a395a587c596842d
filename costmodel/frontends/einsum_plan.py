"""An einsum and its schedule, checked."""

from __future__ import annotations

from dataclasses import dataclass

from costmodel.dtypes import DType
from costmodel.errors import DescriptionError, UnsupportedError
from costmodel.symbols import is_identifier

__all__ = ["EinsumPlan", "Tile", "parsed"]

Tile = int | str | tuple[int | str, int | str]
"""What a block and a thread have of a letter, or the block alone; text names a size."""


def parsed(spec: str) -> tuple[tuple[str, ...], str]:
    """Letters of the operands, and of the result."""
    left, arrow, output = spec.replace(" ", "").partition("->")
    operands = tuple(left.split(","))
    if not arrow or not output or not all(part.isalpha() and part.isascii() and part.islower() for part in (*operands, output)):
        raise DescriptionError(f"einsum {spec!r}: expected lower-case letters such as 'mk,kn->mn', with an output")
    for part in (*operands, output):
        if len(set(part)) < len(part):
            raise UnsupportedError(f"einsum {spec!r}: {part!r} has a letter twice (a diagonal); describe it with @kernel")
    for letter in output:
        if not any(letter in part for part in operands):
            raise DescriptionError(f"einsum {spec!r}: output letter {letter!r} is in no operand")
    return operands, output


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
            DescriptionError: an unknown letter or operand, or a number out of range.
            UnsupportedError: more than three tiled output letters.
        """
        where = f"einsum {self.spec!r}"
        for argument, keys, known in (
            ("tile", self.tile, self.letters),
            ("vector", self.vector, self.letters),
            ("stage", self.stage, self.names),
            ("pad", self.pad, self.stage),
        ):
            for key in keys:
                if key not in known:
                    raise DescriptionError(f"{where}: {argument}: unknown {key!r}; expected {', '.join(known) or 'nothing'}")
        for letter, tile in self.tile.items():
            for part in tile if isinstance(tile, tuple) else (tile,):
                wrong = not is_identifier(part) or part in "k" if isinstance(part, str) else type(part) is not int or part < 1
                if wrong or (isinstance(tile, tuple) and len(tile) != 2):
                    raise DescriptionError(f"{where}: tile[{letter!r}] = {tile!r}: expected a positive number or a name, or two")
            if letter in self.contracted and isinstance(tile, tuple):
                raise DescriptionError(
                    f"{where}: tile[{letter!r}] = {tile!r}: a contracted letter has one tile; threads do not share it"
                )
        for argument, numbers in (("vector", self.vector), ("pad", self.pad), ("pipeline", {"": self.pipeline})):
            for key, number in numbers.items():
                least = 0 if argument == "pad" else 1
                if type(number) is not int or number < least:
                    raise DescriptionError(
                        f"{where}: {argument} {key}: expected a whole number of at least {least}, got {number!r}"
                    )
        tiled = [x for x in self.output if self.block(x) is not None]
        if not tiled:
            raise DescriptionError(
                f"{where}: no output letter is tiled, so a block has one thread; tile one of {', '.join(self.output)}"
            )
        if len(tiled) > 3:
            raise UnsupportedError(
                f"{where}: {len(tiled)} tiled output letters; a block has three dimensions: leave some untiled"
            )
        if self.pipeline > 1 and not (self.stage and self.contracted):
            raise DescriptionError(f"{where}: pipeline={self.pipeline} needs a staged operand and a contracted letter")
