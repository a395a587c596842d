"""Kernels after Helion's documentation that were written when the front end was finished: they judge it, and chose nothing."""

import helion
import helion.language as hl
import torch


@helion.kernel(autotune_effort="none")
def gated(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """SwiGLU: one array times the sigmoid-weighted other, in a flat loop."""
    out = torch.empty_like(a)
    flat_a, flat_b, flat_out = a.view(-1), b.view(-1), out.view(-1)
    for i in hl.tile(a.numel()):
        gate = flat_a[i].to(torch.float32)
        flat_out[i] = (gate * torch.sigmoid(gate)).to(a.dtype) * flat_b[i]
    return out


@helion.kernel(autotune_effort="none")
def gelu_product(x: torch.Tensor, y: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Product of matrices, a row added, then GELU by its tangent."""
    m, k = x.size()
    _, n = y.size()
    out = torch.empty([m, n], dtype=x.dtype, device=x.device)
    for i, j in hl.tile([m, n]):
        total = hl.zeros([i, j], dtype=torch.float32)
        for inner in hl.tile(k):
            total = torch.addmm(total, x[i, inner], y[inner, j])
        total = total + bias[j].to(torch.float32)[None, :]
        cube = total * total * total
        out[i, j] = (0.5 * total * (1 + torch.tanh(0.7978845608 * (total + 0.044715 * cube)))).to(x.dtype)
    return out


@helion.kernel(autotune_effort="none")
def batched_product(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Product of each of several pairs of matrices."""
    count, m, k = x.size()
    _, _, n = y.size()
    out = torch.empty([count, m, n], dtype=x.dtype, device=x.device)
    for b, i, j in hl.tile([count, m, n]):
        total = hl.zeros([b, i, j], dtype=torch.float32)
        for inner in hl.tile(k):
            total = torch.baddbmm(total, x[b, i, inner], y[b, inner, j])
        out[b, i, j] = total.to(x.dtype)
    return out


@helion.kernel(autotune_effort="none")
def divergence(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Kullback-Leibler, of each row of logarithms, in a loop over its columns."""
    rows, columns = x.size()
    out = torch.empty([rows], dtype=torch.float32, device=x.device)
    for row in hl.tile(rows):
        total = hl.zeros([row], dtype=torch.float32)
        for column in hl.tile(columns):
            mine, other = x[row, column], y[row, column]
            total = total + torch.sum(torch.exp(other) * (other - mine), dim=1)
        out[row] = total
    return out


@helion.kernel(autotune_effort="none")
def welford(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Layer norm with mean and variance merged from chunk to chunk, then a second loop."""
    rows, columns = x.size()
    out = torch.empty_like(x)
    for row in hl.tile(rows):
        count = torch.zeros_like(x[row, 0], dtype=torch.float32)
        mean = torch.zeros_like(count)
        squares = torch.zeros_like(count)
        for column in hl.tile(columns):
            values = x[row, column].to(torch.float32)
            more = columns * 1.0
            total = torch.sum(values, dim=-1)
            fresh = total / more
            away = torch.sum(values * values, dim=-1) - fresh * total
            step = fresh - mean
            count = count + more
            mean = mean + step * (more / count)
            squares = squares + away + step * step * more
        scale = torch.rsqrt(squares / count + 1e-5)
        for column in hl.tile(columns):
            values = x[row, column].to(torch.float32)
            scaled = (values - mean[:, None]) * scale[:, None]
            out[row, column] = (scaled * weight[column][None, :].to(torch.float32) + bias[column][None, :].to(torch.float32)).to(
                x.dtype
            )
    return out


@helion.kernel(autotune_effort="none")
def transposed(x: torch.Tensor) -> torch.Tensor:
    """Rows become columns."""
    out = torch.empty([x.size(1), x.size(0)], dtype=x.dtype, device=x.device)
    for i, j in hl.tile(x.size()):
        out[j, i] = x[i, j].transpose(0, 1)
    return out


@helion.kernel(autotune_effort="none")
def single_product(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Product of matrices of fp32, on the matrix units as tf32."""
    m, k = x.size()
    _, n = y.size()
    out = torch.empty([m, n], dtype=x.dtype, device=x.device)
    for i, j in hl.tile([m, n]):
        total = hl.zeros([i, j], dtype=torch.float32)
        for inner in hl.tile(k):
            total = total + torch.matmul(x[i, inner], y[inner, j])
        out[i, j] = total
    return out


@helion.kernel(autotune_effort="none")
def shared_weights(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Each of several matrices times one."""
    count, m, k = x.size()
    _, n = y.size()
    out = torch.empty([count, m, n], dtype=x.dtype, device=x.device)
    flat, flat_out = x.view(-1, k), out.view(-1, n)
    for i, j in hl.tile([count * m, n]):
        total = hl.zeros([i, j], dtype=torch.float32)
        for inner in hl.tile(k):
            total = hl.dot(flat[i, inner], y[inner, j], acc=total)
        flat_out[i, j] = total.to(x.dtype)
    return out


@helion.kernel(autotune_effort="none")
def normed_product(x: torch.Tensor, y: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Product of matrices whose rows are normed at once."""
    m, k = x.size()
    n = hl.specialize(y.size(1))
    out = torch.empty([m, n], dtype=x.dtype, device=x.device)
    for i in hl.tile(m):
        total = hl.zeros([i, n], dtype=torch.float32)
        for inner in hl.tile(k):
            total = torch.addmm(total, x[i, inner], y[inner, :])
        scale = torch.rsqrt(torch.mean(total * total, dim=-1, keepdim=True) + 1e-5)
        out[i, :] = (total * scale * weight[:].to(torch.float32)).to(x.dtype)
    return out


@helion.kernel(autotune_effort="none")
def row_product(x: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """A matrix times a vector."""
    rows, columns = x.size()
    out = torch.empty([rows], dtype=torch.float32, device=x.device)
    for row in hl.tile(rows):
        total = hl.zeros([row], dtype=torch.float32)
        for column in hl.tile(columns):
            total = total + torch.sum(x[row, column].to(torch.float32) * v[column].to(torch.float32)[None, :], dim=1)
        out[row] = total
    return out


@helion.kernel(autotune_effort="none")
def two_products(x: torch.Tensor, down: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """Squeeze and excite: what one product gives, cut off below zero, goes to the next."""
    m = x.size(0)
    hl.specialize(x.size(1))
    hl.specialize(down.size(1))
    out = torch.empty_like(x)
    for i in hl.tile(m):
        hidden = torch.relu(torch.matmul(x[i, :], down[:, :])).to(x.dtype)
        out[i, :] = (x[i, :].to(torch.float32) * torch.sigmoid(torch.matmul(hidden, up[:, :]).to(torch.float32))).to(x.dtype)
    return out


@helion.kernel(autotune_effort="none")
def grid_sums(x: torch.Tensor) -> torch.Tensor:
    """Of the last dimension of an array of four."""
    a, b, c, _ = x.size()
    out = torch.empty([a, b, c], dtype=x.dtype, device=x.device)
    for i, j, k in hl.tile([a, b, c]):
        out[i, j, k] = x[i, j, k, :].sum(-1)
    return out


@helion.kernel(autotune_effort="none")
def four_axes(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Sum of two arrays of four dimensions, in tiles of four."""
    out = torch.empty_like(x)
    for tile in hl.tile(x.size()):
        out[tile] = x[tile] + 2 * y[tile]
    return out


@helion.kernel(autotune_effort="none")
def dropout(x: torch.Tensor, seed: int, keep: float) -> torch.Tensor:
    """Random elements become zero."""
    out = torch.empty_like(x)
    for i in hl.tile(x.size(0)):
        out[i] = torch.where(hl.rand([i], seed=seed) < keep, x[i] / keep, 0.0)
    return out


@helion.kernel(autotune_effort="none")
def largest(x: torch.Tensor) -> torch.Tensor:
    """Where each row has its maximum."""
    out = torch.empty([x.size(0)], dtype=torch.int64, device=x.device)
    for row in hl.tile(x.size(0)):
        out[row] = torch.argmax(x[row, :], dim=-1)
    return out


@helion.kernel(autotune_effort="none")
def jagged_means(values: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """Of each of several groups of rows of unlike length."""
    width = values.size(1)
    out = torch.empty([ends.size(0) - 1, width], dtype=values.dtype, device=values.device)
    for group in hl.grid(ends.size(0) - 1):
        start, stop = ends[group], ends[group + 1]
        for column in hl.tile(width):
            total = hl.zeros([column], dtype=torch.float32)
            for row in hl.tile(start, stop):
                total = total + values[row, column].to(torch.float32).sum(0)
            out[group, column] = (total / (stop - start)).to(values.dtype)
    return out
