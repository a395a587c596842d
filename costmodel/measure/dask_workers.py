"""The workers of a Dask scheduler as an executor: each holds one process with a GPU, and is sent one task at a time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

from costmodel.errors import MeasureError
from costmodel.measure.child import close_children
from costmodel.measure.task import Slot

__all__ = ["DaskWorkers"]


class DaskWorkers(Executor):
    """Submits what concerns a slot to the worker of the slot, or to another one where that worker is lost."""

    def __init__(self, client: Any) -> None:
        """Use all workers that a `distributed.Client` knows.

        Raises:
            MeasureError: there is none.
        """
        self.client = client
        self.executor = client.get_executor(pure=False)
        self.workers = tuple(client.nthreads())
        if not self.workers:
            scheduler = client.scheduler.address
            raise MeasureError(f"Dask scheduler {scheduler}: it has no workers; start some with `dask worker {scheduler}`")

    def slots(self, gpu: str) -> list[Slot]:
        """One on each worker; equal, so that two that meet on a worker share its process."""
        return [Slot(gpu, worker=worker) for worker in self.workers]

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run a function of a slot."""
        worker = next(a.worker for a in args if isinstance(a, Slot))
        found: Future[Any] = self.executor.submit(fn, *args, workers=[worker], allow_other_workers=True, **kwargs)
        return found

    def close_children(self) -> None:
        """End the processes of all workers."""
        self.client.run(close_children)
