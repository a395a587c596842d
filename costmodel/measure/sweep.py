"""Measures tasks on an executor, one at a time in each slot, and hands out rows as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait

from costmodel.measure.child import perform
from costmodel.measure.task import Row, Slot, Task

__all__ = ["sweep"]


def sweep(
    tasks: Iterable[Task],
    executor: Executor,
    slots: Sequence[Slot],
    record: Callable[[Task, Row], None],
    stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Measure tasks in their order.

    Args:
        tasks: what to measure; taken one by one.
        executor: any; `perform` runs in its workers. It needs as many of them as there are slots.
        slots: places to measure in. No slot ever has two tasks, so a GPU with one slot runs one kernel at a time.
        record: is given each row, in the calling thread.
        stop: asked before each task; true ends the sweep once what runs is done.

    Returns:
        Whether all tasks were measured.
    """
    free, running = list(reversed(slots)), dict[Future[Row], tuple[Task, Slot]]()
    waiting = iter(tasks)
    upcoming = next(waiting, None)
    try:
        while True:
            while free and upcoming is not None and not stop():
                slot = free.pop()
                running[executor.submit(perform, upcoming, slot)] = upcoming, slot
                upcoming = next(waiting, None)
            if not running:
                return upcoming is None
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                task, slot = running.pop(future)
                free.append(slot)
                record(task, future.result())
    finally:
        for future in running:
            future.cancel()
