"""The reduction ladder: hand counts, the oracle's walk, and the order that everybody knows."""

from __future__ import annotations

from typing import Any

import pytest

from costmodel import Scorer, estimate
from costmodel.cost import find_description, search_space
from costmodel.ir import Access
from tests.oracle import AccessCounts, count

FIRST_FIVE = ("reduce_interleaved", "reduce_strided", "reduce_sequential", "reduce_first_add", "reduce_shuffle")
LADDER = (*FIRST_FIVE, "reduce_grid_stride")
SMALL: list[tuple[str, dict[str, int]]] = [
    *((name, {"N": 1000, "B": 128}) for name in FIRST_FIVE),
    *((name, {"N": 512, "B": 64}) for name in FIRST_FIVE),
    ("reduce_interleaved", {"N": 40, "B": 16}),
    ("reduce_grid_stride", {"N": 2000, "B": 96, "G": 3}),
    ("row_sum_block", {"M": 3, "N": 520, "B": 64}),
    ("row_sum_warp", {"M": 7, "N": 136, "B": 96}),
]


def counters(name: str, **sizes: int) -> dict[str, float]:
    """Counters of one configuration on cold caches."""
    scores = Scorer(find_description(name), "A100", warm={}).score({n: [v] for n, v in sizes.items()})
    assert scores.reason.tolist() == [""]
    return {n: float(v[0]) for n, v in scores.counters.items()}


def loads_and_stores(name: str, **sizes: int) -> tuple[float, float, float, float]:
    """Shared memory: requests and wavefronts of loads, then of stores."""
    c = counters(name, **sizes)
    return tuple(c[f"shared_{kind}_{what}"] for kind in ("load", "store") for what in ("requests", "wavefronts"))  # type: ignore[return-value]


# -- what warps ask for


@pytest.mark.parametrize(("name", "sizes"), SMALL)
def test_counters_are_what_the_oracle_walks(name: str, sizes: dict[str, int]) -> None:
    description = find_description(name)
    traced = description.trace(**{n: v for n, v in sizes.items() if n in description.static})
    walked: list[tuple[str, str, AccessCounts]] = []
    for statement in count(traced, sizes).statements:
        walked += [(_space(a.access), "load", a) for a in statement.loads]
        walked += [(_space(a.access), "store", a) for a in statement.stores]

    def total(space: str, kind: str, what: str) -> int:
        return sum(getattr(a, what) for s, k, a in walked if (s, k) == (space, kind))

    found = counters(name, **sizes)
    for kind in ("load", "store"):
        assert found[f"global_{kind}_requests"] == total("global", kind, "requests")
        assert found[f"global_{kind}_lines"] == total("global", kind, "lines")
        assert found[f"shared_{kind}_requests"] == total("shared", kind, "requests")
        assert found[f"shared_{kind}_wavefronts"] == total("shared", kind, "wavefronts")


def _space(access: Access) -> str:
    return access.buffer.space


@pytest.mark.parametrize(
    ("name", "loads", "store_requests", "store_wavefronts"),
    [
        # 8 warps; adding: all of them in five steps, then every second, fourth, eighth; two loads each, and the last
        ("reduce_interleaved", (2 * 47 + 1, 2 * 47 + 1), 8 + 47, 8 + 47),
        # adding: 4, 2, then one warp six times; lanes 2, 4, 8, 16, 32 words apart: 4·2 + 2·4 + 8 + 8 + 8, then 4, 2, 1 lanes
        ("reduce_strided", (2 * 12 + 1, 2 * 47 + 1), 8 + 12, 8 + 47),
        ("reduce_sequential", (2 * 12 + 1, 2 * 12 + 1), 8 + 12, 8 + 12),
        ("reduce_first_add", (12, 12), 8 + 12, 8 + 12),  # its own sum is in a register
        ("reduce_shuffle", (4 + 2 + 1 + 5, 4 + 2 + 1 + 5), 8 + 4 + 2, 8 + 4 + 2),  # half a warp's partner, five shuffles
    ],
)
def test_shared_memory_of_a_block_by_hand(name: str, loads: tuple[int, int], store_requests: int, store_wavefronts: int) -> None:
    elements = 512 if name in ("reduce_first_add", "reduce_shuffle") else 256
    assert loads_and_stores(name, N=elements, B=256) == (*loads, store_requests, store_wavefronts)


