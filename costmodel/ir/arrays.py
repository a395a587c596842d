"""Arrays as a description indexes them: `A[i, j]` is a reference that a statement reads or writes."""

from __future__ import annotations

from costmodel.errors import DescriptionError, UnsupportedError
from costmodel.ir.expressions import Integer, to_sympy
from costmodel.ir.types import Access, Buffer

__all__ = ["Array", "Reference"]


class Reference:
    """One element (or `width` consecutive ones) of an array, as a statement reads or writes it."""

    __slots__ = ("access",)

    def __init__(self, access: Access) -> None:
        self.access = access

    def wide(self, width: Integer) -> Reference:
        """The same access, `width` consecutive elements of the last dimension at once."""
        return Reference(Access(self.access.buffer, self.access.index, to_sympy(width), self.access.cached))

    def uncached(self) -> Reference:
        """The same access, bypassing L1."""
        return Reference(Access(self.access.buffer, self.access.index, self.access.width, cached=False))


class Array:
    """A buffer that can be indexed: `A[i, j]`."""

    __slots__ = ("buffer", "kernel_name")

    def __init__(self, buffer: Buffer, kernel_name: str) -> None:
        self.buffer = buffer
        self.kernel_name = kernel_name

    def __getitem__(self, position: Integer | tuple[Integer, ...]) -> Reference:
        items = position if isinstance(position, tuple) else (position,)
        where = f"kernel {self.kernel_name}: {self.buffer.name}[…]"
        if len(items) != len(self.buffer.shape):
            raise DescriptionError(f"{where}: expected {len(self.buffer.shape)} indices, got {len(items)}")
        if any(isinstance(i, slice) for i in items):
            raise DescriptionError(
                f"{where}: slices are not accesses; write {self.buffer.name}[i, j].wide(n) for n consecutive elements"
            )
        if any(isinstance(i, Reference) for i in items):
            raise UnsupportedError(
                f"{where}: the index is itself loaded, so its lanes cannot be told; "
                "index with a loop that spreads as the data does (i * stride for scattered elements, i for neighbours), "
                "and put data-dependent branches under k.when(fraction=…)"
            )
        try:
            return Reference(Access(self.buffer, tuple(to_sympy(i) for i in items)))
        except DescriptionError as error:
            raise DescriptionError(f"{where}: {error}") from None
