"""What a device makes of the counts: short pure functions, each a visible term."""

from costmodel.charges.banks import bank_wavefronts
from costmodel.charges.coalescing import Coalescing, coalesce

__all__ = ["Coalescing", "bank_wavefronts", "coalesce"]
