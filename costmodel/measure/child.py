"""From the side of the sweep: the processes that hold GPUs, one for each slot, replaced when they are lost.

`perform` runs in a worker of any executor, a thread or a process near or far; the child belongs to the process it runs
in. A configuration that costs the child its life, its CUDA context or its memory is tried once more in a fresh one,
since something else may have been the cause; the second time is its fate.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from costmodel.measure.live import GpuError
from costmodel.measure.task import Row, Settings, Slot, Task

__all__ = ["child_environment", "close_children", "facts_of", "perform"]

_TAIL = 400
_ROOT = Path(__file__).resolve().parents[2]


class _GoneError(Exception):
    """The child is no more."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.row: Row = {"status": status, "reason": reason}


class _Child:
    """A running `measure.worker`."""

    def __init__(self, gpu: str) -> None:
        self.said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the child
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "costmodel.measure.worker", gpu],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.said,
            env=child_environment(gpu),
            start_new_session=True,  # Ctrl-C is for the sweep, which then ends its children
        )
        self.lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        self.ready = self.closed = False

    def ask(self, request: Mapping[str, Any], settings: Settings) -> Row:
        """The answer to a request.

        Raises:
            _GoneError: the child died, or had to be killed because it took too long.
            GpuError: it cannot measure at all.
        """
        limits = {"building": settings.compile_timeout_s, "waiting": None, "running": settings.timeout_s}
        stage, limit = ("starting", settings.start_timeout_s) if not self.ready else ("building", limits["building"])
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # the end of its output says why
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        while True:
            try:
                line = self.lines.get(timeout=limit)
            except queue.Empty:
                self.close()
                raise _GoneError("timed_out", f"no answer after {limit:g} s of {stage}") from None
            if not line:
                raise _GoneError("runtime_failed", self._last_words())
            answer = json.loads(line)
            if "refused" in answer:
                raise GpuError(answer["refused"])
            if "row" in answer:
                row: Row = answer["row"]
                return row
            stage, self.ready = answer["stage"], True
            if stage != "ready":
                limit = limits[stage]

    def close(self) -> None:
        """End it now."""
        self.closed = True
        self.process.kill()
        self.process.wait()
        self.reader.join()
        for pipe in (self.process.stdin, self.process.stdout, self.said):
            assert pipe is not None
            with contextlib.suppress(OSError):  # what was still to be written
                pipe.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(b"")

    def _last_words(self) -> str:
        code = self.process.wait()
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        if self.closed or self.said.closed:
            return f"its process ended ({how})"
        self.said.seek(0)
        lines = self.said.read()[-_TAIL:].decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"its process ended ({how}){': ' + last if last else ''}"


_CHILDREN: dict[Slot, _Child] = {}
_BUSY: dict[Slot, threading.Lock] = {}
_REGISTRY = threading.Lock()
_AGAIN = ("runtime_failed", "out_of_memory")


def perform(task: Task, slot: Slot) -> Row:
    """Measure a configuration in the child of a slot.

    Raises:
        GpuError: the child cannot measure at all: no such GPU, or something is not installed.
    """
    request = {"do": "measure", "target": task.target, "sizes": task.sizes, "settings": asdict(task.settings)}
    return _asked(slot, request, task.settings)


def facts_of(slot: Slot, settings: Settings) -> Row:
    """What the GPU of a slot is.

    Raises:
        GpuError: there is none, or its process died.
    """
    row = _asked(slot, {"do": "facts"}, settings)
    if "name" not in row:
        raise GpuError(f"GPU {slot.gpu}: cannot be asked what it is: {row.get('reason', row)}")
    return row


def close_children() -> None:
    """End all children of this process; they start again when they are needed."""
    with _REGISTRY:
        for child in _CHILDREN.values():
            child.close()
        _CHILDREN.clear()


atexit.register(close_children)


def child_environment(gpu: str) -> dict[str, str]:
    """For a process that sees one GPU only, and the package that this one has."""
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(_ROOT), environment.get("PYTHONPATH"))))
    if not gpu.startswith("fake:"):
        for variable in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
            visible = [v for v in os.environ.get(variable, "").split(",") if v]
            environment[variable] = visible[int(gpu)] if int(gpu) < len(visible) else gpu
    return environment


def _asked(slot: Slot, request: Mapping[str, Any], settings: Settings) -> Row:
    with _REGISTRY:
        busy = _BUSY.setdefault(slot, threading.Lock())
    with busy:
        row: Row = {}
        for _ in range(2):
            child = _child(slot)
            try:
                row = child.ask(request, settings)
                lost = bool(row.pop("restart", False))
            except _GoneError as gone:
                row, lost = gone.row, True
            if not lost or (child.closed and row["status"] != "timed_out"):
                return row  # or the sweep is being ended
            _drop(slot, child)
            if row["status"] not in _AGAIN:
                return row
        return row


def _child(slot: Slot) -> _Child:
    with _REGISTRY:
        child = _CHILDREN.get(slot)
        if child is not None and child.process.poll() is not None:
            child.close()
            child = None
        if child is None:
            child = _CHILDREN[slot] = _Child(slot.gpu)
        return child


def _drop(slot: Slot, child: _Child) -> None:
    with _REGISTRY:
        if _CHILDREN.get(slot) is child:
            del _CHILDREN[slot]
    child.close()
