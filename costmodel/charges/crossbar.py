"""The crossbar between SMs and L2: one direction carries requests and stored data, the other loaded data.

A request takes one flit for each line it touches; a store adds its sectors. Data come back a flit a sector. The directions work
side by side, so an SM's port is busy as long as the fuller one.
Source: packets of GPGPU-Sim's interconnect (Bakhoda et al. 2009, Analyzing CUDA workloads using a detailed GPU simulator,
ISPASS; icnt: a header, with data in stores and in replies), in flits of one sector.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["port_bytes"]

Floats = npt.NDArray[np.float64]


def port_bytes(loaded: Floats, load_lines: Floats, stored: Floats, store_lines: Floats, flit_bytes: int) -> Floats:
    """Bytes that pass the fuller direction of all ports together.

    Args:
        loaded: bytes that L2 sends.
        load_lines: lines of requests that L2 answers.
        stored: bytes that SMs send.
        store_lines: lines of stores.
        flit_bytes: what a direction carries in one step.
    """
    up: Floats = (load_lines + store_lines) * flit_bytes + stored
    return np.maximum(loaded, up)
