"""Counters through a program that plays ncu: the command it is given, its CSV, and what happens when it fails."""

from __future__ import annotations

import json
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest

from costmodel.cost import COUNTERS, NSIGHT
from costmodel.measure.child import close_children
from costmodel.measure.counting import METRICS, count, matched, ncu_command, read_counters
from costmodel.measure.run import Sweep, measure
from costmodel.measure.space import space_of
from costmodel.measure.task import Settings, Slot
from costmodel.validate import data
from costmodel.validate.run import validate
from tests import swept
from tests.test_cli import cli
from tests.test_sweep import ADD, FAKE

__all__ = ["cli"]

# As `ncu --csv --page raw --print-units base` prints it (documentation of Nsight Compute's command line, and the CSV that
# others show of it): messages, a header, a line of units, a line for each launch.
CSV = """==PROF== Connected to process 4242 (/usr/bin/python3.12)
==PROF== Profiling "gemm" - 0: 0%....50%....100% - 9 passes
==PROF== Disconnected from process 4242
"ID","Process ID","Process Name","Host Name","Kernel Name","Context","Stream","Block Size","Grid Size","Device","CC",\
"dram__sectors_read.sum","gpu__time_duration.sum","l1tex__t_requests_pipe_lsu_mem_global_op_ld.sum",\
"sm__warps_active.avg.pct_of_peak_sustained_active"
"","","","","","","","","","","","sector","ns","","%"
"0","4242","python3.12","127.0.0.1","gemm","1","7","(256, 1, 1)","(32, 32, 1)","0","9.0","1,048,576","12,345.60","524,288","24.87"
"1","4242","python3.12","127.0.0.1","void fill<float>(T1 *, int)","1","7","(256, 1, 1)","(1, 1, 1)","0","9.0","8","900","1","3"
"2","4242","python3.12","127.0.0.1","gemm","1","7","(128, 1, 1)","(64, 32, 1)","0","9.0","n/a","0.5","1","12.5"
"""


def test_csv_is_read_with_its_units_and_gaps():
    rows = read_counters(CSV)
    assert [name for name, _ in rows] == ["gemm", "void fill<float>(T1 *, int)", "gemm"]
    assert rows[0][1] == {
        "dram__sectors_read.sum": 1048576.0,
        "gpu__time_duration.sum": 12345.6,
        "l1tex__t_requests_pipe_lsu_mem_global_op_ld.sum": 524288.0,
        "sm__warps_active.avg.pct_of_peak_sustained_active": 24.87,
    }
    assert "dram__sectors_read.sum" not in rows[2][1]
    assert read_counters(CSV.replace('"ns"', '"second"'))[0][1]["gpu__time_duration.sum"] == pytest.approx(12345.6e9)
    assert read_counters("==ERROR== nothing\n") == []


def test_launches_are_found_by_name_in_order():
    rows = read_counters(CSV)
    both = matched([("one", "gemm"), ("two", "gemm")], rows)
    assert {key: row["gpu__time_duration.sum"] for key, row in both.items()} == {"one": 12345.6, "two": 0.5}
    assert list(matched([("one", "gemm"), ("two", "gemm"), ("three", "gemm")], rows)) == ["one", "two"]
    assert matched([("one", "gem")], rows) == {}


def test_metrics_are_those_the_model_predicts():
    assert set(NSIGHT) <= set(METRICS)
    assert set(NSIGHT.values()) <= set(COUNTERS)
    command = ncu_command("ncu", METRICS, Path("log"), ["python"])
    for pair in (("--page", "raw"), ("--print-units", "base"), ("--clock-control", "none"), ("--profile-from-start", "off")):
        at = command.index(pair[0])
        assert command[at + 1] == pair[1]
    assert command[-1] == "python"


FAKE_NCU = """#!{python}
import json, subprocess, sys
arguments = sys.argv[1:]
if arguments == ["--query-metrics"]:
    print({listed!r})
    sys.exit(0)
metrics = arguments[arguments.index("--metrics") + 1].split(",")
log = arguments[arguments.index("--log-file") + 1]
program = arguments[arguments.index(log) + 1:]
unknown = [m for m in metrics if m in {unknown}]
if unknown:
    print("==ERROR== Failed to find metric regex:^" + unknown[0].split(".")[0] + r"(\\.sum)$")
    sys.exit(1)
subprocess.run(program, check=True)
keys = [json.loads(line) for line in open(program[-1])]
with open({calls!r}, "a") as calls:
    calls.write(json.dumps([k["key"] for k in keys]) + "\\n")
with open(log, "w") as out:
    out.write("==PROF== Connected\\n")
    quoted = lambda cells: ",".join(f'"{{c}}"' for c in cells) + "\\n"
    out.write(quoted(["ID", "Kernel Name", *metrics]) + quoted(["", "", *("" for _ in metrics)]))
    for n, line in enumerate(keys):
        size = int(line["key"].split()[0].split("=")[1])
        out.write(quoted([n, line["kernel"], *(f"{{size:,}}" for _ in metrics)]))
"""


@pytest.fixture
def ncu(tmp_path, monkeypatch):
    """Puts a fake `ncu` on the PATH; returns what it was asked for so far."""
    calls = tmp_path / "calls.jsonl"

    def install(unknown: tuple[str, ...] = (), listed: str = ""):
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        program = folder / "ncu"
        program.write_text(FAKE_NCU.format(python=sys.executable, unknown=unknown, listed=listed, calls=str(calls)))
        program.chmod(program.stat().st_mode | stat.S_IEXEC)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
        return lambda: [json.loads(line) for line in calls.read_text().splitlines()] if calls.exists() else []

    yield install
    close_children()


