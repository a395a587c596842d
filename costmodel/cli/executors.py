"""Where `costmodel measure` runs: processes on this machine's GPUs, or the workers of a Dask scheduler."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager

from costmodel.errors import MeasureError
from costmodel.measure import Slot
from costmodel.measure.child import close_children
from costmodel.measure.dask_workers import DaskWorkers

__all__ = ["executor_of", "slots_of"]


def slots_of(gpus: str, jobs: int) -> list[Slot]:
    """A place for each process of each GPU.

    Raises:
        MeasureError: not a list of indices, nor a fake.
    """
    names = [g.strip() for g in gpus.split(",")]
    for name in names:
        if not name.isdecimal() and not name.startswith("fake:"):
            raise MeasureError(f"--gpus {gpus}: expected indices such as 0,1, or fake:h200; got {name!r}")
    if len(set(names)) < len(names):
        raise MeasureError(f"--gpus {gpus}: a GPU is named twice; give --jobs for more processes on one")
    return [Slot(name, n) for n in range(jobs) for name in names]


@contextmanager
def executor_of(gpus: str, jobs: int, dask: str | None) -> Iterator[tuple[Executor, list[Slot], bool]]:
    """An executor, the slots it serves, and whether they are on this machine.

    Raises:
        MeasureError: the options do not go together, Dask is not installed, or has no workers.
    """
    slots = slots_of(gpus, jobs)
    if dask is None:
        with ThreadPoolExecutor(len(slots)) as threads:
            try:
                yield threads, slots, True
            finally:
                close_children()
        return
    if len(slots) > 1:
        raise MeasureError(
            f"--dask {dask}: each worker holds one process on one GPU, the one that --gpus names for all; expected one "
            f"GPU and no --jobs, got {len(slots)} places; start a worker for each instead, with its own CUDA_VISIBLE_DEVICES"
        )
    try:
        from distributed import Client
    except ImportError:
        raise MeasureError("--dask needs the package distributed: pip install 'costmodel[dask]'") from None
    with Client(dask, timeout=30) as client:
        workers = DaskWorkers(client)
        try:
            yield workers, workers.slots(slots[0].gpu), False
        finally:
            workers.close_children()
