"""How every shipped description is run on data, by its name; see `base` for what an `Emulation` is.
What cannot be emulated, since a description says what moves and not what it means:

* `library_gemm` with MULTICAST: which half of a tile a block copies for its neighbour is a stated share;
* `library_gemm`, `linear` and `bmm` with SPLITS: each block reads its own partial sums again, in place of all of a tile's;
* these three on sizes that tiles do not fill: they share rows and columns evenly there, over a padded output;
* `convolution_2d` without SHMEM on sizes that tiles do not fill: as in the code measured, taps of idle threads leave the image.

Some write down less than there is. Sums are never cleared (`start`). A warp's partial of a layer normalisation is one value for three.
Staged tiles of the matrix libraries are one slot of their ring, and the shuffles of `reduce_grid_stride` and `row_sum_block` loads
of the array that their partial sums go through: no barriers are checked there (`races`).
"""

from __future__ import annotations

from tests.emulations.base import Emulation
from tests.emulations.handwritten import HANDWRITTEN
from tests.emulations.products import PRODUCTS
from tests.emulations.reductions import REDUCTIONS
from tests.emulations.streaming import STREAMING
from tests.emulations.triton_kernels import TRITON

__all__ = ["EMULATIONS"]

EMULATIONS: dict[str, Emulation] = {**STREAMING, **PRODUCTS, **REDUCTIONS, **HANDWRITTEN, **TRITON}
"""By name of the description."""
