"""Folders of measurements, what stands beside the model, and what is said of failures."""

from __future__ import annotations

import importlib
import json
import math
import sys
from operator import attrgetter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from costmodel import Scorer, find_device
from costmodel.cost import CHARGES, DatasetMapping, find_description
from costmodel.errors import DataError, DescriptionError
from costmodel.provenance import provenance
from costmodel.validate import baselines, load, metrics, validate
from costmodel.validate.baselines import Others
from costmodel.validate.failures import foresight, is_resource, kind
from costmodel.validate.fitted import FITTED, fits_on
from costmodel.validate.run import Report, compare, prepare
from costmodel.validate.samples import MOST_POINTS, points
from costmodel.validate.suite import Choice, Skipped, load_files, reports
from costmodel.validate.vendor import GPUS, matmul_heuristics

ADD = find_description("vector_add")


def timed(gpu: str = "V100", rows: int = 40, seed: int = 0) -> pd.DataFrame:
    """The model's own times, each a factor off; the same configurations for every GPU."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"N": rng.integers(1 << 18, 1 << 25, rows), "B": rng.choice([32, 64, 128, 256, 512], rows)})
    ms = Scorer(ADD, gpu).score(table).seconds * 1e3 * np.random.default_rng(len(gpu)).uniform(0.8, 1.3, rows)
    return table.assign(kernel="vector_add", gpu=gpu, time_ms=ms, status="ok")


@pytest.fixture
def folder(tmp_path):
    """Two GPUs in two files, a kernel and a GPU nobody knows, a microbenchmark, junk, and something else."""
    timed().to_parquet(tmp_path / "a.parquet")
    pd.concat([timed("A100"), timed().assign(kernel="unheard_of"), timed().assign(gpu="Voodoo 2")]).to_csv(tmp_path / "b.csv")
    pd.DataFrame({"kernel": ["chase"], "gpu": ["V100"], "latency_ns": [400.0]}).to_parquet(tmp_path / "c.parquet")
    (tmp_path / "d.json").write_text('{"name": "package"}', encoding="utf-8")
    timed().assign(kernel="copy", time_ms=math.nan).to_parquet(tmp_path / "e.parquet")
    timed().drop(columns="B").to_parquet(tmp_path / "f.parquet")
    (tmp_path / "README.md").write_text("not data", encoding="utf-8")
    return tmp_path


def run(paths: list[Path], choice: Choice | None = None, jobs: int = 1) -> tuple[list[Report], list[Skipped]]:
    chosen = choice or Choice()
    measured, skipped = load_files(paths, chosen)
    items = list(reports(measured, chosen, alone=False, jobs=jobs))
    return [i for i in items if isinstance(i, Report)], [*skipped, *(i for i in items if isinstance(i, Skipped))]


def test_a_folder_is_compared_and_what_cannot_be_is_named(folder):
    found, skipped = run([folder])
    assert [(Path(r.file).name, r.device) for r in found] == [("a.parquet", "v100_pcie"), ("b.csv", "a100_pcie_40gb")]
    said = {(Path(s.file).name, s.kernel, s.gpu): (s.what, s.rows, s.reason) for s in skipped}
    assert {key: what for key, (what, _, _) in said.items()} == {
        ("c.parquet", "", ""): "not timings",
        ("d.json", "", ""): "unreadable",
        ("b.csv", "unheard_of", "V100"): "no description",
        ("b.csv", "vector_add", "Voodoo 2"): "no profile",
        ("e.parquet", "copy", "V100"): "no rows",
        ("f.parquet", "vector_add", "V100"): "cannot be compared",
    }
    assert said["c.parquet", "", ""][2].startswith("column 'time_ms' is missing")
    assert said["b.csv", "unheard_of", "V100"][1:] == (40, said["b.csv", "unheard_of", "V100"][2])
    assert said["b.csv", "unheard_of", "V100"][2].startswith("no description 'unheard_of'")


def test_in_processes_it_is_the_same(folder):
    (one, left), (two, also_left) = run([folder]), run([folder], jobs=2)
    assert left == also_left
    for a, b in zip(one, two, strict=True):
        assert (a.metrics, a.device, a.counters) == (b.metrics, b.device, b.counters)
        assert repr(a.baselines) == repr(b.baselines)  # NaN is no NaN


def test_a_file_alone_keeps_its_error(folder):
    with pytest.raises(DataError, match="column 'time_ms' is missing"):
        load_files([folder / "c.parquet"], Choice())
    with pytest.raises(DescriptionError, match=r"b.csv: unheard_of on V100: no description 'unheard_of'"):
        list(reports(load_files([folder / "b.csv"], Choice())[0], Choice(), alone=True))


def test_among_several_files_those_that_are_no_timings_are_left_out_but_a_wrong_path_is_an_error(folder):
    _, skipped = load_files([folder / "a.parquet", folder / "c.parquet"], Choice())
    assert [s.what for s in skipped] == ["not timings"]
    for wrong in ("d.json", "none.parquet", "README.md"):
        with pytest.raises(DataError, match=wrong):
            load_files([folder / "a.parquet", folder / wrong], Choice())
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match="no data in this folder"):
        load_files([folder / "empty"], Choice())


def test_patterns_and_queries_choose(folder):
    assert [r.gpu for r in run([folder], Choice(gpus=("a1*",)))[0]] == ["A100"]
    assert run([folder], Choice(kernels=("copy", "chase")))[0] == []
    found, skipped = run([folder], Choice(query="gpu == 'A100' and B >= 128"))
    assert [(r.gpu, r.metrics.n) for r in found] == [("A100", int((timed("A100")["B"] >= 128).sum()))]
    assert {s.what for s in skipped} == {"not timings", "unreadable", "cannot be compared"}  # the last has no column B


def test_sizes_that_a_file_lacks_are_given(folder):
    timed().drop(columns="B").to_parquet(folder / "f.parquet")
    (report,), _ = run([folder / "f.parquet"], Choice(given={"B": 256}))
    assert report.metrics.n == 40


# -- baselines


def test_another_gpu_is_judged_on_the_configurations_in_common():
    here, there, further = timed().head(30), timed("A100"), timed("MI50").head(25)
    others = [
        Others("a100", there[["N", "B", "time_ms"]]),
        Others("mi50", pd.concat([further, further])[["N", "B", "time_ms"]]),  # measured twice
        Others("small", there[["N", "B", "time_ms"]].head(3)),
    ]
    found, why = baselines.other_gpu(here[["N", "B"]], here["time_ms"].to_numpy() * 1e-3, others)
    assert why == ""
    each = []
    for other in (there, further):
        both = here.merge(other, on=["N", "B"], suffixes=("", "_other"))
        each.append(stats.spearmanr(both["time_ms_other"], both["time_ms"]).statistic)
    best = found["other_gpu"]
    assert best.rho == pytest.approx(max(each))
    assert best.note == ("a100", "mi50")[int(np.argmax(each))]
    assert best.mape == pytest.approx(_mape(here, there if best.note == "a100" else further))
    assert found["other_gpu_median"].rho == pytest.approx(np.mean(each))
    assert found["other_gpu_median"].note == "of 2 GPUs"


def _mape(here: pd.DataFrame, other: pd.DataFrame) -> float:
    both = here.merge(other, on=["N", "B"], suffixes=("", "_other"))
    return float(((both["time_ms_other"] - both["time_ms"]).abs() / both["time_ms"]).mean())


def test_without_another_gpu_it_is_said_why():
    here = timed()
    times = here["time_ms"].to_numpy() * 1e-3
    assert baselines.other_gpu(here[["N", "B"]], times, []) == ({}, "no other GPU in the data has this kernel")
    stranger = Others("a100", here[["N", "B", "time_ms"]].assign(N=7))
    assert baselines.other_gpu(here[["N", "B"]], times, [stranger]) == ({}, "fewer than 10 configurations in common with a100")


def test_other_gpus_come_from_the_other_files(folder):
    found, _ = run([folder])
    for report, note in zip(found, ("a100_pcie_40gb", "v100_pcie"), strict=True):
        assert report.baselines["other_gpu"].note == note
        assert report.baselines["other_gpu"].n == 40
        assert "other_gpu" not in report.absent


def test_carver_is_traffic_of_a_block_times_waves():
    """vector_add: a block of B threads moves 3·4·B bytes; V100 holds 2,048 threads on each of 80 SMs."""
    n, blocks = 1 << 22, np.array([128, 256, 512])
    scores = Scorer(ADD, "V100").score({"N": n, "B": blocks})
    sms = find_device("V100").sm_count
    waves = np.ceil((n // blocks) / (sms * (2048 // blocks)))
    assert baselines.carver_byte_waves(scores, find_device("V100")) == pytest.approx(3 * 4 * blocks * waves)


def test_trees_learn_and_are_judged_on_what_they_did_not_see():
    pytest.importorskip("sklearn", reason="needs scikit-learn: pip install costmodel[search]")
    rng = np.random.default_rng(3)
    table = pd.DataFrame({"x": rng.integers(1, 50, 1500), "flag": rng.choice(["a", "b"], 1500), "same": 7})
    times = 1e-3 * table["x"].to_numpy() * np.where(table["flag"] == "b", 5.0, 1.0)
    found, why = baselines.trees(table, times)
    assert why == ""
    trees = found["trees"]
    assert trees.rho > 0.98
    assert trees.mape < 0.1
    assert trees.n == 1000
    assert trees.note == "trained on 500 of 1,500 rows"
    assert baselines.trees(table, times) == (found, "")
    shuffled, _ = baselines.trees(table, rng.permutation(times))
    assert abs(shuffled["trees"].rho) < 0.15  # nothing of the judged rows leaks into the training


def test_trees_need_rows_and_scikit_learn(monkeypatch):
    table = pd.DataFrame({"x": range(999)})
    assert baselines.trees(table, np.ones(999)) == ({}, "fewer than 1,000 rows")
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    found, why = baselines.trees(pd.concat([table, table]), np.ones(1998))
    assert found == {}
    assert why.startswith("scikit-learn is not installed")


# -- failures


def test_precision_and_recall_of_cannot_launch():
    """Foretold: 3 that failed, 1 that ran; not foretold: 2 that failed. A broken requirement foretells nothing."""
    ran = np.array(["", "", "4096 bytes of shared memory per block, at most 1024", "requires N % T == 0"], dtype=object)
    failed = np.array(
        ["2048 threads per block, at most 1024"] * 2 + ["70000 registers per block, at most 65536", "", ""], dtype=object
    )
    statuses = pd.Series(["launch", "launch", "compile", "compile", "timeout"])
    told = foresight(ran, failed, statuses)
    assert (told.foretold, told.failed, told.both) == (4, 5, 3)
    assert (told.precision, told.recall) == (3 / 4, 3 / 5)
    assert told.reasons == {
        "… threads per block, at most …": {"failed": 2, "ran": 0},
        "… registers per block, at most …": {"failed": 1, "ran": 0},
        "… bytes of shared memory per block, at most …": {"failed": 0, "ran": 1},
        "requires N % T == …": {"failed": 0, "ran": 1},
    }
    assert told.statuses == {
        "launch": {"failed": 2, "foretold": 2},
        "compile": {"failed": 2, "foretold": 1},
        "timeout": {"failed": 1, "foretold": 0},
    }


def test_without_failures_there_is_no_recall():
    nothing = foresight(np.array(["", ""], dtype=object), np.array([], dtype=object), pd.Series([], dtype=str))
    assert math.isnan(nothing.precision)
    assert math.isnan(nothing.recall)
    assert (nothing.reasons, nothing.statuses) == ({}, {})


@pytest.mark.parametrize(
    ("table", "resource"),
    [
        ({"B": 2048}, True),
        ({"N": 1 << 38}, True),  # more than the memory holds
        ({"B": 256}, None),
    ],
)
def test_reasons_of_the_model_are_told_apart(table, resource):
    (reason,) = Scorer(ADD, "V100").score({"N": 1 << 20, "B": 256} | table).reason
    assert is_resource(reason) is bool(resource)
    assert not any(c.isdigit() for c in kind(reason))


def test_a_broken_requirement_names_no_resource():
    gemm = find_description("gemm")
    row = {"M": 100, "N": 128, "K": 128, "BM": 64, "BN": 64, "BK": 16, "TM": 4, "TN": 4}
    (reason,) = Scorer(gemm, "V100").score(row).reason
    assert reason.startswith("requires ")
    assert not is_resource(reason)
    assert kind("at most 3.5e+12 of 17 and 8") == "at most … of … and …"


def test_failures_of_a_file_are_in_its_report(tmp_path):
    frame = timed()
    bad = pd.concat([frame.head(4).assign(B=2048), frame.head(2)]).assign(status="launch_failed", time_ms=math.nan)
    pd.concat([frame, bad], ignore_index=True).to_parquet(tmp_path / "t.parquet")
    (measured,) = load(tmp_path / "t.parquet")
    told = validate(measured).foresight
    assert told is not None
    assert (told.precision, told.recall) == (1.0, 4 / 6)
    assert told.statuses == {"launch_failed": {"failed": 6, "foretold": 4}}


# -- what a plot shows


def test_a_plot_shows_the_best_the_worst_and_a_sample_that_is_always_the_same():
    rng = np.random.default_rng(0)
    n = 5 * MOST_POINTS
    table = pd.DataFrame({"x": rng.permutation(n), "same": 3})
    measured, predicted = rng.uniform(1, 100, n), rng.uniform(1, 100, n)
    shown = points(table, measured, predicted, np.full(n, "dram", dtype=object))
    again = points(table, measured, predicted, np.full(n, "dram", dtype=object))
    assert shown.table.equals(again.table)
    assert (len(shown.table), shown.total, shown.constant) == (MOST_POINTS, n, {"same": 3})
    assert list(shown.table.columns) == ["x"]
    assert set(np.argsort(measured)[:100]) <= set(shown.table.index)
    assert set(np.argsort(predicted)[:100]) <= set(shown.table.index)
    assert int(np.abs(np.log(predicted / measured)).argmax()) in shown.table.index
    assert shown.measured_ms == pytest.approx(measured[shown.table.index] * 1e3)
    assert int(shown.counts.sum()) == n


def test_outliers_are_the_worst_and_their_terms_add_up(tmp_path):
    frame = timed()
    frame.loc[7, "time_ms"] *= 30
    frame.loc[11, "time_ms"] /= 20
    frame.to_parquet(tmp_path / "t.parquet")
    (measured,) = load(tmp_path / "t.parquet")
    report = compare(prepare(measured), thorough=True)
    assert len(report.outliers) == 5
    worst = report.outliers[0]
    assert worst.configuration == {"N": int(frame["N"][7]), "B": int(frame["B"][7])}
    assert worst.measured_ms == pytest.approx(frame["time_ms"][7])
    assert worst.ratio == pytest.approx(worst.predicted_ms / worst.measured_ms)
    assert report.outliers[1].configuration["N"] == frame["N"][11]
    for outlier in report.outliers:
        assert sum(outlier.terms.values()) == pytest.approx(outlier.predicted_ms)
        assert next(iter(outlier.terms)) == outlier.bound
    assert report.absent["trees"] == "fewer than 1,000 rows"


# -- what was fitted, where it was made


def test_fitted_constants_are_there_under_their_names():
    for fit in FITTED:
        for name in fit.constants:
            if fit.module.startswith("hardware_profiles."):
                value = attrgetter(name)(find_device(fit.gpus[0]))
            else:
                value = getattr(importlib.import_module(fit.module), name)
            assert isinstance(value, float | int) or callable(value)
    assert fits_on("gemm_clblast_opencl", "V100")
    assert not fits_on("gemm_clblast_opencl", "A100")


def test_provenance_names_the_commit_of_a_checkout(monkeypatch):
    made = provenance()
    assert made.date.endswith(" UTC")
    assert "Python" in made.machine
    monkeypatch.setenv("PATH", "")
    assert provenance().commit == ""


# -- published data


def test_every_published_file_is_compared_or_named(data_dir):
    measured, skipped = load_files([data_dir], Choice(kernels=("matrix_sum*", "pointer*", "neusight_ln", "box2d")))
    assert {Path(s.file).name.partition("__")[0] for s in skipped if s.what == "not timings"} >= {"gpubenches"}
    items = list(reports(measured, Choice(), alone=False))
    found = [i for i in items if isinstance(i, Report)]
    assert len(found) + sum(isinstance(i, Skipped) for i in items) == len(measured)
    sums = [r for r in found if r.kernel == "matrix_sum_normal"]
    assert len(sums) == 7
    assert all(r.baselines["other_gpu"].rho > 0.8 for r in sums)
    assert all("registers" not in r.counters and "regs_per_thread" in r.counters for r in sums)
    assert json.dumps([r.metrics.as_dict() for r in found])


def test_figures_are_those_of_the_metrics(tmp_path):
    frame = timed()
    frame.to_parquet(tmp_path / "t.parquet")
    (measured,) = load(tmp_path / "t.parquet")
    scores = Scorer(ADD, "V100").score(frame[["N", "B"]])
    predicted = baselines.carver_byte_waves(scores, find_device("V100"))
    wanted = metrics(predicted, frame["time_ms"].to_numpy() * 1e-3)
    assert validate(measured).baselines["carver"].rho == pytest.approx(wanted.rho)


# -- the vendor's estimates, without the vendor


class FakeInterface:
    """Twice the time of the arithmetic at 100 TFLOP/s, the better of two kernels; nothing for K = 7."""

    def __init__(self, **options: object) -> None:
        assert options["gpu"] == 8000

    def makeNvMatmulHeuristicsProblem(self, m: int, n: int, k: int, layout: str, batch: int) -> tuple[int, int, int]:
        return m, n, k

    def get(self, problem: tuple[int, int, int], count: int, precision: str) -> list[dict[str, float]]:
        m, n, k = problem
        return [] if k == 7 else [{"runtime": factor * 2 * m * n * k / 1e14} for factor in (3.0, 2.0)]


def vendors_gemm(gpu: str = "a100_sxm4_80gb", **columns: object) -> tuple[dict[str, baselines.Baseline], str]:
    shapes = pd.DataFrame({"M": [64, 128, 256, 512], "N": 512, "K": [7, 64, 64, 64]}).assign(**columns)
    times = 2.0 * (shapes["M"] * shapes["N"] * shapes["K"]).to_numpy() / 1e14
    mapping = DatasetMapping(find_description("gemm"), {}, {})
    return matmul_heuristics(mapping, find_device(gpu), shapes, times)


def test_the_vendors_least_estimate_is_judged_where_it_has_one(monkeypatch):
    vendor = SimpleNamespace(
        NvMatmulHeuristicsInterfaceEx=FakeInterface,
        NvMatmulHeuristicsTarget=SimpleNamespace(GENERIC=0),
        NvMatmulHeuristicsFlags=SimpleNamespace(PERF_MODEL_BASED_AUTO_TUNING=8),
        NvMatmulHeuristicsNvidiaGpu={"A100_SXM_80GB": 8000},
        NvMatmulHeuristicsMatmulLayout=SimpleNamespace(NT_ROW_MAJOR=1),
    )
    monkeypatch.setitem(sys.modules, "nvMatmulHeuristics", vendor)
    found, why = vendors_gemm()
    assert why == ""
    figures = found["nvidia_matmul_heuristics"]
    assert (figures.n, figures.note) == (3, "3 shapes, SSS")
    assert figures.rho == pytest.approx(1.0)
    assert figures.mape == pytest.approx(1.0)


def test_where_the_vendor_has_nothing_to_say_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "nvMatmulHeuristics", None)
    assert vendors_gemm()[1].startswith("nvidia-matmul-heuristics is not installed")
    assert vendors_gemm("V100")[1].startswith("it does not know this GPU; it knows a100")
    assert vendors_gemm(M=1, K=1)[1] == "it estimates shapes; all rows have the same"
    assert vendors_gemm("MI50") == ({}, "")


def test_the_vendors_gpus_are_profiles():
    assert {find_device(name).name for name in GPUS} == set(GPUS)


# -- ablation


def test_switching_off_a_charge_is_judged_on_the_same_rows(tmp_path):
    frame = timed()
    frame.to_parquet(tmp_path / "t.parquet")
    (measured,) = load(tmp_path / "t.parquet")
    report = compare(prepare(measured), thorough=True)
    assert report.ablation_base == report.metrics
    assert list(report.ablation) == list(CHARGES)
    seconds = frame["time_ms"].to_numpy() * 1e-3
    scores = Scorer(ADD, "V100", without=("launch",)).score(frame[["N", "B"]])
    assert report.ablation["launch"] == metrics(scores.seconds, seconds, group=scores.same)
    assert report.ablation["bank conflicts"].mape == pytest.approx(report.metrics.mape)  # it has no shared memory
    assert compare(prepare(measured)).ablation == {}


def test_a_large_space_is_ablated_on_a_sample(tmp_path, monkeypatch):
    monkeypatch.setattr("costmodel.validate.run.ABLATION_ROWS", {"most": 10, "slow": 10})
    timed().to_parquet(tmp_path / "t.parquet")
    (measured,) = load(tmp_path / "t.parquet")
    report = compare(prepare(measured), thorough=True)
    assert report.ablation_base is not None
    assert report.ablation_base.n == 10
    assert {m.n for m in report.ablation.values()} == {10}
    assert report.metrics.n == 40


def test_the_readme_lists_what_was_fitted():
    text = (Path(__file__).resolve().parent.parent / "validation" / "README.md").read_text(encoding="utf-8")
    table = text.partition("## Where constants were fitted")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    assert len(rows) == len(FITTED)
    for row, fit in zip(rows, FITTED, strict=True):
        assert all(f"`{name}`" in row for name in fit.constants)
        assert fit.module.replace(".", "/") in row
        assert fit.date in row
