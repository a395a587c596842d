"""Results of autotuners as tables: Kernel Tuner's cache files, T4 results, KTT's own output; all of them JSON.

Every reader returns a frame with a column for each tunable and each plain figure, `time_ms`, `status` (`ok`,
or why there is no time), and `kernel` and `gpu` where the file names them; problem sizes become
`problem_size_x`, `_y` and `_z`. Kernel Tuner measures milliseconds; the others say their unit.
Source: KernelTuner/kernel_tuner `schema/cache/1.1.0` and `schema/T4/1.0.0`; AutoTuningAssociation/autotuning_methodology
`schemas/T4.json` (1.1.0, with `metadata`); HiPerCoRe/KTT `Source/Output/JsonConverters.cpp`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd

from costmodel.errors import DataError

__all__ = ["MS_PER_UNIT", "read_tuner_file"]

MS_PER_UNIT = {
    **dict.fromkeys(("ns", "nanosecond", "nanoseconds"), 1e-6),
    **dict.fromkeys(("us", "µs", "microsecond", "microseconds"), 1e-3),
    **dict.fromkeys(("ms", "millisecond", "milliseconds"), 1.0),
    **dict.fromkeys(("s", "second", "seconds"), 1e3),
}
"""Milliseconds of each unit of time, by its name in lower case."""
_STATUS = {
    "correct": "ok",
    "ok": "ok",
    "compile": "compile_failed",
    "runtime": "runtime_failed",
    "constraints": "invalid",
    "InvalidConfig": "invalid",
    "CompilationFailedConfig": "compile_failed",
    "RuntimeFailedConfig": "runtime_failed",
}
"""Words of the tuners in ours; others pass through."""
_FAILED_MS = 1e19
"""Kernel Tuner before 0.4 wrote 1e20 for a configuration that failed."""
_AXES = ("x", "y", "z")

Row = dict[str, Any]


def read_tuner_file(path: Path) -> tuple[pd.DataFrame, tuple[str, ...], str]:
    """Read a JSON file of any of the tuners, with notes on what had to be repaired and, in our own, what was measured.

    Args:
        path: a file; its content tells whose it is.

    Raises:
        DataError: it is not JSON, of none of the three forms, or has no results.
    """
    document, notes = _document(path)
    for is_one, rows in _FORMS:
        if is_one(document):
            try:
                found = rows(document)
            except (KeyError, TypeError, AttributeError, ValueError) as error:
                raise DataError(f"{path}: a result is not as its schema says: {type(error).__name__}: {error}") from None
            if not found:
                raise DataError(f"{path}: no results; expected at least one configuration")
            return pd.DataFrame(found), notes, str(_ours(document).get("target", ""))
    raise DataError(
        f"{path}: expected a Kernel Tuner cache ('tune_params_keys', 'cache'), T4 results ('results' with "
        f"'configuration') or KTT output ('Metadata', 'Results'); found {_keys(document)}"
    )


def _document(path: Path) -> tuple[Any, tuple[str, ...]]:
    """The JSON of a file; the cache of an interrupted run is closed first."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as json: {getattr(error, 'strerror', None) or 'it is no UTF-8 text'}") from None
    try:
        return json.loads(text), ()
    except ValueError as error:
        return _closed(path, text, error)


def _closed(path: Path, text: str, error: ValueError) -> tuple[Any, tuple[str, ...]]:
    """A cache that lacks its closing braces, and perhaps the end of its last line: one line is one configuration."""
    whole = text.rstrip().rstrip(",")
    before, _, cut = whole.rpartition("\n")
    for kept, note in (
        (whole, "the file was not closed: an interrupted run"),
        (before.rstrip().rstrip(","), f"the file was not closed; its last line was incomplete and left out: {cut.strip()[:40]}…"),
    ):
        for braces in ("}", "}}"):
            try:
                document = json.loads(kept + braces)
            except ValueError:
                continue
            if _is_cache(document):
                return document, (note,)
    raise DataError(f"{path}: cannot be read as json: {error}; is it complete, and what its name says?") from None


def _is_cache(document: Any) -> bool:
    return isinstance(document, Mapping) and isinstance(document.get("cache"), Mapping) and "tune_params_keys" in document


def _is_t4(document: Any) -> bool:
    results = document.get("results") if isinstance(document, Mapping) else None
    return isinstance(results, list) and all(isinstance(r, Mapping) and "configuration" in r for r in results)


def _is_ktt(document: Any) -> bool:
    return isinstance(document, Mapping) and isinstance(document.get("Results"), list) and "Metadata" in document


def _cache_rows(document: Mapping[str, Any]) -> list[Row]:
    """Rows of a Kernel Tuner cache: the median of `times`, else `time`, in milliseconds."""
    names = {
        ours: document[theirs] for ours, theirs in (("kernel", "kernel_name"), ("gpu", "device_name")) if document.get(theirs)
    }
    fixed = {**names, **_sizes(document.get("problem_size"))}
    keys = document["tune_params_keys"]
    found = []
    for key, entry in document["cache"].items():
        lacking = any(k not in entry for k in keys)
        tunables = dict(zip(keys, map(_number, key.split(",")), strict=True)) if lacking else {k: entry[k] for k in keys}
        time = entry.get("time")
        failed = isinstance(time, str) or time is None or time > _FAILED_MS
        status = _STATUS.get(str(time), "failed" if not isinstance(time, str) else time) if failed else "ok"
        ms = None if failed else median(entry["times"]) if entry.get("times") else float(time)
        found.append({**fixed, **_plain(entry), **tunables, "time_ms": ms, "status": status})
    return found


