"""Hardware counters: configurations run once more under Nsight Compute, one launch of each, and its CSV is read back.

Counters are those of a warm launch (`--cache-control none`, after two launches), as times are. Clocks are left alone.
ncu is asked which metrics the GPU has; what it still does not know when profiling is dropped, with a note.
Source: Nsight Compute CLI documentation (`--page raw --csv`: a header line, a line of units, then a line for each
launch; `--print-units base`; `--profile-from-start`; `--query-metrics`).
"""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from costmodel.cost import NSIGHT
from costmodel.errors import MeasureError
from costmodel.measure.child import child_environment
from costmodel.measure.compile import found_tool
from costmodel.measure.task import Row, Settings, Task

__all__ = ["METRICS", "count", "matched", "ncu_command", "read_counters"]

METRICS = (
    *NSIGHT,
    "l1tex__t_sectors_pipe_lsu_mem_local_op_ld.sum",
    "l1tex__t_sectors_pipe_lsu_mem_local_op_st.sum",
    "lts__t_sectors_srcunit_ltcfabric.sum",
    "smsp__inst_executed.sum",
    "gpu__time_duration.sum",
)
"""What is asked for: all that the model predicts, spills, traffic between L2 partitions, instructions, and the launch's time
under the profiler in ns."""
_BATCH = 20
_TO_NS = {"ns": 1.0, "nsecond": 1.0, "us": 1e3, "usecond": 1e3, "ms": 1e6, "msecond": 1e6, "s": 1e9, "second": 1e9}
_UNKNOWN = re.compile(r"Failed to find metric (.*)")
_LISTED = re.compile(r"^(\w+__\w+)", re.MULTILINE)
_REASON = 300


def count(
    tasks: Sequence[Task], gpu: str, settings: Settings, record: Callable[[Task, Row], None], stop: Callable[[], bool]
) -> tuple[str, ...]:
    """Count what launches of configurations do.

    Args:
        tasks: that are known to run.
        gpu: as in `task.Slot`.
        settings: of the sweep.
        record: is given the counters of each.
        stop: asked before each batch.

    Returns:
        What could not be counted, and why.
    """
    ncu = found_tool("ncu")
    if ncu is None:
        return ("counters: ncu (Nsight Compute) is not on the PATH nor where CUDA_HOME says; none were read",)
    notes: list[str] = []
    metrics, at = _available(ncu, gpu, settings), 0
    while at < len(tasks) and not stop():
        batch = tasks[at : at + _BATCH]
        try:
            rows, missing = _batch(ncu, batch, gpu, settings, metrics)
        except MeasureError as error:
            return (*notes, f"counters: {error}")
        if missing:
            metrics = [m for m in metrics if m not in missing]
            notes.append(f"counters: this GPU has no {', '.join(missing)}")
            continue
        for task in batch:
            if task.key in rows:
                record(task, rows[task.key])
        lost = [task.key for task in batch if task.key not in rows]
        notes += [f"counters: none of {key}" for key in lost[:1]]
        if len(lost) == len(batch):
            return (*notes, "counters: a whole batch had none; the rest was left out")
        at += _BATCH
    return tuple(notes)


def ncu_command(ncu: str, metrics: Sequence[str], log: Path, program: Sequence[str]) -> list[str]:
    """The command that counts a program's launches between the start and the stop of its profiler."""
    return [
        *(ncu, "--csv", "--page", "raw", "--print-units", "base", "--clock-control", "none", "--cache-control", "none"),
        *("--profile-from-start", "off", "--target-processes", "all", "--metrics", ",".join(metrics), "--log-file", str(log)),
        *program,
    ]


