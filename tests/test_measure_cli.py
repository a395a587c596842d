"""`costmodel measure` as a user meets it, and the whole suite on a fake GPU."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from costmodel.cli.measuring import seconds_of, slots_of
from costmodel.errors import MeasureError
from costmodel.measure.code import coded_names
from costmodel.measure.task import Slot
from tests.test_cli import cli

__all__ = ["cli"]
ADD = ("measure", "vector_add", "--gpus", "fake:h200", "--set", "N=1048576")


def test_a_sweep_is_told_and_written(cli, tmp_path):
    out = tmp_path / "add.parquet"
    done = cli(*ADD, "--out", out)
    assert done.code == 0, done.err
    assert "vector_add on fake NVIDIA H200" in done.out
    assert "6 ok" in done.out
    assert len(pd.read_parquet(out)) == 6
    again = cli(*ADD, "--out", out, "--json").json
    assert (again["measured"], again["statuses"], again["predicted_with"]) == (0, {"ok": 6}, "h200")
    assert cli("validate", out, "--device", "h200", "--json").json[0]["rho"] > 0.9
    assert cli("validate", out).code == 2  # no GPU is called `fake …`


def test_a_space_file_and_a_budget(cli, tmp_path):
    space, out = tmp_path / "space.yaml", tmp_path / "add.json"
    space.write_text("N: [1024, 2048]\nB: [32, 64]\n")
    cut = cli("measure", "vector_add", "--gpus", "fake:h200", "--space", space, "--out", out, "--budget", "0s", "--json").json
    assert (cut["measured"], cut["remaining"]) == (0, 4)
    done = cli("measure", "vector_add", "--gpus", "fake:h200", "--jobs", 2, "--space", space, "--out", out)
    assert done.code == 0, done.err
    assert json.loads(out.read_text())["schema_version"] == "1.0.0"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("measure", "--out", "x.parquet"), "expected a description, or --suite"),
        (("measure", "gemm", "--suite", "--out", "x"), "expected a description, or --suite"),
        (("measure", "--suite", "--out", "x", "--set", "N=1"), "leave out --space and --set"),
        ((*ADD, "--out", "x.csv"), "ends in .parquet"),
        ((*ADD, "--out", "x.parquet", "--budget", "20"), "such as 90s, 20m or 2h"),
        (("measure", "vector_add", "--out", "x.parquet", "--gpus", "first"), "expected indices such as 0,1"),
        (("measure", "vector_add", "--out", "x.parquet", "--gpus", "0,0"), "named twice"),
        (("measure", "nothing", "--out", "x.parquet"), "no description 'nothing'"),
    ],
)
def test_mistakes_are_one_line(cli, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    done = cli(*arguments)
    assert done.code == 2
    assert said in done.err
    assert done.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_times_and_slots():
    assert [seconds_of(t) for t in ("90s", "20m", "1.5h")] == [90.0, 1200.0, 5400.0]
    with pytest.raises(MeasureError):
        seconds_of("fast")
    assert slots_of("0,1", 2) == [Slot("0", 0), Slot("1", 0), Slot("0", 1), Slot("1", 1)]


@pytest.mark.skipif(not coded_names(), reason="no description has code beside it yet")
def test_the_whole_suite_runs_dry(cli, tmp_path):
    done = cli("measure", "--suite", "--gpus", "fake:h200", "--limit", 2, "--out", tmp_path, "--json").json
    assert not done["errors"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        lacking = cli("measure", "--suite", "--gpus", "7", "--out", tmp_path / "real")
    assert lacking.code == 2  # said once, not for each kernel
    assert lacking.err.count("\n") == 1
    assert [s["kernel"] for s in done["sweeps"]] == list(coded_names())
    for sweep in done["sweeps"]:
        assert sum(sweep["statuses"].values()) == 2, sweep["kernel"]
        assert set(sweep["statuses"]) <= {"ok", "cannot_launch"}, sweep["reasons"]
        rows = pd.read_parquet(tmp_path / f"{sweep['kernel']}.parquet")
        assert set(rows["gpu"]) == {"fake NVIDIA H200"}
