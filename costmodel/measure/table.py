"""Rows as files that `costmodel validate` reads: Parquet with what is known of the GPU in its metadata, or T4 JSON.

Source of T4: KernelTuner/kernel_tuner `schema/T4/1.0.0/results-schema.json`. A file is complete or not there: it is
written beside its place and moved there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from costmodel.errors import MeasureError
from costmodel.measure.task import Row

__all__ = ["COLUMNS", "METADATA_KEY", "check_columns", "metadata_of", "write_rows"]

METADATA_KEY = b"costmodel"
COLUMNS = {
    "kernel": "name of the description",
    "gpu": "as the driver names it; `fake …` where there was none",
    "predicted_ms": "by the model, before anything ran; empty where it says that the configuration cannot run",
    "status": "`ok`, or what went wrong",
    "reason": "what exactly, on one line",
    "time_ms": "median of the warm launches, one after the other",
    "time_min_ms": "least of them",
    "time_mean_ms": "mean of them",
    "time_std_ms": "standard deviation of them",
    "time_first_ms": "the first launch that was timed, after the one that was checked",
    "n_runs": "launches timed warm",
    "cold_ms": "median of launches that each follow an L2 flush",
    "cold_std_ms": "standard deviation of them",
    "compile_s": "time the run-time compiler took, with loading",
    "regs_per_thread": "as the driver reports for the loaded function",
    "shared_bytes": "of a block, static and dynamic",
    "lmem_bytes_per_thread": "local memory: spills, and arrays indexed at run time",
    "error": "largest ‖out − ref‖ / ‖ref‖ of an output, against double precision",
    "sm_hz_before": "core clock after warming up",
    "sm_hz_after": "core clock after the last launch",
    "memory_hz": "memory clock after the last launch",
    "power_w": "board power after the last launch",
    "temperature_c": "core temperature after the last launch",
    "measured_at": "UTC",
}
"""Columns beside the arguments of the description (which follow `gpu`) and the counters (which come last)."""
_INVALIDITY = {"ok": "correct", "compile_failed": "compile", "wrong_result": "correctness", "timed_out": "timeout"}
_UNITS = {"ms": "ms", "s": "s", "hz": "Hz", "w": "W", "c": "C", "bytes": "B"}


def check_columns(arguments: Sequence[str], name: str) -> None:
    """Refuse a description whose arguments have the names of columns.

    Raises:
        MeasureError: there is one.
    """
    for argument in arguments:
        if argument in COLUMNS:
            raise MeasureError(f"{name}: its argument {argument!r} is a column of every measurement; rename it")


def write_rows(out: Path, rows: Sequence[Row], arguments: Sequence[str], metadata: Mapping[str, Any]) -> None:
    """Write a file of measurements.

    Args:
        out: its path; `.parquet` or `.json`.
        rows: with `kernel`, `gpu`, all arguments and a `status`.
        arguments: of the description.
        metadata: what else is known.
    """
    part = out.with_name(f".{out.name}.part")
    if out.suffix == ".json":
        part.write_text(json.dumps(_t4(rows, arguments, metadata), indent=1), encoding="utf-8")
    else:
        _parquet(part, rows, arguments, metadata)
    os.replace(part, out)


def metadata_of(path: Path) -> dict[str, Any]:
    """What a Parquet file of measurements says of itself."""
    import pyarrow.parquet

    found: dict[str, Any] = json.loads(pyarrow.parquet.read_schema(path).metadata[METADATA_KEY])
    return found


def _parquet(path: Path, rows: Sequence[Row], arguments: Sequence[str], metadata: Mapping[str, Any]) -> None:
    import pyarrow
    import pyarrow.parquet

    counters = dict.fromkeys(n for row in rows for n in row if n not in COLUMNS and n not in arguments)
    present = {n for row in rows for n in row}
    names = ["kernel", "gpu", *arguments, *(n for n in COLUMNS if n in present and n not in ("kernel", "gpu")), *counters]
    frame = pd.DataFrame(rows, columns=names)
    texts = {"kernel", "gpu", "status", "reason", "measured_at"}
    for name in names:
        if name not in texts and name not in arguments:
            frame[name] = pd.to_numeric(frame[name])
    frame["reason"] = frame["reason"].fillna("") if "reason" in frame else ""
    table = pyarrow.Table.from_pandas(frame, preserve_index=False)
    known = {**(table.schema.metadata or {}), METADATA_KEY: json.dumps(metadata).encode()}
    pyarrow.parquet.write_table(table.replace_schema_metadata(known), path, compression="zstd")


def _t4(rows: Sequence[Row], arguments: Sequence[str], metadata: Mapping[str, Any]) -> dict[str, Any]:
    device = rows[0]["gpu"] if rows else ""
    about = {"device": device, "timeunit": "milliseconds", "costmodel": metadata}
    return {"schema_version": "1.0.0", "metadata": about, "results": [_t4_result(row, arguments) for row in rows]}


def _t4_result(row: Row, arguments: Sequence[str]) -> dict[str, Any]:
    plain = {n: v for n, v in row.items() if n not in arguments and isinstance(v, int | float)}
    times = {"compilation_time": 1e3 * row["compile_s"]} if "compile_s" in row else {}
    runtimes = [row["time_ms"]] if "time_ms" in row else []
    measurements = [{"name": "time", "value": row["time_ms"], "unit": "ms"}] if runtimes else []
    measurements += [
        {"name": n, "value": v, "unit": _UNITS.get(n.rpartition("_")[2], "")} for n, v in plain.items() if n != "time_ms"
    ]
    return {
        "timestamp": row.get("measured_at", ""),
        "configuration": {n: row[n] for n in arguments},
        "objectives": ["time"],
        "times": {**times, "runtimes": runtimes},
        "invalidity": _INVALIDITY.get(row["status"], "runtime"),
        "correctness": int(row["status"] == "ok"),
        "measurements": measurements,
    }