def read_counters(text: str) -> list[tuple[str, Row]]:
    r"""Kernel name and counters of each launch, in order, from `ncu --csv --page raw`; what is not available is left out.

    Example:
        >>> read_counters('==PROF== x\n"ID","Kernel Name","a.sum"\n"","","sector"\n"0","gemm","1,024"\n')
        [('gemm', {'a.sum': 1024.0})]
    """
    lines = text.splitlines()
    start = next((n for n, line in enumerate(lines) if line.startswith('"ID",')), None)
    if start is None:
        return []
    reader = csv.DictReader(line for line in lines[start:] if line.startswith('"'))
    units: Row = {}
    found = []
    for row in reader:
        if not row["ID"]:
            units = row
            continue
        values = {n: _number(v, units.get(n) or "") for n, v in row.items() if n in METRICS or "." in n}
        found.append((row["Kernel Name"], {n: v for n, v in values.items() if v is not None}))
    return found


def matched(launches: Sequence[tuple[str, str]], counted: Sequence[tuple[str, Row]]) -> dict[str, Row]:
    """Counters of each configuration.

    Args:
        launches: key and kernel name of each launch in order; the program may have launched others in between.
        counted: what `read_counters` gave.
    """
    rest: Iterator[tuple[str, Row]] = iter(counted)
    found: dict[str, Row] = {}
    for key, kernel in launches:
        row = next((row for name, row in rest if re.match(rf"(?:void )?{re.escape(kernel)}\b", name)), None)
        if row is not None:
            found[key] = row
    return found


def _available(ncu: str, gpu: str, settings: Settings) -> list[str]:
    """Those of `METRICS` that the GPU has; all of them where ncu does not tell."""
    said = _run([ncu, "--query-metrics"], child_environment(gpu), settings.start_timeout_s)
    listed = set(_LISTED.findall(said))
    return [m for m in METRICS if m.partition(".")[0] in listed] or list(METRICS)


def _batch(
    ncu: str, tasks: Sequence[Task], gpu: str, settings: Settings, metrics: Sequence[str]
) -> tuple[dict[str, Row], tuple[str, ...]]:
    """Counters by key; or the metrics that the GPU does not have."""
    with tempfile.TemporaryDirectory(prefix="costmodel-") as name:
        folder = Path(name)
        asked, launched, log = folder / "tasks.json", folder / "launched.jsonl", folder / "ncu.csv"
        requests = [{"target": t.target, "sizes": t.sizes, "settings": asdict(t.settings)} for t in tasks]
        asked.write_text(json.dumps(requests), encoding="utf-8")
        program = [sys.executable, "-P", "-m", "costmodel.measure.counted", gpu, str(asked), str(launched)]
        command = ncu_command(ncu, metrics, log, program)
        limit_s = settings.start_timeout_s + len(tasks) * settings.timeout_s
        said = _run(command, child_environment(gpu), limit_s) + (log.read_text(encoding="utf-8") if log.exists() else "")
        unknown = " ".join(_UNKNOWN.findall(said))  # a name, or a regular expression of its beginning
        missing = tuple(m for m in metrics if re.search(rf"\b{m.partition('.')[0]}\b", unknown))
        if missing:
            return {}, missing
        if not launched.exists():
            errors = [line for line in said.splitlines() if "==ERROR==" in line or "Error" in line]
            raise MeasureError(f"nothing was launched under ncu: {' '.join((errors or said.splitlines())[-1:])[:_REASON]}")
        lines = [json.loads(line) for line in launched.read_text(encoding="utf-8").splitlines()]
        counted = read_counters(log.read_text(encoding="utf-8") if log.exists() else "") or read_counters(said)
        if not counted:
            errors = [line for line in said.splitlines() if "==ERROR==" in line or "==WARNING==" in line]
            raise MeasureError(f"ncu read no counters: {' '.join(errors)[:_REASON] or 'and did not say why'}")
        return matched([(line["key"], line["kernel"]) for line in lines], counted), ()


def _run(command: Sequence[str], environment: dict[str, str], limit_s: float) -> str:
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,
    ) as process:
        try:
            said, _ = process.communicate(timeout=limit_s)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise MeasureError(f"ncu took more than {limit_s:g} s") from None
            raise
    return said.decode(errors="replace")


def _number(text: str | None, unit: str) -> float | None:
    try:
        return float((text or "").replace(",", "")) * _TO_NS.get(unit, 1.0)
    except ValueError:
        return None