def _t4_rows(document: Mapping[str, Any]) -> list[Row]:
    """Rows of T4 results: the measurement `time` in its own unit, that of the metadata, or milliseconds."""
    metadata = document.get("metadata") or {}
    names = {"kernel": (_ours(document).get("identity") or {}).get("kernel"), "gpu": metadata.get("device")}
    fixed = {column: name for column, name in names.items() if name}
    unit = metadata.get("timeunit") or "ms"
    found = []
    for result in document["results"]:
        status = _STATUS.get(result["invalidity"], result["invalidity"])
        measured = {m["name"]: m for m in result.get("measurements") or ()}
        time, unit_of_time = None, unit
        if status == "ok" and "time" in measured:
            time, unit_of_time = measured["time"]["value"], measured["time"].get("unit") or unit
        elif status == "ok":
            time = (result.get("times") or {}).get("runtimes")
        row = {**fixed, **_plain({n: m["value"] for n, m in measured.items() if n != "time"})}
        row.update({n: _number(v) for n, v in result["configuration"].items()})
        found.append({**row, "time_ms": _ms(time, unit_of_time), "status": status})
    return found


def _ours(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """What `costmodel measure` wrote about its own T4 file; empty in others."""
    metadata = document.get("metadata")
    found = metadata.get("costmodel") if isinstance(metadata, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _ktt_rows(document: Mapping[str, Any]) -> list[Row]:
    """Rows of KTT's output: the total duration, with what its computations were compiled to and counted."""
    metadata = document["Metadata"]
    unit = metadata.get("TimeUnit") or "Milliseconds"
    found = []
    for result in document["Results"]:
        status = _STATUS.get(str(result["Status"]).lower(), str(result["Status"]))
        row: Row = {"kernel": result["KernelName"], "gpu": metadata["Device"]}
        for computation in result.get("ComputationResults") or ():
            row.update(_compiled(computation))
        row.update({pair["Name"]: _number(pair["Value"]) for pair in result["Configuration"]})
        found.append({**row, "time_ms": _ms(result["TotalDuration"], unit) if status == "ok" else None, "status": status})
    return found


def _compiled(computation: Mapping[str, Any]) -> Row:
    data = computation.get("CompilationData") or {}
    names = {
        "RegistersCount": "regs_per_thread",
        "LocalMemorySize": "smem_static_bytes",
        "ConstantMemorySize": "cmem_bytes",
        "PrivateMemorySize": "lmem_bytes_per_thread",
        "MaxWorkGroupSize": "max_block_threads",
    }
    counters = (computation.get("ProfilingData") or {}).get("Counters") or ()
    return {ours: data[theirs] for theirs, ours in names.items() if theirs in data} | {c["Name"]: c["Value"] for c in counters}


_FORMS: tuple[tuple[Callable[[Any], bool], Callable[[Any], list[Row]]], ...] = (
    (_is_cache, _cache_rows),
    (_is_t4, _t4_rows),
    (_is_ktt, _ktt_rows),
)


def _sizes(problem: Any) -> Row:
    """`problem_size_x`, `_y`, `_z` of a number, a list, or a text such as `(4096, 4096)`; nothing for a formula."""
    if isinstance(problem, str):
        problem = [int(n) for n in re.findall(r"\d+", problem)] if re.fullmatch(r"[\s\d,()\[\]]+", problem) else []
    values: Iterable[Any] = problem if isinstance(problem, list) else [problem]
    return {f"problem_size_{axis}": n for axis, n in zip(_AXES, values, strict=False) if isinstance(n, int)}


def _plain(entry: Mapping[str, Any]) -> Row:
    """What is a number or a flag; `time` is said by `time_ms`."""
    return {n: v for n, v in entry.items() if n != "time" and isinstance(v, int | float)}


def _number(value: Any) -> Any:
    """A number that was written as text; anything else as it is."""
    if isinstance(value, str):
        for kind in (int, float):
            try:
                return kind(value)
            except ValueError:
                continue
    return value


def _ms(value: Any, unit: str) -> float | None:
    """Milliseconds of a time or of the median of several; None where there is none."""
    if str(unit).strip().lower() not in MS_PER_UNIT:
        raise ValueError(f"unknown unit of time {unit!r}; known: {', '.join(MS_PER_UNIT)}")
    if isinstance(value, list):
        value = median(value) if value else None
    return None if value is None else float(value) * MS_PER_UNIT[str(unit).strip().lower()]


def _keys(document: Any) -> str:
    if not isinstance(document, Mapping):
        return f"a {type(document).__name__}"
    return ", ".join(f"'{key}'" for key in list(document)[:8]) or "an empty object"
