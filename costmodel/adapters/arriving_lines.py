"""Lines of a stream as they arrive."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import Protocol

from costmodel.adapters.score_schema import LONGEST_LINE_BYTES

__all__ = ["Readable", "lines"]

READ_BYTES = 1 << 21


class Readable(Protocol):
    """A binary stream that gives what is there."""

    def read1(self, size: int, /) -> bytes:
        """Return at least one byte, at most `size`, none at the end."""
        ...


def lines(stream: Readable, longest_bytes: int = LONGEST_LINE_BYTES) -> Iterator[list[bytes]]:
    """All lines that are complete at a time, but blank ones and a byte order mark; of a longer one, a byte too many."""
    mark = codecs.BOM_UTF8
    for batch in _ended(stream, longest_bytes):
        batch[0] = batch[0].removeprefix(mark)
        mark = b""
        if found := [line for line in batch if line.strip()]:
            yield found


def _ended(stream: Readable, longest_bytes: int) -> Iterator[list[bytes]]:
    begun = bytearray()
    while chunk := stream.read1(READ_BYTES):
        *ended, last = chunk.split(b"\n")
        if ended:
            begun += ended[0]
            ended[0] = bytes(begun[: longest_bytes + 1])
            begun.clear()
            yield ended
        if len(begun) <= longest_bytes:
            begun += last
    yield [bytes(begun[: longest_bytes + 1])]
