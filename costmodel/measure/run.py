"""One sweep from its beginning to its file: facts, predictions, journal, times, counters, output.

The journal is the truth and the output a view of it, written at the end or when the sweep is cut short. Predictions are
in the journal's header with time, version and commit, before anything runs; a sweep that goes on keeps them.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from costmodel.cost import find_description
from costmodel.device import Device, find_device
from costmodel.errors import MeasureError, ProfileError
from costmodel.ir import Description
from costmodel.measure.child import close_children, facts_of
from costmodel.measure.code import find_code, source_digest
from costmodel.measure.counting import count
from costmodel.measure.journal import Journal, journal_path
from costmodel.measure.space import Space, kind_of, predicted, shuffled, space_of
from costmodel.measure.sweep import sweep
from costmodel.measure.table import check_columns, write_rows
from costmodel.measure.task import Row, Settings, Slot, Task, placed
from costmodel.provenance import provenance

__all__ = ["Outcome", "Sweep", "measure"]

_FAKE = "fake:"
_NOT_COMPARED = ("timeout_s", "compile_timeout_s", "start_timeout_s", "fake_s")


@dataclass(frozen=True, slots=True, eq=False)
class Sweep:
    """What is asked for."""

    target: str
    """As `cost.find_description` takes it."""
    table: pd.DataFrame
    """Configurations: a column for each argument without a default."""
    out: Path
    """`.parquet`, or `.json` for T4."""
    settings: Settings = field(default_factory=Settings)
    profile: str | None = None
    """Whose predictions are written down; the GPU's own name if None."""
    counters: int = 0
    """Configurations whose hardware counters are read."""
    limit: int | None = None
    """Configurations after which it stops: the first of its random order, a sample of the space."""
    restart: bool = False
    """Throw away what was measured before."""
    command: str = ""
    """What was typed."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a sweep."""

    kernel: str
    gpu: str
    out: str
    statuses: dict[str, int]
    """Status to configurations, those of earlier runs included."""
    measured: int
    """Configurations of this run."""
    remaining: int
    """Configurations that are still to be measured."""
    counted: int
    """Configurations whose counters are known."""
    left_out: dict[str, int]
    """Reason to configurations that the description itself refuses."""
    reasons: dict[str, int]
    """Reason, without its numbers, to configurations that failed."""
    seconds: float
    predicted_with: str
    """Profile of the predictions; empty where there is none."""
    notes: tuple[str, ...] = ()


def measure(
    asked: Sweep,
    executor: Executor,
    slots: list[Slot],
    *,
    watch: Callable[[Row, int, int], None] = lambda *_: None,
    stop: Callable[[], bool] = lambda: False,
    local: bool = True,
) -> Outcome:
    """Measure a space of configurations, or what is left of it.

    Args:
        asked: what, how, and where to.
        executor: any; see `sweep`.
        slots: places to measure in.
        watch: told each row, with how many configurations are done and how many there are.
        stop: asked before each configuration; true cuts the sweep short.
        local: whether the GPUs are in this machine; counters are read here only.

    Example:
        >>> import tempfile
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> from costmodel.measure import Slot, Sweep, measure
        >>> table = pd.DataFrame({"N": [1 << 20, 1 << 24], "B": 256})
        >>> with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as threads:
        ...     asked = Sweep("vector_add", table, Path(folder) / "add.parquet")
        ...     measure(asked, threads, [Slot("fake:h200")]).statuses
        {'ok': 2}

    Raises:
        MeasureError: no GPU, no code, nothing to measure, or another sweep's journal or file.
        CostModelError: the description or the table cannot be used.
    """
    began = time.monotonic()
    description, target = find_description(asked.target), placed(asked.target)
    check_columns(description.arguments, description.name)
    if asked.out.suffix not in (".parquet", ".json"):
        raise MeasureError(f"{asked.out}: expected a name that ends in .parquet, or in .json for T4")
    if not slots[0].gpu.startswith(_FAKE):
        find_code(description)
    space = space_of(description, target, asked.table, asked.settings)
    journal_file = journal_path(asked.out)
    if asked.out.exists() and not journal_file.exists() and not asked.restart:
        raise MeasureError(f"{asked.out}: is there, and no journal beside it to go on with; give --restart to replace it")
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    facts = executor.submit(facts_of, slots[0], asked.settings).result()
    device = _profile(asked, slots[0], str(facts["name"]))
    space = space if device is None else predicted(description, device, space)
    journal = _journal(asked, description, space, facts, device)
    if journal.resumed:
        journal.add("session", _now(), facts)
    try:
        notes = _run(asked, description, space, journal, executor, slots, watch, stop, local)
    except BaseException:
        close_children()
        raise
    finally:
        rows = [_row(journal, t.key) for t in space.tasks if t.key in journal.rows]
        finished = len(rows) == len(space.tasks)
        if rows:
            write_rows(asked.out, rows, description.arguments, {**_public(journal), "finished": finished})
        journal.close()
    failed = Counter(kind_of(row["reason"]) for row in rows if row["status"] != "ok")
    return Outcome(
        kernel=description.name,
        gpu=str(facts["name"]),
        out=str(asked.out),
        statuses=dict(Counter(row["status"] for row in rows)),
        measured=notes[0],
        remaining=len(space.tasks) - len(rows),
        counted=len(journal.counters),
        left_out=dict(space.left_out),
        reasons=dict(failed),
        seconds=time.monotonic() - began,
        predicted_with=journal.header["predicted"]["profile"],
        notes=notes[1],
    )