@pytest.mark.parametrize(("name", "each"), [*((n, 1) for n in FIRST_FIVE[:3]), *((n, 2) for n in FIRST_FIVE[3:])])
def test_global_memory_of_the_ladder_by_hand(name: str, each: int) -> None:
    n, blocks = 1 << 16, (1 << 16) // (256 * each)
    found = counters(name, N=n, B=256)
    assert found["blocks"] == blocks
    assert found["global_load_requests"] == found["global_load_lines"] == n // 32
    assert found["l2_read_sectors"] == n // 8
    assert found["global_store_requests"] == found["l2_write_sectors"] == blocks
    assert found["dram_read_bytes"] == 4 * n


def test_a_grid_stride_by_hand() -> None:
    """1,024 vectors, 256 at a time: 4 trips of 4 warps in each of 2 blocks, 512 bytes each."""
    found = counters("reduce_grid_stride", N=4096, B=128, G=2)
    assert found["global_load_requests"] == 4 * 4 * 2
    assert found["global_load_lines"] == 4 * 32
    assert found["l2_read_sectors"] == 16 * 32
    assert found["global_store_requests"] == 2  # an atomic addition of each block
    assert found["shared_load_requests"] == 2 * (4 * 5 + 1 + 5)
    assert found["shared_store_requests"] == 2 * 4


def test_row_sums_by_hand() -> None:
    """8 rows of 1,024 elements: 256 vectors each."""
    block, warp = counters("row_sum_block", M=8, N=1024, B=128), counters("row_sum_warp", M=8, N=1024, B=128)
    assert (block["blocks"], warp["blocks"]) == (8, 2)
    assert block["global_load_requests"] == warp["global_load_requests"] == 8 * 256 // 32
    assert block["dram_read_bytes"] == warp["dram_read_bytes"] == 4 * 8 * 1024
    assert block["global_store_requests"] == warp["global_store_requests"] == 8
    assert block["shared_load_requests"] == 8 * (4 * 5 + 1 + 5)
    assert warp["shared_load_requests"] == 8 * 5
    assert (block["shared_store_requests"], warp["shared_store_requests"]) == (8 * 4, 0)


def test_the_last_step_of_a_tree_needs_a_power_of_two() -> None:
    scores = Scorer(find_description("reduce_shuffle"), "A100").score({"N": [1 << 20] * 3, "B": [32, 96, 128]})
    assert [bool(r) for r in scores.reason] == [True, True, False]


# -- seconds


@pytest.mark.parametrize("device", ["A100", "V100", "H100"])
@pytest.mark.parametrize("B", [128, 256, 512])
def test_every_rung_is_faster(device: str, B: int) -> None:
    more: dict[str, Any] = {"reduce_grid_stride": {"G": 216 * 512 // B}}
    seconds = [estimate(find_description(n), device, N=1 << 26, B=B, **more.get(n, {})).seconds for n in LADDER]
    assert seconds == sorted(seconds, reverse=True)
    assert seconds[0] > 1.5 * seconds[1]  # Harris: the modulo and divergence cost most
    assert seconds[2] > 1.5 * seconds[3]  # half of the threads did nothing but load


def test_the_last_rung_runs_at_the_speed_of_memory() -> None:
    cost = estimate(find_description("reduce_grid_stride"), "A100", N=1 << 26, B=256, G=864)
    assert cost.bound == "dram"
    assert cost["dram"].share_s > 0.9 * cost.seconds


def test_short_rows_go_to_warps() -> None:
    """A block of 256 threads for 64 vectors leaves three quarters of it idle."""
    block, warp = (estimate(find_description(f"row_sum_{n}"), "A100", M=1 << 16, N=256, B=256).seconds for n in ("block", "warp"))
    assert warp < 0.7 * block


@pytest.mark.parametrize("name", [*LADDER, "row_sum_block", "row_sum_warp"])
def test_the_default_spaces_can_run(name: str) -> None:
    description = find_description(name)
    space = search_space(description)
    assert space is not None
    first = {n: v[0] if isinstance(v, list) else v for n, v in space.items()}
    assert estimate(description, "RTX 3090", **first).seconds > 0.0
