"""`from_helion`: a bound Helion kernel and a configuration as a kernel that can be counted and priced, without compiling."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from costmodel.cost import Cost, Scorer, estimate
from costmodel.counts import traffic
from costmodel.device import Device, find_device
from costmodel.errors import CostModelError, SizeError, UnsupportedError
from costmodel.frontends.helion.bounds import check_edges
from costmodel.frontends.helion.building import GROUP, Building, Grid
from costmodel.frontends.helion.graphs import Reader, Reading
from costmodel.frontends.triton.compiling import compute_capability
from costmodel.frontends.triton.pressure import MOST_REGISTERS, REGISTERS_PER_BLOCK
from costmodel.ir import Kernel

__all__ = ["HelionKernel", "HelionSpace", "from_helion"]

_K = TypeVar("_K")
_V = TypeVar("_V")

_STRUCTURE = ("loop_orders", "reduction_fusion")
"""What of a configuration makes another description, beside which reductions are loops."""
_ADDRESSES = 14
"""Registers for addresses, masks and loop counts. Source: ptxas 12.8 of Triton 3.7.1 on the code of `tests/helion_kernels.py`,
sm_90: 12 where tiles hold next to nothing, 18 to 22 for element-wise kernels and reductions of 4 to 8 words a thread. Estimates
differ from the assembler by 13.5 registers rms there (28 configurations), and by 18.9 on `tests/helion_unseen.py` (42), which
chose nothing; for sm_80 by 13.6 and 20.2. Too many (110 for 48, for sm_80 38) for large tiles of element-wise kernels, whose
results take the place of operands; too few (18 to 24 for 32) for products of small tiles."""
_GRID_AXES = 3
_MOST_BLOCKS = 65_535
"""Axes of a launch, and blocks along the second and third; Helion numbers blocks in one row. Source: CUDA C++ programming
guide, technical specifications."""


_traffic = lru_cache(maxsize=64)(traffic)
"""Configurations share a kernel: their counts differ in sizes alone."""


@dataclass(frozen=True, slots=True)
class HelionKernel:
    """A Helion kernel as a configuration has it."""

    kernel: Kernel
    """Its sizes are blocks, threads, stages and what follows from them: one description for many configurations."""
    sizes: dict[str, int]
    """Of the configuration."""
    notes: tuple[str, ...]
    """Where the description says something else than the kernel, and what."""

    def requested_bytes(self) -> int:
        """Bytes of the elements that the kernel loads and stores in global memory."""
        flows = _traffic(self.kernel).bind(**self.sizes)
        return sum(int(f.requested_bytes) for f in flows if {f.source, f.target} == {"l1", "register"})

    def estimate(self, device: Device | str) -> Cost:
        """Predict the time of one launch."""
        return estimate(self.kernel, device, **self.sizes)


@dataclass(slots=True)
class HelionSpace:
    """A bound kernel's configurations, each structure of which (order, rolled reductions, …) is described once."""

    bound: Any
    target: str | Device = "sm_90"
    """What it is compiled for: warp groups on Hopper keep one stage more of what they multiply."""
    _readings: dict[tuple[Any, ...], Reading | CostModelError] = field(default_factory=dict)
    _buildings: dict[tuple[int, Grid], Building | CostModelError] = field(default_factory=dict)
    _default: dict[str, Any] = field(default_factory=dict)

    def kernel(self, config: Any = None) -> HelionKernel:
        """The kernel as a configuration has it.

        Args:
            config: Helion's; the spec's default if left out, also for single values.

        Raises:
            UnsupportedError: something in the kernel or the configuration is not understood.
            SizeError: a configuration that Helion refuses.
        """
        with self.bound.env, self.bound.host_function:
            config = self._whole(config or {})
            self._check(config)
            sizes = {"threads": 32 * config.num_warps, "stages": config.num_stages}
            for n, info in enumerate(self.bound.env.block_sizes):
                length = info.from_config(config)
                sizes[f"block_{n}"] = length if isinstance(length, int) else 1
            reading = self._read(config)
            check_edges(self.bound.kernel.name, reading, sizes)
            numbered, group = self._numbered(config, reading, sizes)
            if numbered == "groups":
                sizes[GROUP] = group
            building = self._building(reading, numbered)
        return HelionKernel(building.kernel, building.sizes(sizes), (*reading.notes, *_notes(config, ungrouped=group == 0)))

    def _whole(self, config: Mapping[str, Any] | Any) -> Any:
        """The configuration, what it leaves out as by default, as Helion normalizes it."""
        import helion

        spec = self.bound.config_spec
        if not self._default:
            self._default = dict(spec.default_config())
        try:
            return spec.normalized_config(helion.Config(**(self._default | dict(config))))
        except (helion.exc.InvalidConfig, TypeError) as error:
            told = str(error).partition("\n")[0]
            raise SizeError(f"Helion kernel {self.bound.kernel.name}: a configuration that Helion refuses: {told}") from None

    def _numbered(self, config: Any, reading: Reading, sizes: dict[str, int]) -> tuple[Grid, int]:
        """How blocks are numbered, and how many are taken together; 0 where they are described one after the other instead."""
        grid = reading.grid
        tiles = [-(-a.extent // a.length(sizes)) for a in grid]
        wanted = max(config.config.get("l2_groupings") or (1,))
        group = min(wanted, tiles[0])
        if group > 1 and len(grid) == 2 and tiles[0] % group == 0 and max(tiles[1], tiles[0] // group) <= _MOST_BLOCKS:
            return "groups", group
        fits = len(grid) <= _GRID_AXES and all(n <= _MOST_BLOCKS for n in tiles[1:])
        if reading.bounded and not fits:
            raise UnsupportedError(
                f"Helion kernel {self.bound.kernel.name}: a loop that starts or ends at a tile's edge, in a grid of {tiles}; "
                f"expected at most {_GRID_AXES} axes, and {_MOST_BLOCKS} tiles along the second and third"
            )
        return "axes" if fits else "row", int(group == 1)

    def score(self, configs: Iterable[Any], device: Device | str) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Seconds of configurations, priced together: infinite where one cannot run, NaN where it is refused."""
        device = device if isinstance(device, Device) else find_device(device)
        groups: dict[int, tuple[Kernel, list[int], list[dict[str, int]]]] = {}
        seconds: list[float] = []
        for n, config in enumerate(configs):
            seconds.append(float("nan"))
            try:
                found = self.kernel(config)
            except CostModelError:
                continue
            _, rows, sizes = groups.setdefault(id(found.kernel), (found.kernel, [], []))
            rows.append(n)
            sizes.append(found.sizes)
        result = np.array(seconds)
        for kernel, rows, sizes in groups.values():
            result[rows] = _seconds(Scorer(kernel, device), pd.DataFrame(sizes))
        return result

    def _check(self, config: Any) -> None:
        for name in ("flatten_loops", "epilogue_subtile"):
            value = config.config.get(name)
            if any(value) if isinstance(value, list) else value:
                raise UnsupportedError(
                    f"Helion kernel {self.bound.kernel.name}: {name}={value}; expected a configuration without"
                )

    def _read(self, config: Any) -> Reading:
        """What the kernel does, by the structure of a configuration."""
        chunks = tuple(c is not None for c in config.reduction_loops)
        key = (*(repr(config.config.get(name)) for name in _STRUCTURE), chunks)
        return _once(self._readings, key, lambda: Reader(self.bound, config).read())

    def _building(self, reading: Reading, numbered: Grid) -> Building:
        """The description of what was read."""

        def made() -> Building:
            groups = 90 <= compute_capability(self.target) < 100
            name, registers = self.bound.kernel.name, _registers(self.bound)
            return Building(name, reading, registers, warp_groups=groups, numbered=numbered)

        return _once(self._buildings, (id(reading), numbered), made)


def from_helion(bound: Any, config: Mapping[str, Any] | Any = None, *, target: str | Device = "sm_90") -> HelionKernel:
    """What a bound kernel does under a configuration, from its graphs: nothing is compiled, no GPU is needed.

    Args:
        bound: `kernel.bind(arguments)`, on tensors of the CPU or fake ones.
        config: Helion's; the default one if left out. To price many, keep a `HelionSpace`.
        target: `"sm_90"`, or a device or its name.

    Raises:
        UnsupportedError: something in the kernel or the configuration is not understood; the message names it.
        SizeError: a configuration that Helion refuses.
    """
    return HelionSpace(bound, target).kernel(config)


def _once(known: dict[_K, _V | CostModelError], key: _K, make: Callable[[], _V]) -> _V:
    """What is known of a key; made, or refused, when it is first asked for."""
    if key not in known:
        try:
            known[key] = make()
        except CostModelError as error:
            known[key] = error
    found = known[key]
    if isinstance(found, CostModelError):
        raise found
    return found


def _seconds(scorer: Scorer, table: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Prices of a table; NaN for rows that cannot be counted, which are found by halving it."""
    try:
        return scorer.score(table).seconds
    except UnsupportedError:
        if len(table) == 1:
            return np.array([np.nan])
    half = len(table) // 2
    return np.concatenate([_seconds(scorer, table[:half]), _seconds(scorer, table[half:])])


def _notes(config: Any, *, ungrouped: bool) -> tuple[str, ...]:
    found = []
    if str(config.config.get("pid_type", "flat")).startswith("persistent"):
        found.append("persistent programs are described as a block for each tile")
    if ungrouped:
        found.append("blocks are taken one after the other, not in groups that are uneven or of three axes")
    if "tensor_descriptor" in str(config.config.get("indexing")):
        found.append("copies by tensor descriptor are described as loads")
    return tuple(found)


def _registers(bound: Any) -> Any:
    """Registers of a thread from the tiles that live together, as Helion's facts tell, by sizes."""
    spec = bound.config_spec
    fact = spec.kernel_matmul_fact or spec.reduction_kernel_fact
    steps = fact.live_tile_steps if fact is not None else ()
    carried = frozenset((f.dim_block_ids, f.itemsize) for f in spec.accumulator_facts)

    def derive(sizes: dict[str, int]) -> int:
        most = max((_live_bytes(step, carried, sizes) for step in steps), default=0)
        threads = sizes["threads"]
        return min(_ADDRESSES + -(-most // (4 * threads)), MOST_REGISTERS, REGISTERS_PER_BLOCK // threads)

    return derive


def _live_bytes(step: Sequence[Any], carried: frozenset[Any], sizes: dict[str, int]) -> int:
    """Bytes of the tiles of a step; what a loop carries is in one place, under whatever name."""
    total, seen = 0, set()
    for tile in step:
        shape = (tile.dim_block_ids, tile.itemsize)
        if tile.kind == "global" or shape in seen:
            continue
        seen |= {shape} & carried
        count = tile.itemsize
        for number, extent in zip(tile.dim_block_ids, tile.static_dims, strict=True):
            count *= (extent or 1) if number is None else sizes[f"block_{number}"]
        total += count
    return total