def _run(
    asked: Sweep,
    description: Description,
    space: Space,
    journal: Journal,
    executor: Executor,
    slots: list[Slot],
    watch: Callable[[Row, int, int], None],
    stop: Callable[[], bool],
    local: bool,
) -> tuple[int, tuple[str, ...]]:
    """Measure and count what is missing; how many were measured, and what is to be said."""
    before = len(journal.rows)
    predictions = journal.header["predictions"]

    def record(task: Task, row: Row) -> None:
        about = {"kernel": description.name, "gpu": journal.header["facts"]["name"], **dict(task.sizes)}
        row = {**about, "predicted_ms": predictions[task.key], **row, "measured_at": _now()}
        journal.add("row", task.key, row)
        watch(row, len(journal.rows), len(space.tasks))

    order = shuffled(list(space.tasks), asked.settings.seed)[: asked.limit]
    sweep([t for t in order if t.key not in journal.rows], executor, slots, record, stop)
    notes: tuple[str, ...] = ()
    if asked.counters and not local:
        notes = ("counters: read on this machine only, not through Dask",)
    elif asked.counters:
        ran = [t for t in order if journal.rows.get(t.key, {}).get("status") == "ok"][: asked.counters]
        missing = [t for t in ran if t.key not in journal.counters]
        if missing:
            notes = count(missing, slots[0].gpu, asked.settings, lambda t, row: journal.add("counters", t.key, row), stop)
    return len(journal.rows) - before, notes


def _journal(asked: Sweep, description: Description, space: Space, facts: Row, device: Device | None) -> Journal:
    """The journal of this sweep, begun or gone on with."""
    made = provenance()
    settings = {n: v for n, v in asdict(asked.settings).items() if n not in _NOT_COMPARED}
    keys = "\n".join(t.key for t in space.tasks)
    identity = {
        "kernel": description.name,
        "source": source_digest(description),
        "space": hashlib.sha256(keys.encode()).hexdigest(),
        "gpu": facts["name"],
        **settings,
        "compiler": facts.get("compiler", ""),
        "driver": str(facts.get("driver", "")).partition(".")[0],  # its branch: a lent machine may differ in the rest
    }
    header = {
        "begun_at": _now(),
        "command": asked.command,
        "machine": made.machine,
        "facts": facts,
        "configurations": len(space.tasks),
        "left_out": dict(space.left_out),
        "predicted": {
            "profile": "" if device is None else device.name,
            "at": _now(),
            "version": made.version,
            "commit": made.commit,
        },
        "predictions": {t.key: _ms(t.predicted_s) for t in space.tasks},
    }
    return Journal(journal_path(asked.out), identity, header, restart=asked.restart)


def _profile(asked: Sweep, slot: Slot, gpu: str) -> Device | None:
    """The profile whose predictions are written down."""
    named = asked.profile or (slot.gpu.removeprefix(_FAKE) if slot.gpu.startswith(_FAKE) else None)
    if named is not None:
        return find_device(named)
    try:
        return find_device(gpu)
    except ProfileError:
        return None


def _row(journal: Journal, key: str) -> Row:
    """A configuration with its counters."""
    row = {**journal.rows[key], **journal.counters.get(key, {})}
    return {"reason": "", **row}


def _public(journal: Journal) -> dict[str, Any]:
    """What belongs into the file of the header (predictions are a column) and of later sessions."""
    return {**{n: v for n, v in journal.header.items() if n != "predictions"}, "sessions": journal.sessions}


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None or not np.isfinite(seconds) else seconds * 1e3


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
