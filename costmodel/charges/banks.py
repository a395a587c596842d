"""Shared memory: wavefronts of each warp request, by enumerating its lanes.

Lanes are served in passes (32 lanes of 4 bytes, 16 of 8, 8 of 16 where a pass moves 128 bytes). A
pass takes as many wavefronts as the busiest bank holds distinct words; equal words are broadcast. Where
neighbouring lanes of a wide request read the same addresses, two passes are served together.
Source: CUDA C++ programming guide, shared memory of compute capability 3.x and 5.x+; for paired lanes
NVIDIA developer forum, thread 77228 (compute capability 7.x); checked against the `gpuperfpredict`
counters on Kepler (8-byte banks) and Maxwell (uniform 128-bit loads take 2 transactions).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from costmodel.charges.coalescing import ascending
from costmodel.counts import Requests

__all__ = ["bank_wavefronts", "wavefronts_per_request"]


def bank_wavefronts(
    requests: Requests, banks: int = 32, bank_bytes: int = 4, pass_bytes: int = 128, merges_paired_lanes: bool = False
) -> npt.NDArray[np.float64]:
    """Wavefronts of a launch, for each configuration.

    Args:
        requests: enumerated with `granule_bytes=bank_bytes`.
        banks: number of banks.
        bank_bytes: width of a bank.
        pass_bytes: most bytes that the lanes of one pass ask for.
        merges_paired_lanes: a pass serves twice the lanes where lanes i and i^1, or i and i^2, read the same address
            throughout a request of 8 or 16 bytes a lane.
    """
    return requests.totals(wavefronts_per_request(requests, banks, bank_bytes, pass_bytes, merges_paired_lanes))


def wavefronts_per_request(
    requests: Requests, banks: int, bank_bytes: int, pass_bytes: int, merges_paired_lanes: bool
) -> npt.NDArray[np.int64]:
    """[n] wavefronts of each request."""
    result = np.zeros(requests.row.size, np.int64)
    for size in np.unique(requests.lane_bytes):
        rows = np.flatnonzero(requests.lane_bytes == size)
        result[rows] = _same_width(
            requests.address[rows], requests.active[rows], int(size), banks, bank_bytes, pass_bytes, merges_paired_lanes
        )
    return result


_WIDE_BYTES = 8
"""Requests narrower than this are not merged."""


def _same_width(
    address: npt.NDArray[np.int64],
    active: npt.NDArray[np.bool_],
    lane_bytes: int,
    banks: int,
    bank_bytes: int,
    pass_bytes: int,
    merges: bool,
) -> npt.NDArray[np.int64]:
    warp = address.shape[1]
    lanes = min(max(pass_bytes // max(lane_bytes, 4), 1), warp)
    if not merges or lane_bytes < _WIDE_BYTES or lanes >= warp:
        return _in_passes(address, active, lanes, lane_bytes, banks, bank_bytes)
    paired = _paired(address, active, 1) | _paired(address, active, 2)
    result = np.empty(address.shape[0], np.int64)
    for rows, width in ((np.flatnonzero(paired), 2 * lanes), (np.flatnonzero(~paired), lanes)):
        result[rows] = _in_passes(address[rows], active[rows], width, lane_bytes, banks, bank_bytes)
    return result


def _paired(address: npt.NDArray[np.int64], active: npt.NDArray[np.bool_], distance: int) -> npt.NDArray[np.bool_]:
    """Requests in which lanes i and i ^ distance read the same address wherever both are active."""
    partner = np.arange(address.shape[1]) ^ distance
    both = active & active[:, partner]
    same: npt.NDArray[np.bool_] = (~both | (address == address[:, partner])).all(axis=1)
    return same


def _in_passes(
    address: npt.NDArray[np.int64], active: npt.NDArray[np.bool_], lanes: int, lane_bytes: int, banks: int, bank_bytes: int
) -> npt.NDArray[np.int64]:
    warp = address.shape[1]
    passes = -(-warp // lanes)
    missing = passes * lanes - warp
    if missing:
        address = np.pad(address, ((0, 0), (0, missing)), mode="edge")
        active = np.pad(active, ((0, 0), (0, missing)))
    address, active = address.reshape(-1, lanes), active.reshape(-1, lanes)
    taken = active.any(axis=1)
    each = np.zeros(address.shape[0], np.int64)
    each[taken] = _pass_wavefronts(address[taken], active[taken], lane_bytes, banks, bank_bytes)
    total: npt.NDArray[np.int64] = each.reshape(-1, passes).sum(axis=1)
    return total


def _pass_wavefronts(
    address: npt.NDArray[np.int64], active: npt.NDArray[np.bool_], lane_bytes: int, banks: int, bank_bytes: int
) -> npt.NDArray[np.int64]:
    """Distinct words in the busiest bank; every row has an active lane."""
    first, last = address // bank_bytes, (address + lane_bytes - 1) // bank_bytes
    reach = int(np.max(last - first, initial=0)) + 1
    words = np.concatenate([np.minimum(first + j, last) for j in range(reach)], axis=1)
    mask = np.tile(active, (1, reach))
    if not mask.all():
        filler = np.max(words, axis=1, keepdims=True, initial=np.iinfo(np.int64).min, where=mask)
        words = np.where(mask, words, filler)
    words = ascending(words)
    busiest = np.ones(words.shape[0], np.int64)
    apart = np.flatnonzero(words[:, -1] - words[:, 0] >= banks)  # neighbouring words lie in different banks
    busiest[apart] = _busiest(words[apart], banks)
    return busiest


def _busiest(words: npt.NDArray[np.int64], banks: int) -> npt.NDArray[np.int64]:
    """Distinct words in the busiest bank, rows of words ascending."""
    fresh = np.ones(words.shape, bool)
    fresh[:, 1:] = words[:, 1:] != words[:, :-1]
    row = np.repeat(np.arange(words.shape[0]), words.shape[1]).reshape(words.shape)
    load = np.bincount((row * banks + words % banks)[fresh], minlength=words.shape[0] * banks)
    busiest: npt.NDArray[np.int64] = load.reshape(-1, banks).max(axis=1, initial=0)
    return busiest
