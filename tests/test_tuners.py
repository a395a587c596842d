"""Files of autotuners: made by hand to the letter of their schemas, and read as the same table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from costmodel.errors import DataError
from costmodel.validate import load, read

CACHE: dict[str, Any] = {
    "schema_version": "1.1.0",
    "device_name": "NVIDIA A100-PCIE-40GB",
    "kernel_name": "vector_add",
    "problem_size": [4096, 512],
    "tune_params_keys": ["B", "flag"],
    "tune_params": {"B": [128, 256], "flag": [0, 1]},
    "objective": "time",
    "cache": {
        "128,0": {"B": 128, "flag": 0, "time": 2.5, "times": [9.0, 2.0, 3.0], "GFLOP/s": 7.5, "timestamp": "2024-01-01"},
        "128,1": {"B": 128, "flag": 1, "time": "CompilationFailedConfig", "times": []},
        "256,0": {"B": 256, "flag": 0, "time": "RuntimeFailedConfig"},
        "256,1": {"time": 4.0, "compile_time": 900.0},
        "512,0": {"B": 512, "flag": 0, "time": "InvalidConfig"},
        "512,1": {"B": 512, "flag": 1, "time": 1e20},
    },
}
T4: dict[str, Any] = {
    "schema_version": "1.1.0",
    "metadata": {"device": "Tesla V100-PCIE-32GB", "timeunit": "microseconds", "autotuner": "KTT"},
    "results": [
        {"configuration": {"B": "128", "X": "0.5", "name": "v"}, "invalidity": "correct", "correctness": 1, "times": {"runtimes": [9e3]},
         "measurements": [{"name": "time", "value": 2.5e3, "unit": ""}, {"name": "sectors", "value": 17, "unit": ""}], "objectives": ["time"]},
        {"configuration": {"B": "256", "X": "0.5", "name": "v"}, "invalidity": "correct", "correctness": 1, "times": {},
         "measurements": [{"name": "time", "value": 0.004, "unit": "seconds"}]},
        {"configuration": {"B": "512", "X": "0.5", "name": "v"}, "invalidity": "correct", "correctness": 1, "times": {"runtimes": [5e3, 1e3, 3e3]}},
        {"configuration": {"B": "1024", "X": "0.5", "name": "v"}, "invalidity": "compile", "correctness": 0, "times": {}},
        {"configuration": {"B": "2048", "X": "0.5", "name": "v"}, "invalidity": "timeout", "correctness": 0, "times": {},
         "measurements": [{"name": "time", "value": "", "unit": "ms"}]},
    ],
}  # fmt: skip
KTT: dict[str, Any] = {
    "Metadata": {"Device": "NVIDIA GeForce RTX 2080 Ti", "TimeUnit": "Microseconds", "KttVersion": "2.1"},
    "Results": [
        {
            "KernelName": "conv", "Status": "Ok", "TotalDuration": 2500.0,
            "Configuration": [{"Name": "B", "IsDouble": False, "Value": 128}, {"Name": "X", "IsDouble": True, "Value": 0.5}],
            "ComputationResults": [{
                "KernelFunction": "conv", "Duration": 2400.0,
                "CompilationData": {"RegistersCount": 40, "LocalMemorySize": 2048, "MaxWorkGroupSize": 1024, "PrivateMemorySize": 0},
                "ProfilingData": {"RemainingProfilingRuns": 0, "Counters": [{"Name": "dram__sectors_read.sum", "Type": "Int", "Value": 99}]},
            }],
        },
        {
            "KernelName": "conv", "Status": "ComputationFailed", "TotalDuration": 0.0, "ComputationResults": [],
            "Configuration": [{"Name": "B", "IsDouble": False, "Value": 2048}, {"Name": "X", "IsDouble": True, "Value": 0.5}],
        },
    ],
}  # fmt: skip


def written(path: Path, document: Any) -> Path:
    path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
    return path


def test_a_cache_of_kernel_tuner(tmp_path):
    frame = read(written(tmp_path / "c.json", CACHE))
    assert frame["time_ms"].tolist()[0::3] == [3.0, 4.0]  # the median of the runs; the mean where there are no runs
    assert frame["time_ms"].isna().tolist() == [False, True, True, False, True, True]
    assert frame["status"].tolist() == ["ok", "compile_failed", "runtime_failed", "ok", "invalid", "failed"]
    assert frame["B"].tolist() == [128, 128, 256, 256, 512, 512]
    assert frame["flag"].tolist() == [0, 1, 0, 1, 0, 1]
    assert (frame["problem_size_x"] == 4096).all()
    assert (frame["problem_size_y"] == 512).all()
    assert frame["GFLOP/s"][0] == 7.5
    assert not {"times", "time", "timestamp"} & set(frame.columns)
    (part,) = load(tmp_path / "c.json")
    assert (part.kernel, part.gpu, len(part.rows), len(part.failed), part.notes) == (
        "vector_add",
        "NVIDIA A100-PCIE-40GB",
        2,
        4,
        (),
    )


@pytest.mark.parametrize(
    ("size", "columns"),
    [
        (4096, {"problem_size_x": 4096}),
        ("4096", {"problem_size_x": 4096}),
        ("(64, 32, 16)", {"problem_size_x": 64, "problem_size_y": 32, "problem_size_z": 16}),
        ("N * 2", {}),
        (None, {}),
    ],
)
def test_problem_sizes_become_columns(tmp_path, size, columns):
    frame = read(written(tmp_path / "c.json", CACHE | {"problem_size": size}))
    assert {name: frame[name].iloc[0] for name in frame.columns if name.startswith("problem_size")} == columns


ENTRIES = [f'"{key}": {json.dumps(entry)}' for key, entry in CACHE["cache"].items()]
HEAD = json.dumps({key: value for key, value in CACHE.items() if key != "cache"}, indent=0).rstrip("\n}") + ',\n"cache": {\n'


@pytest.mark.parametrize(
    ("end", "rows", "note"),
    [
        ("\n}\n}", 6, None),
        ("", 6, "the file was not closed: an interrupted run"),
        (",\n", 6, "the file was not closed: an interrupted run"),
        ("\n}", 6, "the file was not closed: an interrupted run"),
        (',\n"1024,0": {"B": 1024, "fl', 6, 'its last line was incomplete and left out: "1024,0": {"B"'),
    ],
)
def test_a_cache_of_an_interrupted_run_is_closed_and_said(tmp_path, end, rows, note):
    (part,) = load(written(tmp_path / "c.json", HEAD + ",\n".join(ENTRIES) + end))
    assert len(part.rows) + len(part.failed) == rows
    assert (part.notes == ()) if note is None else (note in part.notes[0])


def test_t4_results_in_every_unit(tmp_path):
    frame = read(written(tmp_path / "t4.json", T4), {"kernel": "vector_add"})
    assert frame["time_ms"].tolist()[:3] == pytest.approx([2.5, 4.0, 3.0])
    assert frame["time_ms"].isna().tolist() == [False, False, False, True, True]
    assert frame["status"].tolist() == ["ok", "ok", "ok", "compile_failed", "timeout"]
    assert frame["B"].tolist() == [128, 256, 512, 1024, 2048]
    assert (frame["X"].iloc[0], frame["name"].iloc[0], frame["sectors"].iloc[0]) == (0.5, "v", 17)
    assert set(frame["gpu"]) == {"Tesla V100-PCIE-32GB"}


def test_t4_without_metadata_is_in_milliseconds_and_needs_names(tmp_path):
    path = written(tmp_path / "t4.json", {"results": T4["results"]})
    assert read(path, {"kernel": "k", "gpu": "V100"})["time_ms"].tolist()[:3] == pytest.approx([2500.0, 4.0, 3000.0])
    with pytest.raises(DataError, match=r"column 'kernel' is missing; .*add it, or give --kernel: the description's name"):
        read(path)
    with pytest.raises(DataError, match=r"column 'gpu' is missing; .*add it, or give --device: the profile's name"):
        read(path, {"kernel": "k"})


def test_output_of_ktt(tmp_path):
    frame = read(written(tmp_path / "ktt.json", KTT))
    assert frame["time_ms"].iloc[0] == pytest.approx(2.5)
    assert frame["status"].tolist() == ["ok", "ComputationFailed"]
    assert frame["B"].tolist() == [128, 2048]
    first = frame.iloc[0]
    assert (first["regs_per_thread"], first["smem_static_bytes"], first["dram__sectors_read.sum"], first["X"]) == (
        40,
        2048,
        99,
        0.5,
    )
    (part,) = load(tmp_path / "ktt.json")
    assert (part.kernel, part.gpu, len(part.rows), len(part.failed)) == ("conv", "NVIDIA GeForce RTX 2080 Ti", 1, 1)


def test_what_the_file_lacks_may_be_given_and_its_own_is_kept(tmp_path):
    path = written(tmp_path / "c.json", CACHE)
    (part,) = load(path, {"kernel": "other", "gpu": "other", "N": 1 << 20, "B": 7})
    assert (part.kernel, part.gpu) == ("vector_add", "NVIDIA A100-PCIE-40GB")
    assert part.rows["N"].tolist() == [1 << 20] * 2
    assert part.rows["B"].tolist() == [128, 256]
    assert part.notes == ("the file has its own column 'B': --set B=7 was not used",)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("", "cannot be read as json"),
        ("{", "cannot be read as json"),
        ("[1, 2]", "expected a Kernel Tuner cache .*found a list"),
        ("{}", "found an empty object"),
        ({"results": [1]}, "found 'results'"),
        ({"name": "package", "version": 1}, "found 'name', 'version'"),
        (CACHE | {"cache": {}}, "no results"),
        ({"results": []}, "no results"),
        ({"results": [{"configuration": {}}]}, "not as its schema says: KeyError: 'invalidity'"),
        (KTT | {"Metadata": {"Device": "x", "TimeUnit": "Fortnights"}}, "unknown unit of time 'Fortnights'; known: ns"),
        (CACHE | {"cache": {"1,2,3": {"time": 1.0}}}, "not as its schema says: ValueError"),
    ],
)
def test_what_is_none_of_them_is_refused(tmp_path, document, message):
    path = written(tmp_path / "x.json", document)
    with pytest.raises(DataError, match=message) as caught:
        read(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "x.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read as json: it is no UTF-8 text"):
        read(tmp_path / "x.json")


def test_the_same_measurements_in_three_forms_are_one_table(tmp_path):
    configurations = [{"B": b} for b in (64, 128, 256)]
    ms = [3.0, 2.0, 1.5]
    cache = CACHE | {
        "device_name": "V100", "problem_size": 1 << 20, "tune_params_keys": ["B"],
        "cache": {str(c["B"]): {**c, "time": t} for c, t in zip(configurations, ms, strict=True)},
    }  # fmt: skip
    t4 = {
        "metadata": {"device": "V100"},
        "results": [
            {
                "configuration": c,
                "invalidity": "correct",
                "times": {},
                "measurements": [{"name": "time", "value": t * 1e6, "unit": "ns"}],
            }
            for c, t in zip(configurations, ms, strict=True)
        ],
    }
    ktt = {
        "Metadata": {"Device": "V100", "TimeUnit": "Seconds"},
        "Results": [
            {
                "KernelName": "vector_add",
                "Status": "Ok",
                "TotalDuration": t * 1e-3,
                "Configuration": [{"Name": "B", "Value": c["B"]}],
            }
            for c, t in zip(configurations, ms, strict=True)
        ],
    }
    tables = [
        read(written(tmp_path / f"{n}.json", d), {"kernel": "vector_add"})[["kernel", "gpu", "B", "time_ms", "status"]]
        for n, d in enumerate((cache, t4, ktt))
    ]
    for table in tables[1:]:
        pd.testing.assert_frame_equal(table, tables[0], check_dtype=False)
