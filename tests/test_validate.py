"""The comparison with measurements, on made-up timings whose figures are known, and on a published data set."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from costmodel import Scorer, find_device
from costmodel.cli import show
from costmodel.cost import DatasetMapping, find_description
from costmodel.errors import DataError, DescriptionError, ProfileError
from costmodel.report.text import plain
from costmodel.validate import Measured, Report, case, load, metrics, validate
from costmodel.validate.baselines import BASELINES
from costmodel.validate.suite import Choice, reports

ROWS = 24
ADD = find_description("vector_add")


def configurations(seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame({"N": rng.integers(1 << 20, 1 << 25, ROWS), "B": rng.choice([32, 64, 128, 256, 512, 1024], ROWS)})


def timed(table: pd.DataFrame, gpu: str = "V100", **columns: Any) -> pd.DataFrame:
    """The model's own times, each a known factor off."""
    seconds = Scorer(ADD, gpu).score(table[["N", "B"]]).seconds
    factor = np.random.default_rng(1).uniform(0.5, 2.0, len(table))
    ms = np.where(np.isfinite(seconds), seconds * 1e3 * factor, 1.0)
    return table.assign(kernel="vector_add", gpu=gpu, time_ms=ms, status="ok", **columns)


def loaded(frame: pd.DataFrame, tmp_path: Path) -> tuple[Measured, ...]:
    frame.to_parquet(tmp_path / "t.parquet")
    return load(tmp_path / "t.parquet")


def report_of(frame: pd.DataFrame, tmp_path: Path, **options: Any) -> Report:
    (measured,) = loaded(frame, tmp_path)
    return validate(measured, **options)


def test_the_figures_are_those_of_the_same_rows(tmp_path):
    frame = timed(configurations())
    report = report_of(frame, tmp_path)
    scores = Scorer(ADD, "V100").score(frame[["N", "B"]])
    seconds = frame["time_ms"].to_numpy() * 1e-3
    assert asdict(report.metrics) == asdict(metrics(scores.seconds, seconds, group=scores.same))
    assert report.metrics.n == ROWS
    assert report.metrics.mape == pytest.approx(float(np.mean(np.abs(scores.seconds - seconds) / seconds)))
    for name, predicted in (("bytes", scores.bytes), ("roofline", scores.roofline_s)):
        wanted = metrics(predicted, seconds)
        figures = ("rho", "tau", "top1", "top5", "top10", "mape", "n")
        assert asdict(report.baselines[name]) == {**{k: getattr(wanted, k) for k in figures}, "note": ""}
    assert set(report.baselines) == {"bytes", "unweighted_bytes", "roofline", "carver"} < set(BASELINES)
    assert report.absent == {"other_gpu": "no other GPU in the data has this kernel"}
    assert math.isnan(report.baselines["carver"].mape)
    assert (report.file, report.kernel, report.gpu, report.device) == (
        str(tmp_path / "t.parquet"), "vector_add", "V100", "v100_pcie",
    )  # fmt: skip
    assert report.configs_per_s > 0
    assert (report.failed, report.failed_foreseen, report.infeasible_but_ran, report.counters) == (0, 0, {}, {})


def test_the_units_are_milliseconds(tmp_path):
    table = configurations()
    seconds = Scorer(ADD, "V100").score(table).seconds
    report = report_of(timed(table).assign(time_ms=seconds * 1e3), tmp_path)
    assert report.metrics.mape == pytest.approx(0.0, abs=1e-12)
    assert report.metrics.rho == pytest.approx(1.0)
    assert report_of(timed(table).assign(time_ms=seconds), tmp_path).metrics.mape == pytest.approx(999.0)


def test_rows_that_the_model_refuses_are_counted_and_left_out(tmp_path):
    frame = timed(configurations())
    fits = report_of(frame, tmp_path)
    more = pd.concat([frame, frame.head(3).assign(B=2048), frame.head(2).assign(B=4096)], ignore_index=True)
    report = report_of(more.sample(frac=1, random_state=0), tmp_path)
    assert report.infeasible_but_ran == {
        "2048 threads per block, at most 1024": 3,
        "4096 threads per block, at most 1024": 2,
    }
    assert report.metrics.n == ROWS
    assert (report.metrics.rho, report.metrics.mape) == pytest.approx((fits.metrics.rho, fits.metrics.mape))


def test_failed_rows_are_counted_and_those_that_were_foreseen(tmp_path):
    frame = timed(configurations())
    failed = pd.concat([frame.head(4).assign(B=2048), frame.head(2)]).assign(status="launch failed", time_ms=math.nan)
    report = report_of(pd.concat([frame, failed], ignore_index=True), tmp_path)
    assert (report.failed, report.failed_foreseen) == (6, 4)
    assert report.metrics.n == ROWS
    assert report.infeasible_but_ran == {}


def test_two_kernels_and_two_gpus_are_four_reports(tmp_path):
    table = configurations()
    frames = [timed(table, gpu).assign(kernel=name) for gpu in ("V100", "MI50") for name in ("vector_add", "copy")]
    reports = [validate(m) for m in loaded(pd.concat(frames, ignore_index=True), tmp_path)]
    assert [(r.kernel, r.device) for r in reports] == [
        ("vector_add", "v100_pcie"), ("copy", "v100_pcie"), ("vector_add", "mi50"), ("copy", "mi50"),
    ]  # fmt: skip


def test_a_query_chooses_rows_of_both_kinds(tmp_path):
    frame = timed(configurations())
    failed = frame.head(6).assign(status="failed")
    report = report_of(pd.concat([frame, failed], ignore_index=True), tmp_path, query="B >= 128")
    assert report.metrics.n == int((frame["B"] >= 128).sum())
    assert report.failed == int((failed["B"] >= 128).sum())