def test_counters_are_columns_that_validate_compares_and_a_second_pass_reads_only_what_is_missing(tmp_path, ncu):
    asked = ncu()
    out = tmp_path / "add.parquet"

    def sweep(counters: int):
        with ThreadPoolExecutor(1) as executor:
            told = Settings(faults=(("N=65536 ", "wrong"),))
            return measure(Sweep("vector_add", swept.table(4), out, told, counters=counters), executor, [FAKE])

    assert sweep(2).counted == 2
    assert sweep(2).counted == 2
    assert sweep(9).counted == 3  # one configuration is wrong: nothing is known of it
    assert [len(keys) for keys in asked()] == [2, 1]
    rows = pd.read_parquet(out)
    assert rows["dram__sectors_read.sum"].to_list()[1:] == rows["N"].to_list()[1:]
    assert rows["dram__sectors_read.sum"].isna().to_list() == [True, False, False, False]
    (found,) = data.load(out)
    errors = validate(found, device=None if found.gpu == "H200" else __import__("costmodel").find_device("h200")).counters
    # N words are read twice: 2·N/8 sectors
    assert errors["lts__t_sectors_op_read.sum"]["median"] == pytest.approx(0.75, abs=0.01)
    assert "regs_per_thread" in errors


def test_a_metric_that_the_gpu_lacks_is_dropped(ncu):
    asked = ncu(unknown=("dram__sectors_read.sum", "smsp__inst_executed.sum"))
    assert "dram__sectors_read.sum" in METRICS
    tasks = list(space_of(ADD, "vector_add", swept.table(3), Settings()).tasks)
    rows: dict[str, dict] = {}
    notes = count(tasks, "fake:h200", Settings(), lambda t, row: rows.update({t.key: row}), lambda: False)
    assert notes == ("counters: this GPU has no dram__sectors_read.sum", "counters: this GPU has no smsp__inst_executed.sum")
    assert len(asked()) == 1
    assert set(rows) == {t.key for t in tasks}
    assert set(rows[tasks[0].key]) == set(METRICS) - {"dram__sectors_read.sum", "smsp__inst_executed.sum"}


def test_only_metrics_that_ncu_lists_are_asked_for(ncu):
    ncu(
        unknown=tuple(m for m in METRICS if not m.startswith(("dram__sectors_op_", "sm__"))),
        listed="Device Stub (GX100)\nMetric Name  Metric Type\n----\ndram__sectors_op_read  Counter  sector  # of …\nsm__warps_active  Counter\n",
    )
    tasks = list(space_of(ADD, "vector_add", swept.table(1), Settings()).tasks)
    rows: list[dict] = []
    assert count(tasks, "fake:h200", Settings(), lambda t, row: rows.append(row), lambda: False) == ()
    assert [set(row) for row in rows] == [{"dram__sectors_op_read.sum", "sm__warps_active.avg.pct_of_peak_sustained_active"}]


def test_the_suite_times_all_kernels_before_it_counts_any(tmp_path, ncu, cli, monkeypatch):
    asked = ncu()
    monkeypatch.setattr("costmodel.cli.measuring.coded_names", lambda: ("copy", "vector_add"))
    suite = ("measure", "--suite", "--gpus", "fake:h200", "--counters", 2, "--limit", 4, "--out", tmp_path / "gpu", "--json")
    nothing = cli(*suite, "--budget", "0s").json
    assert [s["measured"] for s in nothing["sweeps"]] == [0, 0]
    assert not list((tmp_path / "gpu").glob("*.parquet"))
    assert not asked()
    done = cli(*suite).json
    assert [(s["kernel"], s["measured"], s["counted"]) for s in done["sweeps"]] == [("copy", 4, 2), ("vector_add", 4, 2)]
    journals = [(tmp_path / "gpu" / f"{name}.parquet.journal").read_text().splitlines() for name in ("copy", "vector_add")]
    times = [[json.loads(line)["row"]["measured_at"] for line in lines if '"row":' in line] for lines in journals]
    counted = [[n for n, line in enumerate(lines) if '"counters":' in line] for lines in journals]
    assert max(times[0]) < min(times[1])
    assert all(min(at) > 4 for at in counted)
    later = [json.loads(line)["key"] for line in journals[0] if '"session":' in line][-1]
    assert later > max(times[1])  # the pass that counts began when all times were there


def test_without_ncu_or_permission_the_sweep_goes_on(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.delenv("CUDA_PATH", raising=False)
    with ThreadPoolExecutor(1) as executor:
        done = measure(Sweep("vector_add", swept.table(2), tmp_path / "add.parquet", counters=2), executor, [FAKE])
    assert done.statuses == {"ok": 2}
    assert "not on the PATH" in done.notes[0]
    program = tmp_path / "ncu"
    program.write_text("#!/bin/sh\necho '==ERROR== ERR_NVGPUCTRPERM - The user does not have permission'\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    tasks = list(space_of(ADD, "vector_add", swept.table(2), Settings()).tasks)
    (note,) = count(tasks, Slot("fake:h200").gpu, Settings(), lambda *_: None, lambda: False)
    assert "ERR_NVGPUCTRPERM" in note
