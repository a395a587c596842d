"""Products of matrices in Helion, for the tests of its adapter; imported only where Helion is installed."""

import helion.language as hl
import torch


def product(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    m, k = x.size()
    _, n = y.size()
    out = torch.empty([m, n], dtype=x.dtype, device=x.device)
    for tile_m, tile_n in hl.tile([m, n]):
        acc = hl.zeros([tile_m, tile_n], dtype=torch.float32)
        for tile_k in hl.tile(k):
            acc = torch.addmm(acc, x[tile_m, tile_k], y[tile_k, tile_n])
        out[tile_m, tile_n] = acc
    return out


def split_product(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Several blocks add to one tile: atomics, which `from_helion` refuses."""
    m, k = x.size()
    _, n = y.size()
    out = torch.zeros([m, n], dtype=x.dtype, device=x.device)
    for tile_m, tile_n, tile_k in hl.tile([m, n, k]):
        hl.atomic_add(out, [tile_m, tile_n], hl.dot(x[tile_m, tile_k], y[tile_k, tile_n]))
    return out
