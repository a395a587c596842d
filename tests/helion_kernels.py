"""Ten kernels of Helion's documentation, written anew: what `from_helion` is tried on."""

import helion
import helion.language as hl
import torch


@helion.kernel(autotune_effort="none")
def add(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Sum of two arrays of one shape."""
    out = torch.empty_like(x)
    for tile in hl.tile(out.size()):
        out[tile] = x[tile] + y[tile]
    return out


@helion.kernel(autotune_effort="none")
def exponential(x: torch.Tensor) -> torch.Tensor:
    """Elementwise exponential of a vector."""
    out = torch.empty_like(x)
    for tile in hl.tile(x.size(0)):
        out[tile] = torch.exp(x[tile])
    return out


@helion.kernel(autotune_effort="none")
def softmax(x: torch.Tensor) -> torch.Tensor:
    """Of each row, held whole or in a loop over its columns as the configuration says."""
    rows, _ = x.size()
    out = torch.empty_like(x)
    for row in hl.tile(rows):
        values = x[row, :]
        top = torch.amax(values, dim=1, keepdim=True)
        powers = torch.exp(values - top)
        out[row, :] = powers / torch.sum(powers, dim=1, keepdim=True)
    return out


@helion.kernel(autotune_effort="none")
def softmax_two_pass(x: torch.Tensor) -> torch.Tensor:
    """Of each row, with a running maximum and sum: two loops over its columns."""
    rows, columns = x.size()
    out = torch.empty_like(x)
    for row in hl.tile(rows):
        top = hl.full([row], float("-inf"), dtype=torch.float32)
        total = hl.zeros([row], dtype=torch.float32)
        for column in hl.tile(columns):
            values = x[row, column]
            higher = torch.maximum(top, torch.amax(values, dim=1))
            total = total * torch.exp(top - higher) + torch.exp(values - higher[:, None]).sum(dim=1)
            top = higher
        for column in hl.tile(columns):
            out[row, column] = torch.exp(x[row, column] - top[:, None]) / total[:, None]
    return out


@helion.kernel(autotune_effort="none")
def matmul(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Product of matrices."""
    m, k = x.size()
    _, n = y.size()
    out = torch.empty([m, n], dtype=x.dtype, device=x.device)
    for i, j in hl.tile([m, n]):
        total = hl.zeros([i, j], dtype=torch.float32)
        for inner in hl.tile(k):
            total = torch.addmm(total, x[i, inner], y[inner, j])
        out[i, j] = total
    return out


@helion.kernel(autotune_effort="none")
def matmul_bias(x: torch.Tensor, y: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Product of matrices, then a row added and the negative part cut off."""
    m, k = x.size()
    _, n = y.size()
    out = torch.empty([m, n], dtype=x.dtype, device=x.device)
    for i, j in hl.tile([m, n]):
        total = hl.zeros([i, j], dtype=torch.float32)
        for inner in hl.tile(k):
            total = torch.addmm(total, x[i, inner], y[inner, j])
        out[i, j] = torch.relu(total + bias[j].to(torch.float32)[None, :]).to(x.dtype)
    return out


@helion.kernel(autotune_effort="none")
def layer_norm(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float) -> torch.Tensor:
    """Of each row, with weights."""
    rows, _ = x.size()
    out = torch.empty_like(x)
    for row in hl.tile(rows):
        values = x[row, :].to(torch.float32)
        variance, mean = torch.var_mean(values, dim=-1, keepdim=True, correction=0)
        scaled = (values - mean) * torch.rsqrt(variance + eps)
        out[row, :] = (scaled * weight[:].to(torch.float32) + bias[:].to(torch.float32)).to(x.dtype)
    return out


@helion.kernel(autotune_effort="none")
def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Of each row."""
    rows, _ = x.size()
    out = torch.empty_like(x)
    for row in hl.tile(rows):
        values = x[row, :].to(torch.float32)
        scale = torch.rsqrt(torch.mean(values * values, dim=-1, keepdim=True) + eps)
        out[row, :] = (values * scale * weight[:].to(torch.float32)).to(out.dtype)
    return out


@helion.kernel(autotune_effort="none")
def long_sum(x: torch.Tensor) -> torch.Tensor:
    """Of each row, with partial sums side by side."""
    rows, columns = x.size()
    out = torch.empty([rows], dtype=x.dtype, device=x.device)
    width = hl.register_block_size(columns)
    for row in hl.tile(rows):
        partial = hl.zeros([row, width], dtype=x.dtype)
        for column in hl.tile(columns, block_size=width):
            partial += x[row, column]
        out[row] = partial.sum(-1)
    return out


@helion.kernel(autotune_effort="none")
def embedding(tokens: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Rows of a table that an array of numbers names."""
    (count,) = tokens.size()
    _, width = weight.size()
    out = torch.empty([count, width], dtype=weight.dtype, device=weight.device)
    for row, column in hl.tile([count, width]):
        out[row, column] = weight[tokens[row], column]
    return out


@helion.kernel(autotune_effort="none")
def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Of each query over all keys, with a running maximum and sum."""
    batch, length, head = q.size(0), q.size(1), hl.specialize(q.size(2))
    keys = k.size(1)
    out = torch.empty_like(q)
    for one, i in hl.tile([batch, length]):
        top = hl.full([one, i], float("-inf"), dtype=torch.float32)
        total = torch.full_like(top, 1.0)
        held = hl.zeros([one, i, head], dtype=torch.float32)
        query = q[one, i, :]
        for j in hl.tile(keys):
            scores = torch.bmm(query, k[one, j, :].transpose(1, 2)) * 0.18033688
            higher = torch.maximum(top, torch.amax(scores, -1))
            powers = torch.exp2(scores - higher[:, :, None])
            fade = torch.exp2(top - higher)
            total = total * fade + torch.sum(powers, -1)
            held = torch.baddbmm(held * fade[:, :, None], powers.to(v.dtype), v[one, j, :])
            top = higher
        out[one, i, :] = (held / total[:, :, None]).to(out.dtype)
    return out


@helion.kernel(autotune_effort="none")
def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Of each row, against the number of its class."""
    rows, classes = logits.size()
    losses = torch.empty([rows], dtype=logits.dtype, device=logits.device)
    flat = logits.view(-1)
    for row in hl.tile(rows):
        at = row.index * classes + labels[row]
        right = hl.load(flat, [at])
        values = logits[row, :]
        top = torch.amax(values, dim=-1, keepdim=True)
        total = torch.sum(torch.exp(values - top), dim=-1, keepdim=True)
        losses[row] = (torch.log(total) + top).squeeze(-1) - right
    return losses


@helion.kernel(autotune_effort="none")
def jagged_sum(values: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """Of each of several rows of unlike length that lie one after the other."""
    rows = ends.size(0) - 1
    out = torch.empty([rows], dtype=values.dtype, device=values.device)
    for row in hl.tile(rows):
        start, stop = ends[row], ends[row.index + 1]
        lengths = stop - start
        longest = lengths.amax()
        total = hl.zeros([row], dtype=values.dtype)
        for column in hl.tile(0, longest):
            at = start[:, None] + column.index[None, :]
            total = total + hl.load(values, [at], extra_mask=column.index[None, :] < lengths[:, None]).sum(dim=1)
        out[row] = total
    return out


@helion.kernel(autotune_effort="none")
def column_sums(x: torch.Tensor) -> torch.Tensor:
    """Of each column, added up by all programs at once."""
    out = torch.zeros([x.size(1)], dtype=x.dtype, device=x.device)
    for i, j in hl.tile(x.size()):
        hl.atomic_add(out, [j], x[i, j].sum(0))
    return out


@helion.kernel(autotune_effort="none")
def first_ones(x: torch.Tensor) -> torch.Tensor:
    """Of a vector, the rest as zeros."""
    out = torch.empty_like(x)
    for i in hl.tile(x.size(0)):
        out[i] = hl.load(x, [i], extra_mask=i.index < 7)
    return out
