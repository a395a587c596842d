"""Sweeps on a fake GPU: what is recorded, what a kill leaves behind, and that every executor measures the same."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from costmodel import Scorer
from costmodel.cost import find_description
from costmodel.errors import MeasureError
from costmodel.measure import child
from costmodel.measure.child import close_children, facts_of, perform
from costmodel.measure.journal import Journal
from costmodel.measure.run import Sweep, measure
from costmodel.measure.space import shuffled, space_of
from costmodel.measure.sweep import sweep
from costmodel.measure.table import metadata_of
from costmodel.measure.task import STATUSES, Settings, Slot, Task
from costmodel.validate import data
from tests import swept
from tests.test_cli import cli

__all__ = ["cli"]

ROOT = Path(__file__).resolve().parent.parent
FAKE = Slot("fake:h200")
ADD = find_description("vector_add")
pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="children are looked for in /proc")


@pytest.fixture(scope="module", autouse=True)
def _children():
    yield
    close_children()


@pytest.fixture
def marked_gpu(tmp_path) -> str:
    """A fake GPU whose name tells this test's children from those of others."""
    profile = tmp_path / "h200.yaml"
    profile.symlink_to(ROOT / "hardware_profiles" / "h200.yaml")
    return f"fake:{profile}"


def workers_of(gpu: str) -> list[int]:
    """Processes that hold a fake GPU."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                words = (process / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            found += [int(process.name)] if b"costmodel.measure.worker" in words and gpu.encode() in words else []
    return found


def gone(gpu: str, within_s: float = 5.0) -> bool:
    """Whether no process holds the GPU soon after the sweep."""
    close_children()
    ends = time.monotonic() + within_s
    while workers_of(gpu) and time.monotonic() < ends:
        time.sleep(0.05)
    return not workers_of(gpu)


def rows_in(journal: Path) -> int:
    """Rows written so far."""
    lines = journal.read_bytes().splitlines(keepends=True) if journal.exists() else []
    return sum(b'"row":' in line and line.endswith(b"\n") for line in lines)


def settled(path: Path) -> pd.DataFrame:
    """A file of measurements without the time of day."""
    return pd.read_parquet(path).drop(columns="measured_at")


# -- what is recorded


def test_rows_are_what_validate_reads(tmp_path):
    done = swept.sweep_to(str(tmp_path / "add.parquet"), count=8)
    assert (done.kernel, done.gpu, done.statuses, done.remaining) == ("vector_add", "fake NVIDIA H200", {"ok": 8}, 0)
    (found,) = data.load(tmp_path / "add.parquet")
    assert (found.kernel, found.gpu, len(found.rows), len(found.failed)) == ("vector_add", "fake NVIDIA H200", 8, 0)
    assert list(found.rows["N"]) == list(swept.table(8)["N"])  # the order of the space, though it was measured in another
    scores = Scorer(ADD, "h200").score(swept.table(8))
    model = scores.seconds * 1e3
    assert found.rows["predicted_ms"].to_numpy() == pytest.approx(model)
    noise = found.rows["time_ms"] / model - 1
    assert (noise.abs() <= 0.02).all()
    assert noise.nunique() == 8
    assert (found.rows["regs_per_thread"] == scores.counters["registers"]).all()


def test_a_file_says_how_it_was_made(tmp_path):
    swept.sweep_to(str(tmp_path / "add.parquet"), count=2)
    about = metadata_of(tmp_path / "add.parquet")
    assert about["finished"] is True
    assert about["facts"]["name"] == about["identity"]["gpu"] == "fake NVIDIA H200"
    assert about["predicted"]["profile"] == "h200"
    assert about["predicted"]["at"] <= pd.read_parquet(tmp_path / "add.parquet")["measured_at"].min()
    assert about["configurations"] == 2


def test_t4_is_read_back_alike(tmp_path):
    swept.sweep_to(str(tmp_path / "add.parquet"), count=5, faults=(("N=131072", "wrong"),))
    swept.sweep_to(str(tmp_path / "add.json"), count=5, faults=(("N=131072", "wrong"),))
    (one,), (other,) = (data.load(tmp_path / f"add.{end}", {"kernel": "vector_add"}) for end in ("parquet", "json"))
    assert other.gpu == one.gpu
    assert list(other.failed["N"]) == [131072]
    for name in ("N", "B", "time_ms", "predicted_ms", "cold_ms", "regs_per_thread"):
        assert other.rows[name].to_numpy() == pytest.approx(one.rows[name].to_numpy()), name


def test_every_fate_is_recorded_and_the_sweep_goes_on(tmp_path):
    faults = ("die", "hang", "sticky", "out_of_memory", "compile", "launch", "wrong")
    told = tuple((f"N={(n + 1) << 16} ", fault) for n, fault in enumerate(faults))
    done = swept.sweep_to(str(tmp_path / "add.parquet"), count=9, jobs=2, faults=told, timeout_s=0.5)
    rows = pd.read_parquet(tmp_path / "add.parquet")
    expected = [
        "runtime_failed",
        "timed_out",
        "runtime_failed",
        "out_of_memory",
        "compile_failed",
        "cannot_launch",
        "wrong_result",
        "ok",
        "ok",
    ]
    assert list(rows["status"]) == expected
    assert set(expected) == set(STATUSES)
    assert rows["time_ms"].isna().to_list() == [s != "ok" for s in expected]
    assert rows["reason"][0] == "its process ended (killed by SIGKILL)"
    assert rows["reason"][1] == "no answer after 0.5 s of running"
    assert done.remaining == 0
    assert sum(done.reasons.values()) == 7


def test_what_the_description_refuses_is_counted_and_what_the_device_refuses_is_measured(tmp_path):
    table = pd.DataFrame({"N": [1000, 1024, 1024, 1024], "B": [128, 128, 128, 2048], "V": [3, 4, 4, 4]})
    with ThreadPoolExecutor(1) as executor:
        done = measure(Sweep("copy", table, tmp_path / "copy.parquet"), executor, [FAKE])
    rows = pd.read_parquet(tmp_path / "copy.parquet")
    assert done.left_out == {"requires N % V == 0": 1}
    assert list(rows["B"]) == [128, 2048]  # each configuration once
    assert list(rows["status"]) == ["ok", "cannot_launch"]
    assert np.isnan(rows["predicted_ms"][1])
    with ThreadPoolExecutor(1) as executor, pytest.raises(MeasureError, match="no configuration to measure: 1 × requires"):
        measure(Sweep("copy", table[:1], tmp_path / "none.parquet"), executor, [FAKE])


def test_the_order_is_random_and_the_same_for_a_seed():
    tasks = list(space_of(ADD, "vector_add", swept.table(30), Settings()).tasks)
    assert shuffled(tasks, 1) == shuffled(tasks, 1)
    assert shuffled(tasks, 1) != shuffled(tasks, 2)
    assert sorted(t.key for t in shuffled(tasks, 1)) == sorted(t.key for t in tasks)
    assert shuffled(tasks, 0) != tasks


# -- going on


def test_ten_kills_at_random_moments_neither_lose_nor_repeat_a_row(tmp_path, marked_gpu):
    plain, killed = tmp_path / "plain.parquet", tmp_path / "killed.parquet"
    swept.sweep_to(str(plain), marked_gpu)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.swept"])
    chance = random.Random(4)
    journal = killed.with_name("killed.parquet.journal")
    progress = []
    for kill in range(10):
        process = context.Process(target=swept.sweep_to, args=(str(killed), marked_gpu), kwargs={"fake_s": 0.02})
        process.start()
        before = rows_in(journal)
        while kill % 2 and process.is_alive() and rows_in(journal) == before:  # every other one in the midst of rows
            time.sleep(0.002)
        process.join(chance.uniform(0.0, 0.12 if kill % 2 else 0.8))
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        if kill == 3:  # as if the kill had come in the midst of a line
            with journal.open("ab") as file:
                file.write(b'{"key":"N=65536 B=256","row":{"status":"ok","time')
        progress.append(rows_in(journal))
    assert len(set(progress)) > 4, progress
    assert progress[-1] < swept.CONFIGURATIONS, "it was done before the last kill"
    swept.sweep_to(str(killed), marked_gpu)
    pd.testing.assert_frame_equal(settled(killed), settled(plain))
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    keys = [line["key"] for line in lines if "row" in line]
    assert len(keys) == len(set(keys)) == swept.CONFIGURATIONS
    assert len(metadata_of(killed)["sessions"]) >= 5
    assert gone(marked_gpu), "a child outlived its sweep"


def test_a_child_that_is_killed_is_replaced_and_its_configuration_measured_again(tmp_path, marked_gpu):
    out, began = tmp_path / "add.parquet", time.monotonic()
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(swept.sweep_to, str(out), marked_gpu, fake_s=0.02)
        killed: set[int] = set()
        while not running.done() and time.monotonic() < began + 20 and len(killed) < 2:
            if rows_in(out.with_name("add.parquet.journal")) > 5 + 20 * len(killed):
                for pid in set(workers_of(marked_gpu)) - killed:
                    os.kill(pid, signal.SIGKILL)
                    killed.add(pid)
            time.sleep(0.01)
        assert running.result().statuses == {"ok": swept.CONFIGURATIONS}
    assert len(killed) == 2
    assert gone(marked_gpu)


def test_ctrl_c_leaves_a_file_and_no_process_and_the_sweep_goes_on(tmp_path, marked_gpu):
    out = tmp_path / "add.parquet"
    code = f"from tests import swept; swept.sweep_to({str(out)!r}, {marked_gpu!r}, fake_s=0.05)"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    journal = out.with_name("add.parquet.journal")
    while process.poll() is None and rows_in(journal) <= 5:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert "KeyboardInterrupt" in said
    assert gone(marked_gpu)
    assert metadata_of(out)["finished"] is False
    rows = len(pd.read_parquet(out))
    assert 5 <= rows < swept.CONFIGURATIONS
    assert swept.sweep_to(str(out), marked_gpu).measured == swept.CONFIGURATIONS - rows
    assert metadata_of(out)["finished"] is True


def test_another_sweep_does_not_go_on_with_a_journal(tmp_path):
    out = str(tmp_path / "add.parquet")
    swept.sweep_to(out, count=3)
    assert swept.sweep_to(out, count=3).measured == 0
    with pytest.raises(MeasureError, match=r"space was \w+…, is \w+….*--restart"):
        swept.sweep_to(out, count=4)
    with pytest.raises(MeasureError, match="seed was 0, is 1"):
        swept.sweep_to(out, count=3, seed=1)
    with pytest.raises(MeasureError, match="gpu was fake NVIDIA H200, is fake NVIDIA H100"):
        swept.sweep_to(out, "fake:h100_sxm", count=3)
    assert swept.sweep_to(out, count=3, timeout_s=10.0).measured == 0  # a limit is none of what was measured
    (tmp_path / "add.parquet.journal").unlink()
    with pytest.raises(MeasureError, match="no journal beside it"):
        swept.sweep_to(out, count=3)


def test_a_changed_source_is_another_sweep(tmp_path):
    file, out = tmp_path / "mine.py", tmp_path / "mine.parquet"
    table = pd.DataFrame({"N": [1 << 20], "B": [256]})
    for kernel in (ROOT / "validation" / "kernels").glob("*.cu"):
        shutil.copy(kernel, tmp_path)
    file.write_text((ROOT / "validation" / "kernels" / "streaming.py").read_text())
    with ThreadPoolExecutor(1) as executor:
        measure(Sweep(f"{file}:vector_add", table, out), executor, [FAKE])
        file.write_text(file.read_text() + "# changed\n")
        with pytest.raises(MeasureError, match="source was"):
            measure(Sweep(f"{file}:vector_add", table, out), executor, [FAKE])
        assert measure(Sweep(f"{file}:vector_add", table, out, restart=True), executor, [FAKE]).measured == 1


def test_journal_refuses_what_it_cannot_read_and_drops_a_torn_line(tmp_path):
    path = tmp_path / "journal"
    journal = Journal(path, {"a": 1}, {})
    with pytest.raises(MeasureError, match="another sweep is writing it"):
        Journal(path, {"a": 1}, {})
    journal.add("row", "x", {"status": "ok"})
    journal.add("counters", "x", {"c": 2})
    journal.close()
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"key":"y","row":{"sta')
    again = Journal(path, {"a": 1}, {})
    assert (again.rows, again.counters) == ({"x": {"status": "ok"}}, {"x": {"c": 2}})
    again.close()
    assert path.read_bytes() == whole
    lines = whole.splitlines(keepends=True)
    path.write_bytes(lines[0] + b"nonsense\n" + lines[1])
    with pytest.raises(MeasureError, match="line 2 is damaged: 'nonsense'"):
        Journal(path, {"a": 1}, {})
    path.write_bytes(lines[0][:10])  # a header that was cut off began nothing
    Journal(path, {"b": 2}, {}).close()


# -- executors


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


def test_a_dask_cluster_measures_the_same(tmp_path, cli):
    distributed = pytest.importorskip("distributed")
    swept.sweep_to(str(tmp_path / "local.parquet"), count=12)
    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None)
    with cluster, distributed.Client(cluster) as client:
        executor = client.get_executor(pure=False)
        slots = [Slot("fake:h200", n) for n in range(2)]
        done = measure(Sweep("vector_add", swept.table(12), tmp_path / "dask.parquet"), executor, slots, local=False)
        client.run(close_children)
        space = tmp_path / "space.csv"
        swept.table(12).to_csv(space, index=False)
        dask = ("--dask", cluster.scheduler_address, "--gpus", "fake:h200")
        typed = cli("measure", "vector_add", "--space", space, *dask, "--out", tmp_path / "typed.parquet", "--json").json
    assert done.statuses == typed["statuses"] == {"ok": 12}
    for name in ("dask", "typed"):
        pd.testing.assert_frame_equal(settled(tmp_path / f"{name}.parquet"), settled(tmp_path / "local.parquet"))


def test_a_stopped_sweep_ends_cleanly(tmp_path):
    done = []
    with ThreadPoolExecutor(1) as executor:
        asked = Sweep("vector_add", swept.table(6), tmp_path / "add.parquet")
        first = measure(asked, executor, [FAKE], watch=lambda *_: done.append(1), stop=lambda: len(done) >= 2)
        assert (first.measured, first.remaining) == (2, 4)
        second = measure(replace(asked, limit=5), executor, [FAKE])
        assert (second.measured, second.remaining) == (3, 1)
        third = measure(asked, executor, [FAKE])
        assert (third.measured, third.remaining) == (1, 0)


# -- children


def test_what_libraries_print_does_not_reach_the_answers(tmp_path):
    file = tmp_path / "noisy.py"
    file.write_text(
        'import os\nprint("noise")\nos.system("echo more noise")\n' + (ROOT / "validation/kernels/streaming.py").read_text()
    )
    task = Task(f"{file}:vector_add", (("N", 1024), ("B", 128)))
    assert perform(task, FAKE)["status"] == "ok"


def test_a_gpu_that_is_not_there_is_an_error_and_no_row(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(MeasureError, match=r"torch|GPU"):
        facts_of(Slot("7"), Settings())
    with pytest.raises(MeasureError, match="unknown GPU"):
        facts_of(Slot("fake:nothing"), Settings())


def test_a_child_sees_its_own_gpu_only(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-abc")
    assert child.child_environment("1")["CUDA_VISIBLE_DEVICES"] == "GPU-abc"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert child.child_environment("1")["CUDA_VISIBLE_DEVICES"] == "1"