def test_kernel_and_device_may_be_told(tmp_path):
    frame = timed(configurations()).assign(kernel="mine", gpu="my board")
    report = report_of(frame, tmp_path, kernel="vector_add", device=find_device("A100"))
    assert (report.kernel, report.gpu, report.device) == ("mine", "my board", find_device("A100").name)
    with pytest.raises(DescriptionError, match="no description 'mine'"):
        report_of(frame, tmp_path, device=find_device("A100"))
    with pytest.raises(ProfileError, match="unknown GPU 'my board'"):
        report_of(frame, tmp_path, kernel="vector_add")


def test_a_mapping_may_rename_columns(tmp_path):
    frame = timed(configurations()).rename(columns={"N": "input_size", "B": "block_x"}).assign(kernel="vectorAdd")
    renamed = report_of(frame, tmp_path)
    assert renamed.metrics.rho == pytest.approx(report_of(timed(configurations()), tmp_path).metrics.rho)


def test_a_constant_stands_for_a_column(tmp_path, monkeypatch):
    table = configurations().assign(B=256)
    mapping = DatasetMapping(ADD, {"N": "size", "B": 256}, {}, where="size > 0")
    monkeypatch.setattr(case, "dataset_mapping", lambda name: mapping if name == "mine" else None)
    frame = timed(table).rename(columns={"N": "size"}).drop(columns="B").assign(kernel="mine")
    report = report_of(frame, tmp_path)
    scores = Scorer(ADD, "V100").score(table)
    assert report.metrics.mape == pytest.approx(metrics(scores.seconds, frame["time_ms"].to_numpy() * 1e-3).mape)


def test_counters_are_compared_where_they_were_counted(tmp_path):
    """Each warp of 32 threads loads from two arrays; errors of 0, 1/2 and 1, and two rows that were not counted."""
    n, b = 1 << 20, 256
    requests = 2 * n // 32
    counted = [requests, requests * 2, requests // 2, 0, math.nan]
    frame = pd.DataFrame({"input_size": n, "block_x": b, "gld_request": counted, "time_ms": 1.0})
    report = report_of(frame.assign(kernel="vectorAdd", gpu="Tesla-K40"), tmp_path)
    assert list(report.counters) == ["gld_request"]
    assert report.counters["gld_request"]["median"] == pytest.approx(0.5)
    assert report.counters["gld_request"]["mean"] == pytest.approx(0.5)


def test_a_single_row_has_no_correlation_and_prints_a_dash(tmp_path):
    report = report_of(timed(configurations()).head(1), tmp_path)
    assert math.isnan(report.metrics.rho)
    text = plain(show.reports([report]), 80)
    assert "model" in text
    assert "–" in text
    assert show.report_values(report)["n"] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query": "N > 1e12"}, "vector_add on V100: no measured row is left; check status and --query"),
        ({"query": "nonsense > 1"}, "query 'nonsense > 1': name 'nonsense' is not defined; columns: N, B"),
        ({"kernel": "gemm"}, "vector_add: no column 'M' for argument 'M' of gemm; columns: N, B"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path, change, message):
    with pytest.raises(DataError, match=message) as caught:
        report_of(timed(configurations()), tmp_path, **change)
    assert str(caught.value).startswith(str(tmp_path / "t.parquet"))


def test_where_no_row_can_run_the_first_reason_is_given(tmp_path):
    with pytest.raises(DataError, match="the model says that no row can run: 2048 threads per block, at most 1024"):
        report_of(timed(configurations().assign(B=2048)), tmp_path)


# -- a published data set

PROFILED = (
    "matMul_gpu", "matMul_gpu_uncoalesced", "matMul_gpu_sharedmem", "matMul_gpu_sharedmem_uncoalesced",
    "matrix_sum_coalesced", "matrix_sum_normal", "vectorAdd",
)  # fmt: skip
"""Of gpuperfpredict, each on seven boards; `test_counters.py` judges their counters."""


@pytest.mark.parametrize("name", PROFILED)
def test_published_measurements_run_end_to_end(data_dir, name):
    found = [validate(measured) for measured in load(data_dir / f"gpuperfpredict__{name}.parquet")]
    assert len(found) == 7
    assert {r.kernel for r in found} == {name}
    assert len({r.device for r in found}) == 7
    for report in found:
        assert report.metrics.n >= 10
        assert report.infeasible_but_ran == {}
        assert report.counters
        assert report.metrics.rho > 0.8, f"{name} on {report.gpu}: {report.metrics.rho:.3f}"
    text = plain(show.reports(found), 80)
    assert max(map(len, text.splitlines())) <= 80
    assert all(f"{name} on {r.gpu} ({r.device})" in text for r in found)
    for report in found:
        for column, error in report.counters.items():
            assert f"{error['median'] * 100:.2f} %" in text, column


def test_a_dry_run_is_judged_by_the_named_profile_and_is_no_other_gpu(tmp_path):
    table = configurations()
    both = pd.concat([timed(table), timed(table, "H200").assign(gpu="fake NVIDIA H200")], ignore_index=True)
    real, dry = reports(loaded(both, tmp_path), Choice(), alone=False)
    assert isinstance(real, Report)
    assert isinstance(dry, Report)
    assert (dry.gpu, dry.device) == ("fake NVIDIA H200", "h200")
    assert "other_gpu" in dry.baselines
    assert "other_gpu" not in real.baselines
    assert [len(r.notes) for r in (real, dry)] == [0, 1]
    assert "a dry run" in dry.notes[0]
