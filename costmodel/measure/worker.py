"""The process that holds a GPU: `python -m costmodel.measure.worker GPU` answers one request after the other.

Requests and answers are lines of JSON on stdin and on a private duplicate of stdout, which libraries cannot write to;
what they print goes to stderr. It ends when its parent does: stdin is closed, or it has another parent. (Linux' death
signal would come when the *thread* that started it ends.)
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol, TextIO

from costmodel.errors import CostModelError
from costmodel.measure.bench import bench_of
from costmodel.measure.fake import FakeBench
from costmodel.measure.task import Row, Settings, Task

__all__ = ["Bench", "main", "open_bench", "task_of"]

_LOOK_S = 0.5
_REASON = 300


class Bench(Protocol):
    """Something that measures."""

    def facts(self) -> dict[str, Any]:
        """What it is: at least `name` and `architecture`."""
        ...

    def measure(self, task: Task, stage: Callable[[str], None]) -> Row:
        """Measure a configuration; `stage` is told `waiting` (for the GPU) and `running`.

        The row has a `status`, and `restart` where the process is of no further use.
        """
        ...

    def profiled(self, task: Task) -> str:
        """Launch a configuration once while the profiler counts; returns the kernel's name."""
        ...


def main() -> None:
    """Answer requests until stdin ends."""
    asked, answers = os.fdopen(os.dup(0), encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # compilers that it starts have neither
    os.dup2(2, 1)
    requests: queue.SimpleQueue[str] = queue.SimpleQueue()
    parent = os.getppid()
    threading.Thread(target=_read, args=(asked, requests), daemon=True).start()
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()

    def say(value: dict[str, Any]) -> None:
        answers.write(json.dumps(value) + "\n")

    try:
        bench: Bench = open_bench(sys.argv[1])
    except CostModelError as error:
        say({"refused": str(error)})
        return
    facts = bench.facts()
    say({"stage": "ready"})
    while True:
        request = json.loads(requests.get())
        say({"stage": "building"})
        if request["do"] == "facts":
            say({"row": facts})
        else:
            row = measured(bench, task_of(request), lambda name: say({"stage": name}))
            say({"row": {"gpu": facts["name"], **row}})


def measured(bench: Bench, task: Task, stage: Callable[[str], None]) -> Row:
    """The row of a configuration; whatever goes wrong becomes its status and reason."""
    try:
        return bench.measure(task, stage)
    except Exception as error:  # libraries raise whatever they like
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return {"status": "runtime_failed", "reason": reason[:_REASON], "restart": True}


def open_bench(gpu: str) -> Bench:
    """The bench of a slot's GPU.

    Raises:
        CostModelError: there is none, or something is not installed.
    """
    return FakeBench(gpu.removeprefix("fake:")) if gpu.startswith("fake:") else bench_of(gpu)


def task_of(request: dict[str, Any]) -> Task:
    """The task that a request describes."""
    settings = request["settings"]
    settings["faults"] = tuple(map(tuple, settings["faults"]))
    return Task(request["target"], tuple((n, v) for n, v in request["sizes"]), Settings(**settings))


def _read(asked: TextIO, requests: queue.SimpleQueue[str]) -> None:
    for line in asked:
        requests.put(line)
    os._exit(0)  # whatever is running: nobody waits for it


def _watch(parent: int) -> None:
    """A pipe that a third process also holds does not close."""
    while os.getppid() == parent:
        time.sleep(_LOOK_S)
    os._exit(0)


if __name__ == "__main__":
    main()
