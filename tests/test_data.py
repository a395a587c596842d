"""Measured files: what is read, what is kept apart, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from costmodel.errors import DataError
from costmodel.validate import load, metrics, read

FRAME = pd.DataFrame(
    {
        "kernel": ["gemm", "gemm", "gemm", "copy", "gemm", "gemm"],
        "gpu": ["V100", "A100", "V100", "V100", "V100", "V100"],
        "BM": np.array([64, 32, 128, 1, 16, 8], dtype=np.int32),
        "time_ms": np.array([1.5, 2.5, np.nan, 4.0, 5.0, 0.0], dtype=np.float32),
        "status": ["ok", "ok", "ok", "ok", "runtime_failed", "ok"],
    }
)


def _write(frame: pd.DataFrame, path: Path) -> Path:
    frame.to_csv(path, index=False) if path.suffix == ".csv" else frame.to_parquet(path)
    return path


@pytest.mark.parametrize("name", ["t.parquet", "t.csv", "T.CSV"])
def test_each_kernel_and_gpu_is_one_table_and_failures_are_kept(tmp_path, name):
    parts = load(_write(FRAME, tmp_path / name) if name != "T.CSV" else _write(FRAME, tmp_path / "t.csv").rename(tmp_path / name))
    assert [(part.kernel, part.gpu) for part in parts] == [
        ("gemm", "V100"),
        ("gemm", "A100"),
        ("copy", "V100"),
    ]
    assert list(parts[0].rows.index) == [0]
    assert list(parts[0].failed.index) == [2, 4, 5]  # no time, a status, and a time that is none
    assert sum(len(part.rows) + len(part.failed) for part in parts) == len(FRAME)
    assert parts[0].file == str(tmp_path / name)


def test_integers_are_wide_enough_to_be_multiplied(tmp_path):
    frame = FRAME.assign(
        M=np.array([65536] * 6, dtype=np.int32),
        small=np.array([200] * 6, dtype=np.uint8),
        gaps=pd.array([1, None, 3, 4, 5, 6], dtype="Int32"),
        flag=True,
    )
    got = read(_write(frame, tmp_path / "t.parquet"))
    assert {str(got[name].dtype) for name in ("BM", "M", "small")} == {"int64"}
    assert (got["M"] * got["M"]).tolist() == [2**32] * 6
    assert str(got["gaps"].dtype).lower() in ("int64", "float64")
    assert got["flag"].dtype == bool
    assert got["time_ms"].dtype == np.float64


def test_without_a_status_a_time_is_enough(tmp_path):
    (part,) = load(_write(FRAME.drop(columns="status").query("kernel == 'gemm' and gpu == 'V100'"), tmp_path / "t.csv"))
    assert list(part.rows["BM"]) == [64, 16]
    assert list(part.failed["BM"]) == [128, 8]


def test_a_status_is_read_generously_and_its_absence_is_a_failure(tmp_path):
    frame = FRAME.assign(kernel="k", gpu="g", time_ms=1.0, status=["OK", " ok ", None, "ok", "not ok", ""])
    (part,) = load(_write(frame, tmp_path / "t.parquet"))
    assert list(part.rows.index) == [0, 1, 3]


def test_a_board_named_by_a_number_stays_text(tmp_path):
    (part,) = load(_write(FRAME.assign(kernel="k", gpu=680), tmp_path / "t.csv"))
    assert part.gpu == "680"
    (part,) = load(_write(FRAME.assign(kernel="k", gpu=680), tmp_path / "t.parquet"))
    assert part.gpu == "680"


def test_columns_saved_as_an_index_are_found(tmp_path):
    parts = load(_write(FRAME.set_index(["kernel", "gpu"]), tmp_path / "t.parquet"))
    assert [(part.kernel, part.gpu) for part in parts] == [
        ("gemm", "V100"),
        ("gemm", "A100"),
        ("copy", "V100"),
    ]


@pytest.mark.parametrize("times", [pd.to_datetime([1] * 6), pd.to_timedelta([1] * 6), [True] * 6])
def test_times_of_another_type_are_refused(tmp_path, times):
    with pytest.raises(DataError, match="time_ms: expected numbers, got"):
        read(_write(FRAME.assign(time_ms=times), tmp_path / "t.parquet"))


def test_a_file_where_nothing_ran_is_no_error_yet(tmp_path):
    (part,) = load(_write(FRAME.assign(kernel="k", gpu="g", time_ms=np.nan), tmp_path / "t.csv"))
    assert part.rows.empty
    assert len(part.failed) == len(FRAME)
    with pytest.raises(DataError, match="no rows"):
        metrics(part.rows["time_ms"], part.rows["time_ms"])


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (
            FRAME.drop(columns="gpu"),
            "column 'gpu' is missing; found kernel, BM, time_ms, status; add it, or give --device: the profile's",
        ),
        (
            FRAME.rename(columns={"time_ms": "Time_MS"}),
            "rename 'Time_MS' to 'time_ms', if it is the time of one launch",
        ),
        (FRAME.rename(columns={"time_ms": "exec_ms"}), "rename 'exec_ms' to 'time_ms'"),
        (FRAME.drop(columns="time_ms").assign(**{f"c{i}": 0 for i in range(20)}), "c7 and 12 more; add it"),
        (FRAME.head(0), "no rows"),
        (FRAME.assign(gpu=["V100", None] * 3), "row 1: column 'gpu' is empty"),
        (
            FRAME.assign(time_ms=["1", "2", None, "fast", "5", "6"]),
            "row 3: time_ms: expected a number, got 'fast'",
        ),
    ],
)
@pytest.mark.parametrize("name", ["t.parquet", "t.csv"])
def test_a_file_without_what_is_needed_is_refused(tmp_path, name, frame, message):
    path = _write(frame, tmp_path / name)
    with pytest.raises(DataError, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.xlsx", b"", "expected a .parquet, .csv or .json file, got '.xlsx'"),
        ("t", b"", "expected a .parquet, .csv or .json file, got 't'"),
        ("t.parquet", b"kernel,gpu,time_ms\n", "cannot be read as parquet"),
        ("t.parquet", b"", "cannot be read as parquet"),
        ("t.csv", b"", "cannot be read as csv"),
        ("t.csv", b"PAR1\x80\xff\x00", "cannot be read as csv"),
        ("t.csv", b'kernel,gpu,time_ms\n"a,b\n', "cannot be read as csv"),
        ("t.csv", b"\x00\x00", "t.csv: "),
    ],
)
def test_what_is_no_such_file_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        load(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_missing_file_suggests_its_neighbour(tmp_path):
    _write(FRAME, tmp_path / "gemm__V100.parquet")
    with pytest.raises(DataError, match=r"no such file; did you mean '.*gemm__V100.parquet'"):
        load(tmp_path / "gemm_V100.parquet")
    with pytest.raises(DataError, match="no such file; check the path"):
        load(tmp_path / "elsewhere" / "t.parquet")
    (tmp_path / "dir.parquet").mkdir()
    with pytest.raises(DataError, match="is not a file"):
        load(tmp_path / "dir.parquet")


def test_published_files(data_dir):
    parts = load(data_dir / "gpuperfpredict__matMul_gpu.parquet")
    assert len(parts) == 7
    assert {part.gpu for part in parts} >= {"GTX-680", "Tesla-K40", "TitanBlack"}
    (part,) = load(data_dir / "benchmarkhub__convolution_milo__RTX_A4000.parquet")
    assert (len(part.rows), len(part.failed)) == (4201, 161)
    with pytest.raises(DataError, match="column 'time_ms' is missing"):
        load(data_dir / "gpubenches__latency__multi.parquet")
