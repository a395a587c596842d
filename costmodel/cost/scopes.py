"""What runs while footprints are taken: one pass of some loops of a block, the blocks of a wave."""

from __future__ import annotations

from dataclasses import replace

import sympy

from costmodel.cost.trips import mean_extent
from costmodel.ir import Loop, Site
from costmodel.symbols import FloorDiv, Maximum, size

__all__ = ["WAVE", "common_depth", "in_step", "inside", "inside_a_wave"]

WAVE = ("wave_x", "wave_y", "wave_z")
"""Columns that give the blocks of one wave along x, y, z."""


def inside(site: Site, depth: int) -> tuple[Loop, ...]:
    """The threads of a block, and its serial loops but for the outermost `depth`."""
    return (*(loop for loop in site.loops if loop.kind == "thread"), *site.serial()[depth:])


def inside_a_wave(site: Site, depth: int) -> tuple[Loop, ...]:
    """The same; waves start anywhere, so loops whose length depends on the block are at least as long as in the middle block."""
    blocks = {loop.index for loop in site.loops if loop.kind == "block"}
    return tuple(
        replace(loop, extent=Maximum(loop.extent, FloorDiv(*sympy.fraction(sympy.together(mean_extent(loop, site.loops))))))
        if loop.extent.free_symbols & blocks
        else loop
        for loop in inside(site, depth)
    )


def in_step(site: Site) -> tuple[Loop, ...]:
    """The blocks of a wave."""
    return tuple(replace(loop, extent=size(WAVE[loop.axis])) for loop in site.loops if loop.kind == "block")


def common_depth(one: Site, other: Site) -> int:
    """Serial loops around both."""
    pairs = zip(one.serial(), other.serial(), strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a.index != b.index), min(len(one.serial()), len(other.serial())))
