"""Kernels whose loops start or end where a tile does, and what is loaded in unusual ways; what `from_helion` is tried on."""

import helion
import helion.language as hl
import torch


@helion.kernel(autotune_effort="none")
def causal_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Of each query over the keys up to its own, with a running maximum and sum."""
    batch, length, head = q.size(0), q.size(1), hl.specialize(q.size(2))
    out = torch.empty_like(q)
    for one, i in hl.tile([batch, length]):
        top = hl.full([one, i], float("-inf"), dtype=torch.float32)
        total = torch.full_like(top, 1.0)
        held = hl.zeros([one, i, head], dtype=torch.float32)
        query = q[one, i, :]
        for j in hl.tile(0, i.end):
            scores = torch.bmm(query, k[one, j, :].transpose(1, 2)) * 0.18033688
            scores = torch.where((i.index[:, None] >= j.index[None, :])[None, :, :], scores, float("-inf"))
            higher = torch.maximum(top, torch.amax(scores, -1))
            powers = torch.exp2(scores - higher[:, :, None])
            fade = torch.exp2(top - higher)
            total = total * fade + torch.sum(powers, -1)
            held = torch.baddbmm(held * fade[:, :, None], powers.to(v.dtype), v[one, j, :])
            top = higher
        out[one, i, :] = (held / total[:, :, None]).to(out.dtype)
    return out


@helion.kernel(autotune_effort="none")
def running_sums(x: torch.Tensor) -> torch.Tensor:
    """Of each row up to the end of its tile."""
    out = torch.empty([x.size(0)], dtype=x.dtype, device=x.device)
    for i in hl.tile(x.size(0)):
        total = hl.zeros([i], dtype=torch.float32)
        for j in hl.tile(0, i.end):
            total = total + x[i, j].sum(1)
        out[i] = total
    return out


@helion.kernel(autotune_effort="none")
def sums_before(x: torch.Tensor) -> torch.Tensor:
    """Of each row up to the begin of its tile; then, apart, in the tile."""
    out = torch.empty([x.size(0)], dtype=x.dtype, device=x.device)
    for i in hl.tile(x.size(0)):
        total = hl.zeros([i], dtype=torch.float32)
        for j in hl.tile(0, i.begin):
            total = total + x[i, j].sum(1)
        for j in hl.tile(i.begin, i.end):
            total = total + (x[i, j] * 2).sum(1)
        out[i] = total
    return out


@helion.kernel(autotune_effort="none")
def remaining_sums(x: torch.Tensor) -> torch.Tensor:
    """Of each row from the begin of its tile, but for columns before the eighth."""
    rows, columns = x.size()
    out = torch.empty([rows], dtype=x.dtype, device=x.device)
    for i in hl.tile(rows):
        total = hl.zeros([i], dtype=torch.float32)
        for j in hl.tile(i.begin, columns):
            total = total + x[i, j].sum(1)
        for j in hl.tile(8, columns):
            total = total - x[i, j].sum(1)
        out[i] = total
    return out


@helion.kernel(autotune_effort="none")
def nested_sums(x: torch.Tensor) -> torch.Tensor:
    """Of each row over tiles of columns, each in smaller tiles."""
    rows, columns = x.size()
    out = torch.empty([rows], dtype=x.dtype, device=x.device)
    for i in hl.tile(rows):
        total = hl.zeros([i], dtype=torch.float32)
        for j in hl.tile(columns):
            for inner in hl.tile(j.begin, j.end):
                total = total + x[i, inner].sum(1)
        out[i] = total
    return out


@helion.kernel(autotune_effort="none")
def added_row(x: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
    """A row, a column or an element, held as an array of as many dimensions, added to an array."""
    out = torch.empty_like(x)
    for i, j in hl.tile(x.size()):
        out[i, j] = x[i, j] + row[i, j]
    return out


@helion.kernel(autotune_effort="none")
def copied(x: torch.Tensor) -> torch.Tensor:
    """Whatever order its dimensions lie in."""
    out = torch.empty(x.size(), dtype=x.dtype, device=x.device)
    for i, j in hl.tile(x.size()):
        out[i, j] = x[i, j]
    return out


@helion.kernel(autotune_effort="none")
def gated_by_itself(x: torch.Tensor) -> torch.Tensor:
    """The same tile loaded twice."""
    out = torch.empty_like(x)
    for i, j in hl.tile(x.size()):
        out[i, j] = x[i, j] * torch.sigmoid(x[i, j])
    return out


@helion.kernel(autotune_effort="none")
def lower_half(x: torch.Tensor) -> torch.Tensor:
    """Below the diagonal, the rest as zeros."""
    out = torch.empty_like(x)
    for i, j in hl.tile(x.size()):
        out[i, j] = hl.load(x, [i, j], extra_mask=i.index[:, None] >= j.index[None, :])
    return out


@helion.kernel(autotune_effort="none")
def two_passes(x: torch.Tensor) -> torch.Tensor:
    """Two loops over the grid."""
    doubled, added = torch.empty_like(x), torch.empty_like(x)
    for i in hl.tile(x.size(0)):
        doubled[i] = x[i] * 2
    for i in hl.tile(x.size(0)):
        added[i] = x[i] + 1
    return added
