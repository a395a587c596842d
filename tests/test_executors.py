"""Every executor measures the same: threads, processes, one's own, and a Dask cluster with one process on each worker."""

from __future__ import annotations

import multiprocessing
import threading
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor

import pandas as pd
import pytest

from costmodel.measure.run import Sweep, measure
from costmodel.measure.space import space_of
from costmodel.measure.sweep import sweep
from costmodel.measure.task import Settings, Slot, Task
from tests import swept
from tests.test_cli import cli
from tests.test_sweep import ADD, FAKE, _children, marked_gpu, pytestmark, settled, workers_of

__all__ = ["_children", "cli", "marked_gpu", "pytestmark"]


class OneAfterTheOther(Executor):
    """Runs a task when it is submitted, and keeps who ran where."""

    def __init__(self):
        self.slots: list[Slot] = []

    def submit(self, fn, /, *args, **kwargs):
        future: Future = Future()
        self.slots += [a for a in args if isinstance(a, Slot)]
        future.set_result(fn(*args, **kwargs))
        return future


def test_every_executor_measures_the_same(tmp_path):
    swept.sweep_to(str(tmp_path / "threads.parquet"), count=12, jobs=2)
    spawn = multiprocessing.get_context("spawn")
    mine = OneAfterTheOther()
    for name, executor, slots in (("processes", ProcessPoolExecutor(1, mp_context=spawn), [FAKE]), ("mine", mine, [FAKE])):
        with executor:
            measure(Sweep("vector_add", swept.table(12), tmp_path / f"{name}.parquet"), executor, slots)
        pd.testing.assert_frame_equal(settled(tmp_path / f"{name}.parquet"), settled(tmp_path / "threads.parquet"))
    assert len(mine.slots) == 13


def test_no_slot_has_two_tasks_at_once():
    class Held(Executor):
        def __init__(self):
            self.waiting: list[tuple[Slot, Future]] = []
            self.most = 0

        def submit(self, fn, /, *args, **kwargs):
            future: Future = Future()
            assert args[1] not in [slot for slot, _ in self.waiting], "busy"
            self.waiting.append((args[1], future))
            self.most = max(self.most, len(self.waiting))
            if len(self.waiting) == 2:  # the sweep now waits: let one of them end
                self.waiting.pop(0)[1].set_result({"status": "ok"})
            return future

    tasks = list(space_of(ADD, "vector_add", swept.table(7), Settings()).tasks)
    seen: list[str] = []
    held = Held()
    stopping = iter([False] * 6 + [True] * 50)
    slots = [Slot("0"), Slot("1")]

    def record(task: Task, row: dict) -> None:
        seen.append(task.key)
        if len(seen) >= 5 and held.waiting:
            held.waiting.pop(0)[1].set_result({"status": "ok"})

    assert sweep(tasks, held, slots, record, lambda: next(stopping)) is False  # cut short after six
    assert seen == [t.key for t in tasks[:6]]
    assert held.most == 2


def test_a_dask_cluster_measures_the_same_with_one_process_on_each_worker(tmp_path, marked_gpu, cli):
    distributed = pytest.importorskip("distributed")
    swept.sweep_to(str(tmp_path / "local.parquet"), count=12)
    space, done = tmp_path / "space.csv", threading.Event()
    swept.table(12).to_csv(space, index=False)
    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=2, processes=True, dashboard_address=None)
    with cluster, ThreadPoolExecutor(1) as thread:

        def watched() -> int:
            most = 0
            while not done.wait(0.02):
                most = max(most, len(workers_of(marked_gpu)))
            return most

        watching = thread.submit(watched)
        dask = ("--dask", cluster.scheduler_address, "--gpus", marked_gpu)
        typed = cli("measure", "vector_add", "--space", space, *dask, "--out", tmp_path / "dask.parquet", "--json")
        done.set()
        most = watching.result()
        left = workers_of(marked_gpu)
    assert typed.json["statuses"] == {"ok": 12}
    pd.testing.assert_frame_equal(settled(tmp_path / "dask.parquet"), settled(tmp_path / "local.parquet"))
    assert most == 2, "one process on each worker, though it has two threads"
    assert not left
